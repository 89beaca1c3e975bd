"""Intervals that respect patients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

FEWEST_PATIENTS = 5  # a bootstrap over fewer gives an interval that means nothing


class Estimate(NamedTuple):
    """A value with its interval; NaN where undefined."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def patient_bootstrap(
    statistic: Callable[[np.ndarray], float],
    groups: np.ndarray,
    *,
    n_resamples: int = 1000,
    confidence: float = 0.95,
    random_state: int = 0,
) -> Estimate:
    """Percentile bootstrap over patients: all images of a drawn patient come along.

    Parameters
    ----------
    statistic : callable
        Maps an integer index array into the images (repeats allowed) to a number; NaN where undefined.
    groups : ndarray (N,)
        Patient of each image; one per image where no patients are known.

    References
    ----------
    Field & Welsh (2007), Bootstrapping clustered data, J. R. Stat. Soc. B 69(3), doi:10.1111/j.1467-9868.2007.00593.x
    """
    _, patient = np.unique(np.asarray(groups), return_inverse=True)
    order = np.argsort(patient, kind="stable")
    images_of = np.split(order, np.cumsum(np.bincount(patient))[:-1])
    rng = np.random.default_rng(random_state)
    values = []
    for _ in range(n_resamples):
        drawn = rng.integers(len(images_of), size=len(images_of))
        values.append(statistic(np.concatenate([images_of[number] for number in drawn])))
    tail = 100.0 * (1.0 - confidence) / 2.0
    defined = np.array(values)[~np.isnan(values)]
    low, high = np.percentile(defined, [tail, 100.0 - tail]) if len(defined) else (np.nan, np.nan)
    return Estimate(float(statistic(order)), float(low), float(high))


def mean_band(
    values: np.ndarray,
    groups: np.ndarray,
    *,
    n_resamples: int = 1000,
    confidence: float = 0.95,
    random_state: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of the interval of each column's mean, (P,) each, for values (N, P) without NaN.

    What `patient_bootstrap` says of one column after the other, from sums by patient instead of lists of images.
    """
    _, patient = np.unique(np.asarray(groups), return_inverse=True)
    size = np.bincount(patient)
    sums = np.zeros((len(size), values.shape[1]))
    np.add.at(sums, patient, values)
    rng = np.random.default_rng(random_state)
    means = np.empty((n_resamples, values.shape[1]))
    for row in means:
        drawn = np.bincount(rng.integers(len(size), size=len(size)), minlength=len(size))
        row[:] = drawn @ sums / (drawn @ size)
    tail = 100.0 * (1.0 - confidence) / 2.0
    low, high = np.percentile(means, [tail, 100.0 - tail], axis=0)
    return low, high


def auroc(scores: np.ndarray, positive: Any) -> float:
    """Area under the ROC curve by ranks (Mann-Whitney), ties counted half; NaN if one label is missing."""
    from scipy.stats import rankdata

    positive = np.asarray(positive, dtype=bool)
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if not n_positive or not n_negative:
        return float("nan")
    rank_sum = rankdata(scores)[positive].sum()
    return float((rank_sum - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def macro_auroc(scores: np.ndarray, target: np.ndarray) -> float:
    """Mean over classes of the one-against-rest AUROC, for class indices `target` (N,).

    `scores` (N, K) must be probabilities: logits have an offset per image, which a ranking across images must not see.
    """
    return float(np.mean([auroc(scores[:, k], target == k) for k in range(scores.shape[1])]))
