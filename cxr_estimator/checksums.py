"""SHA256SUMS: the digest of every file of a model folder, in the format of coreutils (`sha256sum -c` reads it).

It is written last, so that it also tells a folder whose saving was interrupted.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from cxr_estimator.errors import ModelFolderError
from cxr_estimator.serialization import atomic_write

SUMS_NAME = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64}) [ *](\S.{0,300})")
_MOST = 1_000_000  # bytes
_LONGEST = 255  # bytes of a name on common file systems


def sha256_of(path: Path) -> str:
    """Return the SHA-256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_sums(folder: Path, sums: Mapping[str, str]) -> None:
    """Record digests by name, relative to `folder` with forward slashes."""
    text = "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))
    with atomic_write(folder / SUMS_NAME) as file:
        file.write(text.encode())


def read_sums(folder: Path) -> dict[str, str]:
    """Return the recorded digests by name, none of which leads out of the folder."""
    path = folder / SUMS_NAME
    if not path.is_file():
        raise ModelFolderError(
            f"{path}: there is no such file, without which nothing tells whether the model is whole. Saving was "
            "interrupted, or it was not copied; save or fetch the model again."
        )
    if path.stat().st_size > _MOST:
        raise ModelFolderError(f"{path}: has more than the limit of {_MOST:,} bytes.")
    try:
        return parse_sums(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelFolderError(f"{path}: {error}") from error


def parse_sums(text: str) -> dict[str, str]:
    r"""Return the digests by name that a text records, or raise ValueError.

    Examples
    --------
    >>> parse_sums(64 * "0" + "  config.json\n")["config.json"][:4]
    '0000'
    """
    sums: dict[str, str] = {}
    for line in text.splitlines():
        found = _LINE.fullmatch(line)
        if found is None:
            raise ValueError(f"the line {line!r:.100} is not a SHA-256 and a name.")
        digest, name = found.groups()
        place = PurePosixPath(name)
        if place.is_absolute() or ".." in place.parts or "\\" in name or str(place) != name:
            raise ValueError(f"the name {name!r:.100} may lead out of the folder.")
        if not name.isprintable() or max(len(part.encode()) for part in place.parts) > _LONGEST:
            raise ValueError(f"the name {name!r:.100} is none that files can have everywhere.")
        if name in sums:
            raise ValueError(f"the name {name!r:.100} stands twice.")
        sums[name] = digest
    return sums


def differing(folder: Path, sums: Mapping[str, str]) -> list[str]:
    """Return the names whose files are missing or have another digest than recorded."""
    return [name for name, digest in sums.items() if not _is(folder / name, digest)]


def verify(folder: Path, essential: Iterable[str]) -> list[str]:
    """Raise unless all `essential` files are as recorded; return the names of the others that are not."""
    sums = read_sums(folder)
    essential = list(essential)
    unknown = [name for name in essential if name not in sums]
    if unknown:
        raise ModelFolderError(f"{folder / SUMS_NAME}: says nothing of {unknown[0]}; save or fetch the model again.")
    other = differing(folder, sums)
    broken = [name for name in essential if name in other]
    if broken:
        raise ModelFolderError(
            f"{folder / broken[0]}: is not the file that {SUMS_NAME} records. Saving was interrupted, or the file was "
            "damaged, edited or exchanged; save or fetch the model again."
        )
    return other


def _is(path: Path, digest: str) -> bool:
    return path.is_file() and sha256_of(path) == digest
