"""What `y` says to `fit`: the task, its classes or labels, the target of each image and its weight in the loss."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils.class_weight import compute_class_weight

from cxr_estimator._outputs import Task
from cxr_estimator._validation import check_label_matrix, check_labels, check_per_image, invalid, is_label_matrix
from cxr_estimator.errors import DataError

_CALLER = "CXRClassifier.fit"


class Labels(NamedTuple):
    """What `y` says.

    Attributes
    ----------
    task : Task
    classes : ndarray (K,)
        Sorted classes; of several labels per image their names, in the order of the columns.
    target : ndarray
        Class index of each image, (N,) int64; of several labels (N, K) float32, 1 or 0, NaN for unknown.
    """

    task: Task
    classes: np.ndarray
    target: np.ndarray


def read_labels(y: Any, n_images: int, label_names: Any) -> Labels:
    """Return what `y` says, or raise a DataError; every class needs an image, every label images of both values."""
    if not is_label_matrix(y):
        if label_names is not None:
            raise invalid("label_names", _CALLER, "None unless y has a column for each of several labels", label_names)
        classes, target = np.unique(check_labels(y, n_images, caller=_CALLER), return_inverse=True)
        if len(classes) < 2:
            raise DataError(f"{_CALLER}: y holds only one class ({classes.tolist()[0]!r}); at least two are needed.")
        return Labels(Task.of_classes(len(classes)), classes, target.astype(np.int64))
    target = check_label_matrix(y, n_images, caller=_CALLER).astype(np.float32)
    names = _names(y, target.shape[1], label_names)
    check_both_values(names, target, "y")
    return Labels(Task.MULTILABEL, names, target)


def _names(y: Any, n_labels: int, label_names: Any) -> np.ndarray:
    """Return what the labels are called: `label_names`, or the columns of a data frame, or 0 to K - 1."""
    columns = list(y.columns) if hasattr(y, "columns") else None
    names = columns if label_names is None else check_label_names(label_names)
    if names is None:
        return np.arange(n_labels)
    if len(names) != n_labels:
        raise DataError(f"{_CALLER}: y has {n_labels} columns, but there are {len(names)} label_names: {names}.")
    if columns is not None and [str(one) for one in columns] != [str(one) for one in names]:
        raise DataError(f"{_CALLER}: y has the columns {columns}, but label_names is {names}.")
    if not (all(isinstance(one, str) for one in names) or all(isinstance(one, Integral) for one in names)):
        names = [str(one) for one in names]
    if len(set(names)) < len(names):
        raise DataError(f"{_CALLER}: the columns of y must have different names. Got {names}.")
    return np.array(names)


def check_label_names(names: Any) -> list[str] | None:
    """Return the parameter `label_names` as a list; None as it is."""
    if names is None:
        return None
    is_list = isinstance(names, Sequence | np.ndarray) and not isinstance(names, str)
    if not is_list or len(names) < 2 or not all(isinstance(one, str) and one for one in names):
        raise invalid("label_names", "CXRClassifier", "None or a list of names, two at least", names)
    if len(set(names)) < len(names):
        raise invalid("label_names", "CXRClassifier", "a list of different names", names)
    return [str(one) for one in names]


def check_both_values(names: np.ndarray, target: np.ndarray, where: str) -> None:
    """Raise a DataError that names the labels which are not both present (1) and absent (0) in `target` (N, K)."""
    for value, said in ((1, "present"), (0, "absent")):
        never = names[~(target == value).any(axis=0)].tolist()
        if never:
            raise DataError(
                f"{_CALLER}: in {where}, {never} is never {said} ({value}), and a label that does not vary cannot be "
                "learnt. Leave such columns out, or add images."
            )


def class_weights(
    class_weight: str | dict[Hashable, float] | None, classes: np.ndarray, target: np.ndarray
) -> np.ndarray:
    """Return the weight (K,), float64, of each class in the loss; of several labels, of each one's presence."""
    if target.ndim == 2:
        if isinstance(class_weight, dict):
            raise invalid("class_weight", _CALLER, "None or 'balanced' for several labels per image", class_weight)
        is_balanced = class_weight == "balanced"
        return (target == 0).sum(axis=0) / (target == 1).sum(axis=0) if is_balanced else np.ones(len(classes))
    if isinstance(class_weight, dict) and not set(class_weight) <= set(classes.tolist()):
        raise invalid("class_weight", _CALLER, f"a dict with keys among {classes.tolist()}", class_weight)
    return compute_class_weight(class_weight, classes=classes, y=classes[target])


def loss_weights(
    class_weight: str | dict[Hashable, float] | None,
    classes: np.ndarray,
    target: np.ndarray,
    sample_weight: Any,
) -> np.ndarray:
    """Return the loss weight of each image (N,), or of each label of it (N, K), float32.

    That is the class weight times the sample weight (scaled to mean 1). "balanced" gives each label that is present
    the weight n_absent / n_present, counted over its known values.
    """
    weights = class_weights(class_weight, classes, target)
    weights = np.where(target == 1, weights, 1.0) if target.ndim == 2 else weights[target]
    if sample_weight is not None:
        given = check_per_image("sample_weight", sample_weight, len(target), caller=_CALLER)
        if given.dtype.kind not in "buif":
            raise DataError(f"{_CALLER}: sample_weight must hold real numbers. Got {given.dtype}.")
        given = given.astype(np.float64)
        if not np.isfinite(given).all() or (given < 0).any() or given.sum() == 0:
            raise DataError(f"{_CALLER}: sample_weight must be finite, not negative and not all zero.")
        weights = weights * (given / given.mean()).reshape(-1, *[1] * (target.ndim - 1))
    return weights.astype(np.float32)
