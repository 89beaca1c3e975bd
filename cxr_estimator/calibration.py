"""Calibration: from the log-odds of a network to probabilities that agree with observed frequencies.

`CALIBRATORS` is the one table: a new one is a function and a line.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, log_expit, logit, logsumexp

from cxr_estimator._validation import check_number
from cxr_estimator.errors import DataError

NEVER = float(np.finfo(np.float32).max)  # a score that no network gives
_WIDEST = 8.0  # of |log T|


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
        place = int(np.searchsorted(self.proba, wanted))  # the first knot that has as much
        if place == len(self.proba):
            return NEVER
        if place == 0:
            return -NEVER
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
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    wanted = np.where(positive, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))
    middle, width = float(np.mean(scores)), float(np.std(scores)) or 1.0
    z = (scores - middle) / width  # well conditioned, whatever the scale of the scores

    def loss(ab: np.ndarray) -> tuple[float, np.ndarray]:
        log_odds = ab[0] * z + ab[1]
        error = (expit(log_odds) - wanted) / len(z)
        value = -np.mean(wanted * log_expit(log_odds) + (1 - wanted) * log_expit(-log_odds))
        return float(value), np.array([error @ z, error.sum()])

    slope, intercept = minimize(loss, np.array([1.0, 0.0]), jac=True, method="BFGS").x
    if not slope > 1e-6:
        raise DataError("Platt scaling finds no use in these scores: positive images score no higher than others.")
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

    Parameters
    ----------
    logits : ndarray (N, 1) or (N, K)
    target : ndarray (N,), int64
        Class indices; 0 and 1 for one logit.

    References
    ----------
    Guo et al. (2017), On calibration of modern neural networks, ICML, doi:10.48550/arXiv.1706.04599
    """
    if logits.shape[1] == 1:
        sign = np.where(target == 1, 1.0, -1.0)

        def loss(log_t: float) -> float:
            return float(-log_expit(sign * logits[:, 0] * math.exp(-log_t)).mean())
    else:
        own = logits[np.arange(len(target)), target]

        def loss(log_t: float) -> float:
            share = math.exp(-log_t)
            return float((logsumexp(logits * share, axis=1) - own * share).mean())

    found = minimize_scalar(loss, bounds=(-_WIDEST, _WIDEST), method="bounded", options={"xatol": 1e-6})
    return Affine(math.exp(-float(found.x)))


class Calibrator(NamedTuple):
    """A row of `CALIBRATORS`.

    Attributes
    ----------
    fit : callable or None
        `fit(scores, positive) -> LabelMap` for each label by itself; None for the joint temperature.
    fewest : int
        How many images of each label it needs.
    summary : str
    """

    fit: Callable[[np.ndarray, np.ndarray], LabelMap] | None
    fewest: int
    summary: str


CALIBRATORS: Mapping[str, Calibrator] = {
    "temperature": Calibrator(None, 10, "one number that all log-odds are divided by"),
    "platt": Calibrator(fit_platt, 20, "a line through the log-odds of each label"),
    "isotonic": Calibrator(fit_isotonic, 50, "steps that never fall, for each label; needs many images"),
}


