"""Operating points and calibrations without giving up images: from predictions of models that did not see them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from cxr_estimator._fitting import positive_label
from cxr_estimator._folds import known_patients, out_of_fold, patient_folds
from cxr_estimator._labels import Labels, class_weights, read_labels
from cxr_estimator._operating import Judged, check_weights, judged, point_label, prevalences
from cxr_estimator._outputs import Task
from cxr_estimator._sampling import Copies, kept_of
from cxr_estimator._validation import check_choice, check_labels, check_number, invalid, wrong_type
from cxr_estimator.calibration import CALIBRATORS, Calibration, check_counts, fit_calibration, log_weights
from cxr_estimator.classifier import CXRClassifier
from cxr_estimator.fingerprints import fingerprint
from cxr_estimator.images import ImageSequence, as_images
from cxr_estimator.statistics import N_RESAMPLES
from cxr_estimator.thresholds import DEFAULT_POINT, OperatingPoint, choose_point, parse_rule


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
    augment: str | None = None,
    copies: int = 4,
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
        See `CXRClassifier.set_threshold`, also for `label`, `name`, `n_resamples`, `augment`, `copies` and `**options`.
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
    caller = "cross_val_threshold"
    images = _images(clf, X, y, caller)
    if not isinstance(rule, str):
        raise wrong_type("rule", caller, "a text such as 'youden' or 'sensitivity>=0.95'", rule)
    rule, chosen = parse_rule(rule, options, caller=caller)
    check_number("n_resamples", n_resamples, caller=caller, low=1, integer=True)
    changed = Copies.check(augment, copies, clf.random_state, caller=caller)
    labels = check_labels(y, len(images), caller=caller)
    known = known_patients(clf, images, groups, caller=caller)
    folds = patient_folds(clf, labels, known, cv, caller=caller)
    judge = partial(_scored, label=label, copies=changed, caller=caller)
    found = out_of_fold(clf, X, labels, folds, judge, n_jobs=n_jobs)
    point = choose_point(
        np.concatenate([one.scores for one in found]),
        np.concatenate([one.positive for one in found]),
        rule,
        chosen,
        groups=np.concatenate([one.groups for one in found]),
        name=found[0].name if name is None else name,
        label=found[0].label,
        n_resamples=n_resamples,
        **kept_of(changed),
    )
    return replace(point, fingerprint=fingerprint(str(each) for one in found for each in one.content_ids))


def cross_val_calibration(
    clf: CXRClassifier,
    X: Any,
    y: Any,
    *,
    groups: Any = None,
    cv: Any = 5,
    method: str = "platt",
    prevalence: Any = None,
    augment: str | None = None,
    copies: int = 4,
    n_jobs: int | None = None,
) -> Calibration:
    """Fit a calibration to out-of-fold predictions.

    As in `cross_val_threshold`, every image is judged by a clone that did not see it. The weights that each fold's
    classes had in the loss are undone first. Give the result to `calibrate` of a classifier that was fitted on all
    images: `clf.fit(X, y).calibrate(cross_val_calibration(clf, X, y))`. With a `checkpoint_dir` the folds that one of
    the two functions has fitted are not fitted again by the other.

    Parameters
    ----------
    clf : CXRClassifier
        Need not be fitted, and is not changed.
    X, y : N images and labels
        Of several labels per image y (N, K).
    groups, cv, n_jobs
        As for `cross_val_threshold`. Several labels are stratified by the one that varies least.
    method : {"platt", "temperature", "isotonic"}, default="platt"
        See `CXRClassifier.calibrate`, also for `prevalence`, `augment` and `copies`.

    Returns
    -------
    Calibration

    Raises
    ------
    DataError
        Too few images of a class, a split leaves images out or shares patients, or labels do not fit.

    Examples
    --------
    >>> from cxr_estimator import CXRClassifier, cross_val_calibration, make_phantoms
    >>> data = make_phantoms(80, size=32)
    >>> clf = CXRClassifier("plain_cnn", image_size=32, max_epochs=1, validation_fraction=0, random_state=0)
    >>> found = cross_val_calibration(clf, data.X, data.y, groups=data.groups, cv=2, method="temperature")
    >>> found.method, found.n_images, found.n_patients
    ('temperature', 80, 40)
    """
    caller = "cross_val_calibration"
    images = _images(clf, X, y, caller)
    check_choice("method", method, CALIBRATORS, caller=caller)
    labels = read_labels(y, len(images), clf.label_names)
    task, classes, target = labels
    shares = prevalences(prevalence, task, classes, positive_label(clf, task, classes), caller)
    weights = class_weights(clf.class_weight, classes, target)
    check_weights(classes, weights, caller)
    check_counts(target, task, method, classes.tolist(), caller=caller)  # rather now than after all folds
    changed = Copies.check(augment, copies, clf.random_state, caller=caller)
    known = known_patients(clf, images, groups, caller=caller)
    folds = patient_folds(clf, _strata(labels), known, cv, caller=caller)
    judge = partial(_unweighted, copies=changed, caller=caller)
    found = out_of_fold(clf, X, target if target.ndim == 2 else classes[target], folds, judge, n_jobs=n_jobs)
    said = np.concatenate([one.labels for one in found])
    calibration = fit_calibration(
        np.concatenate([one.logits for one in found]),
        said if task is Task.MULTILABEL else np.searchsorted(classes, said),
        task=task,
        method=method,
        labels=classes.tolist(),
        class_weights=np.ones(len(classes)),
        prevalence=shares,
        groups=np.concatenate([one.groups for one in found]),
        fingerprint=fingerprint(str(each) for one in found for each in one.content_ids),
        **kept_of(changed),
    )
    return calibration.with_weights(weights)


def _images(clf: Any, X: Any, y: Any, caller: str) -> ImageSequence:
    """Return X as images, also rows, which here are only counted; raise for what can be neither fitted nor judged."""
    if not isinstance(clf, CXRClassifier):
        raise wrong_type("clf", caller, "a CXRClassifier", clf)
    if y is None:
        raise invalid("y", caller, "the labels of X", None)
    return as_images(X)


def _strata(labels: Labels) -> np.ndarray:
    """Return what folds are stratified by: the class, or of several labels the one that varies least."""
    if labels.task is not Task.MULTILABEL:
        return labels.classes[labels.target]
    counts = np.minimum((labels.target == 1).sum(axis=0), (labels.target == 0).sum(axis=0))
    return labels.target[:, counts.argmin()] == 1


class _Fold(NamedTuple):
    """What a network says to the images of the fold that it was not fitted on."""

    scores: np.ndarray
    positive: np.ndarray
    groups: np.ndarray
    content_ids: np.ndarray
    label: Any
    name: str


def _scored(
    clf: CXRClassifier,
    X: Any,
    y: np.ndarray,
    groups: np.ndarray,
    *,
    label: Any,
    copies: Copies | None,
    caller: str,
) -> _Fold:
    label = point_label(clf, label, caller)
    data = judged(clf, X, y, groups, caller=caller, copies=copies)
    name = DEFAULT_POINT if clf.task_ is Task.BINARY else str(label)
    return _Fold(clf._scores(data.logits, label), data.labels == label, data.groups, data.content_ids, label, name)


def _unweighted(
    clf: CXRClassifier, X: Any, y: np.ndarray, groups: np.ndarray, *, copies: Copies | None, caller: str
) -> Judged:
    """Return what a network says, without the weights that its classes had: "balanced" ones differ between folds."""
    data = judged(clf, X, y, groups, caller=caller, copies=copies)
    return data._replace(logits=data.logits - log_weights(clf.class_weights_, clf.task_))
