"""Which class, or which of several labels, of each image is explained: what `target` and `y` of `explain` mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cxr_estimator._outputs import Task
from cxr_estimator._validation import check_choice, check_label_matrix, check_labels, invalid
from cxr_estimator.errors import DataError

if TYPE_CHECKING:
    from cxr_estimator.classifier import CXRClassifier

_CALLER = "explain"
_RULES = ("predicted", "true", "margin")


def explained_classes(
    clf: CXRClassifier, n_images: int, target: Any, y: Any
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return the class index (N,) of each image, or None where it follows from the prediction; and the true labels."""
    if clf.task_ is Task.MULTILABEL:
        return _label_target(clf, n_images, target, y)
    true_label = None if y is None else check_labels(y, n_images, caller=_CALLER, classes=clf.classes_)
    return _fixed_index(clf, n_images, target, true_label), true_label


def _label_target(clf: CXRClassifier, n_images: int, target: Any, y: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the index of the one of several labels that `target` names, and whether the images have it."""
    labels = clf.classes_.tolist()
    if isinstance(target, str) and target in _RULES and target not in labels:
        constraint = f"one of {labels}; of several labels per image none is the {target!r} one"
        raise invalid("target", _CALLER, constraint, target)
    k = labels.index(check_choice("target", target, labels, caller=_CALLER))
    if y is None:
        return np.full(n_images, k), None
    truth = check_label_matrix(y, n_images, caller=_CALLER, n_labels=len(labels))[:, k]
    unknown = np.flatnonzero(np.isnan(truth))
    if len(unknown):
        raise DataError(
            f"{_CALLER}: y does not know whether {len(unknown)} images have {labels[k]!r}, first that at index "
            f"{unknown[0]}. Leave them out, or y."
        )
    return np.full(n_images, k), present_or_not(str(labels[k]), truth == 1)


def present_or_not(label: str, present: np.ndarray) -> np.ndarray:
    """Return the label, or "not" and the label, for each image."""
    return np.where(present, label, f"not {label}")


def _fixed_index(clf: CXRClassifier, n_images: int, target: Any, true_label: np.ndarray | None) -> np.ndarray | None:
    """Return the class index of each image, or None where it follows from the prediction."""
    labels = clf.classes_.tolist()
    if isinstance(target, str) and target in _RULES and target in labels:
        raise invalid("target", _CALLER, "unambiguous; rename the class, which is called like a rule", target)
    if isinstance(target, str) and target == "true":
        if true_label is None:
            raise invalid("y", _CALLER, "given for target='true'", None)
        return np.searchsorted(clf.classes_, true_label)
    if isinstance(target, str) and target in _RULES:
        return None
    check_choice("target", target, [*labels, *_RULES], caller=_CALLER)
    return np.full(n_images, labels.index(target))
