"""Clinical scorers for scikit-learn's model selection. `CLINICAL` is the one list: a new one is a function and a line.

All speak of the positive label, whichever column of `predict_proba` it is. Every function takes the probability of the
positive label and which images have it, and raises `InvalidParameterError` or `InvalidTypeError` for anything else.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils.metadata_routing import MetadataRequest
from sklearn.utils.validation import check_is_fitted

from cxr_estimator._validation import (
    check_choice,
    check_labels,
    check_number,
    invalid,
    keyword_options,
    plain,
    wrong_type,
)
from cxr_estimator.errors import DataError, ScoreWarning
from cxr_estimator.thresholds import sweep


def sensitivity_at_specificity(proba: Any, positive: Any, *, specificity: float = 0.9) -> float:
    """Return the largest sensitivity, in [0, 1], among the cut-offs with at least a given specificity.

    The cut-offs lie between the distinct values of `proba`, below and above all of them; equal values fall on the same
    side. They are those of the scored images themselves: like the AUROC this describes the ROC curve of these images.
    It is no operating point, for a cut-off chosen on one set tends to reach less on the next (see `set_threshold`).

    Parameters
    ----------
    proba : array-like (N,), in [0, 1]
        Probability of the positive label.
    positive : array-like (N,), bool
        Which images have the positive label.
    specificity : float in (0, 1], default=0.9

    Returns
    -------
    float
        Higher is better; NaN if there are no positive or no negative images.

    References
    ----------
    Fawcett (2006), An introduction to ROC analysis, Pattern Recognit. Lett. 27(8), doi:10.1016/j.patrec.2005.10.010

    Examples
    --------
    >>> sensitivity_at_specificity([0.9, 0.7, 0.6, 0.2], [True, False, True, False], specificity=0.5)
    1.0
    """
    caller = "sensitivity_at_specificity"
    check_number("specificity", specificity, caller=caller, low=0.0, high=1.0, open_low=True)
    proba, positive = _checked(proba, positive, caller)
    if positive.all() or not positive.any():
        return float("nan")
    curve = sweep(proba, positive)
    return float(curve.sensitivity[curve.specificity >= specificity].max())


def specificity_at_sensitivity(proba: Any, positive: Any, *, sensitivity: float = 0.9) -> float:
    """Return the largest specificity, in [0, 1], among the cut-offs with at least a given sensitivity.

    See `sensitivity_at_specificity`, whose mirror image it is.

    Parameters
    ----------
    proba, positive : array-like (N,), in [0, 1], and bool
        As for `sensitivity_at_specificity`.
    sensitivity : float in (0, 1], default=0.9

    Returns
    -------
    float
        Higher is better; NaN if there are no positive or no negative images.
    """
    caller = "specificity_at_sensitivity"
    check_number("sensitivity", sensitivity, caller=caller, low=0.0, high=1.0, open_low=True)
    proba, positive = _checked(proba, positive, caller)
    if positive.all() or not positive.any():
        return float("nan")
    curve = sweep(proba, positive)
    return float(curve.specificity[curve.sensitivity >= sensitivity].max())


def expected_calibration_error(proba: Any, positive: Any, *, n_bins: int = 10, strategy: str = "uniform") -> float:
    """Return how far the probability of the positive label lies from its observed frequency, on average, in [0, 1].

    The images are put into bins by their probability. In each bin the mean probability is compared with the share of
    positive images; the absolute differences are averaged, weighted by the number of images. A bin holds its upper
    edge, not its lower one. With few images per bin the value is too high, even of a perfectly calibrated model.

    Parameters
    ----------
    proba, positive : array-like (N,), in [0, 1], and bool
        As for `sensitivity_at_specificity`.
    n_bins : int, default=10
    strategy : {"uniform", "quantile"}, default="uniform"
        Bins of equal width, or with about equally many images each (equal probabilities stay together).

    Returns
    -------
    float
        Lower is better.

    References
    ----------
    Naeini et al. (2015), Obtaining well calibrated probabilities using Bayesian binning, AAAI,
    doi:10.1609/aaai.v29i1.9602. Guo et al. (2017), On calibration of modern neural networks, ICML,
    doi:10.48550/arXiv.1706.04599, bin the probability of the decided label instead of the positive one.

    Examples
    --------
    >>> round(expected_calibration_error([0.9, 0.8], [True, False], n_bins=1), 3)
    0.35
    """
    caller = "expected_calibration_error"
    check_number("n_bins", n_bins, caller=caller, low=1, integer=True)
    check_choice("strategy", strategy, ("uniform", "quantile"), caller=caller)
    proba, positive = _checked(proba, positive, caller)
    edges = np.arange(1, n_bins) / n_bins
    if strategy == "quantile":
        edges = np.quantile(proba, edges)
    gaps = np.bincount(np.searchsorted(edges, proba), weights=proba - positive)  # times the images of the bin
    return float(np.abs(gaps).sum() / len(proba))


def brier(proba: Any, positive: Any) -> float:
    """Return the Brier score, in [0, 1]: the mean squared difference between probability and truth (1 or 0).

    Parameters
    ----------
    proba, positive : array-like (N,), in [0, 1], and bool
        As for `sensitivity_at_specificity`.

    Returns
    -------
    float
        Lower is better; 0.25 is what a constant 0.5 gets.

    References
    ----------
    Brier (1950), Verification of forecasts expressed in terms of probability, Mon. Weather Rev. 78(1),
    doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2. Half of his sum over both labels.
    """
    proba, positive = _checked(proba, positive, "brier")
    return float(np.mean((proba - positive) ** 2))


def _checked(proba: Any, positive: Any, caller: str) -> tuple[np.ndarray, np.ndarray]:
    """Return both as arrays (N,), float64 and bool."""
    proba, positive = np.asarray(proba, dtype=np.float64), np.asarray(positive)
    if positive.dtype != bool:
        raise wrong_type("positive", caller, "an array of bool", positive)
    if proba.ndim != 1 or not len(proba) or not ((proba >= 0) & (proba <= 1)).all():
        raise invalid("proba", caller, "a 1-D array of one or more numbers in [0, 1]", proba)
    if positive.shape != proba.shape:
        raise invalid("positive", caller, f"of the shape {proba.shape} of proba", positive.shape)
    return proba, positive


@dataclass(frozen=True)
class ClinicalMetric:
    """A row of `CLINICAL`.

    Attributes
    ----------
    function : callable
        `function(proba, positive, **options) -> float` for the probabilities of the positive label (N,) and the bool
        array (N,) of the images that have it; NaN where undefined.
    greater_is_better : bool
        Where it is not, the score is the negative value.
    range : (low, high)
        Of the raw value.
    summary, reference : str
    """

    function: Callable[..., float]
    greater_is_better: bool
    range: tuple[float, float]
    summary: str
    reference: str

    @property
    def options(self) -> dict[str, Any]:
        """Names and defaults of the options."""
        return keyword_options(self.function)

    def score(self, proba: Any, positive: Any, **options: Any) -> float:
        """Return the value with the sign that makes greater better."""
        value = self.function(proba, positive, **options)
        return value if self.greater_is_better else -value


CLINICAL: Mapping[str, ClinicalMetric] = {
    "sensitivity_at_specificity": ClinicalMetric(
        sensitivity_at_specificity, True, (0.0, 1.0), "the largest sensitivity at a specificity", "Fawcett 2006"
    ),
    "specificity_at_sensitivity": ClinicalMetric(
        specificity_at_sensitivity, True, (0.0, 1.0), "the largest specificity at a sensitivity", "Fawcett 2006"
    ),
    "neg_expected_calibration_error": ClinicalMetric(
        expected_calibration_error, False, (0.0, 1.0), "distance of probability and frequency", "Naeini et al. 2015"
    ),
    "neg_brier": ClinicalMetric(
        brier, False, (0.0, 1.0), "mean squared difference of probability and truth", "Brier 1950"
    ),
}


def clinical_scorer(name: str, *, pos_label: Any = None, **options: Any) -> ClinicalScorer:
    """Return a scorer for the `scoring` parameter of `cross_val_score`, `GridSearchCV` and the like.

    It works with every fitted scikit-learn classifier of two classes that has `predict_proba`. Each scorer of a dict
    predicts once.

    Parameters
    ----------
    name : {"sensitivity_at_specificity", "specificity_at_sensitivity", "neg_expected_calibration_error", "neg_brier"}
    pos_label : label, optional
        The positive label. Default: `pos_label_` of the classifier; where it has none, `classes_[1]`. A pipeline, a
        search or a calibrated classifier has none even if there is a `CXRClassifier` within: if that one's positive
        label is `classes_[0]`, give it here.
    **options
        `specificity=0.9`, `sensitivity=0.9`, or `n_bins=10` and `strategy="uniform"`: see the function of the same
        name (without "neg_") in this module.

    Returns
    -------
    ClinicalScorer
        `scorer(classifier, X, y) -> float`, greater is better: calibration error and Brier score come out negative.

    Raises
    ------
    InvalidParameterError, InvalidTypeError
        Unknown name or option, or a value that is not allowed.

    Examples
    --------
    >>> from cxr_estimator import clinical_scorer
    >>> clinical_scorer("sensitivity_at_specificity", specificity=0.95)
    clinical_scorer('sensitivity_at_specificity', specificity=0.95)
    """
    metric = CLINICAL[check_choice("name", name, CLINICAL, caller="clinical_scorer")]
    for option in options:
        if not metric.options:
            raise invalid(f"options of {name}", "clinical_scorer", "empty", option)
        check_choice(f"options of {name}", option, metric.options, caller="clinical_scorer")
    if not isinstance(plain(pos_label), str | int | float | None):
        raise wrong_type("pos_label", "clinical_scorer", "a label: text, a number or a boolean", pos_label)
    chosen = {option: plain(value) for option, value in {**metric.options, **options}.items()}
    metric.function([0.0, 1.0], [False, True], **chosen)  # raises for a bad option here, not in the first fold
    return ClinicalScorer(name, plain(pos_label), tuple(chosen.items()))


@dataclass(frozen=True)
class ClinicalScorer:
    """A scorer for scikit-learn, made by `clinical_scorer`.

    Attributes
    ----------
    name : str
        Row of `CLINICAL`.
    pos_label : label or None
    options : tuple of (name, value)
        All of them, also those left at their defaults.
    """

    name: str
    pos_label: Any
    options: tuple[tuple[str, Any], ...]

    def __call__(self, estimator: Any, X: Any, y: Any) -> float:
        """Return the score of a fitted classifier on images X with true labels y (N,); greater is better.

        An image without a probability (unreadable, with `on_error="skip"`) is left out, and a `ScoreWarning` says how
        many were. Where a label is missing in y and the score therefore undefined, it is NaN, and a `ScoreWarning`
        names the label; scikit-learn's searches rank NaN last.

        Raises
        ------
        InvalidParameterError, InvalidTypeError
            Not a classifier of two classes with `predict_proba`, or it does not know `pos_label`.
        DataError
            y does not fit X or the classifier, or no image could be read.
        """
        check_is_fitted(estimator)
        if not (hasattr(estimator, "predict_proba") and hasattr(estimator, "classes_")):
            raise wrong_type("estimator", self.name, "a classifier with predict_proba", estimator)
        labels = np.asarray(estimator.classes_).tolist()
        if len(labels) != 2:
            raise invalid("estimator", self.name, "a classifier of two classes", labels)
        pos_label = self._positive_label(estimator, labels)
        proba = np.asarray(estimator.predict_proba(X), dtype=np.float64)[:, labels.index(pos_label)]
        positive = check_labels(y, len(proba), caller=self.name, classes=np.asarray(estimator.classes_)) == pos_label
        rows = readable(proba, self.name)
        score = CLINICAL[self.name].score(proba[rows], positive[rows], **dict(self.options))
        if np.isnan(score):
            missing = labels[1 - labels.index(pos_label)] if positive[rows].any() else pos_label
            text = f"{self.name}: undefined (NaN), because none of the {rows.sum()} images is {missing!r}."
            warnings.warn(ScoreWarning(text), stacklevel=2)
        return score

    def __repr__(self) -> str:
        label = () if self.pos_label is None else (("pos_label", self.pos_label),)
        given = "".join(f", {name}={value!r}" for name, value in (*label, *self.options))
        return f"clinical_scorer({self.name!r}{given})"

    def __sklearn_clone__(self) -> ClinicalScorer:
        return self  # nothing in it can change

    def get_metadata_routing(self) -> MetadataRequest:
        """Return what scikit-learn should pass on besides X and y: nothing."""
        return MetadataRequest(owner=type(self).__name__)

    def _accept_sample_weight(self) -> bool:
        """Say no: without metadata routing, scikit-learn asks this of scorers that stand in a dict."""
        return False

    def _positive_label(self, estimator: Any, labels: list[Any]) -> Any:
        given = getattr(estimator, "pos_label_", None) if self.pos_label is None else self.pos_label
        return labels[1] if given is None else check_choice("pos_label", given, labels, caller=self.name)


def readable(proba: np.ndarray, caller: str) -> np.ndarray:
    """Return which images (N,) have a probability, with `on_error="skip"`; a `ScoreWarning` counts the others."""
    rows = ~np.isnan(proba)
    if not rows.any():
        raise DataError(f"{caller}: none of the {len(proba)} images could be read.")
    if not rows.all():
        text = f"{caller}: {(~rows).sum()} of {len(proba)} images could not be read and are left out."
        warnings.warn(ScoreWarning(text), stacklevel=3)
    return rows
