"""What `CXRClassifier.set_threshold` and `.calibrate` do: labelled images, the network's scores, what follows."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from sklearn.utils.validation import check_is_fitted

from cxr_estimator._outputs import Task
from cxr_estimator._predicting import run_network
from cxr_estimator._validation import (
    check_choice,
    check_labels,
    check_number,
    check_per_image,
    invalid,
    wrong_type,
)
from cxr_estimator.calibration import CALIBRATORS, Calibration, fit_calibration
from cxr_estimator.errors import DataError, SameDataWarning
from cxr_estimator.fingerprints import fingerprint, share_seen
from cxr_estimator.thresholds import (
    NUMBER,
    OperatingPoint,
    choose_point,
    number_point,
    parse_rule,
)

if TYPE_CHECKING:
    from cxr_estimator.classifier import CXRClassifier


class Judged(NamedTuple):
    """Labelled images that could be read, and what the network says to them.

    Attributes
    ----------
    logits : ndarray (M, K), float32
    labels, groups : ndarray (M,)
        Without patients, each image is its own.
    content_ids : tuple of M str
    """

    logits: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    content_ids: tuple[str, ...]


def judged(clf: CXRClassifier, X: Any, y: Any, groups: Any, *, caller: str) -> Judged:
    """Return what the network says to labelled images; unreadable ones are left out (and were reported)."""
    for name, value in (("X", X), ("y", y)):
        if value is None:
            raise invalid(name, caller, "given, as images and their labels", None)
    found = run_network(clf, X)
    n_images = len(found.values)
    labels = check_labels(y, n_images, caller=caller, classes=clf.classes_)
    patients = np.arange(n_images) if groups is None else check_per_image("groups", groups, n_images, caller=caller)
    readable = ~np.isnan(found.values).any(axis=1)
    if not readable.any():
        raise DataError(f"{caller}: none of the {n_images} images could be read.")
    return Judged(found.values[readable], labels[readable], patients[readable], found.content_ids)


def _check_exclusive(clf: CXRClassifier, caller: str) -> None:
    """Raise for several labels per image, whose decisions are those of a probability of 0.5."""
    if clf.task_ is Task.MULTILABEL:
        raise DataError(f"{caller}: not for several labels per image; each is decided at a probability of 0.5.")


def point_label(clf: CXRClassifier, label: Any, caller: str) -> Any:
    """Return the label that an operating point speaks of; of two classes only the positive one."""
    if label is None:
        if clf.pos_label_ is None:
            raise invalid("label", caller, f"one of {clf.classes_.tolist()} for several classes", None)
        return clf.pos_label_
    allowed = clf.classes_.tolist() if clf.task_ is Task.MULTICLASS else [clf.pos_label_]
    return check_choice("label", label, allowed, caller=caller)


def named_point(clf: CXRClassifier, name: Any, caller: str) -> OperatingPoint | None:
    """Return an operating point by name, or the active one, which several classes do not have."""
    if name is None:
        return None if clf.active_point_ is None else clf.operating_points_[clf.active_point_]
    return clf.operating_points_[check_choice("operating_point", name, clf.operating_points_, caller=caller)]


def operating_point(
    clf: CXRClassifier,
    rule: Any,
    X: Any,
    y: Any,
    *,
    groups: Any,
    label: Any,
    name: Any,
    n_resamples: int,
    options: Mapping[str, Any],
) -> OperatingPoint:
    """Return the cut-off that `CXRClassifier.set_threshold` is asked for."""
    caller = "set_threshold"
    check_is_fitted(clf, "model_")
    _check_exclusive(clf, caller)
    if not isinstance(name, str) or not name:
        raise wrong_type("name", caller, "a text that is not empty", name)
    label = point_label(clf, label, caller)
    if not isinstance(rule, str):
        given = [option for option, value in options.items() if value is not None]
        if given:
            raise invalid(given[0], caller, "left out for a number", options[given[0]])
        return calibrated_number(clf, rule, name=name, label=label, caller=caller)
    rule, chosen = parse_rule(rule, options, caller=caller)
    check_number("n_resamples", n_resamples, caller=caller, low=1, integer=True)
    data = judged(clf, X, y, groups, caller=caller)
    point = choose_point(
        clf._scores(data.logits, label),
        data.labels == label,
        rule,
        chosen,
        groups=data.groups,
        name=name,
        label=label,
        n_resamples=n_resamples,
    )
    return replace(point, fingerprint=fingerprint(data.content_ids))


def calibrated_number(clf: CXRClassifier, threshold: Any, *, name: str, label: Any, caller: str) -> OperatingPoint:
    """Return the operating point of a probability, calibrated where the classifier is."""
    point = number_point(threshold, name=name, caller=caller, label=label)
    if clf.calibration_ is None or clf.task_ is not Task.BINARY:
        return point
    return replace(point, score=clf.calibration_.score_of(float(threshold), flipped=_is_flipped(clf)))


def _is_flipped(clf: CXRClassifier) -> bool:
    """Whether the positive label is the first of two classes."""
    return bool(clf.pos_label_ == clf.classes_[0])


def calibration(clf: CXRClassifier, X: Any, y: Any, *, groups: Any, method: Any, prevalence: Any) -> Calibration:
    """Return the calibration that `CXRClassifier.calibrate` is asked for."""
    caller = "calibrate"
    check_is_fitted(clf, "model_")
    _check_exclusive(clf, caller)
    check_choice("method", method, CALIBRATORS, caller=caller)
    shares = None if prevalence is None else _prevalences(clf, prevalence, caller)
    weights = np.asarray(clf.class_weights_, dtype=np.float64)
    if not (weights > 0).all():
        without = clf.classes_[weights == 0].tolist()
        raise DataError(f"{caller}: the classes {without} had weight 0 in training, so nothing is known of them.")
    data = judged(clf, X, y, groups, caller=caller)
    return fit_calibration(
        data.logits,
        np.searchsorted(clf.classes_, data.labels),
        method=method,
        labels=clf.classes_.tolist(),
        class_weights=weights,
        prevalence=shares,
        groups=data.groups,
        fingerprint=fingerprint(data.content_ids),
    )


def _prevalences(clf: CXRClassifier, prevalence: Any, caller: str) -> np.ndarray:
    """Return the share of each class: from that of the positive label, or from a dict of all."""
    labels = clf.classes_.tolist()
    limits: dict[str, Any] = {"low": 0.0, "high": 1.0, "open_low": True, "open_high": True}
    if not isinstance(prevalence, Mapping):
        if len(labels) > 2:
            raise invalid("prevalence", caller, "a dict with the share of every class", prevalence)
        share = check_number("prevalence", prevalence, caller=caller, **limits)
        prevalence = {label: share if label == clf.pos_label_ else 1.0 - share for label in labels}
    if set(prevalence) != set(labels):
        raise invalid("prevalence", caller, f"a dict with the keys {labels}", prevalence)
    shares = [float(check_number("prevalence", prevalence[label], caller=caller, **limits)) for label in labels]
    if abs(sum(shares) - 1.0) > 1e-6:
        raise invalid("prevalence", caller, "a dict of shares that sum to 1", prevalence)
    return np.array(shares)


def recalibrated_points(clf: CXRClassifier, new: Calibration) -> dict[str, OperatingPoint]:
    """Return the operating points under a new calibration.

    One that a rule chose is a promise of what it finds: its score stays, and so do all decisions. A plain number is a
    statement about the probability: the number stays, and its score follows.

    Raises
    ------
    DataError
        The calibration gives images on both sides of a chosen point one probability.
    """
    if clf.task_ is not Task.BINARY:
        return clf.operating_points_
    points, flipped = {}, _is_flipped(clf)
    for name, point in clf.operating_points_.items():
        if point.rule == NUMBER:
            points[name] = replace(point, score=new.score_of(point.number, flipped=flipped))
        elif new.merges(point.score, flipped=flipped):
            raise DataError(
                f"calibrate: {new.method!r} gives images on both sides of the operating point {name!r} the same "
                "probability, so that it could no longer be told from its neighbours. Calibrate with 'temperature' or "
                "'platt' or on more images, or choose the point at another cut-off."
            )
        else:
            points[name] = point
    return points


def threshold_of(clf: CXRClassifier, point: OperatingPoint) -> float:
    """Return the probability of its label, calibrated for two classes, from which an operating point is positive."""
    if point.rule == NUMBER:
        return point.number
    if clf.calibration_ is None or clf.task_ is not Task.BINARY:
        return point.threshold
    sign = -1.0 if _is_flipped(clf) else 1.0
    (calibrated,) = sign * clf.calibration_(np.array([[sign * point.score]]))[0]
    return float(1.0 / (1.0 + np.exp(-calibrated)))


def warn_of_known_images(clf: CXRClassifier, content_ids: Iterable[str], *, caller: str) -> None:
    """Warn if the images are among those that chose an operating point or calibrated: they flatter it."""
    content_ids = set(content_ids)
    chosen = {f"chose the operating point {name!r}": one.fingerprint for name, one in clf.operating_points_.items()}
    if clf.calibration_ is not None:
        chosen["calibrated the model"] = clf.calibration_.fingerprint
    shares = {what: share_seen(sketch, content_ids) for what, sketch in chosen.items()}
    said = [f"{share:.0%} of the images that {what}" for what, share in shares.items() if share > 0]
    if said:
        text = f"{caller}: among these images are {', '.join(said)}. What is found on them is better than on others."
        warnings.warn(SameDataWarning(text), stacklevel=4)
