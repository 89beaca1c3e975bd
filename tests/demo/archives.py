"""Zip files as strangers make them."""

from __future__ import annotations

import io
import stat
import struct
import zipfile

import numpy as np
from PIL import Image


def png(seed=0, size=(40, 30)):
    """The content of a grey PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def write_zip(path, entries, compression=zipfile.ZIP_DEFLATED):
    """Write a zip file of (name or ZipInfo, content)."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries:
            archive.writestr(name, content, compress_type=compression)
    return path


def link(name, to="/etc/passwd"):
    """An entry that is a symbolic link."""
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info, to


def patched(path, *, flags=None, size=None, method=None, compressed=None):
    """Change what the headers of the only member say, in both places."""
    content = bytearray(path.read_bytes())
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = content.index(magic) + offset
        if flags is not None:
            struct.pack_into("<H", content, place, flags)
        if method is not None:
            struct.pack_into("<H", content, place + 2, method)
        if compressed is not None:
            struct.pack_into("<I", content, place + 12, compressed)
        if size is not None:
            struct.pack_into("<I", content, place + 16, size)
    path.write_bytes(content)
    return path
