"""Choosing an operating point without giving up images for it: from predictions of models that did not see them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from cxr_estimator._folds import known_patients, out_of_fold, patient_folds
from cxr_estimator._operating import judged, point_label
from cxr_estimator._outputs import Task
from cxr_estimator._validation import check_labels, check_number, invalid, wrong_type
from cxr_estimator.classifier import CXRClassifier
from cxr_estimator.fingerprints import fingerprint
from cxr_estimator.images import as_images
from cxr_estimator.statistics import N_RESAMPLES
from cxr_estimator.thresholds import DEFAULT_POINT, OperatingPoint, choose_point, parse_rule

_CALLER = "cross_val_threshold"


def cross_val_threshold(
    clf: CXRClassifier,
    X: Any,
    y: Any,
    rule: str,
    *,
    groups: Any = None,
    cv: Any = 5,
    label: Any = None,
    name: str | None = None,
    n_resamples: int = N_RESAMPLES,
    n_jobs: int | None = None,
    **options: Any,
) -> OperatingPoint:
    """Choose an operating point from out-of-fold predictions.

    In each fold a clone of the classifier is fitted on the other folds, so that every image is judged by a network that
    did not see it, and all of them choose the cut-off. Give the result to `set_threshold` of a classifier that was
    fitted on all images: `clf.fit(X, y).set_threshold(cross_val_threshold(clf, X, y, "youden"))`. That one's scores
    are on nearly, not exactly, the scale of the folds' networks; `evaluate` compares what was promised with what it
    finds.

    Parameters
    ----------
    clf : CXRClassifier
        Need not be fitted, and is not changed.
    X, y : N images and labels
    rule : {"youden", "sensitivity", "specificity", "f_beta", "cost"}, or as "sensitivity>=0.95"
        See `CXRClassifier.set_threshold`, also for `label`, `name`, `n_resamples` and `**options`.
    groups : sequence of N patients, optional
        Kept on one side of every split. Default: from `patient_pattern`, or each image by itself, with a warning.
    cv : int or splitter, default=5
        A number of folds is stratified by label, and by patient where `groups` are given.
    n_jobs : int, optional
        Folds at once, in joblib's sense.

    Returns
    -------
    OperatingPoint

    Raises
    ------
    DataError
        No cut-off does what was asked, a split leaves images out or shares patients, or labels do not fit.
    """
    if not isinstance(clf, CXRClassifier):
        raise wrong_type("clf", _CALLER, "a CXRClassifier", clf)
    if not isinstance(rule, str):
        raise wrong_type("rule", _CALLER, "a text such as 'youden' or 'sensitivity>=0.95'", rule)
    rule, chosen = parse_rule(rule, options, caller=_CALLER)
    check_number("n_resamples", n_resamples, caller=_CALLER, low=1, integer=True)
    if y is None:
        raise invalid("y", _CALLER, "the labels of X", None)
    images = as_images(X)  # also of rows: here they are only counted
    labels = check_labels(y, len(images), caller=_CALLER)
    known = known_patients(clf, images, groups, caller=_CALLER)
    folds = patient_folds(clf, labels, known, cv, caller=_CALLER)
    found = out_of_fold(clf, X, labels, folds, partial(_judge, label=label), n_jobs=n_jobs)
    point = choose_point(
        np.concatenate([one.scores for one in found]),
        np.concatenate([one.positive for one in found]),
        rule,
        chosen,
        groups=np.concatenate([one.groups for one in found]),
        name=found[0].name if name is None else name,
        label=found[0].label,
        n_resamples=n_resamples,
    )
    return replace(point, fingerprint=fingerprint(str(each) for one in found for each in one.content_ids))


class _Fold(NamedTuple):
    """What a network says to the images of the fold that it was not fitted on."""

    scores: np.ndarray
    positive: np.ndarray
    groups: np.ndarray
    content_ids: np.ndarray
    label: Any
    name: str


def _judge(clf: CXRClassifier, X: Any, y: np.ndarray, groups: np.ndarray, *, label: Any) -> _Fold:
    label = point_label(clf, label, _CALLER)
    data = judged(clf, X, y, groups, caller=_CALLER)
    name = DEFAULT_POINT if clf.task_ is Task.BINARY else str(label)
    return _Fold(clf._scores(data.logits, label), data.labels == label, data.groups, data.content_ids, label, name)
