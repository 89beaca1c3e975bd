"""Decisions at operating points, and whether a point still does what it promised where it was chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cxr_estimator._operating import stated_threshold
from cxr_estimator._outputs import Task
from cxr_estimator.classifier import CXRClassifier
from cxr_estimator.evaluation._figures import Decided, estimates
from cxr_estimator.evaluation._intervals import Patients, confusion_matrix
from cxr_estimator.statistics import Estimate, difference
from cxr_estimator.thresholds import LIKELIEST, OperatingPoint


@dataclass(frozen=True)
class Transfer:
    """What an operating point promised on the images that chose it, beside what it does on others.

    Attributes
    ----------
    figure : {"sensitivity", "specificity"}
    promised, observed, gap : Estimate
        The gap is observed - promised, with the interval of two independent sets of patients.
    """

    figure: str
    promised: Estimate
    observed: Estimate
    gap: Estimate

    @property
    def verdict(self) -> str:
        """Return "lower", "higher" (the interval of the gap leaves 0 out), "as promised" or "undefined"."""
        if np.isnan([self.gap.low, self.gap.high]).any():
            return "undefined"
        if self.gap.high < 0.0:
            return "lower"
        return "higher" if self.gap.low > 0.0 else "as promised"

    @property
    def flagged(self) -> bool:
        """Whether the gap is more than chance explains."""
        return self.verdict in ("lower", "higher")


@dataclass(frozen=True, eq=False)
class Decisions:
    """What one operating point decides; of several classes also what is decided without one.

    Attributes
    ----------
    rule : str
        How the point was chosen.
    label : label or None
        What it decides on; None where the likeliest of several classes is decided.
    threshold : float or None
        Probability from which it decides so.
    estimates : dict of str to Estimate
    confusion : ndarray (K, K), int
        Rows true, columns decided, both in the order of `classes`.
    classes : tuple
        All classes; for a label among several, or of several, "not LABEL" and the label.
    transfer : tuple of Transfer
        Empty for a point that promised nothing.
    """

    rule: str
    label: Any
    threshold: float | None
    estimates: dict[str, Estimate]
    confusion: np.ndarray
    classes: tuple[Any, ...]
    transfer: tuple[Transfer, ...] = ()


def all_decisions(
    clf: CXRClassifier, logits: np.ndarray, target: np.ndarray, patients: Patients
) -> dict[str, Decisions]:
    """Return the decisions of each operating point by its name, the active ones first.

    Of several labels per image `target` (N, K) is 1, 0 or NaN, and a point is judged where its label is known.
    """
    found = {}
    if clf.task_ is Task.MULTICLASS:
        found[LIKELIEST] = _likeliest(clf, logits, target, patients)
    names = sorted(clf.operating_points_, key=lambda name: name not in clf.active_points_)
    return found | {name: _at_point(clf, clf.operating_points_[name], logits, target, patients) for name in names}


def _likeliest(clf: CXRClassifier, logits: np.ndarray, target: np.ndarray, patients: Patients) -> Decisions:
    decided, n_classes = clf._decide(logits), len(clf.classes_)
    return Decisions(
        rule="the class with the highest probability",
        label=None,
        threshold=None,
        estimates=estimates(Decided(decided, target, n_classes, patients), "several"),
        confusion=confusion_matrix(target, decided, n_classes),
        classes=tuple(clf.classes_.tolist()),
    )


def _at_point(
    clf: CXRClassifier, point: OperatingPoint, logits: np.ndarray, target: np.ndarray, patients: Patients
) -> Decisions:
    labels = clf.classes_.tolist()
    label = clf.pos_label_ if point.label is None else point.label
    positive = target == labels.index(label)
    if clf.task_ is Task.MULTILABEL:
        rows = np.flatnonzero(~np.isnan(target[:, labels.index(label)]))
        logits, positive, patients = logits[rows], target[rows, labels.index(label)] == 1, patients.at(rows)
    decided = point.is_positive(clf._scores(logits, label))
    found = estimates(Decided.of_label(decided, positive, patients), "binary")
    confusion = confusion_matrix(positive.astype(int), decided.astype(int), 2)
    classes = tuple(labels) if clf.task_ is Task.BINARY else (f"not {label}", label)
    promised = {"sensitivity": point.sensitivity, "specificity": point.specificity}
    return Decisions(
        rule=point.rule_text,
        label=label,
        threshold=stated_threshold(clf, point),
        estimates=found,
        confusion=confusion[::-1, ::-1] if classes[0] == label else confusion,
        classes=classes,
        transfer=tuple(
            Transfer(figure, promise, found[figure], difference(found[figure], promise))
            for figure, promise in promised.items()
            if promise is not None
        ),
    )
