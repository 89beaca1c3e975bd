"""Mutations that know PNG, JPEG and TIFF well enough to get past their first checks."""

from __future__ import annotations

import re
import struct
import zlib
from random import Random

from .bytes_mutations import Mutation, boundary, flip_bits, put

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SIDES = (0, 1, 7, 100, 1000, 4999, 7000, 10_000, 30_000, 65_535)


def _side(rng: Random, bits: int) -> int:
    return rng.choice(_SIDES) if rng.random() < 0.8 else boundary(rng, bits)


def _png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    chunks, at = [], len(_PNG_SIGNATURE)
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return chunks


def _png(chunks: list[tuple[bytes, bytes]]) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    return _PNG_SIGNATURE + b"".join(chunk(name, body) for name, body in chunks)


def png_bytes(width: int, height: int, raw: bytes, *, interlaced: bool = False) -> bytes:
    """Return an 8-bit grey PNG of filtered rows."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, interlaced)
    return _png([(b"IHDR", header), (b"IDAT", zlib.compress(raw)), (b"IEND", b"")])


def png_chunk(data: bytes, rng: Random, other: bytes) -> bytes:
    """Change the body, name, place or number of one chunk; every checksum is right again."""
    chunks = _png_chunks(data)
    if not chunks:
        return data
    i = rng.randrange(len(chunks))
    name, body = chunks[i]
    match rng.randrange(6):
        case 0 if body:
            chunks[i] = name, flip_bits(body, rng, other)
        case 1:
            chunks[i] = name, body[: rng.randrange(len(body) + 1)]
        case 2:
            chunks[i] = rng.choice((b"tRNS", b"PLTE", b"IDAT", b"iCCP", b"zTXt", b"eXIf", b"fdAT", b"acTL")), body
        case 3:
            chunks.insert(rng.randrange(len(chunks) + 1), (name, body))
        case 4:
            chunks.insert(rng.randrange(len(chunks)), chunks.pop(i))
        case _:
            bomb = zlib.compress(bytes(rng.choice((1000, 2_000_000, 80_000_000))), 1)
            chunks.insert(1, rng.choice(((b"zTXt", b"a\0\0" + bomb), (b"iCCP", b"a\0\0" + bomb), (b"IDAT", bomb))))
    return _png(chunks)


def png_header(data: bytes, rng: Random, other: bytes) -> bytes:
    """Change width, height, depth, colour type or interlacing."""
    chunks = _png_chunks(data)
    if not chunks or len(chunks[0][1]) != 13:
        return data
    fields = list(struct.unpack(">IIBBBBB", chunks[0][1]))
    for i in rng.sample(range(7), rng.choice((1, 2))):
        fields[i] = _side(rng, 32) if i < 2 else rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
    return _png([(b"IHDR", struct.pack(">IIBBBBB", *fields)), *chunks[1:]])


def jpeg_size(data: bytes, rng: Random, other: bytes) -> bytes:
    """Change the frame header: depth, height, width, number and sampling of the components, or its kind."""
    frame = re.search(b"\xff[\xc0-\xc2]", data)
    if frame is None:
        return data
    at = frame.start()
    match rng.randrange(4):
        case 0:
            new = struct.pack(">H", _side(rng, 16))
            return put(data, at + rng.choice((5, 7)), new)
        case 1:
            return put(data, at + 5, struct.pack(">HH", _side(rng, 16), _side(rng, 16)))
        case 2:
            return put(data, at + 1, bytes([rng.choice((0xC0, 0xC1, 0xC2, 0xC3, 0xC9))]))
        case _:
            return put(data, at + rng.choice((4, 9, 10, 11, 12)), bytes([rng.choice((0, 1, 3, 4, 0x11, 0x22, 0x44))]))


def jpeg_segment(data: bytes, rng: Random, other: bytes) -> bytes:
    """Change the length, kind or number of one segment."""
    segments, at = [], 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        segments.append((at, int.from_bytes(data[at + 2 : at + 4], "big")))
        at += 2 + segments[-1][1]
    if not segments:
        return data
    at, length = rng.choice(segments)
    match rng.randrange(4):
        case 0:
            return put(data, at + 2, struct.pack(">H", rng.choice((0, 1, 2, length - 1, length + 1, 0xFFFF)) % 2**16))
        case 1:
            return put(data, at + 1, bytes([rng.randrange(0xC0, 0x100)]))
        case 2:
            return data[:at] + data[at : at + 2 + length] * rng.choice((2, 50)) + data[at + 2 + length :]
        case _:
            return data[:at] + data[at + 2 + length :]


def _tiff_entries(data: bytes) -> tuple[str, list[int], list[int]]:
    """Return byte order, the positions of all tag entries, and those of the pointers to directories."""
    order = "<" if data[:2] == b"II" else ">"
    entries: list[int] = []
    pointers = [4]
    while len(pointers) < 8 and pointers[-1] + 4 <= len(data):
        (at,) = struct.unpack_from(order + "I", data, pointers[-1])
        if not 0 < at <= len(data) - 2:
            break
        (count,) = struct.unpack_from(order + "H", data, at)
        entries += [at + 2 + 12 * i for i in range(min(count, 64)) if at + 14 + 12 * i <= len(data)]
        pointers.append(at + 2 + 12 * count)
    return order, entries, [at for at in pointers if at + 4 <= len(data)]


def tiff_entry(data: bytes, rng: Random, other: bytes) -> bytes:
    """Change tag, type, count or value of one entry."""
    if len(data) < 8:
        return data
    order, entries, _ = _tiff_entries(data)
    if not entries:
        return data
    at = rng.choice(entries)
    match rng.randrange(5):
        case 0:
            tags = (256, 257, 258, 259, 262, 270, 273, 274, 277, 278, 279, 317, 320, 322, 323, 324, 338, 339, 34665)
            return put(data, at, struct.pack(order + "H", rng.choice(tags)))
        case 1:
            return put(data, at + 2, struct.pack(order + "H", rng.choice((0, 1, 2, 3, 4, 5, 7, 9, 11, 12, 13, 16))))
        case 2:
            return put(data, at + 4, struct.pack(order + "I", boundary(rng, 32)))
        case 3:
            return put(data, at + 8, struct.pack(order + rng.choice("HI"), _side(rng, 16)))
        case _:
            return put(data, at + 8, struct.pack(order + "I", rng.choice((at, len(data), boundary(rng, 32)))))


def tiff_pointer(data: bytes, rng: Random, other: bytes) -> bytes:
    """Let a directory follow on itself, on another one, or on nothing."""
    if len(data) < 8:
        return data
    order, entries, pointers = _tiff_entries(data)
    firsts = [struct.unpack_from(order + "I", data, at)[0] for at in pointers]
    goal = rng.choice((*firsts, *entries[:4], len(data), boundary(rng, 32)))
    return put(data, rng.choice(pointers), struct.pack(order + "I", goal))


def tiff_value(data: bytes, rng: Random, other: bytes) -> bytes:
    """Change width, length, bits, compression, strip or tile size: the tags that decide on memory."""
    if len(data) < 8:
        return data
    order, entries, _ = _tiff_entries(data)
    wanted = [at for at in entries if struct.unpack_from(order + "H", data, at)[0] in (256, 257, 278, 322, 323)]
    for at in rng.sample(wanted, min(len(wanted), rng.choice((1, 2)))):
        data = put(data, at + 2, struct.pack(order + "HII", 4, 1, _side(rng, 32)))
    return data


ON_PNG: tuple[Mutation, ...] = (png_chunk, png_header)
ON_JPEG: tuple[Mutation, ...] = (jpeg_size, jpeg_segment)
ON_TIFF: tuple[Mutation, ...] = (tiff_entry, tiff_value, tiff_pointer)
