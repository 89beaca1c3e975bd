"""The figures of an evaluation. `FIGURES` is the one list: a new one is a function and a line."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cxr_estimator._outputs import Task
from cxr_estimator.clinical import expected_calibration_error
from cxr_estimator.evaluation._intervals import OfConfusion, Patients, of_confusion, of_label_confusions
from cxr_estimator.roc import Ranking, delong, few_misplaced, placements
from cxr_estimator.statistics import Estimate, percentile_interval, wilson

# what `FigureOfMerit.tasks` calls the tasks
KINDS = {Task.BINARY: "binary", Task.MULTICLASS: "several", Task.MULTILABEL: "labels"}
N_BINS = 10  # of the calibration error, with equally many images each
_LEAST = 1e-15  # probability in a logarithm


@dataclass(frozen=True)
class Scored:
    """What a classifier says of images, before any decision.

    Attributes
    ----------
    scores : ndarray (N,) or (N, K)
        Whatever ranks the images: of two classes the positive one's log-odds, of several all probabilities.
    proba : ndarray (N, K)
        Probabilities; of two classes the second is the positive one.
    target : ndarray (N,), int, or (N, K)
        True classes as columns of `proba`; of several labels 1, 0 or NaN (unknown).
    patients : Patients
    """

    scores: np.ndarray
    proba: np.ndarray
    target: np.ndarray
    patients: Patients

    @classmethod
    def of_label(cls, scores: np.ndarray, proba: np.ndarray, positive: np.ndarray, patients: Patients) -> Scored:
        """Return what is said of one label: its scores and probabilities (N,), and which images have it."""
        return cls(scores, np.stack([1.0 - proba, proba], axis=1), positive.astype(np.int64), patients)

    def at(self, rows: np.ndarray) -> Scored:
        """Return some of the images, by index or bool."""
        return Scored(self.scores[rows], self.proba[rows], self.target[rows], self.patients.at(rows))


@dataclass(frozen=True)
class Decided:
    """What a classifier decides on images.

    Attributes
    ----------
    decided, target : ndarray (N,), int, or (N, K)
        Decided and true class; of two classes 1 is the positive one. Of several labels 1 or 0; NaN: unknown.
    n_classes : int
        2 for labels.
    patients : Patients
    """

    decided: np.ndarray
    target: np.ndarray
    n_classes: int
    patients: Patients

    @classmethod
    def of_label(cls, decided: np.ndarray, positive: np.ndarray, patients: Patients) -> Decided:
        """Return the decisions on one label: which images (N,) were decided to have it, and which have it."""
        return cls(decided.astype(np.int64), positive.astype(np.int64), 2, patients)

    def at(self, rows: np.ndarray) -> Decided:
        """Return some of the images, by index or bool."""
        return Decided(self.decided[rows], self.target[rows], self.n_classes, self.patients.at(rows))


@dataclass(frozen=True)
class FigureOfMerit:
    """A row of `FIGURES`.

    Attributes
    ----------
    estimate : callable
        `estimate(case) -> Estimate`, of a `Scored` or a `Decided`; NaN where undefined.
    of : {"scores", "decisions"}
        What it needs.
    tasks : tuple of {"binary", "several", "labels", "class"}
        Two classes, more, several labels per image, or each of several classes or labels against the rest.
    greater_is_better : bool or None
        None: the nearer to 0 the better.
    interval, undefined, summary, reference : str
        How the interval is made, when there is no value, what it is and where it is from.
    """

    estimate: Callable[[Any], Estimate]
    of: str
    tasks: tuple[str, ...]
    greater_is_better: bool | None
    interval: str
    undefined: str
    summary: str
    reference: str


def estimates(case: Scored | Decided, task: str) -> dict[str, Estimate]:
    """Return all figures of `task` (see `FigureOfMerit.tasks`) that need what `case` holds."""
    of = "scores" if isinstance(case, Scored) else "decisions"
    rows = {name: one for name, one in FIGURES.items() if one.of == of and task in one.tasks}
    if not len(case.target):  # a label that is known of no image
        return dict.fromkeys(rows, Estimate(math.nan, math.nan, math.nan))
    return {name: one.estimate(case) for name, one in rows.items()}


# -- scores -----------------------------------------------------------------------------------------------------------


def _auroc(case: Scored) -> Estimate:
    return delong(case.scores, case.target == 1, case.patients.groups)


def _macro_auroc(case: Scored) -> Estimate:
    """Bootstrap; the mean of the ends of each class's interval where one class is too well separated for that.

    Labels that lack one of their values are left out; of several classes none may.
    """
    labels = list(_each_label(case))
    each = [delong(scores, positive, case.patients.groups[rows]) for rows, scores, positive in labels]
    if case.target.ndim == 2:
        defined = [number for number, one in enumerate(each) if not math.isnan(one.value)]
        labels, each = [labels[number] for number in defined], [each[number] for number in defined]
    if not each or any(math.isnan(one.value) for one in each):
        return Estimate(math.nan, math.nan, math.nan)
    value = float(np.mean([one.value for one in each]))
    if any(_few_misplaced(scores, positive, case.patients.at(rows)) for rows, scores, positive in labels):
        return Estimate(value, *(float(np.mean([getattr(one, end) for one in each])) for end in ("low", "high")))
    rankings = [(rows, Ranking(scores, positive)) for rows, scores, positive in labels]
    low_high = case.patients.bootstrap(
        lambda weights: float(np.mean([ranking.auroc(weights[rows]) for rows, ranking in rankings]))
    )
    return Estimate(value, *low_high)


def _each_label(case: Scored) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield, of each class or label, the images where it is known, their scores, and which of them have it."""
    for k in range(case.scores.shape[1]):
        truth = case.target[:, k] if case.target.ndim == 2 else (case.target == k).astype(np.float64)
        rows = np.flatnonzero(~np.isnan(truth))
        yield rows, case.scores[rows, k], truth[rows] == 1


