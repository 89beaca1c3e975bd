"""Model folders <-> the Hugging Face Hub, in whole commits and with errors that say what to do.

Notes
-----
The Hub's client compares sizes only, so a flipped byte passes it; SHA256SUMS tells (see `checksums`), and
`discard_damaged` finds what does not deserve its place in the client's cache.
"""

from __future__ import annotations

import glob
import json
import os
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, snapshot_download
from huggingface_hub.constants import ENDPOINT, REPOCARD_NAME
from huggingface_hub.errors import (
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from cxr_estimator._hub_errors import check_repo_id, check_revision, check_token, hub_errors, is_unreachable
from cxr_estimator._remote import Remote, git_sha1
from cxr_estimator._validation import check_choice, check_path, wrong_type
from cxr_estimator.checksums import SUMS_NAME, differing, read_sums, sha256_of
from cxr_estimator.errors import EditedFilesWarning, HubError, HubWarning, ModelFolderError
from cxr_estimator.serialization import CONFIG_NAME, WEIGHTS_NAME, is_timm, parse_json, read_json

_PATIENCE = 10.0  # seconds for the first answer of the Hub
_COMMIT = re.compile(r"[0-9a-f]{40}")


class Pushed(NamedTuple):
    """What a push did.

    Attributes
    ----------
    url : str
        Address of the commit: the new one, or where nothing was new, the one that holds the same files.
    oid : str
        Its id, for `revision`.
    changed : tuple of str
        The files that were sent or deleted; empty where nothing was new, and then no commit was made.
    pull_request : str or None
        Address of the pull request, if one was made.
    """

    url: str
    oid: str
    changed: tuple[str, ...] = ()
    pull_request: str | None = None


class Change(NamedTuple):
    """One entry of a config.json that differs: its dotted path, and both values as JSON (None where it is absent)."""

    key: str
    here: str | None
    there: str | None


@dataclass(frozen=True)
class Differences:
    """A model folder (here) compared with a repository (there).

    Attributes
    ----------
    commit : str
        The commit that was compared.
    same, changed, only_here, only_there : tuple of str
        Names of files that belong to the model, here or there. Other files of the repository are left out.
    config : tuple of Change
        What differs in config.json, by dotted path; those of an ensemble begin with the folder of the member.
    """

    commit: str
    same: tuple[str, ...]
    changed: tuple[str, ...]
    only_here: tuple[str, ...]
    only_there: tuple[str, ...]
    config: tuple[Change, ...]


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
            silent = _no_answer(HfApi(token=token), repo_id, revision)
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
        raise HubError(
            f"{repo_id}: {where} holds no {SUMS_NAME}, so there is no model of cxr_estimator, nor a {CONFIG_NAME} of "
            "timm, which names an 'architecture'."
        )
    for _ in range(2):
        snapshot_download(repo_id, revision=folder.name, allow_patterns=[CONFIG_NAME, WEIGHTS_NAME], **options)
        if not discard_damaged(folder):
            return folder
    raise HubError(f"{repo_id}: files were damaged on their way, twice; try again.")


def _no_answer(api: HfApi, repo_id: str, revision: str | None) -> Exception | None:
    """Return why the Hub cannot be asked, or None if it can: unlike the client, with an end to waiting."""
    try:
        api.repo_info(repo_id, revision=revision, timeout=_PATIENCE)
    except (HTTPError, OfflineModeIsEnabled) as error:
        if is_unreachable(error):
            return error
        raise
    return None


def discard_damaged(folder: Path) -> list[str]:
    """Delete files of a snapshot in the cache that are not what the Hub named; return their names.

    The client keeps every content under the name that the Hub gave to it: git's SHA-1 of 40 characters, or a SHA-256
    of 64. Where the cache has no links (some file systems) names are lost, and nothing is deleted.
    """
    damaged = []
    for path in sorted(folder.rglob("*")):
        if not path.is_symlink():
            continue
        blob = path.parent / os.readlink(path)
        name = blob.name
        if not blob.exists() or not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", name):
            continue
        if name != (sha256_of(blob) if len(name) == 64 else git_sha1(blob.read_bytes())):
            blob.resolve().unlink(missing_ok=True)  # where models share contents, the blob itself is a link
            blob.unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            damaged.append(path.relative_to(folder).as_posix())
    return damaged


def push(
    folder: Path,
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | bool | None = None,
    branch: str | None = None,
    commit_message: str | None = None,
    create_pr: bool = False,
) -> Pushed:
    """Send a model folder as one commit to a repository, which is made if need be.

    Only what SHA256SUMS lists is sent, and of that only what is new. Files of an earlier push that the folder no longer
    has are deleted by the same commit; what others put there is left alone, also a README that somebody edited there.

    Raises
    ------
    ModelFolderError
        The folder is not as SHA256SUMS records it, or a file is a link.
    HubError
        The Hub cannot be reached or refuses, or the head moved meanwhile; then nothing was changed.
    """
    check_repo_id(repo_id, caller="push_to_hub")
    check_revision("branch", branch, caller="push_to_hub")
    check_token(token, caller="push_to_hub")
    check_path("folder", folder, caller="push_to_hub")
    check_choice("private", private, (None, True, False), caller="push_to_hub")
    check_choice("create_pr", create_pr, (True, False), caller="push_to_hub")
    if commit_message is not None and not (isinstance(commit_message, str) and commit_message.strip()):
        raise wrong_type("commit_message", "push_to_hub", "None or a text that is not empty", commit_message)
    sums = _checked_sums(folder)
    api = HfApi(token=token)
    with hub_errors(repo_id, branch):
        head = _head(api, repo_id, private=private, branch=branch, create_pr=create_pr)
        operations = list(_operations(folder, [*sums, SUMS_NAME], Remote(api, repo_id, head)))
        if not operations:
            return Pushed(f"{ENDPOINT}/{repo_id}/commit/{head}", head)
        commit = api.create_commit(
            repo_id,
            operations,
            commit_message=commit_message or "Share a model of cxr_estimator",
            revision=branch,
            create_pr=create_pr,
            parent_commit=head,
        )
    return Pushed(commit.commit_url, commit.oid, tuple(one.path_in_repo for one in operations), commit.pr_url)


def _checked_sums(folder: Path) -> dict[str, str]:
    """Return the digests of a folder that is as they say, and has no links, which may lead out of it."""
    sums = read_sums(folder)
    for name in [*sums, SUMS_NAME]:
        links = [path for path in (folder / name, *(folder / name).parents) if path.is_symlink() and path != folder]
        if any(link.is_relative_to(folder) for link in links):
            raise ModelFolderError(f"{folder / name}: is a link, which is not followed; copy the file into its place.")
    wrong = differing(folder, sums)
    if wrong:
        raise ModelFolderError(
            f"{folder}: {', '.join(wrong)} changed since the model was saved, or missing; save the model again."
        )
    return sums


def _head(api: HfApi, repo_id: str, *, private: bool | None, branch: str | None, create_pr: bool) -> str:
    """Return the commit to build on; the repository and the branch are made if need be."""
    try:
        info = api.repo_info(repo_id, timeout=_PATIENCE)
    except RepositoryNotFoundError:
        api.create_repo(repo_id, private=private, exist_ok=True)
        info = api.repo_info(repo_id, timeout=_PATIENCE)
    if private is not None and info.private != private:
        now, wanted = ("private", "public") if info.private else ("public", "private")
        raise HubError(
            f"{repo_id}: is {now} already, so nothing was sent. `private` is for new repositories; make this one "
            f"{wanted} at {ENDPOINT}/{repo_id}/settings, or leave `private` out."
        )
    if branch is None:
        return str(info.sha)
    try:
        return str(api.repo_info(repo_id, revision=branch, timeout=_PATIENCE).sha)
    except RevisionNotFoundError:
        if create_pr:  # which is for branches that exist
            raise
        api.create_branch(repo_id, branch=branch, exist_ok=True)
        return str(api.repo_info(repo_id, revision=branch, timeout=_PATIENCE).sha)


def _operations(folder: Path, names: list[str], remote: Remote) -> Iterator[CommitOperationAdd | CommitOperationDelete]:
    """Yield what makes the repository hold the files of a folder."""
    for name in names:
        if remote.holds(name, folder / name):
            continue
        if name == REPOCARD_NAME and name in remote.files and not remote.is_as_recorded(name):
            _warn_of_kept(name)
            continue
        yield CommitOperationAdd(name, folder / name)
    for name in sorted(remote.sums.keys() & remote.files.keys() - set(names)):
        if remote.is_as_recorded(name):
            yield CommitOperationDelete(name, is_folder=False)
        else:
            _warn_of_kept(name)


def _warn_of_kept(name: str) -> None:
    told = f"{name} was edited on the Hub and is kept; delete it there to have it written anew."
    warnings.warn(told, EditedFilesWarning, stacklevel=5)


def differences(
    folder: Path, repo_id: str, *, revision: str | None = None, token: str | bool | None = None
) -> Differences:
    """Compare a model folder with a repository, without downloading weights.

    Raises
    ------
    ModelFolderError
        The folder is no model of ours, or the config.json of one of the two is no JSON object.
    HubError
        The Hub cannot be reached or refuses.
    """
    check_path("folder", folder, caller="differences")
    check_repo_id(repo_id, caller="differences")
    check_revision("revision", revision, caller="differences")
    check_token(token, caller="differences")
    here = {name for name in read_sums(folder) if (folder / name).is_file()}
    api = HfApi(token=token)
    with hub_errors(repo_id, revision):
        commit = str(api.repo_info(repo_id, revision=revision, timeout=_PATIENCE).sha)
        remote = Remote(api, repo_id, commit)
        there = (remote.sums.keys() | here) & remote.files.keys()
        same = {name for name in here & there if remote.holds(name, folder / name)}
        changed = sorted((here & there) - same)
        config = [
            change
            for name in changed
            if Path(name).name == CONFIG_NAME
            for change in _config_changes(
                name, read_json(folder / name), parse_json(remote.read(name), f"{repo_id}: {name}")
            )
        ]
    return Differences(
        commit=commit,
        same=tuple(sorted(same)),
        changed=tuple(changed),
        only_here=tuple(sorted(here - there)),
        only_there=tuple(sorted(there - here)),
        config=tuple(config),
    )


def _config_changes(name: str, here: dict[str, Any], there: dict[str, Any]) -> list[Change]:
    """Return what differs between two config.json; `name` tells the folder of an ensemble's member."""
    prefix = "".join(f"{part}." for part in Path(name).parts[:-1])
    return list(_changes(prefix, here, there))


def _changes(path: str, here: Any, there: Any) -> Iterator[Change]:
    """Yield what differs between two JSON objects, the objects in them included."""
    for key in sorted(here.keys() | there.keys()):
        if key in here and key in there:
            if isinstance(here[key], dict) and isinstance(there[key], dict):
                yield from _changes(f"{path}{key}.", here[key], there[key])
                continue
            if here[key] == there[key]:
                continue
        yield Change(
            path + key, *(json.dumps(one[key], sort_keys=True) if key in one else None for one in (here, there))
        )
