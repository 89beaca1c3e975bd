"""`pull`: a repository of the Hub as a model folder, whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from cxr_estimator.checksums import SUMS_NAME, differing, read_sums
from cxr_estimator.errors import DataError, ModelFolderError
from cxr_estimator.hub import discard_damaged, fetch
from cxr_estimator.serialization import writable_folder


def pull(repo_id: str, folder: Path, *, revision: str | None = None) -> Path:
    """Write the files of a model on the Hub to a folder, all of them or none; return their place in the cache.

    Parameters
    ----------
    repo_id : str
        "user/model".
    folder : path
        Made if need be. A model that is there is replaced, if it is as it was saved: nothing that somebody changed or
        added is lost.
    revision : str, optional
        Branch, tag or commit.

    Raises
    ------
    DataError
        The folder holds something else, which would be lost.
    HubError, ModelFolderError
        As for `from_pretrained`.
    """
    parent = writable_folder(folder.absolute().parent)
    _check_replaceable(folder)
    source = fetch(repo_id, revision=revision)
    if differing(source, read_sums(source)) and discard_damaged(source):
        source = fetch(repo_id, revision=revision)
    sums = read_sums(source)
    wrong = differing(source, sums)
    if wrong:
        raise ModelFolderError(
            f"{repo_id}: {', '.join(wrong)} is not what its {SUMS_NAME} records, so it is not taken."
        )
    with tempfile.TemporaryDirectory(dir=parent, prefix=".cxr_pull_") as staging:
        new, old = Path(staging, "new"), Path(staging, "old")
        for name in [*sums, SUMS_NAME]:
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, new / name)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    return source


def _check_replaceable(folder: Path) -> None:
    """Raise unless the folder is missing, empty, or a model that nobody changed."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise DataError(f"{folder}: is no folder; name another place.")
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    if not there:
        return
    try:
        sums = read_sums(folder)
    except ModelFolderError as error:
        raise DataError(f"{folder}: holds files, but no model that can be replaced ({error})") from error
    kept = sorted({*(there - sums.keys() - {SUMS_NAME}), *differing(folder, sums)})
    if kept:
        raise DataError(
            f"{folder}: {', '.join(kept)} would be lost, being changed or not of the model; move them away."
        )
