"""Repositories as a Hub holds them: commits of files, branches, tags, pull requests and large objects."""

from __future__ import annotations

import hashlib
import re
import struct
from base64 import b64decode
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

LFS_NAMES = re.compile(r"\.(safetensors|parquet|png|npz|zip|bin)$")
LFS_SIZE = 10_000_000  # bytes; what is larger goes to the large objects whatever its name
# what the Hub puts into a Space that somebody makes
SPACE_CARD = "---\ntitle: New\nemoji: 🚀\ncolorFrom: red\ncolorTo: blue\nsdk: gradio\napp_file: app.py\n---\n".encode()
ATTRIBUTES = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"


class Refusal(Exception):
    """A request that the Hub answers with an error."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass(frozen=True)
class Entry:
    """One file of a commit. Large files have a `sha256`; for them `oid` is that of the pointer that git would keep."""

    oid: str
    size: int
    sha256: str | None = None
    pointer_size: int = 0
    xet_hash: str | None = None

    @classmethod
    def large(cls, sha256: str, size: int, xet_hash: str | None = None) -> Entry:
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
        return cls(git_oid(pointer), size, sha256, len(pointer), xet_hash)

    @property
    def key(self) -> str:
        """Name of the content: SHA-256 for large files, git's SHA-1 for others."""
        return self.sha256 or self.oid


@dataclass(frozen=True)
class Commit:
    sha: str
    parent: str | None
    title: str
    files: dict[str, Entry]


@dataclass
class Repository:
    kind: str  # "models", "datasets" or "spaces"
    id: str
    private: bool = False
    gated: bool = False
    granted: set[str] = field(default_factory=set)  # users with access to a gated repository
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    pulls: dict[str, str] = field(default_factory=dict)  # "refs/pr/1" -> commit

    @property
    def owner(self) -> str:
        return self.id.partition("/")[0]

    def head(self, revision: str = "main") -> Commit:
        """Return the commit of a branch, tag, pull request or commit id."""
        for names in (self.branches, self.tags, self.pulls):
            if revision in names:
                return self.commits[names[revision]]
        if revision in self.commits:
            return self.commits[revision]
        raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def history(self, revision: str = "main") -> list[Commit]:
        """Return the commits that lead to a revision, the newest first."""
        found = [self.head(revision)]
        while found[-1].parent is not None:
            found.append(self.commits[found[-1].parent])
        return found

    def add(self, title: str, files: dict[str, Entry], parent: str | None) -> Commit:
        text = repr((len(self.commits), parent, title, sorted(files.items())))
        commit = Commit(hashlib.sha1(text.encode()).hexdigest(), parent, title, dict(files))
        self.commits[commit.sha] = commit
        return commit


class Store:
    """All that a Hub keeps: repositories, and contents by their SHA-256 or git's SHA-1."""

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.contents: dict[str, bytes] = {}
        self.xet: Path | None = None  # hf_xet's local store, for a Hub with Xet

    def find(self, kind: str, name: str) -> Repository | None:
        return self.repositories.get((kind, name))

    def create(self, kind: str, name: str, *, private: bool = False) -> Repository:
        if self.find(kind, name):
            raise Refusal(409, f"You already created this {kind[:-1]} repo: {name}")
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", name):
            raise Refusal(400, f"Invalid repo name: {name}")
        repository = self.repositories[kind, name] = Repository(kind, name, private)
        files = {".gitattributes": ATTRIBUTES, **({"README.md": SPACE_CARD} if kind == "spaces" else {})}
        first = repository.add("initial commit", {path: self.keep(each) for path, each in files.items()}, None)
        repository.branches["main"] = first.sha
        return repository

    def keep(self, content: bytes, *, large: bool = False) -> Entry:
        """Store the content of one file."""
        entry = Entry(git_oid(content), len(content))
        if large:
            entry = Entry.large(hashlib.sha256(content).hexdigest(), len(content))
        self.contents[entry.key] = content
        return entry

    def put(self, kind: str, name: str, files: dict[str, bytes], *, title: str = "by a test") -> Commit:
        """Commit files to the main branch without any HTTP; make the repository if need be."""
        repository = self.find(kind, name) or self.create(kind, name)
        head = repository.head()
        new = {path: self.keep(content, large=is_large(path, len(content))) for path, content in files.items()}
        commit = repository.add(title, {**head.files, **new}, head.sha)
        repository.branches["main"] = commit.sha
        return commit

    def read(self, kind: str, name: str, path: str, revision: str = "main") -> bytes:
        return self.contents[self.repositories[kind, name].head(revision).files[path].key]

    def commit(
        self, repository: Repository, revision: str, lines: Iterable[dict], *, as_pull_request: bool
    ) -> tuple[Commit, str | None]:
        """Apply the lines of a commit request; returns the commit and the name of its pull request, if it made one."""
        header, *changes = lines
        head = repository.head(revision)
        if header["value"].get("parentCommit", head.sha) != head.sha:
            raise Refusal(412, "A commit has happened since. Please refresh and try again.")
        if not as_pull_request and revision not in repository.branches and revision not in repository.pulls:
            raise Refusal(400, f"{revision} is not a branch")
        files = dict(head.files)
        for change in changes:
            self._apply(files, change["key"], change["value"])
        commit = repository.add(header["value"]["summary"], files, head.sha)
        if as_pull_request:
            name = f"refs/pr/{len(repository.pulls) + 1}"
            repository.pulls[name] = commit.sha
            return commit, name
        (repository.branches if revision in repository.branches else repository.pulls)[revision] = commit.sha
        return commit, None

    def _apply(self, files: dict[str, Entry], key: str, value: dict) -> None:
        path = value["path"]
        if key == "file":
            files[path] = self.keep(b64decode(value["content"], validate=True))
        elif key == "lfsFile":
            xet_hash = self._xet_hash(value["oid"])
            if xet_hash is None and value["oid"] not in self.contents:
                raise Refusal(400, f"LFS object {value['oid']} was never uploaded")
            files[path] = Entry.large(value["oid"], value["size"], xet_hash)
        elif path not in files:
            raise Refusal(404, f"A file with the name {path} doesn't exist", "EntryNotFound")
        elif key == "deletedFile":
            del files[path]
        else:
            raise Refusal(400, f"unknown line of a commit: {key}")

    def _xet_hash(self, sha256: str) -> str | None:
        """Return Xet's name of a content that was uploaded to its store, where shards tell it beside the SHA-256."""
        for shard in self.xet.rglob("shards/*.mdb") if self.xet else ():
            data, at = shard.read_bytes(), 48  # in records of 48 bytes, the first of which is a header
            # of each file: name, flags and number of its segments; the segments, twice if verified; its SHA-256
            while (name := _xet_hex(data, at)) != 64 * "f":
                flags, segments = struct.unpack_from("<II", data, at + 32)
                at += 48 * (1 + segments * (2 if flags >> 31 else 1))
                if _xet_hex(data, at) == sha256:
                    return name
                at += 48
        return None


def _xet_hex(data: bytes, at: int) -> str:
    return "".join(f"{number:016x}" for number in struct.unpack_from("<4Q", data, at))


def is_large(path: str, size: int, sample: bytes = b"") -> bool:
    """Tell whether the Hub wants a file as a large object; an empty one never is."""
    return size > 0 and (bool(LFS_NAMES.search(path)) or size > LFS_SIZE or b"\0" in sample)
