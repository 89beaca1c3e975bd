"""Faults that a test plants in the Hub."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from typing import Literal


@dataclass
class Fault:
    """What goes wrong with the next requests that match.

    Parameters
    ----------
    method : "GET", "PUT", ... ("" = any)
    path : regular expression, searched in the path of the request (with its query)
    kind :
        what happens:

        - "status": an answer with `status` and `body`, and nothing is done
        - "drop": the connection is closed without an answer, and nothing is done
        - "lost": the request is done, but its answer is lost
        - "truncate": the connection is closed after `at` bytes of the answer
        - "short": an answer that lacks all bytes from `at` on
        - "flip": an answer whose byte `at` is another one
        - "stall": `at` bytes, then nothing until `go_on` is set
    times : how often (-1 = always)
    """

    method: str
    path: str
    kind: Literal["status", "drop", "lost", "truncate", "short", "flip", "stall"]
    times: int = 1
    status: int = 500
    at: int = 100
    body: bytes = b'{"error": "planted by a test"}'
    reached: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)

    def matches(self, method: str, path: str) -> bool:
        return self.times != 0 and self.method in ("", method) and re.search(self.path, path) is not None
