"""`pull`: a repository of the Hub as a model folder, whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from pathlib import Path

from cxr_estimator._validation import check_path
from cxr_estimator.checksums import SUMS_NAME, differing, read_sums, sha256_of
from cxr_estimator.errors import DataError, EditedFilesWarning, ModelFolderError
from cxr_estimator.hub._fetching import discard_damaged, fetch
from cxr_estimator.serialization import CONFIG_NAME, WEIGHTS_NAME, writable_folder


def pull(repo_id: str, folder: Path, *, revision: str | None = None) -> Path:
    """Write the files of a model on the Hub to a folder, all of them or none; return their place in the cache.

    Parameters
    ----------
    repo_id : str
        "user/model".
    folder : path
        Made if need be. A model that is there is replaced, unless something would be lost: what somebody changed or
        added.
    revision : str, optional
        Branch, tag or commit.

    Raises
    ------
    DataError
        The folder holds something else, which would be lost.
    HubError, ModelFolderError
        As for `from_pretrained`.
    """
    check_path("folder", folder, caller="pull")
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise DataError(f"{folder}: is no folder; name another place.")
    parent = writable_folder(folder.absolute().parent)
    source = fetch(repo_id, revision=revision)
    if differing(source, _sums(source)) and discard_damaged(source):
        source = fetch(repo_id, revision=revision)
    sums = _sums(source)
    _check_whole(repo_id, differing(source, sums))
    _check_replaceable(folder, source.parent)
    with tempfile.TemporaryDirectory(dir=parent, prefix=".cxr_pull_") as staging:
        new, old = Path(staging, "new"), Path(staging, "old")
        for name in filter(lambda name: (source / name).is_file(), sums):
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, new / name)
        _exchange(folder, new, old)
    return source


def _exchange(folder: Path, new: Path, old: Path) -> None:
    """Move `folder` to `old` and `new` to `folder`; where that fails or is interrupted, all is as it was."""
    try:
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    except BaseException as error:
        if old.exists() and not folder.exists():
            old.rename(folder)
        if not isinstance(error, OSError):
            raise
        raise DataError(
            f"{folder}: cannot be replaced ({error.strerror}). It may be the folder in which the command runs, a "
            "mount, or another process wrote it meanwhile; name another place."
        ) from error


def _sums(source: Path) -> dict[str, str]:
    """Return the digests of all files of a model by name; a checkpoint of timm records none, and is as the Hub says."""
    if not (source / SUMS_NAME).exists():
        return {name: sha256_of(source / name) for name in (CONFIG_NAME, WEIGHTS_NAME)}
    return {**read_sums(source), SUMS_NAME: sha256_of(source / SUMS_NAME)}


def _check_whole(repo_id: str, changed: list[str]) -> None:
    """Raise if what makes the model is not as recorded; cards and pictures may have been edited on the Hub."""
    model = [name for name in changed if Path(name).name in (CONFIG_NAME, WEIGHTS_NAME)]
    if model:
        raise ModelFolderError(f"{repo_id}: {', '.join(model)} is not what {SUMS_NAME} records, so it is not taken.")
    if changed:
        told = f"{repo_id}: {', '.join(changed)} changed since the model was saved, or missing; the model is whole."
        warnings.warn(told, EditedFilesWarning, stacklevel=3)


def _check_replaceable(folder: Path, snapshots: Path) -> None:
    """Raise if files would be lost: those that neither SHA256SUMS nor any commit in the cache has like this."""
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    sums = _sums(folder) if (folder / CONFIG_NAME).is_file() and (folder / WEIGHTS_NAME).is_file() else {}
    unknown = (there - sums.keys()) | set(differing(folder, sums)) & there
    lost = sorted(name for name in unknown if not any(_alike(folder / name, one / name) for one in snapshots.iterdir()))
    if lost:
        raise DataError(
            f"{folder}: {', '.join(lost)[:500]} would be lost: changed, or not of the model. Move them away."
        )


def _alike(one: Path, other: Path) -> bool:
    return one.is_file() and other.is_file() and sha256_of(one) == sha256_of(other)
