"""Readers that go wrong in each way that the fuzzer has to notice; in a module of their own that workers can import."""

from __future__ import annotations

import ctypes
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from cxr_estimator.errors import DataError

from .targets import require

SEED = b"fine"


def refuses() -> int:
    raise DataError("no")


def raises() -> int:
    raise ValueError("not one of ours")


def warns() -> int:
    warnings.warn("reaches the user", stacklevel=1)
    return 2


def crashes() -> int:
    return len(ctypes.string_at(0))


def hangs() -> int:
    time.sleep(60)
    return 2


def takes_memory() -> int:
    return 2 * int(np.ones(100 << 20, dtype=np.uint8)[0])


def answers_wrongly() -> int:
    return 1


def panics() -> int:
    raise SystemExit(3)


def read(broken: Any, folder: Path) -> int:
    """Read the seed well, and anything else with `broken`."""
    return 2 if (folder / "a").read_bytes() == SEED else broken()


def check(value: Any) -> None:
    require(value == 2, "two is expected")
