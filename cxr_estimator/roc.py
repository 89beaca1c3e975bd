"""What a ranking of the images by their scores says: areas under ROC and precision-recall curves, with intervals."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cxr_estimator.statistics import FEWEST_PATIENTS, Estimate, normal_quantile


class Ranking:
    """Images in the order of their scores, from which areas follow for any weights without another sort.

    Parameters
    ----------
    scores : ndarray (N,)
        Higher for the positive label; equal ones are ties.
    positive : ndarray (N,), bool

    Attributes
    ----------
    distinct : ndarray (P,)
        The scores that occur, descending.
    """

    def __init__(self, scores: np.ndarray, positive: np.ndarray) -> None:
        distinct, self._place = np.unique(-np.asarray(scores), return_inverse=True)
        self.distinct, self._positive = -distinct, np.asarray(positive, dtype=bool)

    def counts(self, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return the true and the false positives down to each distinct score, from the highest on."""
        weights = np.ones(len(self._place)) if weights is None else weights
        true, false = (
            np.cumsum(np.bincount(self._place, weights=weights * side, minlength=len(self.distinct)))
            for side in (self._positive, ~self._positive)
        )
        return true, false

    def auroc(self, weights: np.ndarray | None = None) -> float:
        """Return the area under the ROC curve, ties counted half; NaN if one label is missing."""
        true, false = self.counts(weights)
        if not len(true) or not true[-1] or not false[-1]:
            return math.nan
        steps = np.diff(false, prepend=0.0) @ (true + np.concatenate([[0.0], true[:-1]]))
        return float(steps / (2.0 * true[-1] * false[-1]))

    def average_precision(self, weights: np.ndarray | None = None) -> float:
        """Return the area under the precision-recall curve in steps, as scikit-learn; NaN without a positive image."""
        true, false = self.counts(weights)
        if not true[-1]:
            return math.nan
        decided = np.maximum(true + false, 1e-300)  # none yet: such a step is of no width
        return float(np.diff(true, prepend=0.0) @ (true / decided) / true[-1])


def auroc(scores: np.ndarray, positive: Any) -> float:
    """Area under the ROC curve (Mann-Whitney), ties counted half; NaN if one label is missing."""
    return Ranking(scores, positive).auroc()


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


