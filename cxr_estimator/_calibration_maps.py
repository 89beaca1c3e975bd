"""Maps from raw to calibrated log-odds, and how each is fitted."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, log_expit, logit, logsumexp

from cxr_estimator._validation import check_number
from cxr_estimator.errors import DataError

NEVER = float(np.finfo(np.float32).max)  # a score that no network gives
_WIDEST = 8.0  # of |log T|
_ROUNDING = 1e-12  # what a probability loses on its way to log-odds and back


@dataclass(frozen=True)
class Affine:
    """log-odds -> slope * log-odds + intercept, with a slope above 0."""

    slope: float
    intercept: float = 0.0

    def __post_init__(self) -> None:
        check_number("slope", self.slope, caller=type(self).__name__, low=0.0, open_low=True)
        check_number("intercept", self.intercept, caller=type(self).__name__)

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Return calibrated log-odds, same shape."""
        return self.slope * scores + self.intercept

    def mirrored(self) -> Affine:
        """Return the map of the log-odds of the other class."""
        return Affine(self.slope, -self.intercept)

    def inverse(self, log_odds: float) -> float:
        """Return the smallest score that gives at least these calibrated log-odds."""
        return (log_odds - self.intercept) / self.slope


@dataclass(frozen=True)
class Steps:
    """A piecewise linear map that never falls, flat beyond its ends.

    Attributes
    ----------
    scores, proba : tuple of float
        Knots: log-odds, strictly ascending, and probabilities, ascending, in (0, 1).
    """

    scores: tuple[float, ...]
    proba: tuple[float, ...]

    def __post_init__(self) -> None:
        scores, proba = np.array(self.scores, dtype=np.float64), np.array(self.proba, dtype=np.float64)
        if scores.ndim != 1 or scores.shape != proba.shape or not len(scores) or not np.isfinite(scores).all():
            raise ValueError("the knots of an isotonic map must be two lists of finite numbers of one length")
        if not ((np.diff(scores) > 0).all() and (np.diff(proba) >= 0).all() and 0 < proba[0] <= proba[-1] < 1):
            raise ValueError("the knots of an isotonic map must ascend, with probabilities in (0, 1)")

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Return calibrated log-odds, same shape."""
        return logit(np.interp(scores, self.scores, self.proba))

    def mirrored(self) -> Steps:
        """Return the map of the log-odds of the other class."""
        return Steps(tuple(-each for each in self.scores[::-1]), tuple(1.0 - each for each in self.proba[::-1]))

    def inverse(self, log_odds: float) -> float:
        """Return the smallest score that gives at least these calibrated log-odds; `NEVER` if none does."""
        wanted = float(expit(log_odds))
        place = int(np.searchsorted(self.proba, wanted - _ROUNDING))  # the first knot that has as much
        if place == len(self.proba):
            return NEVER
        if place == 0:
            return -NEVER
        if self.proba[place] <= wanted + _ROUNDING:  # many images may lie on this step: none may fall off its edge
            return self.scores[place]
        low, high = self.proba[place - 1], self.proba[place]
        share = (wanted - low) / (high - low)
        return self.scores[place - 1] + share * (self.scores[place] - self.scores[place - 1])

    def is_flat_below(self, score: float) -> bool:
        """Whether scores just below `score` get the same probability."""
        place = int(np.searchsorted(self.scores, score))  # the first knot at or above it
        if place in (0, len(self.scores)):
            return True
        return self.proba[place - 1] == self.proba[place]


LabelMap = Affine | Steps


def fit_platt(scores: np.ndarray, positive: np.ndarray) -> Affine:
    """Fit slope and intercept by maximum likelihood, with Platt's targets (n + 1) / (n + 2) and 1 / (m + 2).

    Raises
    ------
    DataError
        The slope is not above 0: positive images do not score higher than negative ones.

    References
    ----------
    Platt (1999), Probabilistic outputs for support vector machines, Advances in Large Margin Classifiers
    """
    useless = DataError("Platt scaling finds no use in these scores: positive images score no higher than others.")
    if not np.ptp(scores) > 0:
        raise useless
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    wanted = np.where(positive, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))
    middle, width = float(np.mean(scores)), float(np.std(scores))
    z = (scores - middle) / width  # well conditioned, whatever the scale of the scores

    def loss(ab: np.ndarray) -> tuple[float, np.ndarray]:
        log_odds = ab[0] * z + ab[1]
        error = (expit(log_odds) - wanted) / len(z)
        value = -np.mean(wanted * log_expit(log_odds) + (1 - wanted) * log_expit(-log_odds))
        return float(value), np.array([error @ z, error.sum()])

    slope, intercept = minimize(loss, np.array([1.0, 0.0]), jac=True, method="BFGS").x
    if not slope > 1e-6:
        raise useless
    return Affine(float(slope / width), float(intercept - slope * middle / width))


def fit_isotonic(scores: np.ndarray, positive: np.ndarray) -> Steps:
    """Fit a map that never falls, kept away from 0 and 1 by 1 / (N + 2).

    References
    ----------
    Zadrozny & Elkan (2002), Transforming classifier scores into accurate multiclass probability estimates, KDD,
    doi:10.1145/775047.775151
    """
    from sklearn.isotonic import IsotonicRegression

    found = IsotonicRegression(out_of_bounds="clip").fit(scores, positive.astype(np.float64))
    least = 1.0 / (len(scores) + 2)
    proba = np.clip(found.y_thresholds_, least, 1.0 - least)
    return Steps(tuple(map(float, found.X_thresholds_)), tuple(map(float, proba)))


def fit_temperature(logits: np.ndarray, target: np.ndarray) -> Affine:
    """Fit the one number T that all logits are divided by, by maximum likelihood.

    The truth counts as in Platt scaling, as (n + 1) / (n + 2) for a class of n images: where few images are all right,
    T would otherwise go to 0, and every probability to 0 or 1.

    Parameters
    ----------
    logits : ndarray (N, 1) or (N, K)
    target : ndarray (N,), int64
        Class indices; 0 and 1 for one logit.

    Raises
    ------
    DataError
        T is unbounded: to say nothing at all would be more likely than any multiple of these scores.

    References
    ----------
    Guo et al. (2017), On calibration of modern neural networks, ICML, doi:10.48550/arXiv.1706.04599
    """
    z = np.concatenate([-logits / 2, logits / 2], axis=1) if logits.shape[1] == 1 else logits
    n_classes = z.shape[1]
    sure = (np.bincount(target, minlength=n_classes) + 1.0) / (np.bincount(target, minlength=n_classes) + 2.0)
    wanted = np.repeat((1.0 - sure[target])[:, None] / (n_classes - 1), n_classes, axis=1)
    wanted[np.arange(len(z)), target] = sure[target]
    mean_wanted = float((wanted * z).sum(axis=1).mean())

    def loss(log_t: float) -> float:
        share = math.exp(-log_t)
        return float(logsumexp(z * share, axis=1).mean()) - share * mean_wanted

    found = minimize_scalar(loss, bounds=(-_WIDEST, _WIDEST), method="bounded", options={"xatol": 1e-6})
    if found.x > _WIDEST - 0.01:
        raise DataError(
            "A temperature finds no use in these scores: divided by any number they are further from the truth than "
            "saying nothing. They may lie on one side of 0: try 'platt', which also shifts them."
        )
    return Affine(math.exp(-float(found.x)))
