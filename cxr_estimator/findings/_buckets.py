"""Buckets of images by the outcome: whose maps are looked at, and what these have in common."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from cxr_estimator._outputs import Task
from cxr_estimator._wording import cell, number_of
from cxr_estimator.findings._describing import OVERLAPPING, PLACES, WORDS, beyond
from cxr_estimator.statistics import Estimate, clustered_difference, clustered_mean

RANDOM = "random"
# name -> what its images are called, and what a sentence about none of them says
NAMES = {
    "TP": "true positives",
    "FP": "false positives",
    "FN": "false negatives",
    "right": "right decisions",
    "wrong": "wrong decisions",
    RANDOM: "a random draw",
}
# what is measured of each map -> how it is told; all but the gain are shares
FIGURES = {
    "gain": "gain over moved copies",
    "extent": "area that holds half of the weight",
    **{name: f"weight {where}" for name, where in (PLACES | OVERLAPPING).items()},
    "left": "weight on the image's left",
}
_OF_TASK = {Task.BINARY: ("TP", "FP", "FN"), Task.MULTICLASS: ("right", "wrong")}
_COMPARED = (("FP", "TP"), ("FN", "TP"), ("wrong", "right"))
_ALPHA, _LEAST_P = 0.05, 0.001  # below which a p-value is not written out
_STREAM = 0xF1D


class Bucket(NamedTuple):
    """Images of one outcome, or a random draw of all.

    Attributes
    ----------
    name : str
        "TP", "FP", "FN", "right", "wrong" or "random".
    n_in_all, n_explained, n_shown, n_patients : int
        Images of this outcome, those of them whose maps were measured, those that are shown, and how many patients the
        measured ones are of (images where patients are unknown).
    explained : tuple of str
        The classes that its maps explain.
    figures : dict of str to Estimate
        Means over the measured maps with 95% intervals over patients, see `FIGURES`; NaN where none is defined.
    beyond : dict of str to Estimate
        The mean share of the weight in each place less that of the area.
    counts : dict of "spread", "place", "side" and "verdict" to dict of word to int
    """

    name: str
    n_in_all: int
    n_explained: int
    n_shown: int
    n_patients: int
    explained: tuple[str, ...]
    figures: dict[str, Estimate]
    beyond: dict[str, Estimate]
    counts: dict[str, dict[str, int]]

    @property
    def title(self) -> str:
        """What its images are called: "false positives"."""
        return NAMES[self.name]

    def summary(self, n_images: int) -> str:
        """Return how many there are, in a sentence."""
        images = number_of(n_images, "image")
        if self.name == RANDOM:
            whole = f"all {images}" if n_images > 1 else images
            return f"{self.n_explained} drawn from {whole}, whatever the outcome; {self.n_shown} shown."
        if not self.n_in_all:
            return f"No {self.title} among {images}."
        if not self.n_explained:
            return f"{self.n_in_all} of {images}; none of those that were drawn could be read again."
        drawn = f", of which {self.n_explained} were drawn at random" if self.n_explained < self.n_in_all else ""
        return f"{self.n_in_all} of {images}{drawn}; {self.n_shown} shown."


class Difference(NamedTuple):
    """How much larger a figure is in one bucket than in another.

    Attributes
    ----------
    bucket, reference, figure : str
        Keys of `NAMES` and `FIGURES`.
    means : (float, float)
    difference : Estimate
        With its 95% interval over patients; NaN of fewer than five on a side.
    p_value : float
        Of no difference, corrected for all comparisons by Holm's method.
    """

    bucket: str
    reference: str
    figure: str
    means: tuple[float, float]
    difference: Estimate
    p_value: float

    @property
    def is_sure(self) -> bool:
        """Whether chance does not explain it, given how many comparisons there are."""
        return bool(self.p_value < _ALPHA)

    @property
    def sentence(self) -> str:
        """The difference in words."""
        name = NAMES[self.bucket]
        values = [figure_cell(self.figure, Estimate(mean, math.nan, math.nan)) for mean in self.means]
        apart = f"{self.difference.value:+.3f}" if self.figure == "gain" else points(self.difference)
        p_value = f", p = {self.p_value:.2g}" if self.p_value >= _LEAST_P else f", p < {_LEAST_P}"
        p_value = "" if math.isnan(self.p_value) else p_value
        return (
            f"{name.capitalize()} differ from {NAMES[self.reference]} in the {FIGURES[self.figure]}: "
            f"{' and '.join(values)}, {apart}{p_value}."
        )


def percent(one: Estimate) -> str:
    """Return a share with its interval: "52% (40 to 61%)"."""
    if math.isnan(one.value):
        return "undefined"
    low, high = max(one.low, 0.0), min(one.high, 1.0)  # Student's t knows of no ends
    return f"{one.value:.0%}" + ("" if math.isnan(one.low) else f" ({100 * low:.0f} to {high:.0%})")


def points(one: Estimate) -> str:
    """Return a difference of shares with its interval: "+12 points (+3 to +21)"."""
    interval = "" if math.isnan(one.low) else f" ({100 * one.low:+.0f} to {100 * one.high:+.0f})"
    return f"{100 * one.value:+.0f} points{interval}"


def figure_cell(figure: str, one: Estimate) -> str:
    """Return a figure of `FIGURES` with its interval."""
    return cell(one) if figure == "gain" else percent(one)


def draw(outcome: np.ndarray, task: Task, n: int, seed: int) -> dict[str, np.ndarray]:
    """Return up to `n` random rows of each bucket, in random order, and of all images."""
    members = {name: np.flatnonzero(outcome == name) for name in _OF_TASK[task]} | {RANDOM: np.arange(len(outcome))}
    return {
        name: np.random.default_rng([seed, _STREAM, number]).permutation(rows)[:n]
        for number, (name, rows) in enumerate(members.items())
    }


def summarise(name: str, table: pd.DataFrame, patient: np.ndarray, n_in_all: int) -> Bucket:
    """Return what the maps of a bucket have in common; `patient` (n,) numbers that of each row of the table."""
    figures = {figure: _mean(table[figure].to_numpy(dtype=float), patient) for figure in FIGURES}
    counts = {kind: {word: int((table[kind] == word).sum()) for word in words} for kind, words in WORDS.items()}
    counts["verdict"] = {str(word): int(count) for word, count in table["verdict"].value_counts().sort_index().items()}
    return Bucket(
        name,
        n_in_all,
        len(table),
        int(table["shown"].sum()),
        len(np.unique(patient)),
        tuple(sorted(set(table["explained"].astype(str)))),
        figures,
        {place: _mean(beyond(table, place), patient) for place in (*PLACES, *OVERLAPPING)},
        {kind: {word: count for word, count in found.items() if count} for kind, found in counts.items()},
    )


def _mean(values: np.ndarray, patient: np.ndarray) -> Estimate:
    known = ~np.isnan(values)
    return clustered_mean(values[known], patient[known])


def compare(buckets: Sequence[Bucket], table: pd.DataFrame, patient: np.ndarray) -> list[Difference]:
    """Return how the maps of wrong decisions differ from those of right ones, corrected for all comparisons together.

    Of two classes only where they explain the same one: what speaks for health may lie elsewhere than what speaks for
    disease, without anything being wrong.
    """
    named, found = {one.name: one for one in buckets}, []
    for bucket, reference in _COMPARED:
        if not {bucket, reference} <= named.keys() or not named[bucket].n_explained:
            continue
        if bucket == "wrong" or named[bucket].explained == named[reference].explained:
            found += [_difference(bucket, reference, figure, table, patient) for figure in FIGURES]
    return _corrected(found)


def _difference(bucket: str, reference: str, figure: str, table: pd.DataFrame, patient: np.ndarray) -> Difference:
    values, sides = table[figure].to_numpy(dtype=float), []
    for name in (bucket, reference):
        own = ((table["bucket"] == name) & ~np.isnan(values)).to_numpy()
        sides += [values[own], patient[own]]
    difference, p_value = clustered_difference(*sides)
    means = [float(one.mean()) if len(one) else float("nan") for one in sides[::2]]
    return Difference(bucket, reference, figure, (means[0], means[1]), difference, p_value)


def _corrected(found: list[Difference]) -> list[Difference]:
    """Return the differences with p-values that hold for all of them together (Holm 1979, Scand. J. Stat. 6(2))."""
    known = sorted((one.p_value, number) for number, one in enumerate(found) if not np.isnan(one.p_value))
    least: Any = 0.0
    corrected = list(found)
    for rank, (p_value, number) in enumerate(known):
        least = min(max(least, (len(known) - rank) * p_value), 1.0)
        corrected[number] = found[number]._replace(p_value=least)
    return corrected
