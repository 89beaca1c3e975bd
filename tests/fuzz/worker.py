"""The process in which cases run: it makes the files, reads them, and says how that went."""

from __future__ import annotations

import faulthandler
import os
import resource
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any, NamedTuple

from cxr_estimator.errors import CXRError

from .bytes_mutations import mutate
from .seeds import Files
from .targets import NotFiniteError, Target

ADDRESS_SPACE = 12 << 30  # keeps the machine alive while a case goes wrong
# What any case may take besides: interpreter objects of a parsed document, decoders' tables, a block of a file.
ALLOWANCE = 32 << 20


class Outcome(NamedTuple):
    """How one case went."""

    status: str  # "value", "refused", or what is wrong
    seconds: float = 0.0
    growth: int = 0  # bytes of memory at the peak, above those before
    details: str = ""
    printed: str = ""  # by C libraries


FINE = ("value", "refused")


def make_case(target: Target, seeds: list[Files], seed: int, number: int) -> tuple[Files, str]:
    """Return the files of case `number` and what they were made from. Number 0 and below: the seeds as they are."""
    if number <= 0:
        return seeds[-number], f"seed file {-number}"
    rng = Random(f"{seed} {target.name} {number}")
    i = rng.randrange(len(seeds))
    files = dict(seeds[i])
    other = seeds[rng.randrange(len(seeds))][target.file]
    files[target.file] = mutate(files[target.file], rng, other, target.mutations)
    return files, f"seed file {i}"


def memory() -> tuple[int, int]:
    """Return resident memory now, and at its peak since the last reset, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines if line.startswith("Vm"))
    return tuple(int(fields[key].split()[0]) * 1024 for key in ("VmRSS", "VmHWM"))  # type: ignore[return-value]


def reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def can_measure() -> bool:
    """Whether the peak of the memory can be reset and read here."""
    try:
        block = bytearray(b"x") * (64 << 20)
        del block
        reset_peak()
        now, peak = memory()
        return peak - now < 32 << 20
    except (OSError, KeyError):
        return False


def run_case(target: Target, files: Files, measure: bool) -> Outcome:
    """Write the files, read them with the function under test, and judge what comes of it."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        for file, content in files.items():
            (folder / file).write_bytes(content)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            if measure:
                reset_peak()
            before, start = memory()[0], time.perf_counter()
            value, status, details = _outcome(target.read, folder)
            seconds, growth = time.perf_counter() - start, memory()[1] - before
            if status == "value":
                _, status, details = _outcome(target.check, value)
                seconds = time.perf_counter() - start
        if warned and status in FINE:
            status, details = "a warning", f"{warned[0].category.__name__}: {warned[0].message} ({warned[0].filename})"
        limit = 2 * max(target.decoded_size(folder), _bytes_of(value)) + ALLOWANCE
        if status in FINE and measure and growth > limit:
            status, details = "too much memory", f"{growth:,} bytes, {limit:,} allowed"
    return Outcome(status, seconds, growth, details)


def _outcome(function: Any, argument: Any) -> tuple[Any, str, str]:
    try:
        return function(argument), "value", ""
    except CXRError as error:
        return None, "refused", str(error)
    except NotFiniteError as error:
        return None, "value", str(error)  # TODO(inference): see the note in CONTRIBUTING
    except BaseException as error:  # noqa: BLE001 - panics of Rust libraries are no Exceptions
        return None, f"{type(error).__name__}", traceback.format_exc()


def _bytes_of(value: Any) -> int:
    arrays = [getattr(value, name, None) for name in ("pixels", "X", "y", "values", "images")]
    return sum(array.nbytes for array in arrays if array is not None)


@contextmanager
def captured_output() -> Iterator[Any]:
    """Send what C libraries print to a file; they do so past `sys.stderr`."""
    sys.stdout.flush()
    with TemporaryFile() as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
        yield file


def _printed(file: Any, start: int) -> str:
    end = file.seek(0, os.SEEK_END)
    file.seek(start)
    return file.read(end - start).decode("utf-8", "replace")[-1000:]


def serve(connection: Connection, target: Target, seeds: list[Files], seed: int, limit: float) -> None:
    """Answer each case number with its Outcome, until None comes."""
    os.setsid()  # so that children of decoders can be ended with this process
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    measure = can_measure()
    with captured_output() as output:
        for number in range(len(seeds)):  # imports and thread pools are no case's fault
            run_case(target, seeds[number], False)
        connection.send(measure)
        while (number := connection.recv()) is not None:
            start = output.seek(0, os.SEEK_END)
            faulthandler.dump_traceback_later(limit * 0.9, file=output)
            faulthandler.enable(file=output)
            outcome = run_case(target, make_case(target, seeds, seed, number)[0], measure)
            faulthandler.cancel_dump_traceback_later()
            connection.send(outcome._replace(printed=_printed(output, start)))
