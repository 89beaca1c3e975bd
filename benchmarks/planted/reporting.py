"""What audits caught, and what they raised alarms over: verdicts by the thresholds of `CHECKS`, from raw values."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

from scipy.stats import beta

from benchmarks.planted.auditing import read
from benchmarks.planted.cases import DOMAINS, STRENGTHS
from cxr_estimator.audit import CHECKS
from cxr_estimator.datasets.shortcuts import SHORTCUTS
from cxr_estimator.statistics import Estimate
from cxr_estimator.verdicts import DOUBTFUL, FAIL, NO_DATA, PASS

_ORDER = (FAIL, DOUBTFUL, PASS, NO_DATA)

# Which checks catch what was planted. Others may fail, too, but say something else.
CATCHES = {
    "corner_marker": ("corner_exchange", "marker_exchange"),
    "border": ("border_exchange",),
    "brightness": ("brightness_exchange",),
    "resolution": ("sharpness_exchange",),
    "duplicated_patients": ("seen_in_training", "duplicates"),
    "reversed_labels": ("label_order", "auroc_drop", "calibration"),
}


def verdicts(one: dict[str, Any]) -> dict[str, str]:
    """Return the verdict of each check of an audit, the worst one where there are several methods."""
    found: dict[str, list[str]] = {}
    for name, _, *values in one["checks"]:
        estimate = Estimate(*(math.nan if value is None else value for value in values))
        found.setdefault(name, []).append(CHECKS[name].verdict(estimate))
    return {name: min(each, key=_ORDER.index) for name, each in found.items()}


def clopper_pearson(count: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of a share (Clopper & Pearson 1934, doi:10.1093/biomet/26.4.404)."""
    tail = (1 - confidence) / 2
    low = beta.ppf(tail, count, n - count + 1) if count else 0.0
    high = beta.ppf(1 - tail, count + 1, n - count) if count < n else 1.0
    return float(low), float(high)


def rows(half: str) -> Iterator[tuple[str, str, float, int, int, int]]:
    """Yield domain, kind, strength, number of audits, of those that failed by a check that catches it, and at all."""
    groups: dict[tuple[str, str, float], list[dict[str, str]]] = {}
    for one in read(half):
        groups.setdefault((one["domain"], one["kind"], one["strength"]), []).append(verdicts(one))
    order = list(STRENGTHS)
    for domain, kind, strength in sorted(groups, key=lambda one: (one[0], order.index(one[1]), one[2])):
        found = groups[domain, kind, strength]
        caught = sum(any(each.get(name) == FAIL for name in CATCHES.get(kind, CHECKS)) for each in found)
        alarms = sum(FAIL in each.values() for each in found)
        yield domain, kind, strength, len(found), caught, alarms


def table(half: str) -> str:
    """Return the table of sensitivity, and of false alarms in its first row, in Markdown."""
    found = list(rows(half))
    lines = ["| planted | strength | phantoms | radiographs | together | by any check |", "|---" * 6 + "|"]
    for kind, strengths in STRENGTHS.items():
        for strength in strengths:
            own = {row[0]: row[3:] for row in found if row[1:3] == (kind, strength)}
            if own:
                lines.append(f"| {kind.replace('_', ' ')} | {strength:g} | {' | '.join(_cells(kind, own))} |")
    return "\n".join(lines)


def _cells(kind: str, own: dict[str, tuple[int, int, int]]) -> Iterator[str]:
    """Yield what was caught in each domain and together, and what any check caught; of clean models all is alarms."""
    for domain in DOMAINS:
        n, caught, _ = own.get(domain, (0, 0, 0))
        yield f"{caught} of {n}" if n else ""
    n, caught, alarms = map(sum, zip(*own.values(), strict=True))
    yield _share(caught, n)
    yield "" if kind == "clean" else f"{alarms} of {n}"


def _share(count: int, n: int) -> str:
    low, high = clopper_pearson(count, n)
    return f"{count} of {n} ({low:.0%} to {high:.0%})"


def totals(half: str) -> str:
    """Return how much of what was planted at full strength is caught, and the false alarms, by domain and together."""
    lines = []
    for name, domains in {**{one: {one} for one in DOMAINS}, "together": set(DOMAINS)}.items():
        found = [row for row in rows(half) if row[0] in domains]
        strong = [row for row in found if row[1] in SHORTCUTS and row[2] == 1.0]
        clean = [row for row in found if row[1] == "clean"]
        if strong and clean:
            caught = _share(sum(row[4] for row in strong), sum(row[3] for row in strong))
            wrong = _share(sum(row[5] for row in clean), sum(row[3] for row in clean))
            lines.append(f"- {name}: shortcuts of strength 1 caught in {caught}; false alarms in {wrong}.")
    return "\n".join(lines)


def alarms(half: str, verdict: str = FAIL) -> Counter[str]:
    """Return how often each check fails, or is doubtful, for clean models."""
    found: Counter[str] = Counter()
    for one in read(half):
        if one["kind"] == "clean":
            found.update(name for name, given in verdicts(one).items() if given == verdict)
    return found


def mildest(half: str) -> dict[tuple[str, str | None, str, str, float], list[float]]:
    """Return the end of the interval that has to lie beyond `fail`, by check, method, domain, kind and strength."""
    found: dict[tuple[str, str | None, str, str, float], list[float]] = {}
    for one in read(half):
        for name, method, _, low, high in one["checks"]:
            end = low if CHECKS[name].limits.greater_is_worse else high
            if end is not None:
                found.setdefault((name, method, one["domain"], one["kind"], one["strength"]), []).append(end)
    return found
