"""From logits to decisions: by the operating point of two classes or of each label, or for the likeliest class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from cxr_estimator._outputs import Task
from cxr_estimator._validation import check_choice, check_label_matrix, check_labels, check_per_image, invalid
from cxr_estimator.attribution import TargetRule
from cxr_estimator.errors import DataError
from cxr_estimator.thresholds import OperatingPoint

if TYPE_CHECKING:
    from cxr_estimator.classifier import CXRClassifier


def named_point(clf: CXRClassifier, name: Any, caller: str) -> OperatingPoint | None:
    """Return an operating point by name; without one the active point of two classes, or None."""
    if name is None:
        return active_point(clf, clf.pos_label_) if clf.task_ is Task.BINARY else None
    return clf.operating_points_[check_choice("operating_point", name, clf.operating_points_, caller=caller)]


def deciding_point(clf: CXRClassifier, name: Any, caller: str) -> OperatingPoint | None:
    """Return the operating point that `predict` is to decide by; only two classes let one choose."""
    if name is not None and clf.task_ is not Task.BINARY:
        raise invalid("operating_point", caller, "left out unless there are two classes; `flag` asks one", name)
    return named_point(clf, name, caller)


def active_point(clf: CXRClassifier, label: Any) -> OperatingPoint:
    """Return the operating point that decides on a label."""
    return next(point for name in clf.active_points_ if (point := clf.operating_points_[name]).label == label)


def target_rule(
    clf: CXRClassifier, index: Tensor | None = None, *, margin: bool = False, point: OperatingPoint | None = None
) -> TargetRule:
    """Return how the explained class follows from logits: the class `index` of each image, or the decided one.

    Two classes are decided by `point`, or else by the active one.
    """
    if clf.task_ is not Task.BINARY:
        return TargetRule(None, index=index, margin=margin, task=clf.task_)
    point = point or active_point(clf, clf.pos_label_)
    return TargetRule(point, int(clf.pos_label_ == clf.classes_[1]), index, margin, clf.task_)


def decided(clf: CXRClassifier, logits: np.ndarray, point: OperatingPoint | None = None) -> np.ndarray:
    """Return the index (N,) of the decided class, or 1 or 0 for each of several labels (N, K)."""
    if clf.task_ is not Task.MULTILABEL:
        return target_rule(clf, point=point).predicted(torch.from_numpy(logits)).numpy()
    points = [active_point(clf, label) for label in clf.classes_.tolist()]
    log_odds = logits.astype(np.float64)
    return np.stack([one.is_positive(log_odds[:, k]) for k, one in enumerate(points)], axis=1).astype(np.int64)


def said(clf: CXRClassifier, logits: np.ndarray, point: OperatingPoint | None = None) -> np.ndarray:
    """Return what `CXRClassifier.predict` says: labels (N,), or 1 and 0 for each of several labels (N, K)."""
    found, unreadable = decided(clf, logits, point), np.isnan(logits).any(axis=1)
    several = clf.task_ is Task.MULTILABEL
    found = found if several else clf.classes_[found]
    if unreadable.any():
        found = found.astype(np.float64 if several else object)
        found[unreadable] = np.nan if several else None
    return found


def score(clf: CXRClassifier, X: Any, y: Any, sample_weight: Any) -> float:
    """Return the accuracy; an unreadable image, which is no class, counts as wrong."""
    from sklearn.metrics import accuracy_score  # not at the top: it takes a third of the time to import this package

    found = clf._logits(X)
    if clf.task_ is Task.MULTILABEL:
        return _subset_accuracy(said(clf, found), y, sample_weight)
    labels, unreadable = clf.classes_[decided(clf, found)], np.isnan(found).any(axis=1)
    if unreadable.any():
        truth = check_labels(y, len(labels), caller="score")[unreadable]
        labels[unreadable] = np.where(truth == clf.classes_[0], clf.classes_[1], clf.classes_[0])  # never the true one
    return float(accuracy_score(y, labels, sample_weight=sample_weight))


def _subset_accuracy(said: np.ndarray, y: Any, sample_weight: Any) -> float:
    """Return the share of images with all labels right, among those of which all labels are known."""
    truth = check_label_matrix(y, len(said), caller="score", n_labels=said.shape[1])
    known = ~np.isnan(truth).any(axis=1)
    if not known.any():
        raise DataError("score: y has no row without NaN, so that no image can be right or wrong as a whole.")
    right = (said == truth).all(axis=1)[known]
    if sample_weight is not None:
        sample_weight = check_per_image("sample_weight", sample_weight, len(said), caller="score")[known]
    return float(np.average(right, weights=sample_weight))
