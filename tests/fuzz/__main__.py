"""The command: `python -m tests.fuzz --files 10000 --seed 0`."""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import time
from pathlib import Path

# The allocator gives every large block back when it is freed, so that the peak of a case is its own; read at start.
os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", "131072")
for name, value in (("OMP_NUM_THREADS", "1"), ("GOMP_SPINCOUNT", "10000")):
    os.environ.setdefault(name, value)

from .runner import Report, fuzz, keep_case
from .targets import TARGETS, Target
from .worker import Outcome, make_case


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--files", type=int, default=10_000, help="mutated files in all, shared out evenly")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", action="append", choices=list(TARGETS), help="may be repeated; default: all")
    parser.add_argument("--case", type=int, help="run this one case (1, 2, ...) of the targets, and print it in full")
    parser.add_argument("--keep", type=Path, help="folder for the files of wrong cases; default: a temporary one")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="worker processes")
    options = parser.parse_args()
    targets = [TARGETS[name] for name in options.target or TARGETS]
    files, first = (options.files, 1) if options.case is None else (len(targets), options.case)
    options.keep = options.keep or Path(tempfile.mkdtemp(prefix="cxr-fuzz-"))
    start, wrong, measured = time.perf_counter(), 0, True
    for target, report in zip(targets, fuzz(targets, files, options.seed, jobs=options.jobs, first=first), strict=True):
        print(report, flush=True)
        describe(target, report, options)
        wrong += len(report.failures)
        measured &= report.measured
    print(f"{wrong} wrong, in {time.perf_counter() - start:.0f} s")
    if not measured:
        print("Memory was NOT measured: /proc/self/clear_refs cannot be written here.")
    return int(wrong > 0 or (not measured and "CI" in os.environ))


def kind(outcome: Outcome) -> str:
    """Return what cases that went wrong in the same way have in common."""
    places = re.findall(r"(cxr_estimator/[\w/]+\.py)\", line (\d+)", outcome.details)
    return f"{outcome.status} {places[-1] if places else outcome.details[:60]}"


def describe(target: Target, report: Report, options: argparse.Namespace) -> None:
    """Print the first wrong case of each kind, how to run it again, and the numbers of the others."""
    kinds: dict[str, list[int]] = {}
    for number, outcome in report.failures:
        numbers = kinds.setdefault(kind(outcome), [])
        numbers.append(number)
        folder = keep_case(target, options.seed, number, options.keep)
        if len(numbers) == 1:
            _, source = make_case(target, target.seeds(), options.seed, number)
            print(f"\n{target.name} case {number} ({source}): {outcome.status}, {outcome.seconds:.1f} s")
            print(f"  again: python -m tests.fuzz --seed {options.seed} --target {target.name} --case {number}")
            print(f"  files: {folder}")
            text = f"{outcome.details}\n{outcome.printed}".strip()
            print("  " + (text if options.case is not None else text[-1500:]).replace("\n", "\n  "))
    for name, numbers in kinds.items():
        print(f"  {len(numbers)} x {name}: cases {', '.join(map(str, numbers[:20]))}")


if __name__ == "__main__":
    sys.exit(main())
