"""Audits of planted models, one line of raw results each; whatever stops it, it goes on from there."""

from __future__ import annotations

import json
import math
import os
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks._common import RESULTS
from benchmarks.planted.cases import DIFFICULTY, DOMAINS, N_AUDIT, N_TRAIN, RECIPE, STRENGTHS, Case, make, model_of
from cxr_estimator.audit import audit

OPTIONS = {"pictures": False}  # everything else is as users have it
# Of what checks measure, not of their limits: results of another version are made anew. 1: markers that only one of two
# images has were not exchanged, and maps had bootstrap intervals.
VERSION = 2
# Thresholds are chosen on the seeds of the first half and judged on those of the second.
SEEDS = {"choosing": 1000, "judging": 2000}
N_MODELS = {"clean": 60, "planted": 20}


def cases(half: str, *, n_planted: int, n_clean: int, domains: list[str]) -> Iterator[Case]:
    """Yield the cases of one half, seed by seed, so that all kinds get on equally whenever this is stopped."""
    first, rounds = SEEDS[half], max(n_planted, n_clean)
    for number in range(rounds):
        for kind, strengths in STRENGTHS.items():
            n = n_clean if kind == "clean" else n_planted
            for seed in range(first + number * n // rounds, first + (number + 1) * n // rounds):
                yield from (Case(domain, kind, strength, seed) for strength in strengths for domain in domains)


def path_of(half: str) -> Path:
    """Return where the raw results of a half lie."""
    return RESULTS / f"planted_audits_{half}.jsonl"


def read(half: str) -> list[dict[str, Any]]:
    """Return the audits that are known of the present recipe and options."""
    path = path_of(half)
    if not path.exists():
        return []
    found = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    return [one for one in found if one["settings"] == settings()]


def settings() -> dict[str, Any]:
    """Return what results depend on, as JSON has it."""
    images = {"difficulty": DIFFICULTY, "training_images": N_TRAIN, "audit_images": N_AUDIT}
    return json.loads(json.dumps({"recipe": RECIPE, **images, **OPTIONS, "version": VERSION}))


def run(half: str, *, n_planted: int, n_clean: int, share: tuple[int, int] = (0, 1)) -> None:
    """Audit all models of a half that are not known yet; `share` (i, n) takes each n-th of them, from i on."""
    done = {(one["domain"], one["kind"], one["strength"], one["seed"]) for one in read(half)}
    domains = [domain for domain in DOMAINS if domain == "phantoms" or os.environ.get("CXR_DATA_DIR")]
    todo = list(cases(half, n_planted=n_planted, n_clean=n_clean, domains=domains))
    for number, case in enumerate(todo):
        if number % share[1] != share[0] or case in done:
            continue
        result = audited(case)
        with path_of(half).open("a", encoding="utf-8") as file:
            file.write(json.dumps(result, allow_nan=False) + "\n")
        print(f"{number + 1} of {len(todo)}: {case}, {result['seconds']:.0f} s", flush=True)


def audited(case: Case) -> dict[str, Any]:
    """Return what an audit says of the model of a case."""
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the planted faults are warned of, too
        data = make(case)
        clf = model_of(case, data)
        report = audit(clf, data.audit.X, data.audit.y, data.audit.groups, random_state=case.seed, **OPTIONS)
    return {
        **case._asdict(),
        "checks": [[one.name, one.method, *map(_rounded, (one.value, *one.interval))] for one in report.checks],
        "seconds": round(time.perf_counter() - began, 1),
        "settings": settings(),
    }


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 5)
