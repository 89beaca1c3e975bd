"""How the figures of an evaluation get their intervals."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from cxr_estimator.statistics import (
    FEWEST_PATIENTS,
    N_RESAMPLES,
    Estimate,
    percentile_interval,
    proportion,
    resampled_sums,
    resampled_weights,
)

OfConfusion = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Patients:
    """Whose images they are, and how often they are drawn anew.

    Attributes
    ----------
    groups : ndarray (N,)
        Patient of each image.
    n_resamples, random_state : int
    """

    groups: np.ndarray
    n_resamples: int = N_RESAMPLES
    random_state: int = 0

    def at(self, rows: np.ndarray) -> Patients:
        """Return those of some images, by index or bool."""
        return replace(self, groups=self.groups[rows])

    def number(self, among: np.ndarray | None = None) -> int:
        """Return how many patients there are, or have an image where `among` (N,) is true."""
        return len(np.unique(self.groups if among is None else self.groups[among]))

    def are_few(self, right: np.ndarray, among: np.ndarray) -> bool:
        """Return whether fewer than five patients have a right image, or a wrong one, where `among` is true."""
        return min(self.number(among & right), self.number(among & ~right)) < FEWEST_PATIENTS

    def share(self, right: np.ndarray, among: np.ndarray) -> Estimate:
        """Return the share of `right` (N,) where `among` (N,) is true; NaN if it is so nowhere."""
        return proportion(
            right[among], self.groups[among], n_resamples=self.n_resamples, random_state=self.random_state
        )

    def mean(self, values: np.ndarray) -> Estimate:
        """Return the mean of values (N,) with a bootstrap interval."""
        sums = self.sums(np.column_stack([values, np.ones(len(values))]))
        return Estimate(float(values.mean()), *percentile_interval(sums[:, 0] / sums[:, 1]))

    def sums(self, columns: np.ndarray) -> np.ndarray:
        """Return the sum of each column (N, P) in each resample, (n_resamples, P)."""
        return resampled_sums(columns, self.groups, n_resamples=self.n_resamples, random_state=self.random_state)

    def bootstrap(self, statistic: Callable[[np.ndarray], float]) -> tuple[float, float]:
        """Return the interval of `statistic`, which maps the weights of the images (N,) to a number."""
        weights = resampled_weights(self.groups, n_resamples=self.n_resamples, random_state=self.random_state)
        return percentile_interval([statistic(one) for one in weights])


def confusion_matrix(target: np.ndarray, decided: np.ndarray, n_classes: int) -> np.ndarray:
    """Return how many images of each class (rows) were decided as each (columns), (K, K) int."""
    return np.bincount(target * n_classes + decided, minlength=n_classes**2).reshape(n_classes, n_classes)


def of_confusion(
    function: OfConfusion, target: np.ndarray, decided: np.ndarray, n_classes: int, patients: Patients
) -> Estimate:
    """Return a function of the confusion matrix with its interval.

    A bootstrap of patients; where fewer than five of them have a wrong image of some class (or a right one), that of
    `_moved`, since a bootstrap knows of no error that did not happen.
    """
    confusion = confusion_matrix(target, decided, n_classes)
    with np.errstate(divide="ignore", invalid="ignore"):  # 0 / 0 is NaN, which is what undefined figures are
        value = float(function(confusion))
        if math.isnan(value):
            return Estimate(math.nan, math.nan, math.nan)
        right = decided == target
        present = [k for k in range(n_classes) if (target == k).any()]
        if any(patients.are_few(right, target == k) for k in present):
            recalls = {k: patients.share(right, target == k) for k in present}
            return _moved(function, confusion, recalls)
        cells = np.eye(n_classes**2)[target * n_classes + decided]
        drawn = patients.sums(cells).reshape(-1, n_classes, n_classes)
        return Estimate(value, *percentile_interval(function(drawn)))


def of_label_confusions(function: OfConfusion, target: np.ndarray, decided: np.ndarray, patients: Patients) -> Estimate:
    """Return the mean over labels of a function of their confusion matrices, with a bootstrap interval.

    Parameters
    ----------
    function : callable
        Maps (..., 2, 2), rows true, to numbers (...); NaN where undefined, which is left out of the mean.
    target, decided : ndarray (N, K)
        1, 0, or NaN (unknown).
    """
    known = ~np.isnan(target)
    place = np.where(known, 2 * np.nan_to_num(target) + decided, 0).astype(np.int64)
    cells = np.eye(4)[place] * known[:, :, None]  # (N, K, 4)
    with np.errstate(divide="ignore", invalid="ignore"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        value = float(np.nanmean(function(cells.sum(axis=0).reshape(-1, 2, 2))))
        drawn = patients.sums(cells.reshape(len(target), -1)).reshape(-1, target.shape[1], 2, 2)
        return Estimate(value, *percentile_interval(np.nanmean(function(drawn), axis=1)))


def _moved(function: OfConfusion, confusion: np.ndarray, recalls: dict[int, Estimate]) -> Estimate:
    """Move the recall of one class after the other to the ends of its interval, and combine the distances as squares.

    What the errors of a class are taken for stays in proportion; where it has none, they are spread evenly.

    References
    ----------
    Zou & Donner (2008), Construction of confidence limits about effect measures: a general approach, Stat. Med. 27(10),
    doi:10.1002/sim.3095
    """
    value, down, up = float(function(confusion)), 0.0, 0.0
    for k, recall in recalls.items():
        moved = []
        for end in (recall.low, recall.high):
            changed = confusion.astype(np.float64)
            n, errors = changed[k].sum(), changed[k].copy()
            errors[k] = 0.0
            if not errors.any():
                errors = np.where(np.arange(len(errors)) == k, 0.0, 1.0)
            changed[k] = n * (1.0 - end) * errors / errors.sum()
            changed[k, k] = n * end
            moved.append(float(function(changed)))
        down, up = math.hypot(down, value - min(value, *moved)), math.hypot(up, max(value, *moved) - value)
    return Estimate(value, value - down, value + up)
