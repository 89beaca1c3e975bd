"""Out-of-fold answers: every image is judged by a clone that saw no image of its patient."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from numbers import Integral
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from joblib import Parallel, delayed
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.base import clone
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, check_cv
from sklearn.utils import _safe_indexing

from cxr_estimator._fitting import patients
from cxr_estimator._validation import check_number, check_per_image, check_seed
from cxr_estimator.errors import DataError, PatientLeakWarning

if TYPE_CHECKING:
    from cxr_estimator.classifier import CXRClassifier
    from cxr_estimator.images import ImageSequence

T = TypeVar("T")


class Folds(NamedTuple):
    """Which images each clone is fitted on, and which it judges.

    Attributes
    ----------
    pairs : list of (ndarray, ndarray)
        Rows to fit on and rows to judge; every row is judged once.
    owners : ndarray (N,)
        The patient of each image, joined where patients share a picture; without patients each picture is its own.
    """

    pairs: list[tuple[np.ndarray, np.ndarray]]
    owners: np.ndarray


def known_patients(clf: CXRClassifier, images: ImageSequence, groups: Any, *, caller: str) -> np.ndarray | None:
    """Return the patient of each image from `groups` or the pattern of `clf`; None, with a warning, without either."""
    if groups is not None:
        return check_per_image("groups", groups, len(images), caller=caller)
    known = patients(images, None, clf.patient_pattern, 0.0)
    if known is None:
        text = f"{caller}: no patients are known, so that a fold may judge patients it was fitted on. Pass groups=."
        warnings.warn(PatientLeakWarning(text), stacklevel=3)
    return known


def patient_folds(
    clf: CXRClassifier,
    labels: np.ndarray,
    known: np.ndarray | None,
    cv: Any,
    *,
    caller: str,
    same: np.ndarray | None = None,
) -> Folds:
    """Return folds that share no owner, a number of them stratified by label; raise a DataError where none do.

    Parameters
    ----------
    clf : CXRClassifier
        Its `random_state` shuffles.
    labels : ndarray (N,)
    known : ndarray (N,) or None
        Patients, from `known_patients`.
    cv : int, splitter or pairs of indices
    caller : str
    same : ndarray (N,), optional
        Equal for copies of one picture. They stay together with all images of the patients they are of.
    """
    owners = np.arange(len(labels)) if known is None else known
    if same is not None:
        owners = _joined(owners, same)
    check_folds(labels, owners, cv, caller=caller)
    is_grouped = known is not None or len(np.unique(owners)) < len(owners)
    splitter = _splitter(cv, is_grouped, clf.random_state, caller)
    try:
        pairs = list(splitter.split(np.zeros(len(labels)), labels, owners if is_grouped else None))
    except ValueError as error:  # more folds than images, or a splitter that needs patients
        raise DataError(f"{caller}: cv cannot split these images: {error}") from error
    _check(pairs, labels, owners, caller)
    return Folds(pairs, owners)


def check_folds(labels: np.ndarray, known: np.ndarray | None, cv: Any, *, caller: str) -> None:
    """Raise where no folds can be made, whatever is found in the images: one class only, or too few patients."""
    classes, counts = np.unique(labels, return_counts=True)
    if len(classes) < 2:
        raise DataError(f"{caller}: y holds only one class ({classes.tolist()[0]!r}); at least two are needed.")
    if not isinstance(cv, Integral):
        return
    number = int(check_number("cv", cv, caller=caller, low=2, integer=True))
    most = min(len(labels) if known is None else len(np.unique(known)), int(counts.max()))
    if most < number:
        raise DataError(
            f"{caller}: {number} folds need as many patients, and as many images of one class, but there are {most}. "
            "Pass a smaller cv=, or more images."
        )


def _joined(owners: np.ndarray, same: np.ndarray) -> np.ndarray:
    """Return the connected components of images that share an owner or a picture; `owners` where that joins nothing."""
    size = len(owners)
    numbers, owner = np.unique(owners, return_inverse=True)
    picture = np.unique(same, return_inverse=True)[1]
    # a graph of images, owners and pictures, in this order
    nodes = np.concatenate([size + owner, size + len(numbers) + picture])
    width = int(nodes.max()) + 1
    edges = coo_array((np.ones(2 * size), (np.tile(np.arange(size), 2), nodes)), shape=(width, width))
    number, found = connected_components(edges, directed=False)
    return owners if number == len(numbers) else found[:size]


def out_of_fold(
    clf: CXRClassifier,
    X: Any,
    y: np.ndarray,
    folds: Folds,
    judge: Callable[[CXRClassifier, Any, np.ndarray, np.ndarray], T],
    *,
    n_jobs: int | None,
) -> list[T]:
    """Return what `judge(clone, X, y, owners)` says of each fold, after the clone was fitted on the others."""
    work = (delayed(_judged)(clf, X, y, folds.owners, pair, judge) for pair in folds.pairs)
    return Parallel(n_jobs=n_jobs)(work)


def _judged(clf: Any, X: Any, y: np.ndarray, owners: np.ndarray, pair: Any, judge: Callable[..., T]) -> T:
    train, test = pair
    one = clone(clf).fit(_safe_indexing(X, train), y[train], groups=owners[train])
    return judge(one, _safe_indexing(X, test), y[test], owners[test])


def _splitter(cv: Any, is_grouped: bool, random_state: Any, caller: str) -> Any:
    if not isinstance(cv, Integral):
        return check_cv(cv)
    kind = StratifiedGroupKFold if is_grouped else StratifiedKFold
    return kind(int(cv), shuffle=True, random_state=check_seed(random_state, caller=caller))


def _check(pairs: list[tuple[np.ndarray, np.ndarray]], labels: np.ndarray, owners: np.ndarray, caller: str) -> None:
    """Raise unless every image is judged once, by a network that saw all classes but no image of its patient."""
    judged_once = np.bincount(np.concatenate([test for _, test in pairs]), minlength=len(owners))
    if not (judged_once == 1).all():
        raise DataError(f"{caller}: cv must put every image into one fold; {(judged_once != 1).sum()} are not.")
    for train, test in pairs:
        shared = np.intersect1d(owners[train], owners[test])
        if len(shared):
            raise DataError(
                f"{caller}: cv puts images of {len(shared)} patients on both sides, or copies of one "
                "picture; use a grouped splitter, or a number."
            )
        lost = np.setdiff1d(labels, labels[train]).tolist()
        if lost:
            raise DataError(f"{caller}: cv leaves a fold without images of {lost} to fit on: too few patients.")
