"""Mutations that know safetensors files and zip archives of arrays."""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
from random import Random

from .bytes_mutations import BOUNDARIES, ON_BYTES, Mutation, boundary, flip_bits, put
from .json_mutations import json_duplicate, json_values

_KINDS = (
    "'|O'", "'<f8'", "'<f2'", "'|S1000000'", "'<U9999'", "'<M8[s]'", "'<c16'", "'|V3'", "'>u2'", "'|b1'", "'x'",
    "[('a', '<f4')]", "1if 1 else 2", "(" * 90 + ")" * 90,
)  # fmt: skip
_SHAPES = (
    "()", "(0,)", "(-1,)", "(0, 28, 28)", "(1000000000000,)", "(100000, 100000)", "(2L,)", "(1.5,)", "(True,)",
)  # fmt: skip


def safetensors_header(data: bytes, rng: Random, other: bytes) -> bytes:
    """Change the JSON header (names, types, shapes, offsets) or the eight bytes of its length."""
    length = int.from_bytes(data[:8], "little")
    if len(data) < 16 or not 0 < length <= len(data) - 8 or rng.random() < 0.2:
        lengths = (length - 1, length + 1, len(data), 2**63, *BOUNDARIES)
        return put(data, 0, struct.pack("<Q", rng.choice(lengths) % 2**64))
    header = data[8 : 8 + length]
    changed = rng.choice((json_values, json_values, json_duplicate, _safetensors_entry, flip_bits))(header, rng, other)
    return struct.pack("<Q", len(changed)) + changed + data[8 + length :]


def _safetensors_entry(header: bytes, rng: Random, other: bytes) -> bytes:
    """Change type, shape or offsets of one tensor, also consistently."""
    try:
        entries = json.loads(header)
        name = rng.choice([key for key in entries if key != "__metadata__"])
        entry = entries[name]
        match rng.randrange(4):
            case 0:
                entry["dtype"] = rng.choice(("F16", "BF16", "F64", "I64", "U8", "BOOL", "F8_E4M3", "I32", "C64", "X"))
            case 1:
                entry["shape"] = rng.choice(([], [0], [-1], [1, *entry["shape"]], [2**62, 4], entry["shape"][::-1]))
            case 2:
                entry["data_offsets"] = rng.choice(([0, 0], [0, 2**40], entry["data_offsets"][::-1], [8, 4], [-4, 0]))
            case _:
                entries[rng.choice(("head.weight", "x", "../x", "__metadata__"))] = entries.pop(name)
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return header
    return json.dumps(entries).encode()


def safetensors_numbers(data: bytes, rng: Random, other: bytes) -> bytes:
    """Overwrite weights with numbers at the ends of the range."""
    start = 8 + int.from_bytes(data[:8], "little")
    if start >= len(data) - 8:
        return data
    at = start + 4 * rng.randrange((len(data) - start) // 4)
    value = rng.choice((float("nan"), float("inf"), 3e38, -3e38, 1e-45, -1.0, 0.0))
    return put(data, at, struct.pack("<f", value) * rng.choice((1, 8, 1000)))


def zip_member(data: bytes, rng: Random, other: bytes) -> bytes:
    """Change one member inside the archive, so that its checksum is right again."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(item, archive.read(item)) for item in archive.infolist()]
    except Exception:  # noqa: BLE001 - no archive any more
        return data
    if not members:
        return data
    i = rng.randrange(len(members))
    item, content = members[i]
    if content:
        members[i] = item, rng.choice((npy_header, npy_header, *ON_BYTES))(content, rng, other)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for item, content in members[:: rng.choice((1, 1, 1, -1))]:
            name = rng.choice(("../x.npy", "values.npy", "train_images.npy")) if rng.random() < 0.02 else item.filename
            if name not in archive.namelist():
                archive.writestr(zipfile.ZipInfo(name), content, archive.compression)
    return buffer.getvalue()


def npy_header(data: bytes, rng: Random, other: bytes) -> bytes:
    """Change type, order or shape in the header of an array; its length is right again."""
    length = int.from_bytes(data[8:10], "little")
    try:
        header = data[10 : 10 + length].decode("latin-1")
        kind, shape = header.split("'descr': ")[1].split(", '")[0], header.split("'shape': ")[1].split(")")[0] + ")"
    except IndexError:
        return data
    if rng.random() < 0.5:
        header = header.replace(kind, rng.choice(_KINDS))
    else:
        header = header.replace(shape, rng.choice((*_SHAPES, f"({boundary(rng, 32)},)", shape.replace(",", ", 1,", 1))))
    body = header.encode("latin-1")
    return data[:8] + struct.pack("<H", len(body) % 2**16) + body + data[10 + length :]


def zip_sizes(data: bytes, rng: Random, other: bytes) -> bytes:
    """Change sizes, offsets or the method in a header of the archive."""
    kind, fields = rng.choice(((b"PK\x03\x04", (6, 8, 14, 18, 22, 26)), (b"PK\x01\x02", (8, 10, 16, 20, 24, 42)),
                               (b"PK\x05\x06", (8, 10, 12, 16, 20))))  # fmt: skip
    found = [match.start() for match in re.finditer(re.escape(kind), data)]
    if not found:
        return data
    return put(data, rng.choice(found) + rng.choice(fields), struct.pack("<I", boundary(rng, 32)))


ON_SAFETENSORS: tuple[Mutation, ...] = (safetensors_header, safetensors_header, safetensors_numbers)
ON_NPZ: tuple[Mutation, ...] = (zip_member, zip_member, zip_sizes)
