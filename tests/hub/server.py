"""The Hub for tests on a port of its own."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from http.server import ThreadingHTTPServer

from tests.hub.api import Api
from tests.hub.connection import Request
from tests.hub.faults import Fault
from tests.hub.store import Store


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
        self._server = _Server(("127.0.0.1", self.port), Api)
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
