"""How the Hub for tests reads requests and sends answers, also wrong ones."""

from __future__ import annotations

import contextlib
import json
import socket
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from tests.hub.faults import Fault
from tests.hub.store import Refusal

WRITE, READ, OTHER = "hf_alice_writes", "hf_alice_reads", "hf_bob_writes"
TOKENS = {WRITE: ("alice", "write"), READ: ("alice", "read"), OTHER: ("bob", "write")}


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


class Connection(BaseHTTPRequestHandler, ABC):
    """Takes requests of one client, records them, and answers as `_route` says, or as a planted fault wants it."""

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

    @abstractmethod
    def _route(self) -> Answer:
        """Return the answer to the request."""
