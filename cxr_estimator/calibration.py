"""Calibration: from the log-odds of a network to probabilities that agree with observed frequencies.

`CALIBRATORS` is the one table: a new one is a function and a line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.special import expit, log_expit, logit, logsumexp

from cxr_estimator._calibration_maps import (
    NEVER,
    Affine,
    LabelMap,
    Steps,
    fit_isotonic,
    fit_platt,
    fit_temperature,
)
from cxr_estimator._outputs import Task
from cxr_estimator._validation import check_copies, check_number
from cxr_estimator.errors import DataError


class Calibrator(NamedTuple):
    """A row of `CALIBRATORS`.

    Attributes
    ----------
    fit : callable or None
        `fit(scores, positive) -> LabelMap` for each label by itself; None for the joint temperature.
    fewest : int
        How many images of each label it needs.
    summary : str
    """

    fit: Callable[[np.ndarray, np.ndarray], LabelMap] | None
    fewest: int
    summary: str


CALIBRATORS: Mapping[str, Calibrator] = {
    "temperature": Calibrator(None, 10, "one number that all log-odds are divided by"),
    "platt": Calibrator(fit_platt, 20, "a line through the log-odds of each label"),
    "isotonic": Calibrator(fit_isotonic, 50, "steps that never fall, for each label; needs many images"),
}


class LabelCalibration(NamedTuple):
    """The part of a calibration that one label depends on: its raw log-odds give its probability by themselves."""

    map: LabelMap
    log_weight: float
    prior_shift: float

    def proba(self, score: float) -> float:
        """Return the calibrated probability for raw log-odds."""
        return float(expit(self.map(np.array([score - self.log_weight]))[0] + self.prior_shift))

    def score_of(self, proba: float) -> float:
        """Return the smallest raw log-odds with a calibrated probability of at least `proba`."""
        score = self.map.inverse(float(logit(proba)) - self.prior_shift) + self.log_weight
        return float(np.clip(score, -NEVER, NEVER))

    def merges(self, score: float) -> bool:
        """Whether scores on both sides of a cut-off get one probability."""
        return isinstance(self.map, Steps) and self.map.is_flat_below(score - self.log_weight)


@dataclass(frozen=True)
class Calibration:
    """A map from the logits of a network to calibrated ones, of the same shape and meaning.

    In this order: the weights of the classes in the loss are undone (they shift log-odds by log w), each label is
    mapped (of several classes, one against the rest, then all are normalised), and the prevalence is shifted.

    Attributes
    ----------
    method : str
        Key of `CALIBRATORS`.
    task : Task
    log_weights, prior_shift : tuple of float
        Subtracted before, and added after; one for two classes (of log-odds), else one per class or label.
    maps : tuple of Affine or Steps
        One for two classes and for the temperature of several, else one per class or label.
    n_images, n_patients : int
        How many images of how many patients it was fitted on.
    fingerprint : tuple of str
        Sketch of these images, see `fingerprints`.
    augment : str or None
        How the changed copies of these images were made that it was fitted on together with them, if it was.
    copies : int
        How many of each image; they are not counted in `n_images`.
    """

    method: str
    task: Task
    log_weights: tuple[float, ...]
    maps: tuple[LabelMap, ...]
    prior_shift: tuple[float, ...]
    n_images: int
    n_patients: int
    fingerprint: tuple[str, ...] = ()
    augment: str | None = None
    copies: int = 0

    def __post_init__(self) -> None:
        if self.method not in CALIBRATORS or len(self.log_weights) != len(self.prior_shift):
            raise ValueError("not a calibration")
        is_joint = self.method == "temperature" and self.task is Task.MULTICLASS
        if len(self.maps) != (1 if is_joint else len(self.log_weights)):
            raise ValueError(f"{len(self.maps)} maps do not fit {len(self.log_weights)} outputs")
        for number in (*self.log_weights, *self.prior_shift):
            check_number("shift", number, caller=type(self).__name__)
        check_copies(self.augment, self.copies, caller=type(self).__name__)

    def fits(self, task: Task, n_classes: int) -> bool:
        """Whether it is for networks of this task with so many classes or labels."""
        return self.task is task and len(self.log_weights) == task.num_outputs(n_classes)

    def with_weights(self, class_weights: np.ndarray) -> Calibration:
        """Return the same calibration for a network whose loss weighed the classes (K,) so."""
        return replace(self, log_weights=tuple(log_weights(class_weights, self.task).tolist()))

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        """Return calibrated logits (N, 1) or (N, K), float64; rows of NaN stay so."""
        z = logits.astype(np.float64) - self.log_weights
        if len(self.maps) == 1:
            z = self.maps[0](z)
        else:
            log_odds = label_log_odds(z, self.task)
            z = np.stack([each(log_odds[:, k]) for k, each in enumerate(self.maps)], axis=1)
            if self.task is Task.MULTICLASS:
                log_proba = log_expit(z)
                z = log_proba - logsumexp(log_proba, axis=1, keepdims=True)
        return z + self.prior_shift

    def of(self, k: int) -> LabelCalibration | None:
        """Return what the label or class number `k` depends on; None for several classes, which depend on all."""
        if self.task is Task.MULTICLASS:
            return None
        if self.task is Task.BINARY and k == 0:  # the log-odds turned around
            return LabelCalibration(self.maps[0].mirrored(), -self.log_weights[0], -self.prior_shift[0])
        place = 0 if self.task is Task.BINARY else k
        return LabelCalibration(self.maps[place], self.log_weights[place], self.prior_shift[place])

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON types."""
        found = asdict(self)
        maps = [asdict(each) for each in self.maps]
        return {**found, "task": self.task.value, "maps": maps, "fingerprint": list(self.fingerprint)}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Calibration:
        """Undo `to_dict`; raises ValueError, TypeError or LookupError for anything else."""
        maps = tuple(
            Affine(**each) if "slope" in each else Steps(tuple(each["scores"]), tuple(each["proba"]))
            for each in content["maps"]
        )
        tuples = {name: tuple(content[name]) for name in ("log_weights", "prior_shift", "fingerprint")}
        return cls(**{**content, **tuples, "task": Task(content["task"]), "maps": maps})