def _auprc(case: Scored) -> Estimate:
    positive = case.target == 1
    ranking = Ranking(case.scores, positive)
    value = ranking.average_precision()
    if positive.all() or not positive.any():
        return Estimate(math.nan, math.nan, math.nan)
    if _few_misplaced(case.scores, positive, case.patients):
        return Estimate(value, *wilson(value, case.patients.number(positive)))
    return Estimate(value, *case.patients.bootstrap(ranking.average_precision))


def _few_misplaced(scores: np.ndarray, positive: np.ndarray, patients: Patients) -> bool:
    return few_misplaced(placements(scores, positive), positive, patients.groups)


def _brier(case: Scored) -> Estimate:
    n_classes = case.proba.shape[1]
    squared = ((case.proba - np.eye(n_classes)[case.target]) ** 2).sum(axis=1)
    return case.patients.mean(squared / 2.0 if n_classes == 2 else squared)


def _log_loss(case: Scored) -> Estimate:
    said = case.proba[np.arange(len(case.target)), case.target]
    return case.patients.mean(-np.log(np.maximum(said, _LEAST)))


def _calibration_gap(case: Scored) -> Estimate:
    return case.patients.mean(case.proba[:, 1] - case.target)


def _calibration_error(case: Scored) -> Estimate:
    """Return that of the positive label, or of several classes of the likeliest one; without an interval.

    Noise alone makes this figure larger, so that no bootstrap covers the truth: tried on simulated images, 95%
    intervals held it in 90% of the cases, and of calibrated probabilities in half.
    """
    proba, right = _judged_probability(case)
    return Estimate(_error_of(proba, right), math.nan, math.nan)


def _calibration_error_by_chance(case: Scored) -> Estimate:
    """Return the mean and the central 95% of the errors of perfect calibration: truth drawn by the probabilities.

    The images of a patient share one draw, as they mostly share their label.
    """
    proba, _ = _judged_probability(case)
    rng = np.random.default_rng(case.patients.random_state)
    names, patient = np.unique(case.patients.groups, return_inverse=True)
    draws = (rng.random(len(names))[patient] for _ in range(case.patients.n_resamples))
    errors = [_error_of(proba, draw < proba) for draw in draws]
    return Estimate(float(np.mean(errors)), *percentile_interval(errors))


def _judged_probability(case: Scored) -> tuple[np.ndarray, np.ndarray]:
    """Return the probability (N,) of the positive label, or of the likeliest class, and whether it is the true one."""
    if case.proba.shape[1] == 2:
        return case.proba[:, 1], case.target == 1
    return case.proba.max(axis=1), case.proba.argmax(axis=1) == case.target


def _error_of(proba: np.ndarray, right: np.ndarray) -> float:
    return expected_calibration_error(proba, right, n_bins=N_BINS, strategy="quantile")


