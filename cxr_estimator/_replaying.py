"""Whether the repetition of an explanation is the same: what is compared, and how much each may differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cxr_estimator._receipt_fields import GRID
from cxr_estimator.metrics._ranks import spearman

if TYPE_CHECKING:
    from cxr_estimator.receipts import Receipt

_DIGITS = 4  # significant ones of a block


class Tolerance(NamedTuple):
    """How far a repetition may be from what a receipt holds where not all bits are the same.

    Attributes
    ----------
    probability, score : float
        Largest difference; the score is a log-odds.
    correlation : float
        Least rank correlation of the coarse maps.
    block : float
        Largest difference of a block, as a share of the strongest block.
    """

    probability: float
    score: float
    correlation: float
    block: float


# By the precision of the receipt, from what benchmarks/receipts.py measured of the bundled model. float32 on two
# threads, in batches or with older instructions moved probabilities by 1e-7 and blocks by less than 1e-3; the rest is
# room for GPUs, which were not tried. bfloat16 against float32, the most that another way to round can do, moved a
# probability by 0.005 (0.007 among the 64 images of `bfloat16_change_`), a score by 0.03 and a block by 0.02, at a rank
# correlation of 0.994.
TOLERANCES = {
    "float32": Tolerance(1e-3, 0.01, 0.99, 0.02),
    "bfloat16": Tolerance(0.01, 0.1, 0.95, 0.10),
}


class Difference(NamedTuple):
    """One quantity that was compared.

    Attributes
    ----------
    quantity : str
    value, expected
        Here, and in the receipt.
    tolerance : float
        0 where both must be the same.
    is_within : bool
    """

    quantity: str
    value: Any
    expected: Any
    tolerance: float
    is_within: bool

    @property
    def sentence(self) -> str:
        """All of that for people."""
        allowed = f", tolerance {self.tolerance:g}" if self.tolerance else ""
        verdict = "" if self.is_within else ": differs"
        return f"{self.quantity}: {_shown(self.value)} (expected {_shown(self.expected)}{allowed}){verdict}"


@dataclass(frozen=True)
class Replay:
    """What the repetition of an explanation came to.

    Attributes
    ----------
    is_exact : bool
        All probabilities and the whole map are the same, bit for bit.
    within_tolerance : bool
        Every difference is within its tolerance; true where it is exact.
    differences : tuple of Difference
        All that was compared.
    same_versions, same_machine : bool
        Whether the packages and the machine (kind, threads, device) are those of the receipt.
    sentence : str
        All of that for people.
    """

    is_exact: bool
    within_tolerance: bool
    differences: tuple[Difference, ...]
    same_versions: bool
    same_machine: bool
    sentence: str


def coarse(values: np.ndarray) -> tuple[tuple[float, ...], ...]:
    """Return the block means of a map (H, W) on a grid of 16 x 16, of 4 significant digits; of a smaller map itself.

    Examples
    --------
    >>> coarse(np.array([[1.23456, 2.0]]))
    ((1.235, 2.0),)
    """
    means = values.astype(np.float64)
    for axis, side in enumerate(values.shape):
        blocks = min(GRID, side)
        starts = np.arange(blocks) * side // blocks
        sizes = np.diff([*starts, side])
        means = np.add.reduceat(means, starts, axis=axis) / np.expand_dims(sizes, 1 - axis)
    return tuple(tuple(float(f"{one:.{_DIGITS}g}") for one in row) for row in means.tolist())


def compared(expected: Receipt, found: Receipt) -> Replay:
    """Return how the receipt of a repetition differs from the first one."""
    differences = tuple(_differences(expected, found, TOLERANCES[expected.precision]))
    is_exact = all(getattr(expected, name) == getattr(found, name) for name in _EXACT)
    within = is_exact or all(one.is_within for one in differences)
    same_versions = expected.versions == found.versions
    same_machine = all(getattr(expected, name) == getattr(found, name) for name in ("machine", "device", "threads"))
    sentence = f"{_verdict(is_exact, within, differences)} {_elsewhere(expected, found)}"
    return Replay(is_exact, within, differences, same_versions, same_machine, sentence)


_EXACT = ("probabilities", "decision", "explained", "score", "map_sha256", "coarse_map")


def map_difference(found: Sequence[Sequence[float]], expected: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Return rank correlation and largest block difference, as a share of the strongest, of coarse maps of one shape.

    Maps that are the same have 1 and 0, also where they are constant and so have no order.
    """
    a, b = np.array(found), np.array(expected)
    if np.array_equal(a, b):
        return 1.0, 0.0
    strongest = np.abs(b).max()
    largest = float(np.abs(a - b).max() / strongest) if strongest > 0 else float("inf")
    return float(np.nan_to_num(spearman(a[None], b[None])[0])), largest


def _differences(expected: Receipt, found: Receipt, allowed: Tolerance) -> Iterator[Difference]:
    here, there = dict(found.probabilities), dict(expected.probabilities)
    if list(here) != list(there):
        yield _same("labels", list(here), list(there))
    for label in filter(there.__contains__, here):
        yield _close(f"probability of {label}", here[label], there[label], allowed.probability)
    yield _same("decision", found.decision, expected.decision)
    yield _same("explained", found.explained, expected.explained)
    yield _close("score", found.score, expected.score, allowed.score)
    shapes = [np.shape(one.coarse_map) for one in (found, expected)]
    if shapes[0] != shapes[1]:
        yield _same("blocks of the map", shapes[0], shapes[1])
        return
    correlation, largest = map_difference(found.coarse_map, expected.coarse_map)
    least = allowed.correlation
    yield Difference("rank correlation of the map", correlation, 1.0, 1.0 - least, correlation >= least)
    yield _close("largest difference of a block", largest, 0.0, allowed.block)


def _close(quantity: str, value: float, expected: float, tolerance: float) -> Difference:
    return Difference(quantity, value, expected, tolerance, abs(value - expected) <= tolerance)


def _same(quantity: str, value: Any, expected: Any) -> Difference:
    return Difference(quantity, value, expected, 0.0, value == expected)


def _verdict(is_exact: bool, within: bool, differences: Sequence[Difference]) -> str:
    if is_exact:
        return "Exact: the same probabilities and the same map, bit for bit."
    if within:
        return "Not the same bit for bit, but within the stated tolerance."
    wrong = ", ".join(one.quantity for one in differences if not one.is_within)
    return f"Not the same within the stated tolerance: {wrong}."


def _elsewhere(expected: Receipt, found: Receipt) -> str:
    """Say which packages and what of the machine are others than the receipt's."""
    names = sorted(expected.versions.keys() | found.versions.keys())
    pairs = [(name, found.versions.get(name), expected.versions.get(name)) for name in names]
    pairs += [(name, found.machine[name], expected.machine[name]) for name in found.machine]
    pairs += [(name, getattr(found, name), getattr(expected, name)) for name in ("device", "threads")]
    others = [
        f"{name} {here or 'missing'} (there {there or 'missing'})" for name, here, there in pairs if here != there
    ]
    if not others:
        return "The versions and the kind of machine are the same."
    return f"Other than in the receipt: {', '.join(others)}."


def _shown(value: Any) -> str:
    """Return a compared value for people."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
