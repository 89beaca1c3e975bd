"""Arrays out of files that are not to be trusted: .npz archives without `numpy.load`, and lists of labels."""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np

from cxr_estimator.errors import DataError

_HEADER = re.compile(
    rb"\{'descr': '([<>|=][biuf][1248])', 'fortran_order': (True|False), 'shape': \(([0-9, ]{0,200})\), \}\s*"
)
_MAX_RATIO = 1032  # deflate cannot do better
_MAX_TEXT = 1_000_000
_CHUNK = 1 << 20


def read_arrays(path: Path, names: Iterable[str], optional: Iterable[str] = ()) -> dict[str, np.ndarray]:
    """Read arrays of numbers from an .npz archive.

    `numpy.load` parses headers as Python, warns of some, and takes the memory that they ask for. Here a header must be
    as NumPy writes it, and its shape as large as the content.

    Raises
    ------
    DataError
        The archive is damaged, lacks one of `names`, or holds something else than numbers under a name. The message
        is a clause, to which callers add the path.
    """
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            there = set(archive.namelist())
            chosen = [*names, *(name for name in optional if f"{name}.npy" in there)]
            return {name: _read_array(archive, name, path.stat().st_size) for name in chosen}
    except DataError:
        raise
    except Exception as error:  # whatever a damaged archive makes zipfile and its decompressors raise
        raise DataError(f"the archive cannot be read: {str(error)[:200]}") from error


def _read_array(archive: zipfile.ZipFile, name: str, archive_size: int) -> np.ndarray:
    try:
        info = archive.getinfo(f"{name}.npy")
    except KeyError:
        raise DataError(f"the archive has no array {name!r}") from None
    if info.compress_size > archive_size or info.file_size > _MAX_RATIO * info.compress_size + _CHUNK:
        raise DataError(f"the array {name!r} cannot be as large as the archive says")
    with archive.open(info) as member:
        dtype, is_fortran, shape, start = _read_header(member, name)
        if math.prod(shape) * dtype.itemsize != info.file_size - start:
            raise DataError(f"the array {name!r} has another size than its shape {shape} needs")
        array = np.empty(shape[::-1] if is_fortran else shape, dtype=dtype)
        rest = array.reshape(-1).view(np.uint8).data if array.size else memoryview(b"")
        while rest:
            content = member.read(min(len(rest), _CHUNK))
            if not content:
                raise DataError(f"the array {name!r} is cut off")
            rest[: len(content)] = content
            rest = rest[len(content) :]
        member.read(1)  # the end of the member, where its checksum is compared
    return array.T if is_fortran else array


def _read_header(member: IO[bytes], name: str) -> tuple[np.dtype, bool, tuple[int, ...], int]:
    """Return type, order, shape and length of the header of an .npy file."""
    magic = member.read(8)
    if magic[:6] != b"\x93NUMPY" or magic[6:] not in (b"\1\0", b"\2\0", b"\3\0"):
        raise DataError(f"the array {name!r} is no .npy file")
    width = 2 if magic[6] == 1 else 4
    length = int.from_bytes(member.read(width), "little")
    header = member.read(min(length, _CHUNK))
    match = _HEADER.fullmatch(header)
    if match is None:
        raise DataError(f"the array {name!r} holds something else than plain numbers, or its header is damaged")
    dtype = np.dtype(match[1].decode())
    shape = tuple(int(side) for side in match[3].decode().replace(" ", "").split(",") if side)
    return dtype, match[2] == b"True", shape, 8 + width + length


def label_array(values: Any, dtype: str | None = None) -> np.ndarray:
    """Return a list of text, numbers or booleans from a JSON document as an array (N,).

    NumPy gives every text the room of the longest, so one long text among many would take memory without end.
    """
    if not isinstance(values, list) or not all(isinstance(value, str | int | float) for value in values):
        raise DataError(f"labels must be a list of text, numbers or booleans. Got {values!r:.200}")
    lengths = [len(value) for value in values if isinstance(value, str)]
    if 0 < len(lengths) < len(values) and dtype != "object":
        raise DataError(f"labels must be all text or all numbers. Got {values!r:.200}")
    if lengths and len(values) * max(lengths) > max(_MAX_TEXT, 4 * sum(lengths)):
        raise DataError(f"one of the labels is too long: {max(lengths):,} characters")
    try:
        with np.errstate(all="raise"):
            labels = np.array(values, dtype=dtype)
    except (ArithmeticError, ValueError) as error:
        raise DataError(f"labels {values!r:.200} are not of type {dtype}") from error
    if labels.dtype.kind not in ("biufU" if dtype != "object" else "O"):
        raise DataError(f"labels {values!r:.200} are beyond the range of numbers")
    return labels
