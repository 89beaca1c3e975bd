"""What `CXRClassifier.set_threshold` and `.calibrate` do: labelled images, the network's scores, what follows."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from sklearn.utils.validation import check_is_fitted

from cxr_estimator._outputs import Task
from cxr_estimator._sampling import Copies, kept_of, with_copies
from cxr_estimator._validation import (
    check_choice,
    check_label_matrix,
    check_labels,
    check_number,
    check_per_image,
    invalid,
    wrong_type,
)
from cxr_estimator.calibration import CALIBRATORS, Calibration, LabelCalibration, fit_calibration
from cxr_estimator.errors import DataError, SameDataWarning
from cxr_estimator.fingerprints import fingerprint, share_seen
from cxr_estimator.thresholds import (
    DEFAULT_POINT,
    LIKELIEST,
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
    labels : ndarray (M,) or (M, K)
        Of several labels per image 1, 0 or NaN (unknown).
    groups : ndarray (M,)
        Without patients, each image is its own.
    content_ids : ndarray (M,) of str, as objects: those of copies take no room of their own
    readable : ndarray (N,), bool
        Which of all the images these are.

    Where changed copies are judged as well, M counts them, too: behind all images come their first copies, and so on.
    Labels, patients and ids are those of the image.
    """

    logits: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    content_ids: np.ndarray
    readable: np.ndarray

    def having(self, clf: CXRClassifier, label: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return which images (M,) the label is known of, and which have it."""
        if self.labels.ndim == 1:
            return np.ones(len(self.labels), dtype=bool), self.labels == label
        column = self.labels[:, clf.classes_.tolist().index(label)]
        return ~np.isnan(column), column == 1

    def one_of_each_patient(self, seed: int) -> np.ndarray:
        """Return the rows of one random image of each patient, whatever the order of the images."""
        by_content = np.argsort(self.content_ids, kind="stable")
        shuffled = np.random.default_rng(seed).permutation(by_content)
        _, first = np.unique(self.groups[shuffled], return_index=True)
        return shuffled[np.sort(first)]


def judged(clf: CXRClassifier, X: Any, y: Any, groups: Any, *, caller: str, copies: Copies | None = None) -> Judged:
    """Return what the network says to labelled images; unreadable ones are left out (and were reported)."""
    for name, value in (("X", X), ("y", y)):
        if value is None:
            raise invalid(name, caller, "given, as images and their labels", None)
    n_images = len(clf._images(X))
    if clf.task_ is Task.MULTILABEL:
        labels = check_label_matrix(y, n_images, caller=caller, n_labels=len(clf.classes_))
    else:
        labels = check_labels(y, n_images, caller=caller, classes=clf.classes_)
    patients = np.arange(n_images) if groups is None else check_per_image("groups", groups, n_images, caller=caller)
    if copies is None:
        found = clf._run(X)
        logits, ids = found.values[None], found.content_ids
    else:
        logits, ids = with_copies(clf, X, copies)
    readable = ~np.isnan(logits[0]).any(axis=1)
    if not readable.any():
        raise DataError(f"{caller}: none of the {n_images} images could be read.")

    def of_each(values: np.ndarray) -> np.ndarray:
        return np.concatenate([values] * len(logits))

    return Judged(
        np.concatenate(logits[:, readable]),
        of_each(labels[readable]),
        of_each(patients[readable]),
        of_each(np.array(ids, dtype=object)),
        readable,
    )


def point_label(clf: CXRClassifier, label: Any, caller: str) -> Any:
    """Return the label that an operating point speaks of; of two classes only the positive one."""
    if label is None:
        if clf.pos_label_ is None:
            raise invalid("label", caller, f"one of {clf.classes_.tolist()} unless there are two classes", None)
        return clf.pos_label_
    allowed = [clf.pos_label_] if clf.task_ is Task.BINARY else clf.classes_.tolist()
    return check_choice("label", label, allowed, caller=caller)


def point_name(clf: CXRClassifier, name: Any, label: Any, caller: str) -> str:
    """Return the name of a point, by default "default", or the label where each can have one."""
    if name is None:
        return DEFAULT_POINT if clf.task_ is Task.BINARY else str(label)
    if not isinstance(name, str) or not name:
        raise wrong_type("name", caller, "a text that is not empty", name)
    if name == LIKELIEST:
        raise invalid("name", caller, f"another than {LIKELIEST!r}, which reports use", name)
    taken = clf.operating_points_.get(name)
    if taken is not None and taken.label != label:
        raise invalid("name", caller, f"another than that of the operating point of {taken.label!r}", name)
    return name


def with_point(clf: CXRClassifier, point: OperatingPoint) -> tuple[str, ...]:
    """Return the names of the active points once this one was set: of several classes there are none."""
    if clf.task_ is Task.MULTICLASS:
        return ()
    others = (name for name in clf.active_points_ if clf.operating_points_[name].label != point.label)
    return (*others, point.name)


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
    augment: Any,
    copies: Any,
    options: Mapping[str, Any],
) -> OperatingPoint:
    """Return the cut-off that `CXRClassifier.set_threshold` is asked for."""
    caller = "set_threshold"
    check_is_fitted(clf, "classes_")
    label = point_label(clf, label, caller)
    name = point_name(clf, name, label, caller)
    if not isinstance(rule, str):
        _check_left_out({**options, "augment": augment}, caller, "left out for a number")
        return _calibrated(clf, number_point(rule, name=name, caller=caller, label=label), clf.calibration_)
    rule, chosen = parse_rule(rule, options, caller=caller)
    check_number("n_resamples", n_resamples, caller=caller, low=1, integer=True)
    changed = Copies.check(augment, copies, clf._default_seed, caller=caller)
    data = judged(clf, X, y, groups, caller=caller, copies=changed)
    known, has = data.having(clf, label)
    point = choose_point(
        clf._scores(data.logits[known], label),
        has[known],
        rule,
        chosen,
        groups=data.groups[known],
        name=name,
        label=label,
        n_resamples=n_resamples,
        **kept_of(changed),
    )
    point = replace(point, fingerprint=fingerprint(data.content_ids[known].tolist()))
    return _calibrated(clf, point, clf.calibration_)


def ready_point(clf: CXRClassifier, point: OperatingPoint, name: Any, given: Mapping[str, Any]) -> OperatingPoint:
    """Return a point that was chosen elsewhere as `clf` can use it; `given` must all be None."""
    caller = "set_threshold"
    check_is_fitted(clf, "classes_")
    _check_left_out(given, caller, "left out where an OperatingPoint is given")
    label = point_label(clf, point.label, caller)
    name = point_name(clf, point.name if name is None else name, label, caller)
    return _calibrated(clf, replace(point, label=label, name=name), clf.calibration_)


def _check_left_out(given: Mapping[str, Any], caller: str, constraint: str) -> None:
    """Raise for the first of the given parameters that is not None."""
    for parameter, value in given.items():
        if value is not None:
            raise invalid(parameter, caller, constraint, value)


def _calibrated(clf: CXRClassifier, point: OperatingPoint, calibration: Calibration | None) -> OperatingPoint:
    """Return a point as it is under a calibration.

    One that a rule chose is a promise of what it finds: its score stays, and so do all decisions. A plain number is a
    statement about the probability: the number stays, and its score follows.
    """
    own = label_calibration(clf, point.label, calibration)
    if own is None or calibration is None:
        return point
    if point.rule == NUMBER:
        return replace(point, score=own.score_of(point.number))
    if own.merges(point.score):
        raise DataError(
            f"The {calibration.method!r} calibration gives images on both sides of the operating point {point.name!r} "
            "the same probability, so that it cannot be told from its neighbours. Calibrate with 'temperature' or "
            "'platt' or on more images, or choose the point at another cut-off."
        )
    return point


def label_calibration(clf: CXRClassifier, label: Any, calibration: Calibration | None) -> LabelCalibration | None:
    """Return what calibrates a label by itself; None without calibration, and of several classes."""
    return None if calibration is None else calibration.of(clf.classes_.tolist().index(label))


def calibration(
    clf: CXRClassifier, X: Any, y: Any, *, groups: Any, method: Any, prevalence: Any, augment: Any, copies: Any
) -> Calibration:
    """Return the calibration that `CXRClassifier.calibrate` is asked for."""
    caller = "calibrate"
    check_is_fitted(clf, "classes_")
    check_choice("method", method, CALIBRATORS, caller=caller)
    shares = prevalences(prevalence, clf.task_, clf.classes_, clf.pos_label_, caller)
    check_weights(clf.classes_, clf.class_weights_, caller)
    changed = Copies.check(augment, copies, clf._default_seed, caller=caller)
    data = judged(clf, X, y, groups, caller=caller, copies=changed)
    return fit_calibration(
        data.logits,
        data.labels if clf.task_ is Task.MULTILABEL else np.searchsorted(clf.classes_, data.labels),
        task=clf.task_,
        method=method,
        labels=clf.classes_.tolist(),
        class_weights=clf.class_weights_,
        prevalence=shares,
        groups=data.groups,
        fingerprint=fingerprint(data.content_ids.tolist()),
        **kept_of(changed),
    )


def ready_calibration(clf: CXRClassifier, calibration: Calibration, given: Mapping[str, Any]) -> Calibration:
    """Return a calibration that was fitted elsewhere as `clf` can use it; `given` must all be None.

    Its maps speak of log-odds without the weights of the classes in the loss, so those of `clf` are the ones to undo.
    """
    caller = "calibrate"
    check_is_fitted(clf, "classes_")
    _check_left_out(given, caller, "left out where a Calibration is given")
    check_weights(clf.classes_, clf.class_weights_, caller)
    if not calibration.fits(clf.task_, len(clf.classes_)):
        theirs = f"one of {len(calibration.log_weights)} for the task {calibration.task.value!r}"
        own = clf.task_.num_outputs(len(clf.classes_))
        raise invalid("X", caller, f"a Calibration of {own} logits for the task {clf.task_.value!r}", theirs)
    return calibration.with_weights(clf.class_weights_)


def check_weights(classes: np.ndarray, weights: np.ndarray, caller: str) -> None:
    """Raise a DataError that names the classes which the loss left out."""
    if not (weights > 0).all():
        without = classes[weights == 0].tolist()
        raise DataError(f"{caller}: the classes {without} had weight 0 in training, so nothing is known of them.")


def prevalences(prevalence: Any, task: Task, classes: np.ndarray, pos_label: Any, caller: str) -> np.ndarray | None:
    """Return the share of each class or label, from that of the positive label or a dict of all; None for None."""
    if prevalence is None:
        return None
    labels = classes.tolist()
    limits: dict[str, Any] = {"low": 0.0, "high": 1.0, "open_low": True, "open_high": True}
    if not isinstance(prevalence, Mapping):
        if task is not Task.BINARY:
            raise invalid("prevalence", caller, f"a dict with the share of each of {labels}", prevalence)
        share = check_number("prevalence", prevalence, caller=caller, **limits)
        prevalence = {label: share if label == pos_label else 1.0 - share for label in labels}
    if set(prevalence) != set(labels):
        raise invalid("prevalence", caller, f"a dict with the keys {labels}", prevalence)
    shares = [float(check_number("prevalence", prevalence[label], caller=caller, **limits)) for label in labels]
    if task is not Task.MULTILABEL and abs(sum(shares) - 1.0) > 1e-6:
        raise invalid("prevalence", caller, "a dict of shares that sum to 1", prevalence)
    return np.array(shares)


def recalibrated_points(clf: CXRClassifier, new: Calibration) -> dict[str, OperatingPoint]:
    """Return the operating points under a new calibration, or raise a DataError where it would merge one."""
    return {name: _calibrated(clf, point, new) for name, point in clf.operating_points_.items()}


def threshold_of(clf: CXRClassifier, point: OperatingPoint) -> float:
    """Return the probability of its label from which an operating point is positive; of several classes a raw one."""
    if point.rule == NUMBER:
        return point.number
    own = label_calibration(clf, point.label, clf.calibration_)
    return point.threshold if own is None else own.proba(point.score)


def stated_threshold(clf: CXRClassifier, point: OperatingPoint) -> float | None:
    """Return the probability from which a point decides; None where calibrated ones do not tell."""
    unclear = clf.task_ is Task.MULTICLASS and clf.calibration_ is not None
    return None if unclear else threshold_of(clf, point)


def epoch_choosers(clf: CXRClassifier) -> tuple[str, ...]:
    """Return the sketch of the validation images if they chose the epoch of a network; of no images otherwise."""
    seen = clf.provenance_
    return () if seen is None or seen.validation is None or clf.patience is None else seen.validation.fingerprint


class Origin(NamedTuple):
    """Images that something was learnt or chosen from: how many, where that is known, and their sketch."""

    n_images: int | None
    fingerprint: tuple[str, ...]


def origins(clf: Any) -> dict[str, Origin]:
    """Return the images that a model comes from, by what they did: "trained the network", ..."""
    known = [member.provenance_ for member in clf._members() if member.provenance_ is not None]
    trained = [one.training for one in known]
    found = {
        "trained the network": Origin(
            sum(one.n_images for one in trained), tuple(each for one in trained for each in one.fingerprint)
        ),
        "chose its epoch": Origin(
            sum(one.validation.n_images for one in known if one.validation is not None),
            tuple(each for one in clf._members() for each in epoch_choosers(one)),
        ),
    }
    chosen = {f"chose the operating point {name!r}": one for name, one in clf.operating_points_.items()}
    chosen["calibrated the model"] = clf.calibration_
    chosen["prediction sets compare with"] = clf.conformal_
    chosen["chose when to abstain"] = clf.abstention_
    found |= {what: Origin(one.n_images, one.fingerprint) for what, one in chosen.items() if one is not None}
    return {what: one for what, one in found.items() if one.fingerprint}


def known_images(clf: Any, content_ids: Iterable[str], *, caller: str) -> list[str]:
    """Warn if the images are among those that trained, chose an operating point or calibrated; return what was said."""
    content_ids = set(content_ids)
    shares = {what: share_seen(one.fingerprint, content_ids) for what, one in origins(clf).items()}
    said = [f"{share:.0%} of the images that {what}" for what, share in shares.items() if share > 0]
    if not said:
        return []
    text = f"Among these images are {', '.join(said)}. What is found on them is better than on others."
    warnings.warn(SameDataWarning(f"{caller}: {text}"), stacklevel=4)
    return [text]
