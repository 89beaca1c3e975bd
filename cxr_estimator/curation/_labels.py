"""`label_issues`: labels that networks which never saw the patient do not believe."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from cxr_estimator._fitting import check_parameters
from cxr_estimator._folds import Folds, check_folds, known_patients, out_of_fold, patient_folds
from cxr_estimator._optional import needed
from cxr_estimator._validation import check_labels, invalid, is_label_matrix, wrong_type
from cxr_estimator.classifier import CXRClassifier
from cxr_estimator.curation._pictures import read_pictures
from cxr_estimator.errors import DataError
from cxr_estimator.images import as_images

_CALLER = "label_issues"


def label_issues(
    clf: CXRClassifier, X: Any, y: Any, *, groups: Any = None, cv: Any = 5, n_jobs: int | None = None
) -> pd.DataFrame:
    """Rank labels by how little out-of-fold networks believe them, and name those suspected of being wrong.

    In each fold a clone of the classifier is fitted on the other folds, so that no network judges a patient, or the
    pixels of an image, that it has seen. Confident learning then estimates how many labels of each class are wrong, and
    suspects the least believed of them (Northcutt, Jiang & Chuang 2021, doi:10.1613/jair.1.12125; by cleanlab, "prune
    by noise rate"). A suspect is a case to look at, not an error: a network that is often wrong suspects much that is
    right.

    Parameters
    ----------
    clf : CXRClassifier
        Need not be fitted, and is not changed. With `on_error="skip"` unreadable images get no row.
    X, y : N images and labels
        Images of the same pixels stay on one side of every split; `curate` sees to near duplicates, too. Of several
        labels per image pass one column of y, and the images of which that label is known.
    groups : sequence of N patients, optional
        Kept on one side of every split. Default: from `patient_pattern`, or each image by itself, with a warning.
    cv : int or splitter, default=5
        A number of folds is stratified by label, and by patient where `groups` are given.
    n_jobs : int, optional
        Folds at once, in joblib's sense.

    Returns
    -------
    DataFrame
        A row for each image, the most suspicious first: `position` in X; `label` as given; `suggested`, the likeliest
        label; `p_label` and `p_suggested`, their out-of-fold probabilities; `quality` of the label in [0, 1]
        (cleanlab's self-confidence, lower is more suspicious); `suspected`, bool.

    Raises
    ------
    DataError
        One class only, several labels per image, fewer patients than folds, or labels that do not fit the images.
    MissingPackageError
        cleanlab is not installed.

    Examples
    --------
    >>> from cxr_estimator import CXRClassifier, make_phantoms
    >>> from cxr_estimator.curation import label_issues
    >>> data = make_phantoms(40, size=32)
    >>> clf = CXRClassifier("plain_cnn", image_size=32, max_epochs=1, validation_fraction=0, random_state=0)
    >>> label_issues(clf, data.X, data.y, groups=data.groups, cv=2).shape
    (40, 7)
    """
    labels = checked_labels(clf, X, y, caller=_CALLER)
    known = known_patients(clf, as_images(X), groups, caller=_CALLER)
    check_folds(labels, known, cv, caller=_CALLER)  # fails now rather than after decoding
    same = _same_pictures(clf, X)
    folds = patient_folds(clf, labels, known, cv, caller=_CALLER, same=same)
    return judged_labels(clf, X, labels, folds, n_jobs=n_jobs)


def checked_labels(clf: Any, X: Any, y: Any, *, caller: str) -> np.ndarray:
    """Return one label per image; fail for bad parameters and a missing package, rather than after the folds."""
    if not isinstance(clf, CXRClassifier):
        raise wrong_type("clf", caller, "a CXRClassifier", clf)
    if y is None:
        raise invalid("y", caller, "the labels of X", None)
    if is_label_matrix(y):
        raise DataError(f"{caller}: y has several columns. Pass one of them, with the images of which it is known.")
    needed("cleanlab", "cleanlab", extra="curation", caller=caller)
    check_parameters(clf)
    return check_labels(y, len(as_images(X)), caller=caller)


def _same_pictures(clf: CXRClassifier, X: Any) -> np.ndarray:
    """Return a number for each image, (N,), equal for those of the same pixels; an unreadable one has its own."""
    images = as_images(X)
    if images.is_rows:
        return np.unique(np.asarray(X), axis=0, return_inverse=True)[1]
    pictures = read_pictures(X, n_jobs=clf.n_jobs, verbose=clf.verbose, caller=_CALLER)
    same = np.arange(len(images))
    same[pictures.position] = len(images) + np.unique(pictures.content_ids, return_inverse=True)[1]
    return same


def judged_labels(clf: CXRClassifier, X: Any, labels: np.ndarray, folds: Folds, *, n_jobs: int | None) -> pd.DataFrame:
    """Return the table of `label_issues` for folds that are made."""
    parts = out_of_fold(clf, X, labels, folds, _proba, n_jobs=n_jobs)
    proba = np.empty((len(labels), parts[0].shape[1]))
    for (_, test), part in zip(folds.pairs, parts, strict=True):
        proba[test] = part
    return rank_labels(labels, proba)


def _proba(clf: CXRClassifier, X: Any, y: np.ndarray, groups: np.ndarray) -> np.ndarray:
    return clf.predict_proba(X)


def rank_labels(labels: np.ndarray, proba: np.ndarray) -> pd.DataFrame:
    """Return the table of `label_issues` from out-of-fold probabilities (N, K); rows of NaN are left out."""
    filters = needed("cleanlab.filter", "cleanlab", extra="curation", caller=_CALLER)
    ranks = needed("cleanlab.rank", "cleanlab", extra="curation", caller=_CALLER)
    classes, given = np.unique(labels, return_inverse=True)
    position = np.flatnonzero(~np.isnan(proba).any(axis=1))
    if not len(position):
        raise DataError(f"{_CALLER}: none of the {len(labels)} images could be read.")
    given, proba = given[position], proba[position]
    likeliest = proba.argmax(axis=1)
    table = pd.DataFrame(
        {
            "position": position,
            "label": classes[given],
            "suggested": classes[likeliest],
            "p_label": proba[np.arange(len(given)), given],
            "p_suggested": proba.max(axis=1),
            "quality": ranks.get_label_quality_scores(given, proba, method="self_confidence"),
            "suspected": filters.find_label_issues(given, proba, n_jobs=1),
        }
    )
    return table.sort_values(["quality", "position"], ignore_index=True)
