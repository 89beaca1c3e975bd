"""The HTTP side of the Hub for tests."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import socket
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from tests.hub.cards import check_card
from tests.hub.faults import Fault
from tests.hub.store import Refusal, Repository, Store, is_large

WRITE, READ, OTHER = "hf_alice_writes", "hf_alice_reads", "hf_bob_writes"
TOKENS = {WRITE: ("alice", "write"), READ: ("alice", "read"), OTHER: ("bob", "write")}
KIND, NAME = r"/api/(?P<kind>models|datasets)", r"(?P<name>[^/]+(?:/[^/]+)?)"
FILES = r"/(?P<kind>datasets/)?" + NAME


@dataclass(frozen=True)
class Request:
    """One request as it was seen: bytes of its body and of the answer's, and who asked."""

    method: str
    path: str
    received: int
    token: str | None  # "write", "read", "invalid" or None
    user: str | None
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass
class Answer:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, value: object, status: int = 200, **headers: str) -> Answer:
        return cls(status, json.dumps(value).encode(), {"Content-Type": "application/json", **headers})


class HubServer:
    """A Hub on a port of its own, which stays reserved while the server is down.

    Attributes
    ----------
    endpoint : for HF_ENDPOINT; large objects lie at another origin, `storage`
    store, requests, faults : what it holds, has seen, and will do wrong

    Give `store.xet` a folder for a Hub with Xet.
    """

    def __init__(self) -> None:
        self._reservation = socket.socket()
        self._reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._reservation.bind(("127.0.0.1", 0))
        self.port = self._reservation.getsockname()[1]
        self.endpoint, self.storage = f"http://127.0.0.1:{self.port}", f"http://localhost:{self.port}"
        self.reset()

    def reset(self) -> None:
        self.store, self.requests, self.faults = Store(), [], []
        self.lock = threading.RLock()

    def start(self) -> None:
        self._server = _Server(("127.0.0.1", self.port), _Handler)
        self._server.hub = self
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._server.hang_up()

    def close(self) -> None:
        """Give the port back."""
        self._reservation.close()

    @contextlib.contextmanager
    def down(self):
        """No server at all inside the block."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def seen(self, method: str = "", path: str = "") -> list[Request]:
        """Return the requests of a method whose path matches a regular expression."""
        with self.lock:
            return [one for one in self.requests if method in ("", one.method) and re.search(path, one.path)]

    def take_fault(self, method: str, path: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.matches(method, path):
                    fault.times -= fault.times > 0
                    return fault
        return None


class _Server(ThreadingHTTPServer):
    allow_reuse_port = True  # beside the reservation
    daemon_threads = True
    request_queue_size = 64
    hub: HubServer

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self.connections: set[socket.socket] = set()

    def process_request(self, request, client_address):
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request):
        self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request, client_address):
        """Say nothing: clients that are killed or hang up are what tests are about."""

    def hang_up(self):
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *arguments):
        pass

    def _serve(self) -> None:
        hub = self.server.hub
        self.body = self._read_body()
        token = self.headers.get("Authorization", "").removeprefix("Bearer ") or None
        self.user, self.access = TOKENS.get(token, (None, "invalid")) if token else (None, None)
        headers = {name.lower(): value for name, value in self.headers.items()}
        with hub.lock:
            seen = Request(self.command, self.path, len(self.body), self.access, self.user, headers, self.body)
            hub.requests.append(seen)
        fault = hub.take_fault(self.command, self.path)
        if fault and fault.kind == "drop":
            return self._hang_up()
        if fault and fault.kind == "status":
            return self._send(Answer(fault.status, fault.body), None)
        try:
            with hub.lock:
                answer = self._route()
        except Refusal as refusal:
            headers = {"X-Error-Message": refusal.message} | ({"X-Error-Code": refusal.code} if refusal.code else {})
            answer = Answer.of({"error": refusal.message}, refusal.status, **headers)
        if fault and fault.kind == "lost":
            return self._hang_up()
        return self._send(answer, fault)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _hang_up(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _send(self, answer: Answer, fault: Fault | None) -> None:
        body = answer.body
        kind = fault.kind if fault else None
        if kind == "short":
            body = body[: fault.at]
        if kind == "flip":
            body = body[: fault.at] + bytes([body[fault.at] ^ 1]) + body[fault.at + 1 :]
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(len(body)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if kind in ("truncate", "stall"):
            self.wfile.write(body[: fault.at])
            fault.reached.set()
            body = body[fault.at :]
        if kind == "stall":
            fault.go_on.wait(60)
        if kind == "truncate":
            self._hang_up()
        else:
            self.wfile.write(body)

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
        repository = self.server.hub.store.find("datasets" if kind and kind.startswith("datasets") else "models", name)
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

    # -- the API

    def create(self) -> Answer:
        wanted = json.loads(self.body)
        kind = wanted.get("type", "model") + "s"
        owner = wanted.get("organization") or self.user
        self._may_write(owner)
        name = f"{owner}/{wanted['name']}"
        url = f"{self.server.hub.endpoint}/{'datasets/' if kind == 'datasets' else ''}{name}"
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
        errors, warnings = check_card(json.loads(self.body)["content"])
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
        store, endpoint = self.server.hub.store, self.server.hub.endpoint
        new, pull = store.commit(repository, revision, lines, as_pull_request=self.query.get("create_pr") == "1")
        answer = {"success": True, "commitOid": new.sha, "commitUrl": f"{endpoint}/{name}/commit/{new.sha}"}
        if pull:
            answer["pullRequestUrl"] = f"{endpoint}/{name}/discussions/{pull.rpartition('/')[2]}"
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
            headers["X-Xet-Refresh-Route"] = f"{hub.endpoint}/api/models/{name}/xet-read-token/{commit.sha}"
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
    ("POST", "/api/repos/create", _Handler.create),
    ("DELETE", "/api/repos/delete", _Handler.delete),
    ("POST", "/api/validate-yaml", _Handler.validate),
    ("GET", "/api/whoami-v2", _Handler.who),
    ("GET", f"{KIND}/{NAME}/revision/{_REV}", _Handler.info),
    ("GET", f"{KIND}/{NAME}/tree/{_REV}", _Handler.tree),
    ("GET", f"{KIND}/{NAME}/refs", _Handler.refs),
    ("POST", f"{KIND}/{NAME}/preupload/{_REV}", _Handler.preupload),
    ("POST", f"{KIND}/{NAME}/commit/{_REV}", _Handler.commit),
    ("POST", f"{KIND}/{NAME}/branch/(?P<branch>[^/]+)", _Handler.branch),
    ("POST", f"{KIND}/{NAME}/tag/{_REV}", _Handler.tag),
    ("GET", f"{KIND}/{NAME}/xet-(?P<access>read|write)-token/{_REV}", _Handler.xet_token),
    ("GET", f"{KIND}/{NAME}", _Handler.info),
    ("POST", f"{FILES}\\.git/info/lfs/objects/batch", _Handler.batch),
    ("POST", f"{FILES}\\.git/info/lfs/objects/verify", _Handler.verify),
    ("GET", f"{FILES}/resolve/{_REV}/(?P<path>.+)", _Handler.resolve),
    ("GET", "/storage/(?P<oid>[0-9a-f]{64})", _Handler.download),
    ("PUT", "/storage/(?P<oid>[0-9a-f]{64})", _Handler.upload),
]
