"""What the Hub for tests answers to each path."""

from __future__ import annotations

import hashlib
import json
import re
import time
from urllib.parse import parse_qs, unquote, urlsplit

from tests.hub.cards import check_card
from tests.hub.connection import Answer, Connection
from tests.hub.store import Refusal, Repository, is_large

KIND, NAME = r"/api/(?P<kind>models|datasets|spaces)", r"(?P<name>[^/]+(?:/[^/]+)?)"
FILES = r"/(?P<kind>datasets/|spaces/)?" + NAME


class Api(Connection):
    """Answers as the Hub does."""

    def _route(self) -> Answer:
        """Find what answers a path; parts of it are unquoted after the splitting, for branches with a slash."""
        path = urlsplit(self.path).path
        self.query = {key: values[-1] for key, values in parse_qs(urlsplit(self.path).query).items()}
        if self.access == "invalid":
            raise Refusal(401, "Invalid credentials in Authorization header")
        for method, pattern, answer in _ROUTES:
            found = re.fullmatch(pattern, path)
            if found and method == self.command.replace("HEAD", "GET"):
                return answer(self, **{key: value and unquote(value) for key, value in found.groupdict().items()})
        raise Refusal(404, f"Sorry, there is nothing at {path}")

    # -- who may do what

    def _repository(self, kind: str | None, name: str, *, write: bool = False) -> Repository:
        repository = self.server.hub.store.find((kind or "models").rstrip("/"), name)
        if repository is None or (repository.private and self.user != repository.owner):
            # as the Hub: who is not known learns no more than that
            raise Refusal(404 if self.access else 401, "Repository not found", "RepoNotFound")
        if write:
            self._may_write(repository.owner, foreign=self.query.get("create_pr") == "1")
        return repository

    def _may_write(self, owner: str, *, foreign: bool = False) -> None:
        if self.access is None:
            raise Refusal(401, "Invalid username or password.")
        if self.access != "write":
            raise Refusal(403, "Forbidden: you must use a write token to upload to a repository.")
        if self.user != owner and not foreign:
            raise Refusal(403, f"Forbidden: you don't have the rights to write in the namespace {owner}.")

    def _address(self, kind: str, name: str) -> str:
        return f"{self.server.hub.endpoint}/{'' if kind == 'models' else f'{kind}/'}{name}"

    # -- the API

    def create(self) -> Answer:
        wanted = json.loads(self.body)
        kind = wanted.get("type", "model") + "s"
        owner = wanted.get("organization") or self.user
        self._may_write(owner)
        name = f"{owner}/{wanted['name']}"
        if kind == "spaces" and wanted.get("sdk") not in ("gradio", "docker", "static"):
            raise Refusal(400, "Missing or unknown sdk of a Space")
        url = self._address(kind, name)
        if self.server.hub.store.find(kind, name):
            return Answer.of({"error": "You already created this repo", "url": url}, 409)
        self.server.hub.store.create(kind, name, private=wanted.get("visibility") == "private")
        return Answer.of({"url": url, "name": name})

    def delete(self) -> Answer:
        wanted = json.loads(self.body)
        name = f"{wanted.get('organization') or self.user}/{wanted['name']}"
        repository = self._repository(wanted.get("type", "model") + "s", name, write=True)
        del self.server.hub.store.repositories[repository.kind, repository.id]
        return Answer.of({})

    def validate(self) -> Answer:
        wanted = json.loads(self.body)
        errors, warnings = check_card(wanted["content"], is_space=wanted["repoType"] == "space")
        answer = {
            "errors": [{"message": text} for text in errors],
            "warnings": [{"message": text} for text in warnings],
        }
        return Answer.of(answer, 400 if errors else 200)

    def who(self) -> Answer:
        if self.user is None:
            raise Refusal(401, "Invalid username or password.")
        return Answer.of({"type": "user", "name": self.user, "auth": {"accessToken": {"role": self.access}}})

    def info(self, kind: str, name: str, revision: str = "main") -> Answer:
        repository = self._repository(kind, name)
        commit = repository.head(revision)
        siblings = [
            {"rfilename": path, **({"size": one.size, "blobId": one.oid} if "blobs" in self.query else {})}
            for path, one in commit.files.items()
        ]
        facts = {"id": name, "sha": commit.sha, "private": repository.private, "siblings": siblings, "tags": []}
        return Answer.of({**facts, "gated": "manual" if repository.gated else False})

    def tree(self, kind: str, name: str, revision: str) -> Answer:
        files = self._repository(kind, name).head(revision).files
        entries = []
        for path, one in sorted(files.items()):
            entry = {"type": "file", "path": path, "oid": one.oid, "size": one.size}
            if one.sha256:
                entry["lfs"] = {"oid": one.sha256, "size": one.size, "pointerSize": one.pointer_size}
            entries.append(entry | ({"xetHash": one.xet_hash} if one.xet_hash else {}))
        return Answer.of(entries)

    def refs(self, kind: str, name: str) -> Answer:
        repository = self._repository(kind, name)

        def listed(names: dict[str, str], prefix: str) -> list[dict]:
            return [{"name": one, "ref": prefix + one, "targetCommit": sha} for one, sha in names.items()]

        answer = {"branches": listed(repository.branches, "refs/heads/"), "tags": listed(repository.tags, "refs/tags/")}
        return Answer.of({**answer, "converts": [], "pullRequests": listed(repository.pulls, "")})

    def preupload(self, kind: str, name: str, revision: str) -> Answer:
        files = self._repository(kind, name, write=True).head(revision).files
        answer = []
        for one in json.loads(self.body)["files"]:
            mode = "lfs" if is_large(one["path"], one["size"]) else "regular"
            entry = {"path": one["path"], "uploadMode": mode, "shouldIgnore": False}
            answer.append(entry | ({"oid": files[one["path"]].key} if one["path"] in files else {}))
        return Answer.of({"files": answer})

    def commit(self, kind: str, name: str, revision: str) -> Answer:
        repository = self._repository(kind, name, write=True)
        lines = [json.loads(line) for line in self.body.splitlines()]
        store, wants_pull = self.server.hub.store, self.query.get("create_pr") == "1"
        new, pull = store.commit(repository, revision, lines, as_pull_request=wants_pull)
        address = self._address(kind, name)
        answer = {"success": True, "commitOid": new.sha, "commitUrl": f"{address}/commit/{new.sha}"}
        if pull:
            answer["pullRequestUrl"] = f"{address}/discussions/{pull.rpartition('/')[2]}"
        return Answer.of(answer)

    def branch(self, kind: str, name: str, branch: str) -> Answer:
        repository = self._repository(kind, name, write=True)
        if branch in repository.branches:
            raise Refusal(409, f"Reference already exists: {branch}")
        start = json.loads(self.body or b"{}").get("startingPoint", "main")
        repository.branches[branch] = repository.head(start).sha
        return Answer.of({})

    def tag(self, kind: str, name: str, revision: str) -> Answer:
        repository = self._repository(kind, name, write=True)
        tag = json.loads(self.body)["tag"]
        if tag in repository.tags:
            raise Refusal(409, f"Tag reference exists already: {tag}")
        repository.tags[tag] = repository.head(revision).sha
        return Answer.of({})

    # -- files and large objects

    def resolve(self, kind: str | None, name: str, revision: str, path: str) -> Answer:
        hub = self.server.hub
        repository = self._repository(kind, name)
        if repository.gated and self.user != repository.owner and self.user not in repository.granted:
            reason = "Access to this repository is restricted and you are not in the authorized list."
            raise Refusal(403 if self.access else 401, f"{reason} Visit {hub.endpoint}/{name} to ask.", "GatedRepo")
        commit = repository.head(revision)
        entry = commit.files.get(path)
        if entry is None:
            raise Refusal(404, "Entry not found", "EntryNotFound")
        headers = {"X-Repo-Commit": commit.sha, "ETag": f'"{entry.key}"'}
        if entry.xet_hash:
            headers["X-Xet-Hash"] = entry.xet_hash
            headers["X-Xet-Refresh-Route"] = f"{hub.endpoint}/api/{repository.kind}/{name}/xet-read-token/{commit.sha}"
        if entry.sha256:
            headers |= {"X-Linked-Etag": f'"{entry.sha256}"', "X-Linked-Size": str(entry.size)}
            return Answer(302, b"", headers | {"Location": f"{hub.storage}/storage/{entry.sha256}?signed=get"})
        return self._content(hub.store.contents[entry.oid], headers)

    def download(self, oid: str) -> Answer:
        if self.query.get("signed") != "get" or oid not in self.server.hub.store.contents:
            raise Refusal(403, "AccessDenied")
        return self._content(self.server.hub.store.contents[oid], {"ETag": f'"{oid}"'})

    def _content(self, content: bytes, headers: dict[str, str]) -> Answer:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not wanted:
            return Answer(200, content, {**headers, "Accept-Ranges": "bytes"})
        first = int(wanted[1])
        last = min(int(wanted[2] or len(content) - 1), len(content) - 1)
        if first >= len(content):
            raise Refusal(416, "The range cannot be satisfied")
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        return Answer(206, content[first : last + 1], headers)

    def batch(self, kind: str | None, name: str) -> Answer:
        repository = self._repository(kind, name)
        self._may_write(repository.owner, foreign=True)  # for a pull request
        storage, answer = self.server.hub.storage, []
        for one in json.loads(self.body)["objects"]:
            entry = {"oid": one["oid"], "size": one["size"]}
            if one["oid"] not in self.server.hub.store.contents:
                verify = f"{self.server.hub.endpoint}{urlsplit(self.path).path.replace('batch', 'verify')}"
                upload = f"{storage}/storage/{one['oid']}?signed=put"
                entry["actions"] = {"upload": {"href": upload}, "verify": {"href": verify}}
            answer.append(entry)
        return Answer.of({"transfer": "basic", "objects": answer})

    def upload(self, oid: str) -> Answer:
        if self.query.get("signed") != "put" or hashlib.sha256(self.body).hexdigest() != oid:
            raise Refusal(403, "SignatureDoesNotMatch")
        self.server.hub.store.contents[oid] = self.body
        return Answer()

    def verify(self, kind: str | None, name: str) -> Answer:
        wanted = json.loads(self.body)
        if len(self.server.hub.store.contents.get(wanted["oid"], b"")) != wanted["size"]:
            raise Refusal(404, "This object was not uploaded")
        return Answer.of({})

    def xet_token(self, kind: str, name: str, access: str, revision: str) -> Answer:
        self._repository(kind, name, write=access == "write")
        store = self.server.hub.store.xet
        if store is None:
            raise Refusal(404, "There is no Xet here")
        facts = {"casUrl": f"local://{store}", "accessToken": "xet", "exp": int(time.time()) + 3600}
        headers = {"X-Xet-Cas-Url": facts["casUrl"], "X-Xet-Access-Token": "xet"}
        return Answer.of(facts, **headers, **{"X-Xet-Token-Expiration": str(facts["exp"])})


