"""`label_issues`: labels that networks which never saw the patient do not believe."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from cxr_estimator._folds import out_of_fold, patient_folds
from cxr_estimator._optional import needed
from cxr_estimator._validation import check_labels, invalid, is_label_matrix, wrong_type
from cxr_estimator.classifier import CXRClassifier
from cxr_estimator.errors import DataError
from cxr_estimator.images import as_images

_CALLER = "label_issues"


def label_issues(
    clf: CXRClassifier, X: Any, y: Any, *, groups: Any = None, cv: Any = 5, n_jobs: int | None = None
) -> pd.DataFrame:
    """Rank labels by how little out-of-fold networks believe them, and name those suspected of being wrong.

    In each fold a clone of the classifier is fitted on the other folds, so that no network judges a patient it has
    seen. Confident learning then estimates how many labels of each class are wrong, and suspects the least believed of
    them (Northcutt, Jiang & Chuang 2021, doi:10.1613/jair.1.12125; by cleanlab, "prune by noise rate"). A suspect is a
    case to look at, not an error: a network that is often wrong suspects much that is right.

    Parameters
    ----------
    clf : CXRClassifier
        Need not be fitted, and is not changed. With `on_error="skip"` unreadable images get no row.
    X, y : N images and labels
        Of several labels per image pass one column of y, and the images of which that label is known.
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
    if not isinstance(clf, CXRClassifier):
        raise wrong_type("clf", _CALLER, "a CXRClassifier", clf)
    if y is None:
        raise invalid("y", _CALLER, "the labels of X", None)
    if is_label_matrix(y):
        raise DataError(f"{_CALLER}: y has several columns. Pass one of them, with the images of which it is known.")
    needed("cleanlab", "cleanlab", extra="curation", caller=_CALLER)  # fails now rather than after the folds
    images = as_images(X)
    labels = check_labels(y, len(images), caller=_CALLER)
    folds = patient_folds(clf, images, labels, groups, cv, caller=_CALLER)
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