# -- decisions --------------------------------------------------------------------------------------------------------


def _accuracy(case: Decided) -> Estimate:
    return case.patients.share(case.decided == case.target, np.ones(len(case.target), dtype=bool))


def _sensitivity(case: Decided) -> Estimate:
    return case.patients.share(case.decided == 1, case.target == 1)


def _specificity(case: Decided) -> Estimate:
    return case.patients.share(case.decided == 0, case.target == 0)


def _precision(case: Decided) -> Estimate:
    return case.patients.share(case.target == 1, case.decided == 1)


def _npv(case: Decided) -> Estimate:
    return case.patients.share(case.target == 0, case.decided == 0)


def _from_confusion(function: OfConfusion) -> Callable[[Decided], Estimate]:
    """Return the estimate of a function that maps confusion matrices (..., K, K), rows true, to numbers (...)."""
    return lambda case: of_confusion(function, case.target, case.decided, case.n_classes, case.patients)


def _macro(each: Callable[[np.ndarray], np.ndarray]) -> Callable[[Decided], Estimate]:
    """Return the estimate of the mean over classes, or over labels, of what `each` makes of confusion matrices.

    `each` maps (..., K, K), rows true, to (..., K). Of labels that lack a value the bootstrap's draws leave them out.
    """

    def estimate(case: Decided) -> Estimate:
        if case.target.ndim == 2:
            return of_label_confusions(
                lambda confusion: each(confusion)[..., 1], case.target, case.decided, case.patients
            )
        return _from_confusion(lambda confusion: each(confusion).mean(axis=-1))(case)

    return estimate


def _recalls(confusion: np.ndarray) -> np.ndarray:
    return np.diagonal(confusion, axis1=-2, axis2=-1) / confusion.sum(axis=-1)


def _precisions(confusion: np.ndarray) -> np.ndarray:
    return np.diagonal(confusion, axis1=-2, axis2=-1) / confusion.sum(axis=-2)


def _f1_scores(confusion: np.ndarray) -> np.ndarray:
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    return 2.0 * right / (confusion.sum(axis=-1) + confusion.sum(axis=-2))


def _mcc(confusion: np.ndarray) -> np.ndarray:
    """Matthews' coefficient of any number of classes (Gorodkin 2004)."""
    true, decided = confusion.sum(axis=-1).astype(np.float64), confusion.sum(axis=-2).astype(np.float64)
    n = true.sum(axis=-1)
    covariance = n * np.trace(confusion, axis1=-2, axis2=-1) - (true * decided).sum(axis=-1)
    return covariance / np.sqrt((n**2 - (true**2).sum(axis=-1)) * (n**2 - (decided**2).sum(axis=-1)))


_DELONG = "DeLong, clustered by patient; Newcombe near 0 and 1"
_SHARE = "bootstrap of patients; Wilson near 0 and 1"
_CONFUSION = "bootstrap of patients; from Wilson's intervals of the recalls near 0 and 1"
_BOTH_LABELS = "it needs images with and without the label"
_EVERY_CLASS = "it needs images of every class"

