"""Intervals that respect patients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

FEWEST_PATIENTS = 5  # a bootstrap over fewer gives an interval that means nothing
N_RESAMPLES = 1000


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
    n_resamples: int = N_RESAMPLES,
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
    return Estimate(float(statistic(order)), *percentile_interval(values, confidence))


def resampled_weights(groups: Any, *, n_resamples: int = N_RESAMPLES, random_state: int = 0) -> Iterator[np.ndarray]:
    """Yield how often each image counts in each bootstrap resample of patients, (N,) int64.

    The same resamples as those of `patient_bootstrap`, for statistics that are quicker with weights than with lists.
    """
    _, patient = np.unique(np.asarray(groups), return_inverse=True)
    n_patients = int(patient.max()) + 1
    rng = np.random.default_rng(random_state)
    for _ in range(n_resamples):
        yield np.bincount(rng.integers(n_patients, size=n_patients), minlength=n_patients)[patient]


def percentile_interval(values: Any, confidence: float = 0.95) -> tuple[float, float]:
    """Return the central share `confidence` of the values that are not NaN; NaN if there are none."""
    defined = np.asarray(values, dtype=np.float64)
    defined = defined[~np.isnan(defined)]
    if not len(defined):
        return math.nan, math.nan
    tail = 100.0 * (1.0 - confidence) / 2.0
    low, high = np.percentile(defined, [tail, 100.0 - tail])
    return float(low), float(high)


def wilson(share: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval of a share observed among `n` independent cases; NaN for none.

    References
    ----------
    Wilson (1927), Probable inference, J. Am. Stat. Assoc. 22(158), doi:10.1080/01621459.1927.10502953

    Examples
    --------
    >>> low, high = wilson(1.0, 20)
    >>> round(low, 3), round(high, 3)
    (0.839, 1.0)
    """
    from scipy.stats import norm

    if not n > 0:
        return math.nan, math.nan
    z = float(norm.ppf(0.5 + confidence / 2.0))
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def proportion(
    right: Any,
    groups: Any,
    *,
    n_resamples: int = N_RESAMPLES,
    confidence: float = 0.95,
    random_state: int = 0,
) -> Estimate:
    """Return the share of images for which `right` (N,) holds, with its interval over patients; NaN for no images.

    A percentile bootstrap of patients, unless fewer than five of them are on one of the two sides: near 0 and 1 it
    would be far too narrow, and at 0 and 1 of no width at all. Then Wilson's interval, as though there were one image
    per patient, which is wide rather than narrow.
    """
    right, groups = np.asarray(right, dtype=bool), np.asarray(groups)
    if not len(right):
        return Estimate(math.nan, math.nan, math.nan)
    share = float(right.mean())
    if min(len(np.unique(groups[right])), len(np.unique(groups[~right]))) < FEWEST_PATIENTS:
        return Estimate(share, *wilson(share, len(np.unique(groups)), confidence))
    resamples = resampled_weights(groups, n_resamples=n_resamples, random_state=random_state)
    return Estimate(share, *percentile_interval([w @ right / w.sum() for w in resamples], confidence))


def mean_band(
    values: np.ndarray,
    groups: np.ndarray,
    *,
    n_resamples: int = N_RESAMPLES,
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


def label_auroc(scores: np.ndarray, target: np.ndarray) -> float:
    """Mean over labels of the AUROC of `scores` (N, K), for `target` (N, K) of 1, 0 and NaN (unknown).

    Each label counts the images for which it is known; labels that lack one of the values are left out. NaN if all do.
    """
    found = []
    for score, truth in zip(scores.T, target.T, strict=True):
        known = ~np.isnan(truth)
        if len(set(truth[known].tolist())) == 2:
            found.append(auroc(score[known], truth[known] == 1))
    return float(np.mean(found)) if found else float("nan")