def delong(scores: Any, positive: Any, groups: Any = None, *, confidence: float = 0.95) -> Estimate:
    """Return the area under the ROC curve with the interval of DeLong, clustered by patient.

    Parameters
    ----------
    scores : array-like (N,)
        Higher for the positive label; only their order counts.
    positive : array-like (N,), bool
    groups : array-like (N,), optional
        Patient of each image, who may have images of both labels. Without it each image is a patient of its own, which
        is the method as it was published first.
    confidence : float in (0, 1), default=0.95

    Returns
    -------
    Estimate
        Within [0, 1], higher is better; NaN if one label is missing. The interval is symmetric on the scale of
        log(A / (1 - A)). Near 0 and 1 DeLong's variance vanishes: where fewer than five patients on one side have an
        image that is misplaced against any other (or, below 0.5, rightly placed), and so at 0 and 1 themselves, the
        interval is Newcombe's, as though there were one image per patient, which is wide rather than narrow.

    References
    ----------
    DeLong, DeLong & Clarke-Pearson (1988), Comparing the areas under two or more correlated receiver operating
    characteristic curves, Biometrics 44(3), doi:10.2307/2531595. Obuchowski (1997), Nonparametric analysis of clustered
    ROC curve data, Biometrics 53(2), doi:10.2307/2533957. Newcombe (2006), Confidence intervals for an effect size
    measure based on the Mann-Whitney statistic, part 2, method 5, Stat. Med. 25(4), doi:10.1002/sim.2324

    Examples
    --------
    >>> print(delong([1, 2, 3, 4, 5, 6], [False, False, False, True, True, True]))
    1.000 [0.501, 1.000]
    """
    scores, positive = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=bool)
    if positive.all() or not positive.any():
        return Estimate(math.nan, math.nan, math.nan)
    patient = np.arange(len(scores)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    placement = placements(scores, positive)
    area = float(placement[positive].mean())
    if few_misplaced(placement, positive, patient):
        n_positive, n_negative = (len(np.unique(patient[side])) for side in (positive, ~positive))
        return Estimate(area, *_newcombe_area(area, n_positive, n_negative, confidence))
    spread = math.sqrt(_delong_variance(placement, positive, patient)) / (area * (1.0 - area))
    half = normal_quantile(confidence) * spread
    centre = math.log(area / (1.0 - area))
    return Estimate(area, *(1.0 / (1.0 + math.exp(-end)) for end in (centre - half, centre + half)))


def delong_difference(
    first: Any, second: Any, positive: Any, groups: Any = None, *, confidence: float = 0.95
) -> tuple[Estimate, float]:
    """Return how much larger the area is under the ROC curve of the first scores of the same images, and a p-value.

    Parameters
    ----------
    first, second : array-like (N,)
        Higher for the positive label, each on a scale of its own.
    positive : array-like (N,), bool
    groups : array-like (N,), optional
        Patient of each image. Without it each image is a patient of its own.
    confidence : float in (0, 1), default=0.95

    Returns
    -------
    difference : Estimate
        In [-1, 1], with DeLong's interval, clustered by patient; NaN if one label is missing, and without an interval
        where there are less than five patients with one of the labels.
    p_value : float
        Two-sided, of no difference; 1 where both order all images alike, NaN without an interval. It is a normal
        approximation, and too small where few patients are ordered differently, or one has most of the images.

    References
    ----------
    As for `delong`: DeLong, DeLong & Clarke-Pearson (1988), doi:10.2307/2531595; Obuchowski (1997),
    doi:10.2307/2533957

    Examples
    --------
    >>> positive = [False] * 5 + [True] * 5
    >>> found, p = delong_difference([1, 2, 3, 4, 6, 5, 7, 8, 9, 10], [1, 2, 3, 6, 7, 4, 5, 8, 9, 10], positive)
    >>> print(round(found.value, 2), round(p, 2))
    0.12 0.29
    """
    from scipy.stats import norm

    positive = np.asarray(positive, dtype=bool)
    if positive.all() or not positive.any():
        return Estimate(math.nan, math.nan, math.nan), math.nan
    patient = np.arange(len(positive)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    one, other = (placements(np.asarray(scores, dtype=np.float64), positive) for scores in (first, second))
    apart = one - other
    value = float(apart[positive].mean())
    if min(len(np.unique(patient[side])) for side in (positive, ~positive)) < FEWEST_PATIENTS:
        return Estimate(value, math.nan, math.nan), math.nan
    error = math.sqrt(max(_delong_variance(apart, positive, patient), 0.0))
    half = normal_quantile(confidence) * error
    p_value = float(2 * norm.sf(abs(value) / error)) if error > 0 else float(value == 0)
    return Estimate(value, max(value - half, -1.0), min(value + half, 1.0)), p_value


def placements(scores: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Return which share of the images of the other label each image is rightly above or below, (N,); ties half."""
    from scipy.stats import rankdata

    found = np.empty(len(scores))
    overall = rankdata(scores)
    for side in (positive, ~positive):  # the rank among all, less that among its own, is the number of others below
        found[side] = (overall[side] - rankdata(scores[side])) / (~side).sum()
    found[~positive] = 1.0 - found[~positive]
    return found


def few_misplaced(placement: np.ndarray, positive: np.ndarray, groups: np.ndarray) -> bool:
    """Return whether fewer than five patients on one side have an image that is not in its place, or one that is."""
    return any(
        len(np.unique(groups[side & there])) < FEWEST_PATIENTS
        for side in (positive, ~positive)
        for there in (placement < 1.0, placement > 0.0)
    )


def _delong_variance(placement: np.ndarray, positive: np.ndarray, patient: np.ndarray) -> float:
    """Return the variance of the area, Obuchowski (1997), equation 3; `patient` (N,) are indices from 0."""
    area = placement[positive].mean()
    residual = [np.bincount(patient, weights=side * (placement - area)) for side in (positive, ~positive)]
    n_images = [positive.sum(), (~positive).sum()]
    n_patients = [len(np.unique(patient[side])) for side in (positive, ~positive)]
    variance = sum(i / (i - 1) * (one @ one) / n**2 for one, n, i in zip(residual, n_images, n_patients, strict=True))
    n_all = int(patient.max()) + 1
    return float(variance + 2.0 * n_all / (n_all - 1) * (residual[0] @ residual[1]) / np.prod(n_images))


def _newcombe_area(area: float, n_positive: int, n_negative: int, confidence: float) -> tuple[float, float]:
    """Return the areas from which `area` is as far away as chance, with their own variance, would bring it."""
    from scipy.optimize import brentq

    z, others = normal_quantile(confidence), (n_positive + n_negative) / 2.0 - 1.0

    def excess(true: float) -> float:
        spread = 1.0 + others * (1.0 - true) / (2.0 - true) + others * true / (1.0 + true)
        return (area - true) ** 2 - z**2 * true * (1.0 - true) * spread / (n_positive * n_negative)

    tiny = 1e-12  # keeps away from the root at an area of exactly 0 or 1
    low = 0.0 if area <= tiny else brentq(excess, 0.0, min(area, 1.0 - tiny))
    high = 1.0 if area >= 1.0 - tiny else brentq(excess, max(area, tiny), 1.0)
    return float(low), float(high)
