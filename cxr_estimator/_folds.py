"""Out-of-fold answers: every image is judged by a clone that saw no image of its patient."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from numbers import Integral
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, check_cv
from sklearn.utils import _safe_indexing

from cxr_estimator._fitting import patients
from cxr_estimator._validation import check_number, check_seed
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
        The patient of each image; without patients each image is its own.
    """

    pairs: list[tuple[np.ndarray, np.ndarray]]
    owners: np.ndarray


def patient_folds(
    clf: CXRClassifier, images: ImageSequence, labels: np.ndarray, groups: Any, cv: Any, *, caller: str
) -> Folds:
    """Return folds that share no patient, a number of them stratified by label; raise a DataError where none do."""
    classes = np.unique(labels)
    if len(classes) < 2:
        raise DataError(f"{caller}: y holds only one class ({classes.tolist()[0]!r}); at least two are needed.")
    known = patients(images, groups, clf.patient_pattern, 0.0)
    if known is None:
        text = f"{caller}: no patients are known, so that a fold may judge patients it was fitted on. Pass groups=."
        warnings.warn(PatientLeakWarning(text), stacklevel=3)
    owners = np.arange(len(labels)) if known is None else known
    most = min(len(np.unique(owners)), int(np.unique(labels, return_counts=True)[1].max()))
    splitter = _splitter(cv, known is not None, most, clf.random_state, caller)
    pairs = list(splitter.split(np.zeros(len(labels)), labels, known))
    _check(pairs, labels, owners, caller)
    return Folds(pairs, owners)


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


def _splitter(cv: Any, is_grouped: bool, most: int, random_state: Any, caller: str) -> Any:
    if not isinstance(cv, Integral):
        return check_cv(cv)
    cv = int(check_number("cv", cv, caller=caller, low=2, integer=True))
    if most < cv:
        raise DataError(
            f"{caller}: {cv} folds need as many patients, and as many images of one class, but there are {most}. "
            "Pass a smaller cv=, or more images."
        )
    kind = StratifiedGroupKFold if is_grouped else StratifiedKFold
    return kind(cv, shuffle=True, random_state=check_seed(random_state, caller=caller))


def _check(pairs: list[tuple[np.ndarray, np.ndarray]], labels: np.ndarray, owners: np.ndarray, caller: str) -> None:
    """Raise unless every image is judged once, by a network that saw all classes but no image of its patient."""
    judged_once = np.bincount(np.concatenate([test for _, test in pairs]), minlength=len(owners))
    if not (judged_once == 1).all():
        raise DataError(f"{caller}: cv must put every image into one fold; {(judged_once != 1).sum()} are not.")
    for train, test in pairs:
        shared = np.intersect1d(owners[train], owners[test])
        if len(shared):
            raise DataError(f"{caller}: cv puts images of {len(shared)} patients on both sides; use a grouped one.")
        lost = np.setdiff1d(labels, labels[train]).tolist()
        if lost:
            raise DataError(f"{caller}: cv leaves a fold without images of {lost} to fit on: too few patients.")
