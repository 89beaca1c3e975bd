"""`evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cxr_estimator._deciding import Deciding
from cxr_estimator._operating import Judged, judged, known_images
from cxr_estimator._outputs import Task
from cxr_estimator._validation import check_number, check_seed, wrong_type
from cxr_estimator.calibration import label_log_odds
from cxr_estimator.classifier import CXRClassifier
from cxr_estimator.errors import DataError
from cxr_estimator.evaluation._figures import KINDS, Decided, Scored, estimates
from cxr_estimator.evaluation._intervals import Patients
from cxr_estimator.evaluation._points import all_decisions
from cxr_estimator.evaluation._report import EvaluationReport, notes_on
from cxr_estimator.evaluation._report import Judged as Shown
from cxr_estimator.evaluation._subgroups import check_subgroups, subgroup_table
from cxr_estimator.statistics import Estimate


def evaluate(
    clf: CXRClassifier,
    X: Any,
    y: Any,
    groups: Any = None,
    *,
    subgroups: Any = None,
    n_resamples: int = 1000,
    random_state: int = 0,
) -> EvaluationReport:
    """Evaluate a fitted classifier on images that neither trained it nor chose its thresholds.

    Parameters
    ----------
    clf : CXRClassifier
    X, y : images and labels
    groups : sequence of N patients, optional
        For the intervals. Without it each image counts as a patient of its own, which makes them too narrow.
    subgroups : dict or DataFrame of name to N values, optional
        Attributes such as sex, age group or site, with at most 50 values each. Missing values are a group of their
        own. Figures of fewer than five patients are NaN, and counted.
    n_resamples : int, default=1000
        Bootstrap resamples.
    random_state : int, default=0

    Returns
    -------
    EvaluationReport
        With 95% intervals over patients. Each operating point of `clf` is evaluated; what it promised where it was
        chosen is compared with what it does here, and a gap that chance does not explain is noted.

    Raises
    ------
    DataError
        Lengths differ, y holds labels the model does not know, or no image could be read.

    Examples
    --------
    >>> from cxr_estimator import CXRClassifier, evaluate, make_phantoms
    >>> data = make_phantoms(40, size=32, random_state=0)
    >>> clf = CXRClassifier("plain_cnn", image_size=32, max_epochs=1, pos_label="PNEUMONIA", random_state=0)
    >>> clf = clf.fit(data.X[:20], data.y[:20], groups=data.groups[:20])
    >>> report = evaluate(clf, data.X[20:], data.y[20:], data.groups[20:], n_resamples=50)
    >>> report.n_images, report.confusion.shape
    (20, (2, 2))
    """
    caller = "evaluate"
    if not isinstance(clf, Deciding):
        raise wrong_type("clf", caller, "a CXRClassifier or a CXREnsemble", clf)
    check_number("n_resamples", n_resamples, caller=caller, low=1, integer=True)
    random_state = check_seed(random_state, caller=caller)
    attributes = check_subgroups(subgroups, len(clf._images(X)), caller=caller)
    data = judged(clf, X, y, groups, caller=caller)
    known = known_images(clf, data.content_ids.tolist(), caller=caller)
    return of_judged(
        clf,
        data,
        attributes,
        known,
        patients_known=groups is not None,
        n_resamples=n_resamples,
        random_state=random_state,
    )


def of_judged(
    clf: CXRClassifier,
    data: Judged,
    attributes: dict[str, np.ndarray],
    known: Sequence[str],
    *,
    patients_known: bool,
    n_resamples: int,
    random_state: int,
    caller: str = "evaluate",
) -> EvaluationReport:
    """Return the report on what the network said of images; for `known` see `known_images`, for the rest `evaluate`."""
    if data.labels.ndim == 2 and np.isnan(data.labels).all():
        raise DataError(f"{caller}: y knows no label of any image.")
    _, patient = np.unique(data.groups, return_inverse=True)  # numbers: no name of a patient gets any further
    report = report_of(
        clf,
        data.logits,
        data.labels if clf.task_ is Task.MULTILABEL else np.searchsorted(clf.classes_, data.labels),
        Patients(patient, n_resamples, random_state),
        {name: values[data.readable] for name, values in attributes.items()},
    )
    report = replace(report, n_unreadable=int((~data.readable).sum()))
    return replace(report, notes=(*known, *notes_on(report, patients_known=patients_known)))


def report_of(
    clf: CXRClassifier,
    logits: np.ndarray,
    target: np.ndarray,
    patients: Patients,
    attributes: dict[str, np.ndarray],
) -> EvaluationReport:
    """Return the report on images with these raw logits (N, K) and true classes, or labels (N, K)."""
    proba = clf._proba(logits)
    labels = clf.classes_.tolist()
    if clf.task_ is Task.MULTILABEL:
        scored = Scored(label_log_odds(logits, clf.task_), proba, target, patients)
        decided = Decided(clf._decide(logits), target, 2, patients)
        with np.errstate(invalid="ignore"):  # NaN for a label that is known of no image
            shares = np.nansum(target, axis=0) / (~np.isnan(target)).sum(axis=0)
    else:
        scored, decided = _positive_last(clf, logits, proba, target, patients)
        shares = np.bincount(target, minlength=len(labels)) / len(target)
    kind = KINDS[clf.task_]
    overall = estimates(scored, kind)
    if clf.task_ is Task.MULTILABEL:
        overall |= estimates(decided, kind)
    each = {} if clf.task_ is Task.BINARY else {label: _of_class(k, scored, decided) for k, label in enumerate(labels)}
    return EvaluationReport(
        task=clf.task_,
        classes=tuple(labels),
        n_images=len(target),
        n_patients=patients.number(),
        n_unreadable=0,
        prevalence=dict(zip(labels, shares.tolist(), strict=True)),
        pos_label=clf.pos_label_,
        threshold=clf.threshold_,
        overall=overall,
        decisions=all_decisions(clf, logits, target, patients),
        per_class=each,
        subgroups=subgroup_table(attributes, scored, decided, kind),
        notes=(),
        judged=Shown(label_log_odds(logits, clf.task_), proba, _uncalibrated(clf, logits), target, patients.groups),
    )


def _positive_last(
    clf: CXRClassifier, logits: np.ndarray, proba: np.ndarray, target: np.ndarray, patients: Patients
) -> tuple[Scored, Decided]:
    """Return scores and decisions; of two classes with the positive one as 1, whatever the alphabet says."""
    decided, n_classes = clf._decide(logits), len(clf.classes_)
    if n_classes > 2:
        scores = label_log_odds(logits, clf.task_)
        return Scored(scores, proba, target, patients), Decided(decided, target, n_classes, patients)
    if clf.pos_label_ == clf.classes_[0]:
        decided, target, proba = 1 - decided, 1 - target, proba[:, ::-1]
    return Scored(clf._scores(logits), proba, target, patients), Decided(decided, target, 2, patients)


def _of_class(k: int, scored: Scored, decided: Decided) -> dict[str, Estimate]:
    """Return the figures of one of several classes against the rest, or of one of several labels where it is known."""
    if scored.target.ndim == 2:
        rows = np.flatnonzero(~np.isnan(scored.target[:, k]))
        positive, said = scored.target[rows, k] == 1, decided.decided[rows, k] == 1
    else:
        rows = np.arange(len(scored.target))
        positive, said = scored.target == k, decided.decided == k
    scores, proba, patients = scored.scores[rows, k], scored.proba[rows, k], scored.patients.at(rows)
    return {
        **estimates(Scored.of_label(scores, proba, positive, patients), "class"),
        **estimates(Decided.of_label(said, positive, patients), "class"),
    }


def _uncalibrated(clf: CXRClassifier, logits: np.ndarray) -> np.ndarray | None:
    return None if clf.calibration_ is None else clf._proba(logits, calibrated=False)
