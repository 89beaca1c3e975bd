"""A lock that threads hold in the order in which they came, and whose holder can let the others go first."""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType


class Turns:
    """A re-entrant lock, first come first served. `threading.RLock` lets whoever is quickest have it.

    Examples
    --------
    >>> turns = Turns()
    >>> with turns, turns:
    ...     turns.give_way()  # nobody waits
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._queue: deque[int] = deque()  # threads; the first one holds the lock
        self._depth = 0  # how often it does

    def __enter__(self) -> Turns:
        me = threading.get_ident()
        with self._condition:
            if not (self._queue and self._queue[0] == me):
                self._wait_in_line(me)
            self._depth += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._condition:
            self._depth -= 1
            if self._depth == 0:
                self._queue.popleft()
                self._condition.notify_all()

    def give_way(self) -> None:
        """Let every thread that waits now go first, if the calling thread holds the lock; it holds it afterwards."""
        me = threading.get_ident()
        with self._condition:
            if len(self._queue) < 2 or self._queue[0] != me:
                return
            depth, self._depth = self._depth, 0
            self._queue.popleft()
            self._condition.notify_all()
            interrupt = None
            while not (self._queue and self._queue[0] == me):
                try:
                    self._wait_in_line(me)
                except BaseException as error:  # noqa: BLE001 - raised below: what the caller cleans up needs the lock
                    interrupt = error
            self._depth = depth
        if interrupt is not None:
            raise interrupt

    def _wait_in_line(self, me: int) -> None:
        self._queue.append(me)
        try:
            self._condition.wait_for(lambda: self._queue[0] == me)
        except BaseException:  # an interrupt: nobody may wait behind a thread that is gone
            self._queue.remove(me)
            self._condition.notify_all()
            raise
