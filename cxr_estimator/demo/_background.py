"""Work in a thread of its own, of which a generator tells how far it is, and which ends when the generator does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Generic, TypeVar

from cxr_estimator.errors import CXRError

_Result = TypeVar("_Result")
NAME = "cxr-background"  # of the threads
LONGEST = 900.0  # seconds of one piece of work: few can compute at once, and others wait


class Stopped(CXRError):
    """What ends work early; its text tells the visitor why, and is empty where nobody waits any longer."""


class Background(Generic[_Result]):
    """Work that can be watched and stopped.

    Parameters
    ----------
    work : callable
        `work(progress)` returns the result; it calls `progress(done, total)` now and then, which raises `Stopped` when
        nobody waits any longer, and when it has taken `LONGEST`.

    Examples
    --------
    >>> with Background(lambda progress: 6 * 7) as work:
    ...     shares = list(work)
    >>> work.result()
    42
    """

    def __init__(self, work: Callable[[Callable[[float, float], None]], _Result]) -> None:
        self._work = work
        self._stop = threading.Event()
        self._done = threading.Event()
        self._share = 0.0
        self._began = time.monotonic()
        self._found: list[_Result] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True, name=NAME)

    def __enter__(self) -> Background[_Result]:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        # gradio closes the generator of a visitor who left in its event loop, which must not wait
        if kind is not GeneratorExit:
            self._thread.join()  # until the next call of `progress`: the network is free again then

    def __iter__(self) -> Iterator[float]:
        """Yield the share that is done, in [0, 1], until all is."""
        return self.shares()

    def shares(self, every: float = 0.2) -> Iterator[float]:
        """Yield the share that is done about `every` so many seconds."""
        while not self._done.wait(every):
            yield self._share

    def result(self) -> _Result:
        """Wait for the work, and return what it returned or raise what it raised."""
        self._done.wait()
        if self._error is not None:
            raise self._error
        return self._found[0]

    def _run(self) -> None:
        try:
            self._found.append(self._work(self._tell))
        except BaseException as error:  # noqa: BLE001 - raised by `result`, in the thread that waits
            self._error = error
        finally:
            self._done.set()

    def _tell(self, done: float, total: float) -> None:
        if self._stop.is_set():
            raise Stopped
        if time.monotonic() - self._began > LONGEST:
            raise Stopped(
                f"This took more than {LONGEST / 60:g} minutes, the most for one visitor here. Ask for fewer images, "
                "methods or metrics, or use the commands `cxr explain` and `cxr benchmark` on a computer of your own."
            )
        self._share = min(max(done / total, 0.0), 1.0) if total else 1.0


def finished(work: Callable[[Callable[[float, float], None]], _Result]) -> _Result:
    """Return the result of work that nobody watches, which may take as long as any other.

    Raises
    ------
    Stopped
        It has taken `LONGEST`.
    """
    with Background(work) as running:
        return running.result()
