"""Model folders <-> the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from huggingface_hub.utils import validate_repo_id

from cxr_estimator._validation import invalid
from cxr_estimator.checksums import SUMS_NAME
from cxr_estimator.errors import HubError

_OURS = ["*config.json", "*model.safetensors", "README.md", "*.png", ".eval_results/*.yaml", SUMS_NAME]


class Pushed(NamedTuple):
    """A commit on the Hub."""

    url: str
    oid: str


def check_repo_id(repo_id: str, *, caller: str) -> str:
    """Return `repo_id` if it has the form of one."""
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise invalid("repo_id", caller, "'user/model'", repo_id) from error
    return repo_id


def fetch(
    repo_id: str,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> Path:
    """Return the folder in the cache that holds the files of a model."""
    check_repo_id(repo_id, caller="from_pretrained")
    try:
        folder = snapshot_download(
            repo_id,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            allow_patterns=_OURS,
        )
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise HubError(f"{repo_id}: {error}") from error
    return Path(folder)


def discard_damaged(folder: Path) -> list[str]:
    """Delete files of the cache that are not what the Hub sent; return their names."""
    return []


def push(
    folder: Path,
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    branch: str | None = None,
    commit_message: str | None = None,
    create_pr: bool = False,
) -> Pushed:
    """Send a model folder as one commit."""
    api = HfApi(token=token)
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            revision=branch,
            commit_message=commit_message,
            create_pr=create_pr,
        )
    except HfHubHTTPError as error:
        raise HubError(f"{repo_id}: {error}") from error
    return Pushed(commit.commit_url, commit.oid)
