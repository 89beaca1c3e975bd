"""What the benchmarks share: fair timing, a look at the machine, the raw JSON."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as the command line does, before anything loads torch

import torch

from cxr_estimator.inference import Execution, check_precision
from cxr_estimator.versions import package_versions

RESULTS = Path(__file__).parent / "results"


def interleaved(contestants: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Return the seconds of every run; work that returns a number has measured itself.

    All take short turns, so that changes of the machine's pace hit all alike.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(repeats + 1):
        for name, work in contestants.items():
            started = time.perf_counter()
            measured = work()
            took = measured if isinstance(measured, float) else time.perf_counter() - started
            if number > 0:  # the first turn warms up
                seconds[name].append(took)
            print(f"  {name}: {took:.2f} s{'' if number else ' (warm-up)'}", flush=True)
    return seconds


def in_process(work: Callable[[], float]) -> Callable[[], float]:
    """Return a function that lets a process of its own do `work`, again and again, and returns what that returns.

    Contestants then share neither the allocator's state nor anything else. `work` must be picklable.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    context.Process(target=_serve, args=(work, theirs)).start()
    theirs.close()

    def turn() -> float:
        ours.send(True)
        return ours.recv()

    return turn


def _serve(work: Callable[[], float], pipe: Connection) -> None:
    multiprocessing.set_start_method("fork", force=True)  # as it is by default in a main process on Linux
    with contextlib.suppress(EOFError):  # the parent is done
        while pipe.recv():
            pipe.send(work())


def ratio(seconds: dict[str, list[float]], ours: str, other: str) -> float:
    """Return how many times faster `ours` is than `other`: the median over the turns, each compared with itself."""
    return statistics.median(b / a for a, b in zip(seconds[ours], seconds[other], strict=True))


def raw_execution(batch_size: int) -> Execution:
    """Return the device and precision that the estimator chooses by itself on this machine."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Execution(device, batch_size, check_precision("auto", device, caller="benchmark"))


def machine() -> dict[str, Any]:
    """Describe the machine as far as speed depends on it."""
    execution = raw_execution(32)
    return {
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processor": platform.machine(),
        "device": execution.device.type,
        "precision": execution.precision,
        **package_versions(),
    }


def peak_memory() -> float:
    """Return the largest resident memory of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def write(name: str, result: dict[str, Any]) -> None:
    """Write the raw figures into results/NAME.json."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result | {"machine": machine()}, indent=1) + "\n")
    print(json.dumps({key: value for key, value in result.items() if key.endswith(("ratio", "ratios"))}, indent=1))