FIGURES: Mapping[str, FigureOfMerit] = {
    "auroc": FigureOfMerit(
        _auroc, "scores", ("binary", "class"), True, _DELONG, _BOTH_LABELS,
        "area under the ROC curve", "doi:10.2307/2531595, doi:10.2307/2533957",
    ),
    "macro_auroc": FigureOfMerit(
        _macro_auroc, "scores", ("several", "labels"), True, "bootstrap of patients; DeLong near 1", _EVERY_CLASS,
        "mean area of each class against the rest, or of each label", "doi:10.1016/j.patrec.2005.10.010",
    ),
    "auprc": FigureOfMerit(
        _auprc, "scores", ("binary", "class"), True, "bootstrap of patients; Wilson near 1", _BOTH_LABELS,
        "average precision: the area under the precision-recall curve; by chance the prevalence",
        "doi:10.1007/978-3-642-40994-3_29",
    ),
    "brier": FigureOfMerit(
        _brier, "scores", ("binary", "several", "class"), False, "bootstrap of patients", "there is no image",
        "mean squared difference of probability and truth; of several classes summed over them",
        "doi:10.1198/016214506000001437",
    ),
    "log_loss": FigureOfMerit(
        _log_loss, "scores", ("binary", "several", "class"), False, "bootstrap of patients", "there is no image",
        "mean negative logarithm of the probability of the true class", "doi:10.1198/016214506000001437",
    ),
    "calibration_gap": FigureOfMerit(
        _calibration_gap, "scores", ("binary", "class"), None, "bootstrap of patients", "there is no image",
        "mean probability less observed prevalence", "doi:10.1186/s12916-019-1466-7",
    ),
    "calibration_error": FigureOfMerit(
        _calibration_error, "scores", ("binary", "several", "class"), False,
        "none: noise alone makes it larger", "there is no image",
        f"mean distance of probability and frequency over {N_BINS} bins of equally many images",
        "doi:10.1609/aaai.v29i1.9602",
    ),
    "calibration_error_by_chance": FigureOfMerit(
        _calibration_error_by_chance, "scores", ("binary", "several"), None,
        "what 95% of such draws give", "there is no image",
        "the calibration error that perfect calibration would show here: one beyond it is real", "doi:10.1175/WAF993.1",
    ),
    "sensitivity": FigureOfMerit(
        _sensitivity, "decisions", ("binary",), True, _SHARE, "no image has the label",
        "share of the images with the label that are decided so", "doi:10.1080/01621459.1927.10502953",
    ),
    "specificity": FigureOfMerit(
        _specificity, "decisions", ("binary",), True, _SHARE, "every image has the label",
        "share of the images without the label that are decided so", "doi:10.1080/01621459.1927.10502953",
    ),
    "precision": FigureOfMerit(
        _precision, "decisions", ("binary", "class"), True, _SHARE, "no image is decided so",
        "share of the images decided as the label that have it; depends on prevalence",
        "doi:10.1080/01621459.1927.10502953",
    ),
    "npv": FigureOfMerit(
        _npv, "decisions", ("binary",), True, _SHARE, "every image is decided so",
        "share of the images decided otherwise that are; depends on prevalence", "doi:10.1080/01621459.1927.10502953",
    ),
    "recall": FigureOfMerit(
        _sensitivity, "decisions", ("class",), True, _SHARE, "no image is of the class",
        "share of the images of the class that are decided so", "doi:10.1080/01621459.1927.10502953",
    ),
    "accuracy": FigureOfMerit(
        _accuracy, "decisions", ("binary", "several"), True, _SHARE, "",
        "share of right decisions; depends on prevalence", "doi:10.1080/01621459.1927.10502953",
    ),
    "balanced_accuracy": FigureOfMerit(
        _from_confusion(lambda confusion: _recalls(confusion).mean(axis=-1)),
        "decisions", ("binary", "several"), True, _CONFUSION, _EVERY_CLASS,
        "mean recall of the classes", "doi:10.1109/ICPR.2010.764",
    ),
    "f1": FigureOfMerit(
        _from_confusion(lambda confusion: _f1_scores(confusion)[..., 1]),
        "decisions", ("binary", "class"), True, _CONFUSION, "no image has the label or is decided so",
        "harmonic mean of precision and sensitivity", "doi:10.1016/j.ipm.2009.03.002",
    ),
    "mcc": FigureOfMerit(
        _from_confusion(_mcc), "decisions", ("binary", "several"), True, _CONFUSION,
        "it needs images of two classes, and decisions for two",
        "Matthews' correlation of truth and decision, in [-1, 1]", "doi:10.1016/j.compbiolchem.2004.09.006",
    ),
    "macro_precision": FigureOfMerit(
        _macro(_precisions),
        "decisions", ("several", "labels"), True, _CONFUSION, "it needs decisions for every class",
        "mean precision of the classes or labels", "doi:10.1016/j.ipm.2009.03.002",
    ),
    "macro_recall": FigureOfMerit(
        _macro(_recalls),
        "decisions", ("several", "labels"), True, _CONFUSION, _EVERY_CLASS,
        "mean recall: of several classes the balanced accuracy, of labels their mean sensitivity",
        "doi:10.1016/j.ipm.2009.03.002",
    ),
    "macro_f1": FigureOfMerit(
        _macro(_f1_scores),
        "decisions", ("several", "labels"), True, _CONFUSION, "some class neither is there nor is decided",
        "mean F1 of the classes or labels", "doi:10.1016/j.ipm.2009.03.002",
    ),
}  # fmt: skip
