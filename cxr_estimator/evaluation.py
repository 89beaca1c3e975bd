"""`evaluate`: how good a fitted classifier is on images it has not seen, with intervals over patients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from cxr_estimator._outputs import Task
from cxr_estimator._validation import check_labels, check_number, check_per_image, wrong_type
from cxr_estimator.classifier import CXRClassifier
from cxr_estimator.errors import DataError
from cxr_estimator.statistics import Estimate, auroc, macro_auroc, patient_bootstrap


@dataclass(frozen=True)
class EvaluationReport:
    """Figures for one data set at the active operating point.

    Attributes
    ----------
    classes : tuple
        Order of the rows (true) and columns (decided) of `confusion`.
    n_images, n_patients, n_unreadable : int
        Unreadable images are counted but not evaluated. Without `groups` each image counts as one patient.
    prevalence : dict of label to float
        Share of each class among the evaluated images.
    pos_label, threshold : label and float, or None
        None for several classes.
    metrics : dict of str to Estimate
        Value with 95% patient-bootstrap interval. Two classes: auroc, sensitivity, specificity, accuracy. Several:
        macro_auroc, accuracy and the recall of each class. Higher is better.
    confusion : ndarray (K, K), int
    """

    classes: tuple[Any, ...]
    n_images: int
    n_patients: int
    n_unreadable: int
    prevalence: dict[Any, float]
    pos_label: Any
    threshold: float | None
    metrics: dict[str, Estimate]
    confusion: np.ndarray

    def to_frame(self) -> pd.DataFrame:
        """Return metric, value, low, high as a table."""
        return pd.DataFrame([{"metric": name, **estimate._asdict()} for name, estimate in self.metrics.items()])

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON types (NaN as None)."""
        return {
            "classes": list(self.classes),
            "n_images": self.n_images,
            "n_patients": self.n_patients,
            "n_unreadable": self.n_unreadable,
            "prevalence": {str(label): share for label, share in self.prevalence.items()},
            "pos_label": self.pos_label,
            "threshold": self.threshold,
            "metrics": {
                name: {key: None if number != number else number for key, number in estimate._asdict().items()}
                for name, estimate in self.metrics.items()
            },
            "confusion": self.confusion.tolist(),
        }

    def __str__(self) -> str:
        shares = ", ".join(f"{label} {share:.1%}" for label, share in self.prevalence.items())
        head = [
            f"{self.n_images} images of {self.n_patients} patients; {self.n_unreadable} unreadable",
            f"classes in order: {shares}",
        ]
        if self.pos_label is not None and self.threshold is not None:
            head.append(f"positive label: {self.pos_label}, from a probability of {self.threshold:.3f} on")
        rows = [f"  {name:<14} {estimate}" for name, estimate in self.metrics.items()]
        table = pd.DataFrame(self.confusion, index=pd.Index(self.classes, name="true \\ decided"), columns=self.classes)
        return "\n".join([*head, "95% intervals by patient bootstrap:", *rows, table.to_string()])


def evaluate(
    clf: CXRClassifier, X: Any, y: Any, groups: Any = None, *, n_resamples: int = 1000, random_state: int = 0
) -> EvaluationReport:
    """Evaluate a fitted classifier on images that neither trained it nor chose its threshold.

    Parameters
    ----------
    clf : CXRClassifier
    X, y : images and labels
    groups : sequence of N patients, optional
        For the intervals. Without it each image counts as a patient of its own, which makes them too narrow.
    n_resamples : int, default=1000
        Bootstrap resamples.
    random_state : int, default=0

    Raises
    ------
    DataError
        Lengths differ, y holds labels the model does not know, or no image could be read.
    """
    if not isinstance(clf, CXRClassifier):
        raise wrong_type("clf", "evaluate", "a CXRClassifier", clf)
    check_number("n_resamples", n_resamples, caller="evaluate", low=1, integer=True)
    check_is_fitted(clf, "model_")
    if clf.task_ is Task.MULTILABEL:
        raise DataError("evaluate does not know several labels per image yet; the scorers of scikit-learn do.")
    logits = clf._logits(X)
    labels = check_labels(y, len(logits), caller="evaluate", classes=clf.classes_)
    patients = (
        np.arange(len(logits)) if groups is None else check_per_image("groups", groups, len(logits), caller="evaluate")
    )
    readable = ~np.isnan(logits).any(axis=1)
    if not readable.any():
        raise DataError(f"evaluate: none of the {len(logits)} images could be read.")
    patients, logits = patients[readable], logits[readable]
    target = np.searchsorted(clf.classes_, labels[readable])
    decided = clf._decide(logits)
    statistics = (
        _binary(clf, logits, target, decided) if len(clf.classes_) == 2 else _several(clf, logits, target, decided)
    )
    n_classes = len(clf.classes_)
    return EvaluationReport(
        classes=tuple(clf.classes_.tolist()),
        n_images=len(target),
        n_patients=len(np.unique(patients)),
        n_unreadable=int((~readable).sum()),
        prevalence={label: float((target == k).mean()) for k, label in enumerate(clf.classes_.tolist())},
        pos_label=clf.pos_label_,
        threshold=clf.threshold_,
        metrics={
            name: patient_bootstrap(statistic, patients, n_resamples=n_resamples, random_state=random_state)
            for name, statistic in statistics.items()
        },
        confusion=np.bincount(target * n_classes + decided, minlength=n_classes**2).reshape(n_classes, n_classes),
    )


Statistic = Callable[[np.ndarray], float]


def _binary(clf: CXRClassifier, logits: np.ndarray, target: np.ndarray, decided: np.ndarray) -> dict[str, Statistic]:
    positive_index = clf.classes_.tolist().index(clf.pos_label_)
    positive, scores = target == positive_index, clf._scores(logits)
    return {
        "auroc": lambda rows: auroc(scores[rows], positive[rows]),
        "sensitivity": _share_right(target, decided, positive),
        "specificity": _share_right(target, decided, ~positive),
        "accuracy": _share_right(target, decided, np.ones_like(positive)),
    }


def _several(clf: CXRClassifier, logits: np.ndarray, target: np.ndarray, decided: np.ndarray) -> dict[str, Statistic]:
    proba = clf._proba(logits)
    recalls = {
        f"recall_{label}": _share_right(target, decided, target == k) for k, label in enumerate(clf.classes_.tolist())
    }
    return {
        "macro_auroc": lambda rows: macro_auroc(proba[rows], target[rows]),
        "accuracy": _share_right(target, decided, np.ones(len(target), dtype=bool)),
        **recalls,
    }


def _share_right(target: np.ndarray, decided: np.ndarray, among: np.ndarray) -> Statistic:
    """Share of right decisions among the images where `among` is true; NaN if a resample has none of them."""
    right = target == decided

    def statistic(rows: np.ndarray) -> float:
        chosen = rows[among[rows]]
        return float(right[chosen].mean()) if len(chosen) else float("nan")

    return statistic