@dataclass(frozen=True)
class Calibration:
    """A map from the logits of a network to calibrated ones, of the same shape and meaning.

    In this order: the weights of the classes in the loss are undone (they shift log-odds by log w), each label is
    mapped (of several classes, one against the rest, then all are normalised), and the prevalence is shifted.

    Attributes
    ----------
    method : str
        Key of `CALIBRATORS`.
    log_weights, prior_shift : tuple of float
        Subtracted before, and added after; one for two classes (of log-odds), else one per class.
    maps : tuple of Affine or Steps
        One for two classes and for a temperature, else one per class.
    n_images, n_patients : int
        How many images of how many patients it was fitted on.
    fingerprint : tuple of str
        Sketch of these images, see `fingerprints`.
    """

    method: str
    log_weights: tuple[float, ...]
    maps: tuple[LabelMap, ...]
    prior_shift: tuple[float, ...]
    n_images: int
    n_patients: int
    fingerprint: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.method not in CALIBRATORS or len(self.log_weights) != len(self.prior_shift):
            raise ValueError("not a calibration")
        if len(self.maps) != (1 if self.method == "temperature" else len(self.log_weights)):
            raise ValueError(f"{len(self.maps)} maps do not fit {len(self.log_weights)} outputs")
        for number in (*self.log_weights, *self.prior_shift):
            check_number("shift", number, caller=type(self).__name__)

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        """Return calibrated logits (N, 1) or (N, K), float64; rows of NaN stay so."""
        z = logits.astype(np.float64) - self.log_weights
        if len(self.maps) == 1:
            z = self.maps[0](z)
        else:
            z = one_vs_rest(z)
            log_proba = np.stack([log_expit(each(z[:, k])) for k, each in enumerate(self.maps)], axis=1)
            z = log_proba - logsumexp(log_proba, axis=1, keepdims=True)
        return z + self.prior_shift

    def score_of(self, proba: float, *, flipped: bool = False) -> float:
        """Return the smallest raw score, of two classes, with a calibrated probability of at least `proba`.

        `flipped`: scores and probability are those of the first class, whose log-odds are the logits turned around.
        """
        sign = -1.0 if flipped else 1.0
        score = self._map(flipped).inverse(float(logit(proba)) - sign * self.prior_shift[0])
        return float(np.clip(score + sign * self.log_weights[0], -NEVER, NEVER))

    def merges(self, score: float, *, flipped: bool = False) -> bool:
        """Whether scores (of two classes) on both sides of a cut-off get one probability; `flipped` as above."""
        one = self._map(flipped)
        return isinstance(one, Steps) and one.is_flat_below(score - (-1.0 if flipped else 1.0) * self.log_weights[0])

    def _map(self, flipped: bool) -> LabelMap:
        return self.maps[0].mirrored() if flipped else self.maps[0]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON types."""
        found = asdict(self)
        return {**found, "maps": [asdict(each) for each in self.maps], "fingerprint": list(self.fingerprint)}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Calibration:
        """Undo `to_dict`; raises ValueError, TypeError or LookupError for anything else."""
        maps = tuple(
            Affine(**each) if "slope" in each else Steps(tuple(each["scores"]), tuple(each["proba"]))
            for each in content["maps"]
        )
        tuples = {name: tuple(content[name]) for name in ("log_weights", "prior_shift", "fingerprint")}
        return cls(**{**content, **tuples, "maps": maps})


def one_vs_rest(logits: np.ndarray) -> np.ndarray:
    """Return the log-odds (N, K) of each class against all others, for logits (N, K)."""
    found = np.empty(logits.shape, dtype=np.float64)
    for k in range(logits.shape[1]):
        found[:, k] = logits[:, k] - logsumexp(np.delete(logits, k, axis=1), axis=1)
    return found


def fit_calibration(
    logits: np.ndarray,
    target: np.ndarray,
    *,
    method: str,
    labels: Sequence[Any],
    class_weights: np.ndarray,
    prevalence: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    fingerprint: tuple[str, ...] = (),
) -> Calibration:
    """Fit a calibration of exclusive classes.

    Parameters
    ----------
    logits : ndarray (N, 1) or (N, K)
    target : ndarray (N,), int64
        Class indices.
    method : {"temperature", "platt", "isotonic"}
    labels : sequence of K labels
        For messages.
    class_weights : ndarray (K,)
        What the loss weighed the classes with, above 0.
    prevalence : ndarray (K,), optional
        Shares of the classes where the model will be used; default: as in these images.

    Raises
    ------
    DataError
        Too few images of a class, or scores that cannot be calibrated.

    References
    ----------
    Saerens et al. (2002), Adjusting the outputs of a classifier to new a priori probabilities, Neural Comput. 14(1),
    doi:10.1162/089976602753284446, for the shift of the prevalence
    """
    counts = np.bincount(target, minlength=len(labels))
    _check_counts(counts, method, labels)
    log_weights = np.log(class_weights)
    shift = np.zeros(len(labels)) if prevalence is None else np.log(prevalence) - np.log(counts / len(target))
    if logits.shape[1] == 1:
        log_weights, shift = np.diff(log_weights), np.diff(shift)
    z = logits.astype(np.float64) - log_weights
    each = CALIBRATORS[method].fit
    if each is None:
        maps: tuple[LabelMap, ...] = (fit_temperature(z, target),)
    elif z.shape[1] == 1:
        maps = (each(z[:, 0], target == 1),)
    else:
        rest = one_vs_rest(z)
        maps = tuple(each(rest[:, k], target == k) for k in range(len(labels)))
    n_patients = len(target) if groups is None else len(np.unique(groups))
    return Calibration(
        method, tuple(log_weights.tolist()), maps, tuple(shift.tolist()), len(target), n_patients, fingerprint
    )


def _check_counts(counts: np.ndarray, method: str, labels: Sequence[Any]) -> None:
    fewest = CALIBRATORS[method].fewest
    for count, label in zip(counts.tolist(), labels, strict=True):
        if count < fewest:
            raise DataError(
                f"calibrate: {method!r} needs at least {fewest} images of each label. Got {count} of {label!r}."
            )
