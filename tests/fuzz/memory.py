"""Peak memory of this process and of its children, from Linux's /proc."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_SOME = 32 << 20


def _children() -> list[int]:
    pids = []
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # this thread has just ended
            pids += [int(pid) for pid in (task / "children").read_text().split()]
    return pids


def _memory(pid: int) -> tuple[int, int]:
    """Return resident memory now, and its peak since the last reset, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines if line.startswith("Vm"))
    now, peak = (int(fields[key].split()[0]) * 1024 for key in ("VmRSS", "VmHWM"))
    return now, peak


def _reset(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def can_measure() -> bool:
    """Whether the peak can be reset and read here; containers may forbid it."""
    try:
        block = bytearray(b"x") * (2 * _SOME)
        del block
        _reset(os.getpid())
        now, peak = _memory(os.getpid())
        Path("/proc/thread-self/children").read_text()
        return peak - now < _SOME
    except (OSError, KeyError, ValueError):
        return False


class Peaks:
    """The growth of memory from here on: of the process that grows most, this one and each child on its own.

    Their sum would be too much, since what one reads is what the other has just written.
    """

    def __init__(self) -> None:
        self._before = {}
        for pid in (os.getpid(), *_children()):
            with suppress(OSError, KeyError):  # it ended meanwhile
                _reset(pid)
                self._before[pid] = _memory(pid)[0]

    def growth(self) -> int:
        grown = [0]
        for pid, before in self._before.items():
            with suppress(OSError, KeyError):
                grown.append(_memory(pid)[1] - before)
        return max(grown)

    def lost_a_child(self) -> bool:
        """Whether a child of before is gone, so that the next one still has to import what it needs."""
        return bool(set(self._before) - {os.getpid(), *_children()})