_REV = "(?P<revision>[^/]+)"
_ROUTES = [
    ("POST", "/api/repos/create", Api.create),
    ("DELETE", "/api/repos/delete", Api.delete),
    ("POST", "/api/validate-yaml", Api.validate),
    ("GET", "/api/whoami-v2", Api.who),
    ("GET", f"{KIND}/{NAME}/revision/{_REV}", Api.info),
    ("GET", f"{KIND}/{NAME}/tree/{_REV}", Api.tree),
    ("GET", f"{KIND}/{NAME}/refs", Api.refs),
    ("POST", f"{KIND}/{NAME}/preupload/{_REV}", Api.preupload),
    ("POST", f"{KIND}/{NAME}/commit/{_REV}", Api.commit),
    ("POST", f"{KIND}/{NAME}/branch/(?P<branch>[^/]+)", Api.branch),
    ("POST", f"{KIND}/{NAME}/tag/{_REV}", Api.tag),
    ("GET", f"{KIND}/{NAME}/xet-(?P<access>read|write)-token/{_REV}", Api.xet_token),
    ("GET", f"{KIND}/{NAME}", Api.info),
    ("POST", f"{FILES}\\.git/info/lfs/objects/batch", Api.batch),
    ("POST", f"{FILES}\\.git/info/lfs/objects/verify", Api.verify),
    ("GET", f"{FILES}/resolve/{_REV}/(?P<path>.+)", Api.resolve),
    ("GET", "/storage/(?P<oid>[0-9a-f]{64})", Api.download),
    ("PUT", "/storage/(?P<oid>[0-9a-f]{64})", Api.upload),
]
