"""`push`: the folder of a model or a Space to the Hub as one commit, which overwrites nobody's work."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.constants import REPO_TYPE_SPACE, REPOCARD_NAME
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

from cxr_estimator._validation import check_choice, check_path, wrong_type
from cxr_estimator.checksums import SUMS_NAME, differing, read_sums
from cxr_estimator.errors import EditedFilesWarning, HubError, ModelFolderError
from cxr_estimator.hub._errors import check_repo_id, check_revision, check_token, hub_errors
from cxr_estimator.hub._remote import Remote, address, ask


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


def push(
    folder: Path,
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | bool | None = None,
    branch: str | None = None,
    commit_message: str | None = None,
    create_pr: bool = False,
    repo_type: str | None = None,
    check: Callable[[Remote], None] | None = None,
    overwrite: bool = False,
    caller: str = "push_to_hub",
) -> Pushed:
    """Send a folder as one commit to a repository, which is made if need be: a model's, or with "space" a Space's.

    Only what SHA256SUMS lists is sent, and of that only what is new. Files of an earlier push that the folder no longer
    has are deleted by the same commit; what others put there is left alone, also a README that somebody edited there,
    except with `overwrite`. `check` looks at what is there before anything is sent, and may raise.

    Raises
    ------
    ModelFolderError
        The folder is not as SHA256SUMS records it, or a file is a link.
    HubError
        The Hub cannot be reached or refuses, or the head moved meanwhile; then nothing was changed.
    """
    check_repo_id(repo_id, caller=caller)
    check_revision("branch", branch, caller=caller)
    check_token(token, caller=caller)
    check_path("folder", folder, caller=caller)
    check_choice("private", private, (None, True, False), caller=caller)
    check_choice("create_pr", create_pr, (True, False), caller=caller)
    if commit_message is not None and not (isinstance(commit_message, str) and commit_message.strip()):
        raise wrong_type("commit_message", caller, "None or a text that is not empty", commit_message)
    sums = _checked_sums(folder)
    api = HfApi(token=token)
    with hub_errors(repo_id, branch):
        head = _head(api, repo_id, repo_type=repo_type, private=private, branch=branch, create_pr=create_pr)
        remote = Remote(api, repo_id, head, repo_type=repo_type)
        if check is not None:
            check(remote)
        overwrite = overwrite or (repo_type == REPO_TYPE_SPACE and remote.is_new)  # its README is the Hub's own
        operations = list(_operations(folder, [*sums, SUMS_NAME], remote, overwrite=overwrite))
        if not operations:
            return Pushed(f"{address(repo_id, repo_type=repo_type)}/commit/{head}", head)
        commit = api.create_commit(
            repo_id,
            operations,
            commit_message=commit_message or f"Share a {repo_type or 'model'} of cxr_estimator",
            repo_type=repo_type,
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


def _head(
    api: HfApi, repo_id: str, *, repo_type: str | None, private: bool | None, branch: str | None, create_pr: bool
) -> str:
    """Return the commit to build on; the repository and the branch are made if need be."""
    try:
        info = ask(api, repo_id, repo_type=repo_type)
    except RepositoryNotFoundError:
        sdk = "gradio" if repo_type == REPO_TYPE_SPACE else None
        api.create_repo(repo_id, private=private, exist_ok=True, repo_type=repo_type, space_sdk=sdk)
        info = ask(api, repo_id, repo_type=repo_type)
    if private is not None and info.private != private:
        now, wanted = ("private", "public") if info.private else ("public", "private")
        raise HubError(
            f"{repo_id}: is {now} already, so nothing was sent. `private` is for new repositories; make this one "
            f"{wanted} at {address(repo_id, repo_type=repo_type)}/settings, or leave `private` out."
        )
    if branch is None:
        return str(info.sha)
    try:
        return str(ask(api, repo_id, branch, repo_type=repo_type).sha)
    except RevisionNotFoundError:
        if create_pr:  # which is for branches that exist
            raise
        api.create_branch(repo_id, branch=branch, exist_ok=True, repo_type=repo_type)
        return str(ask(api, repo_id, branch, repo_type=repo_type).sha)


def _operations(
    folder: Path, names: list[str], remote: Remote, *, overwrite: bool
) -> Iterator[CommitOperationAdd | CommitOperationDelete]:
    """Yield what makes the repository hold the files of a folder."""
    for name in names:
        if remote.holds(name, folder / name):
            continue
        if name == REPOCARD_NAME and name in remote.files and not (overwrite or remote.is_as_recorded(name)):
            _warn_of_kept(name)
            continue
        yield CommitOperationAdd(name, folder / name)
    for name in sorted(remote.sums.keys() & remote.files.keys() - set(names)):
        if overwrite or remote.is_as_recorded(name):
            yield CommitOperationDelete(name, is_folder=False)
        else:
            _warn_of_kept(name)


def _warn_of_kept(name: str) -> None:
    told = f"{name} was edited on the Hub and is kept; delete it there to have it written anew."
    warnings.warn(told, EditedFilesWarning, stacklevel=5)
