"""The fuzzer: a few hundred files of each kind, and that it would notice each kind of failure."""

from __future__ import annotations

import mmap
import os
from collections import Counter
from functools import partial

import pytest

from . import broken, memory, runner
from .bytes_mutations import ON_BYTES
from .targets import TARGETS, Target, stored_size
from .worker import make_case

SEEDS = {name: target.seeds() for name, target in TARGETS.items()}


@pytest.mark.parametrize("name", TARGETS)
def test_files_as_they_were_made_are_read(name):
    """But for TIFFs of several pages, which are refused; and there are several kinds of each file."""
    target = TARGETS[name]
    outcomes = [o.status for _, o, _ in runner.run_cases(target, SEEDS[name], 0, range(0, -len(SEEDS[name]), -1))]
    refused = 1 if name == "tiff" else 0
    assert Counter(outcomes) == Counter(value=len(SEEDS[name]) - refused, refused=refused)


def test_mutated_files():
    """A right answer or one of the package's own exceptions. `.ci/run` does this with 10,000 files."""
    for report in runner.fuzz(list(TARGETS.values()), 300, seed=1, jobs=2):
        assert not report.failures, report
        assert report.counts.keys() <= {"value", "refused"}
        assert report.measured or not os.environ.get("CI")


@pytest.mark.parametrize("name", TARGETS)
def test_a_case_is_always_the_same_and_differs_from_its_seed(name):
    target, seeds = TARGETS[name], SEEDS[name]
    cases = [make_case(target, seeds, 5, number)[0] for number in range(1, 21)]
    assert cases == [make_case(target, seeds, 5, number)[0] for number in range(1, 21)]
    assert cases[0] != make_case(target, seeds, 6, 1)[0]
    assert sum(case in seeds for case in cases) <= 5


# -- what goes wrong is noticed


@pytest.mark.parametrize(
    ("reader", "status"),
    [
        (broken.refuses, "refused"),
        (broken.raises, "ValueError"),
        (broken.warns, "a warning"),
        (broken.crashes, "a crash (SIGSEGV)"),
        (broken.hangs, "a hang: no answer within 0.5 s"),
        (broken.takes_memory, "too much memory"),
        (broken.answers_wrongly, "ContractError"),
        (broken.panics, "SystemExit"),
    ],
)
def test_each_kind_of_failure_is_found(reader, status):
    """And the run goes on behind it."""
    target = Target("broken", "a", list, ON_BYTES, partial(broken.read, reader), broken.check, stored_size)
    results = list(runner.run_cases(target, [{"a": broken.SEED}], 0, [0, 1, 0], limit=0.5))
    assert [outcome.status for _, outcome, _ in results] == ["value", status, "value"]


def test_memory_is_measured_here():
    assert memory.can_measure()
    peaks = memory.Peaks()
    block = mmap.mmap(-1, 80 << 20)  # fresh pages, where the allocator might use some that were freed before
    block.write(b"x" * (1 << 20) * 80)
    block.close()
    assert 75 << 20 < peaks.growth() < 200 << 20
