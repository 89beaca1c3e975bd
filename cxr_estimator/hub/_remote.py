"""What a repository on the Hub is, and `Remote`: the files of it at one commit."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, RepoFile
from huggingface_hub.constants import ENDPOINT, REPO_TYPES_URL_PREFIXES, REPOCARD_NAME
from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled

from cxr_estimator.checksums import SUMS_NAME, parse_sums, sha256_of
from cxr_estimator.hub._errors import is_unreachable

_PATIENCE = 10.0  # seconds for the first answer of the Hub
_MADE_BY_HUB = {".gitattributes", REPOCARD_NAME}  # what a new Space holds before anybody put something there


def address(repo_id: str, *, repo_type: str | None = None) -> str:
    """Return where people find a repository."""
    return f"{ENDPOINT}/{REPO_TYPES_URL_PREFIXES.get(repo_type or '', '')}{repo_id}"


def ask(api: HfApi, repo_id: str, revision: str | None = None, *, repo_type: str | None = None) -> Any:
    """Return what the Hub tells of a repository: unlike the client, with an end to waiting."""
    return api.repo_info(repo_id, revision=revision, repo_type=repo_type, timeout=_PATIENCE)


def no_answer(
    api: HfApi, repo_id: str, revision: str | None, *, repo_type: str | None = None
) -> HTTPError | OfflineModeIsEnabled | None:
    """Return why the Hub cannot be asked, or None if it can."""
    try:
        ask(api, repo_id, revision, repo_type=repo_type)
    except (HTTPError, OfflineModeIsEnabled) as error:
        if is_unreachable(error):
            return error
        raise
    return None


class Remote:
    """The files of a repository at one commit, compared with others by the names that the Hub gives to contents.

    Attributes
    ----------
    repo_id : str
    files : dict of str to RepoFile
        By path.
    sums : dict of str to str
        SHA-256 by path as the SHA256SUMS there records them; empty where there is none, or none of ours.
    """

    def __init__(self, api: HfApi, repo_id: str, commit: str, *, repo_type: str | None = None) -> None:
        self.repo_id, self._api, self._commit, self._repo_type = repo_id, api, commit, repo_type
        listed = api.list_repo_tree(repo_id, recursive=True, revision=commit, repo_type=repo_type)
        self.files = {one.path: one for one in listed if isinstance(one, RepoFile)}
        self.sums: dict[str, str] = {}
        if SUMS_NAME in self.files:
            try:
                self.sums = parse_sums(self.read(SUMS_NAME).decode())
            except ValueError:  # another tool's, or edited: then nothing there is known to be ours
                self.sums = {}

    @property
    def is_new(self) -> bool:
        """Whether nobody has put anything there yet."""
        return self.files.keys() <= _MADE_BY_HUB

    def read(self, name: str) -> bytes:
        """Download a (small) file, beside the cache."""
        with tempfile.TemporaryDirectory() as folder:
            path = self._api.hf_hub_download(
                self.repo_id, name, revision=self._commit, repo_type=self._repo_type, cache_dir=folder
            )
            return Path(path).read_bytes()

    def holds(self, name: str, path: Path) -> bool:
        """Tell without a download whether the file `name` there is the local one at `path`."""
        there = self.files.get(name)
        if there is None:
            return False
        return sha256_of(path) == there.lfs.sha256 if there.lfs else git_sha1(path.read_bytes()) == there.blob_id

    def is_as_recorded(self, name: str) -> bool:
        """Tell whether the file `name` is there and still is the one that the SHA256SUMS there records."""
        if name not in self.files or name not in self.sums:
            return False
        large = self.files[name].lfs
        digest = large.sha256 if large else hashlib.sha256(self.read(name)).hexdigest()
        return digest == self.sums[name]


def git_sha1(content: bytes) -> str:
    """Return the name that git gives to the content of a file.

    Examples
    --------
    >>> git_sha1(b"")
    'e69de29bb2d1d6434b8b29ae775ad8c2e48c5391'
    """
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
