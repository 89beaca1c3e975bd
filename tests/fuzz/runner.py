"""Runs cases in worker processes, which may crash or hang, and collects what was wrong."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from .seeds import Files
from .targets import Target
from .worker import FINE, Outcome, make_case, serve

LIMIT = 5.0  # seconds for one case
START_LIMIT = 120.0  # seconds for a worker to import what it needs and to read the seeds
HANG, CRASH = "a hang", "a crash"
CHUNK = 500  # cases of one worker


class WorkerError(Exception):
    """A worker died or did not answer."""


class Worker:
    """One process that runs cases of one target."""

    def __init__(self, target: Target, seeds: list[Files], seed: int, limit: float) -> None:
        # forkserver: the imports are done once, in a process without threads, so that a new worker starts at once
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.fuzz.targets", "timm", "pydicom"])
        self.limit = limit
        self.output = NamedTemporaryFile()  # noqa: SIM115 - closed by `close`
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, target, seeds, seed, limit, self.output.name))
        self.process.start()
        theirs.close()
        self.measures = self._answer(START_LIMIT)

    def run(self, number: int) -> Outcome:
        """Return the outcome of a case; one that ends the worker is an outcome too."""
        start = self.output.seek(0, os.SEEK_END)
        self.connection.send(number)
        try:
            outcome = self._answer(self.limit)
        except WorkerError as error:
            outcome = Outcome(str(error), self.limit)
        self.output.seek(start)
        return outcome._replace(printed=self.output.read().decode("utf-8", "replace")[-4000:])

    def _answer(self, limit: float) -> Any:
        if not self.connection.poll(limit):
            raise WorkerError(f"{HANG}: no answer within {limit:g} s")
        try:
            return self.connection.recv()
        except EOFError:
            self.process.join()
            code = self.process.exitcode or 0
            name = signal.Signals(-code).name if code < 0 else f"exit status {code}"
            raise WorkerError(f"{CRASH} ({name})") from None

    def close(self) -> None:
        """End the process and what it started, if need be by force."""
        with suppress(OSError):
            self.connection.send(None)
        self.process.join(0.5)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid or 0, signal.SIGKILL)
        self.process.kill()
        self.process.join()
        self.connection.close()
        self.output.close()


def run_cases(
    target: Target, seeds: list[Files], seed: int, numbers: Iterable[int], limit: float = LIMIT
) -> Iterator[tuple[int, Outcome, bool]]:
    """Yield (number, outcome, whether memory was measured). A worker that dies or hangs is replaced.

    What took too long is tried twice more in a new process, since the machine may have had other things to do.
    """
    worker = Worker(target, seeds, seed, limit)
    try:
        for number in numbers:
            outcome = worker.run(number)
            for again in (True, True, False):
                if outcome.status.startswith((HANG, CRASH)):
                    worker.close()
                    worker = Worker(target, seeds, seed, limit)
                    if again and outcome.status.startswith(HANG):
                        outcome = worker.run(number)
            yield number, outcome, worker.measures
    finally:
        worker.close()


@dataclass
class Report:
    """What came of the cases of one target."""

    name: str
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[int, Outcome]] = field(default_factory=list)
    seconds: float = 0.0
    slowest: float = 0.0
    growth: int = 0
    printed: int = 0
    decoder_crashes: int = 0
    measured: bool = True

    def add(self, number: int, outcome: Outcome, measured: bool) -> None:
        self.counts[outcome.status if outcome.status in FINE else "wrong"] += 1
        self.seconds += outcome.seconds
        self.slowest = max(self.slowest, outcome.seconds)
        self.growth = max(self.growth, outcome.growth)
        self.printed += bool(outcome.noise)
        self.decoder_crashes += "decoder crashed" in outcome.details
        self.measured &= measured
        if outcome.status not in FINE:
            self.failures.append((number, outcome))

    def __str__(self) -> str:
        memory = f"{self.growth / 2**20:.0f} MiB" if self.measured else "not measured"
        noted = {
            "crashes of the decoding child": self.decoder_crashes,
            "with output of C libraries": self.printed,
        }
        return (
            f"{self.name:12} {self.counts.total():5} files: {self.counts['value']} right answers, "
            f"{self.counts['refused']} refused, {self.counts['wrong']} wrong; {self.seconds:.0f} s, "
            f"slowest {self.slowest:.2f} s, largest growth {memory}"
            + "".join(f"; {count} {what}" for what, count in noted.items() if count)
        )


def fuzz(
    targets: list[Target], files: int, seed: int, *, jobs: int = 1, first: int = 1, limit: float = LIMIT
) -> Iterator[Report]:
    """Run `files` cases, as many of each target, and yield a report on each. Case `first` is the first."""
    share = -(-files // len(targets))

    def run(task: tuple[Target, list[Files], range]) -> list[tuple[int, Outcome, bool]]:
        target, seeds, numbers = task
        return list(run_cases(target, seeds, seed, numbers, limit))

    with ThreadPoolExecutor(jobs) as pool:
        tasks = []
        for target in targets:
            seeds = target.seeds()
            chunks = [range(at, min(at + CHUNK, first + share)) for at in range(first, first + share, CHUNK)]
            tasks.append([pool.submit(run, (target, seeds, chunk)) for chunk in chunks])
        for target, chunks in zip(targets, tasks, strict=True):
            report = Report(target.name)
            for chunk in chunks:
                for result in chunk.result():
                    report.add(*result)
            yield report


def keep_case(target: Target, seed: int, number: int, folder: Path) -> Path:
    """Write the files of a case into a folder of its own; return that."""
    folder = folder / f"{target.name}-{seed}-{number}"
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in make_case(target, target.seeds(), seed, number)[0].items():
        (folder / name).write_bytes(content)
    return folder
