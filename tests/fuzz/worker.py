"""The process in which cases run: it makes the files, reads them, and says how that went."""

from __future__ import annotations

import faulthandler
import os
import resource
import time
import traceback
import warnings
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from cxr_estimator.errors import CXRError

from .bytes_mutations import mutate
from .memory import Peaks, can_measure
from .seeds import Files
from .targets import Target

ADDRESS_SPACE = 12 << 30  # keeps the machine alive while a case goes wrong
# What any case may take besides: interpreter objects of a parsed document, decoders' tables, a block of a file.
ALLOWANCE = 32 << 20


class Outcome(NamedTuple):
    """How one case went."""

    status: str  # "value", "refused", or what is wrong
    seconds: float = 0.0
    growth: int = 0  # bytes of memory at the peak, above those before
    details: str = ""
    noise: int = 0  # bytes that C libraries printed
    printed: str = ""  # all that was printed, with the tracebacks of a crash or a hang


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


def run_case(target: Target, files: Files, measure: bool) -> Outcome:
    """Write the files, read them with the function under test, and judge what comes of it."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        for file, content in files.items():
            (folder / file).write_bytes(content)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            peaks, start, printed = Peaks() if measure else None, time.perf_counter(), os.fstat(2).st_size
            value, status, details = _outcome(target.read, folder)
            growth = peaks.growth() if peaks else 0
            if status == "value":
                _, status, details = _outcome(target.check, value)
            seconds, noise = time.perf_counter() - start, os.fstat(2).st_size - printed
        if warned and status in FINE:
            status, details = "a warning", f"{warned[0].category.__name__}: {warned[0].message} ({warned[0].filename})"
        limit = 2 * max(target.decoded_size(folder), _bytes_of(value)) + ALLOWANCE
        if status in FINE and growth > limit:
            status, details = "too much memory", f"{growth:,} bytes, {limit:,} allowed"
        if peaks and peaks.lost_a_child():
            _outcome(target.read, folder)  # so that a decoder that was killed starts again before the next case
    return Outcome(status, seconds, growth, details, noise)


def _outcome(function: Any, argument: Any) -> tuple[Any, str, str]:
    try:
        return function(argument), "value", ""
    except CXRError as error:
        return None, "refused", str(error)[:1000]
    except BaseException as error:  # noqa: BLE001 - panics of Rust libraries are no Exceptions
        return None, type(error).__name__, traceback.format_exc()


def _bytes_of(value: Any) -> int:
    arrays = [getattr(value, name, None) for name in ("pixels", "X", "y", "values", "images")]
    return sum(array.nbytes for array in arrays if array is not None)


def serve(connection: Connection, target: Target, seeds: list[Files], seed: int, limit: float, output: str) -> None:
    """Answer each case number with its Outcome, until None comes. What C libraries print goes to the file `output`."""
    os.setsid()  # so that children of decoders can be ended with this process
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    printed = os.open(output, os.O_WRONLY | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(printed, descriptor)
    faulthandler.enable()
    measure = can_measure()
    for files in seeds:  # imports, thread pools and children that decode are no case's fault
        run_case(target, files, False)
    connection.send(measure)
    with suppress(EOFError):  # the runner has gone
        while (number := connection.recv()) is not None:
            faulthandler.dump_traceback_later(limit * 0.9)
            files, _ = make_case(target, seeds, seed, number)
            outcome = run_case(target, files, measure)
            faulthandler.cancel_dump_traceback_later()
            connection.send(outcome)
