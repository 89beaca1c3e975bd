"""`fetch`: the files of a model on the Hub, in the client's cache.

Notes
-----
The Hub's client compares sizes only, so a flipped byte passes it; SHA256SUMS tells (see `checksums`), and
`discard_damaged` finds what does not deserve its place in the client's cache.
"""

from __future__ import annotations

import glob
import os
import re
import warnings
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

from cxr_estimator._validation import check_choice, check_path
from cxr_estimator.checksums import SUMS_NAME, read_sums, sha256_of
from cxr_estimator.errors import HubError, HubWarning, ModelFolderError
from cxr_estimator.hub._errors import check_repo_id, check_revision, check_token, hub_errors
from cxr_estimator.hub._remote import git_sha1, no_answer
from cxr_estimator.serialization import CONFIG_NAME, WEIGHTS_NAME, is_timm, read_json

_COMMIT = re.compile(r"[0-9a-f]{40}")


def fetch(
    repo_id: str,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> Path:
    """Return the folder in the client's cache that holds the files of a model, and only those.

    What the cache holds is not fetched again; a whole commit id needs no request at all then. Where the Hub gives no
    answer, the cached files of the revision are used, with a `HubWarning`.

    Raises
    ------
    HubError
        The Hub cannot be reached and nothing is cached, or it refuses; or there is no model of ours.
    ModelFolderError
        SHA256SUMS is damaged.
    """
    check_repo_id(repo_id, caller="from_pretrained")
    check_revision("revision", revision, caller="from_pretrained")
    check_token(token, caller="from_pretrained")
    check_choice("local_files_only", local_files_only, (True, False), caller="from_pretrained")
    if cache_dir is not None:
        check_path("cache_dir", cache_dir, caller="from_pretrained")
    with hub_errors(repo_id, revision):
        silent = None
        if not local_files_only and not _COMMIT.fullmatch(revision or ""):
            silent = no_answer(HfApi(token=token), repo_id, revision)
        local = local_files_only or silent is not None
        try:
            folder = _download(repo_id, revision, token=token, cache_dir=cache_dir, local_files_only=local)
        except LocalEntryNotFoundError as error:
            raise error from silent or error.__cause__
    if silent is not None and not isinstance(silent, OfflineModeIsEnabled):
        told = f"{repo_id}: the Hub gave no answer; the model is that of the cache (commit {folder.name})."
        warnings.warn(told, HubWarning, stacklevel=3)
    return folder


def _download(repo_id: str, revision: str | None, **options: Any) -> Path:
    """Download SHA256SUMS, then what it lists; SHA256SUMS once more where the cache holds a damaged one."""
    for attempt in (1, 2):
        first = [SUMS_NAME, CONFIG_NAME]  # a checkpoint of timm has the second alone
        folder = Path(snapshot_download(repo_id, revision=revision, allow_patterns=first, **options))
        if not (folder / SUMS_NAME).exists():
            return _download_of_timm(repo_id, folder, **options)
        try:
            names = [glob.escape(name) for name in read_sums(folder)]
            break
        except ModelFolderError:
            if not discard_damaged(folder) or attempt == 2:
                raise
    snapshot_download(repo_id, revision=folder.name, allow_patterns=[SUMS_NAME, *names], **options)
    return folder


def _download_of_timm(repo_id: str, folder: Path, **options: Any) -> Path:
    """Download a checkpoint of timm, which has no SHA256SUMS; once more where a file is not what the Hub named."""
    if not (folder / CONFIG_NAME).exists() or not is_timm(read_json(folder / CONFIG_NAME)):
        where = "the cache" if options["local_files_only"] else "the repository"
        raise no_model(repo_id, where)
    for _ in range(2):
        snapshot_download(repo_id, revision=folder.name, allow_patterns=[CONFIG_NAME, WEIGHTS_NAME], **options)
        if not discard_damaged(folder):
            return folder
    raise HubError(f"{repo_id}: files were damaged on their way, twice; try again.")


def no_model(repo_id: str, where: str = "the repository") -> HubError:
    """Return the error of a place that holds neither a model of ours nor one of timm's."""
    return HubError(
        f"{repo_id}: {where} holds no {SUMS_NAME}, so there is no model of cxr_estimator, nor a {CONFIG_NAME} of "
        "timm, which names an 'architecture'."
    )


def discard_damaged(folder: Path) -> list[str]:
    """Delete files of a snapshot in the cache that are not what the Hub named; return their names."""
    return [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if discard_if_damaged(path)]


def discard_if_damaged(path: Path) -> bool:
    """Delete a file of a snapshot in the cache if it is not what the Hub named; tell whether that was so.

    The client keeps every content under the name that the Hub gave to it: git's SHA-1 of 40 characters, or a SHA-256
    of 64. Where the cache has no links (some file systems) names are lost, and nothing is deleted.
    """
    if not path.is_symlink():
        return False
    blob = path.parent / os.readlink(path)
    name = blob.name
    if not blob.exists() or not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", name):
        return False
    if name == (sha256_of(blob) if len(name) == 64 else git_sha1(blob.read_bytes())):
        return False
    blob.resolve().unlink(missing_ok=True)  # where models share contents, the blob itself is a link
    blob.unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    return True
