"""Mutations that know DICOM: values of the elements that decide on memory and on how pixels are read."""

from __future__ import annotations

import re
import struct
from random import Random

from .bytes_mutations import BOUNDARIES, Mutation, boundary, put

# Group and element as they stand in a little-endian file, of what images hang on.
_TAGS = {
    "Rows": (0x28, 0x10), "Columns": (0x28, 0x11), "SamplesPerPixel": (0x28, 2), "NumberOfFrames": (0x28, 8),
    "BitsAllocated": (0x28, 0x100), "BitsStored": (0x28, 0x101), "HighBit": (0x28, 0x102), "Signed": (0x28, 0x103),
    "Planar": (0x28, 6), "Padding": (0x28, 0x120), "WindowCenter": (0x28, 0x1050), "WindowWidth": (0x28, 0x1051),
    "RescaleIntercept": (0x28, 0x1052), "RescaleSlope": (0x28, 0x1053), "PixelData": (0x7FE0, 0x10),
    "LUTDescriptor": (0x28, 0x3002), "LUTData": (0x28, 0x3006), "VOILUTSequence": (0x28, 0x3010),
    "Photometric": (0x28, 4), "TransferSyntax": (2, 0x10),
}  # fmt: skip
_SHORT = (0, 1, 2, 3, 7, 8, 9, 12, 15, 16, 17, 32, 4000, 7000, 7100, 0x7FFF, 0xFFFF)
_TEXTS = (b"0", b"1e400", b"-1e308", b"nan", b"inf", b"1e-300", b"", b"\\", b"1\\2", b"9" * 16, b"-0", b"0x10", b"\xff")
_NAMES = (b"MONOCHROME1", b"MONOCHROME2", b"RGB", b"YBR_FULL", b"YBR_FULL_422", b"PALETTE COLOR", b"YBR_ICT", b"X")
_SYNTAXES = (
    b"1.2.840.10008.1.2", b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2.2", b"1.2.840.10008.1.2.1.99",
    b"1.2.840.10008.1.2.5", b"1.2.840.10008.1.2.4.50", b"1.2.840.10008.1.2.4.51", b"1.2.840.10008.1.2.4.57",
    b"1.2.840.10008.1.2.4.70", b"1.2.840.10008.1.2.4.80", b"1.2.840.10008.1.2.4.90", b"1.2.840.10008.1.2.4.201",
)  # fmt: skip


def _elements(data: bytes) -> list[tuple[str, int]]:
    return [
        (name, match.start())
        for name, tag in _TAGS.items()
        for match in re.finditer(re.escape(struct.pack("<HH", *tag)), data)
    ]


def dicom_value(data: bytes, rng: Random, other: bytes) -> bytes:
    """Overwrite the value of one element, at its length."""
    elements = _elements(data)
    if not elements:
        return data
    name, at = rng.choice(elements)
    length = int.from_bytes(data[at + 6 : at + 8], "little")
    if name in ("WindowCenter", "WindowWidth", "RescaleIntercept", "RescaleSlope", "NumberOfFrames"):
        new = rng.choice(_TEXTS)[:length].ljust(length)
    elif name in ("Photometric", "TransferSyntax"):
        new = rng.choice(_NAMES if name == "Photometric" else _SYNTAXES)[:length].ljust(length, b" ")
    else:
        new = struct.pack("<H", rng.choice(_SHORT)) * rng.choice((1, 1, 3))
    return put(data, at + 8, new)


def dicom_sides(data: bytes, rng: Random, other: bytes) -> bytes:
    """Change Rows and Columns, and sometimes the same numbers within the compressed stream."""
    for name, at in _elements(data):
        if name in ("Rows", "Columns"):
            old, new = data[at + 8 : at + 10], rng.choice(_SHORT)
            data = put(data, at + 8, struct.pack("<H", new))
            if rng.random() < 0.5:
                data = data.replace(old[::-1], struct.pack(">H", new))
    return data


def dicom_length(data: bytes, rng: Random, other: bytes) -> bytes:
    """Change length or type of one element, or of one item of a sequence or of the pixels."""
    places = [at for _, at in _elements(data)]
    places += [match.start() for match in re.finditer(b"\xfe\xff[\x00\x0d\xdd]\xe0", data)]
    if not places:
        return data
    at = rng.choice(places)
    match rng.randrange(3):
        case 0:
            return put(data, at + 4, struct.pack("<I", boundary(rng, 32)))
        case 1:
            return put(data, at + 8, struct.pack("<I", rng.choice((*BOUNDARIES, len(data)))))
        case _:
            return put(data, at + 4, rng.choice((b"SQ", b"UN", b"OW", b"OB", b"US", b"DS", b"FD", b"UT", b"??")))


def dicom_nesting(data: bytes, rng: Random, other: bytes) -> bytes:
    """Put a deep nest of sequences, or a long list of items, before the pixels."""
    at = data.find(struct.pack("<HH", 0x28, 0x10))
    if at < 0:
        return data
    sequence = struct.pack("<HH2s2xI", 0x28, 0x9, b"SQ", 0xFFFFFFFF)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, rng.choice((0, 0xFFFFFFFF)))
    return data[:at] + rng.choice((sequence + item * 2000, (sequence + item) * rng.choice((50, 3000)))) + data[at:]


ON_DICOM: tuple[Mutation, ...] = (dicom_value, dicom_value, dicom_sides, dicom_length, dicom_nesting)
