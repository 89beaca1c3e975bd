"""Zip files of strangers, read member by member in memory; nothing is written under a name that an archive chose."""

from __future__ import annotations

import mmap
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from cxr_estimator._figure_style import short
from cxr_estimator.demo._settings import MEBIBYTE, Settings
from cxr_estimator.errors import DataError

REST = "(the rest)"  # stands for all that is left out for its number or size
_ENTRY = b"PK\x01\x02"  # begins each entry of the list of members
_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")  # of a zip file: with members, or empty
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # lzma would take as much memory as a header asks for
_ENCRYPTED = 0x1
_PIECE = MEBIBYTE
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    RuntimeError,
    OSError,
    ValueError,
    OverflowError,
    struct.error,
)
_DRIVE = re.compile("[A-Za-z]:")


class Limits(NamedTuple):
    """How much is unpacked.

    Attributes
    ----------
    files : int
        Members that are read; of others the list may hold ten times as many and a thousand.
    file_bytes, total_bytes : int
        Of one member, and of all, counted as they are inflated.
    ratio : int
        How many times larger than its compressed bytes a member of more than 1 MiB may be.
    """

    files: int
    file_bytes: int
    total_bytes: int
    ratio: int = 200

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """Return the limits that the settings of an app name."""
        return cls(settings.max_batch_files, settings.max_file_bytes, settings.max_batch_bytes)


class Member(NamedTuple):
    """One file of an archive.

    Attributes
    ----------
    name : str
        Its last part alone, for people.
    content : bytes or None
        None for one that is not read.
    reason : str or None
        Why it is not.
    folder : str
        The name of the folder that it lies in; empty at the top.
    is_noise : bool
        Whether nobody meant it to be read: folders, and what systems hide in archives.
    """

    name: str
    content: bytes | None = None
    reason: str | None = None
    folder: str = ""
    is_noise: bool = False


class _Refused(Exception):
    """Why a member is not read, and how many bytes of it had been unpacked until that was known."""

    def __init__(self, reason: str, size: int) -> None:
        super().__init__(reason)
        self.size = size


def is_archive(path: str | Path) -> bool:
    """Whether there is a file that begins as a zip file does, whatever its name."""
    if not Path(path).is_file():
        return False
    with open(path, "rb") as file:
        return file.read(4) in _MAGIC


def members(path: str | Path, limits: Limits) -> Iterator[Member]:
    """Yield the members of a zip file one by one, each read when its turn comes; those that are not read say why.

    Once a limit of the whole archive is met, one last member without content says so.

    Raises
    ------
    DataError
        It is no zip file that can be read, or its list of members is too long.
    """
    _check_list(Path(path), 10 * limits.files + 1000)
    try:
        archive = zipfile.ZipFile(path)
    except _DAMAGED:
        raise DataError("This zip file is damaged: its list of members cannot be read.") from None
    with archive:
        n_read = total = 0
        for info in archive.infolist():
            member = _looked_at(info)
            if member.reason is None:
                if n_read == limits.files:
                    yield Member(REST, reason=f"only the first {limits.files} files of an archive are read.")
                    return
                n_read += 1
                left = limits.total_bytes - total
                try:
                    content = _inflated(archive, info, limits, left)
                except _Refused as error:
                    total += error.size
                    member = member._replace(reason=str(error))
                except _DAMAGED:
                    member = member._replace(reason="this member of the archive is damaged.")
                else:
                    if content is None:
                        most = f"{limits.total_bytes / MEBIBYTE:,.0f} MiB"
                        yield Member(REST, reason=f"unpacked, the archive holds more than {most}.")
                        return
                    total += len(content)
                    member = _checked_content(member, content)
            yield member


def count(path: str | Path, limits: Limits) -> int:
    """Return how many members `members` will try to read, without reading any; 0 for an archive that it refuses."""
    try:
        _check_list(Path(path), 10 * limits.files + 1000)
        with zipfile.ZipFile(path) as archive:
            return min(sum(_looked_at(info).reason is None for info in archive.infolist()), limits.files)
    except (DataError, *_DAMAGED):
        return 0


def _check_list(path: Path, most: int) -> None:
    """Raise for an archive that may have a list of more than so many members, before it is taken into memory."""
    if not is_archive(path):
        raise DataError("This is no zip file.")
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        place, count = content.find(_ENTRY), 0
        while place >= 0:
            count += 1
            if count > most:
                raise DataError(f"This zip file lists more than {most:,} members; pack fewer into one.")
            place = content.find(_ENTRY, place + len(_ENTRY))


def _looked_at(info: zipfile.ZipInfo) -> Member:
    """Return a member by what the list says of it, with the reason if it is not read."""
    name = info.orig_filename
    parts = PurePosixPath(name.replace("\\", "/")).parts
    shown = short("".join(one if one.isprintable() else "?" for one in (parts[-1] if parts else name)), 80)
    member = Member(shown, folder=short(parts[-2], 80) if len(parts) > 1 else "")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if "\\" in name or "\0" in name or name.startswith("/") or _DRIVE.match(name) or ".." in parts or not parts:
        return member._replace(reason="its path leads out of the archive, or is written in an unsafe way.")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return member._replace(reason="it is a link or a device, not a file.")
    if info.is_dir() or kind == stat.S_IFDIR:
        return member._replace(reason="it is a folder.", is_noise=True)
    if any(part.startswith((".", "__MACOSX")) for part in parts):
        return member._replace(reason="it is hidden.", is_noise=True)
    if info.flag_bits & _ENCRYPTED:
        return member._replace(reason="it is encrypted; pack it without a password.")
    if info.compress_type not in _METHODS:
        return member._replace(reason="it is compressed in a way that is not read here; use the usual one (deflate).")
    return member


def _inflated(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limits: Limits, left: int) -> bytes | None:
    """Return the content of a member, counted as it is inflated; None where it is more than is left of the whole."""
    pieces, size = [], 0
    with archive.open(info) as file:
        while piece := file.read(_PIECE):
            pieces.append(piece)
            size += len(piece)
            if size > limits.file_bytes:
                raise _Refused(f"unpacked, it holds more than {limits.file_bytes / MEBIBYTE:,.0f} MiB.", size)
            if size > MEBIBYTE and size > limits.ratio * max(info.compress_size, 1):
                raise _Refused(f"it grows more than {limits.ratio} times as it is unpacked, as bombs do.", size)
            if size > left:
                return None
    return b"".join(pieces)


def _checked_content(member: Member, content: bytes) -> Member:
    if not content:
        return member._replace(reason="the file is empty (0 bytes).")
    if content.startswith(_MAGIC):
        return member._replace(reason="it is an archive within the archive, which is not opened.")
    return member._replace(content=content)