def label_log_odds(logits: np.ndarray, task: Task) -> np.ndarray:
    """Return the log-odds (N, K) of each class against the others, or of each label, float64."""
    return task.log_odds(torch.from_numpy(logits.astype(np.float64))).numpy()


def log_weights(class_weights: np.ndarray, task: Task) -> np.ndarray:
    """Return by how much weights (K,) of the classes in the loss shift the logits: (1,) of two classes, else (K,)."""
    found = np.log(class_weights)
    return np.diff(found) if task is Task.BINARY else found


def fit_calibration(
    logits: np.ndarray,
    target: np.ndarray,
    *,
    task: Task,
    method: str,
    labels: Sequence[Any],
    class_weights: np.ndarray,
    prevalence: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    fingerprint: tuple[str, ...] = (),
    augment: str | None = None,
    copies: int = 0,
) -> Calibration:
    """Fit a calibration.

    Parameters
    ----------
    logits : ndarray (N, 1) or (N, K)
    target : ndarray (N,), int64, or (N, K)
        Class indices; of several labels 1, 0 or NaN (unknown).
    task : Task
    method : {"temperature", "platt", "isotonic"}
    labels : sequence of K labels
        For messages.
    class_weights : ndarray (K,)
        What the loss weighed the classes with, or the labels where they are present, above 0.
    prevalence : ndarray (K,), optional
        Share of each class or label where the model will be used; default: as in these images.
    augment, copies
        Where each image is among the N with so many changed copies: kept, and each image is counted once. `groups` must
        then be given.

    Raises
    ------
    DataError
        Too few images of a class, or scores that cannot be calibrated.

    References
    ----------
    Saerens et al. (2002), Adjusting the outputs of a classifier to new a priori probabilities, Neural Comput. 14(1),
    doi:10.1162/089976602753284446, for the shift of the prevalence
    """
    check_counts(target, task, method, labels, copies=copies)
    has = _has(target, task, len(labels))
    shares = np.nanmean(has, axis=0)
    shift = np.zeros(len(labels))
    if prevalence is not None:
        as_score = logit if task is Task.MULTILABEL else np.log
        shift = as_score(prevalence) - as_score(shares)
    if task is Task.BINARY:
        shift = np.diff(shift)
    weights = log_weights(class_weights, task)
    z = logits.astype(np.float64) - weights
    each = CALIBRATORS[method].fit
    maps: tuple[LabelMap, ...]
    if each is None and task is not Task.MULTILABEL:
        maps = (fit_temperature(z, target),)
    else:
        log_odds = z if task is Task.BINARY else label_log_odds(z, task)
        columns = has[:, 1:] if task is Task.BINARY else has
        maps = tuple(_fit_label(each, log_odds[:, k], columns[:, k]) for k in range(log_odds.shape[1]))
    n_patients = len(target) if groups is None else len(np.unique(groups))
    return Calibration(
        method,
        task,
        tuple(weights.tolist()),
        maps,
        tuple(shift.tolist()),
        len(target) // (1 + copies),
        n_patients,
        fingerprint,
        augment,
        copies,
    )


def _fit_label(
    fit: Callable[[np.ndarray, np.ndarray], LabelMap] | None, scores: np.ndarray, has: np.ndarray
) -> LabelMap:
    """Fit the map of one label, on the images where it is known; `fit` None is a temperature."""
    known = ~np.isnan(has)
    scores, positive = scores[known], has[known] == 1
    return fit_temperature(scores[:, None], positive.astype(np.int64)) if fit is None else fit(scores, positive)


def _has(target: np.ndarray, task: Task, n_labels: int) -> np.ndarray:
    """Return which images have each class or label, (N, K): 1 or 0, of labels NaN where it is unknown."""
    return target if task is Task.MULTILABEL else (target[:, None] == np.arange(n_labels)).astype(np.float64)


def check_counts(
    target: np.ndarray, task: Task, method: str, labels: Sequence[Any], *, copies: int = 0, caller: str = "calibrate"
) -> None:
    """Raise a DataError unless there are enough images of each class, or with and without each label.

    Parameters are those of `fit_calibration`.
    """
    has = _has(target, task, len(labels))
    fewest = CALIBRATORS[method].fewest
    counts = [((has[:, k] == 1).sum(), repr(label)) for k, label in enumerate(labels)]
    if task is Task.MULTILABEL:
        counts += [((has[:, k] == 0).sum(), f"not {label!r}") for k, label in enumerate(labels)]
    for occurring, of in counts:
        count = occurring // (1 + copies)
        if count < fewest:
            raise DataError(f"{caller}: {method!r} needs at least {fewest} images of each label. Got {count} of {of}.")
