"""What a fitted network was made from: how many images of how many patients, and how it did on validation.

Counts, shares and fingerprints only: nothing here names a patient or a file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit

from cxr_estimator._outputs import Task
from cxr_estimator._validation import check_number
from cxr_estimator.calibration import label_log_odds
from cxr_estimator.errors import ModelFolderError
from cxr_estimator.fingerprints import fingerprint
from cxr_estimator.roc import delong
from cxr_estimator.statistics import Estimate, wilson
from cxr_estimator.versions import package_versions

_BINS, _FEWEST = 10, 20  # of a reliability diagram at most, and images for each


class ClassCount(NamedTuple):
    """How many images of how many patients (None: unknown) have a label."""

    label: Any
    n_images: int
    n_patients: int | None


class Bin(NamedTuple):
    """Images of similar probability: the mean of it, the share that has the label with its interval, their number."""

    proba: float
    share: float
    low: float
    high: float
    n_images: int


@dataclass(frozen=True)
class Side:
    """One side of the split that `fit` makes.

    Attributes
    ----------
    n_images : int
    n_patients : int or None
        None where no patients were known.
    classes : tuple of ClassCount
        In the order of `classes_`; of several labels per image those that have each.
    fingerprint : tuple of str
        Sketch of the images, see `fingerprints`.
    """

    n_images: int
    n_patients: int | None
    classes: tuple[ClassCount, ...]
    fingerprint: tuple[str, ...]

    @classmethod
    def of(cls, target: np.ndarray, labels: Sequence[Any], patients: np.ndarray | None, ids: Sequence[str]) -> Side:
        """Count images with class indices (N,), or labels (N, K), of patients (N,) and with these content ids."""
        counts = []
        for k, label in enumerate(labels):
            has = target[:, k] == 1 if target.ndim == 2 else target == k
            counts.append(ClassCount(label, int(has.sum()), _number_of(patients, has)))
        everyone = np.ones(len(target), dtype=bool)
        return cls(len(target), _number_of(patients, everyone), tuple(counts), fingerprint(ids))


@dataclass(frozen=True)
class Validated:
    """How the network, before any calibration, told one label on the validation split.

    Attributes
    ----------
    label : label
    auroc : Estimate
        Of the label against the rest, with DeLong's interval over patients; NaN where one side is missing.
    reliability : tuple of Bin
        At most ten bins of about 20 images or more, by rising probability; empty where there were fewer images.
    """

    label: Any
    auroc: Estimate
    reliability: tuple[Bin, ...]

    @classmethod
    def of(cls, label: Any, score: np.ndarray, positive: np.ndarray, patients: np.ndarray | None) -> Validated:
        """Judge log-odds `score` (N,) of images that have the label where `positive` (N,)."""
        n_bins = min(_BINS, len(score) // _FEWEST)
        owners = np.arange(len(score)) if patients is None else patients
        bins = reliability_bins(expit(score), positive, owners, n_bins=n_bins) if n_bins else ()
        return cls(label, delong(score, positive, patients), bins)


@dataclass(frozen=True)
class Provenance:
    """Where a network comes from.

    Attributes
    ----------
    training : Side
    validation : Side or None
        The patients that chose the epoch, or with `patience=None` were only judged; None with `validation_fraction=0`.
    validated : tuple of Validated
        Of two classes the positive one, else one entry for each label; empty without validation.
    n_unreadable : int
        Images that could not be read and were left out.
    seconds : float
        Wall-clock time of `fit`.
    versions : dict of str to str
        Of Python and the packages that results depend on.
    """

    training: Side
    validation: Side | None
    validated: tuple[Validated, ...]
    n_unreadable: int
    seconds: float
    versions: Mapping[str, str]

    @classmethod
    def of_fit(
        cls, sides: Sequence[Side], validated: Sequence[Validated], n_unreadable: int, seconds: float
    ) -> Provenance:
        """Return the provenance of a fit that ends now; an empty second side is no validation."""
        training, validation = sides
        some = validation if validation.n_images else None
        return cls(training, some, tuple(validated), n_unreadable, round(seconds, 1), package_versions())

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON types; NaN becomes None."""
        return _plain(asdict(self))

    @classmethod
    def from_dict(cls, content: Any, labels: Sequence[Any]) -> Provenance:
        """Undo `to_dict` for a model of these labels; raises ValueError, TypeError or LookupError for anything else."""
        _check_keys(content, cls)
        validation = content["validation"]
        versions = content["versions"]
        if not isinstance(versions, dict) or not all(isinstance(value, str) for value in versions.values()):
            raise ModelFolderError("'versions' must be texts by name.")
        return cls(
            _side(content["training"], labels),
            None if validation is None else _side(validation, labels),
            tuple(_validated(each, labels) for each in content["validated"]),
            _count(content["n_unreadable"]),
            check_number("seconds", content["seconds"], caller="Provenance", low=0),
            versions,
        )


def validated_labels(
    logits: np.ndarray,
    target: np.ndarray,
    labels: Sequence[Any],
    *,
    task: Task,
    pos_label: Any,
    patients: np.ndarray | None,
) -> tuple[Validated, ...]:
    """Judge raw logits of the validation split: the positive label of two classes, else each label where it is known.

    Parameters
    ----------
    logits : ndarray (N, 1) or (N, K)
    target : ndarray (N,), int, or (N, K) of 1, 0 and NaN
    labels : sequence of K labels
    patients : ndarray (N,) or None
    """
    scores = label_log_odds(logits, task)
    judged = []
    for k, label in enumerate(labels):
        if task is Task.BINARY and label != pos_label:
            continue
        truth = target[:, k] if target.ndim == 2 else (target == k).astype(np.float64)
        known = ~np.isnan(truth)
        owners = None if patients is None else patients[known]
        judged.append(Validated.of(label, scores[known, k], truth[known] == 1, owners))
    return tuple(judged)


def reliability_bins(proba: np.ndarray, positive: np.ndarray, patients: np.ndarray, *, n_bins: int) -> tuple[Bin, ...]:
    """Return bins by rising probability, with Wilson's interval over the patients of each.

    They hold about equally many images; those of one probability stay together, whatever their order.

    Parameters
    ----------
    proba : ndarray (N,)
    positive : ndarray (N,), bool
    patients : ndarray (N,)
    n_bins : int
        The most there can be.
    """
    edges = np.unique(np.quantile(proba, np.arange(1, n_bins) / n_bins))
    place = np.searchsorted(edges, proba)
    found = []
    for number in np.unique(place):
        rows = np.flatnonzero(place == number)
        share = float(positive[rows].mean())
        ends = wilson(share, len(np.unique(patients[rows])))
        found.append(Bin(float(proba[rows].mean()), share, *ends, len(rows)))
    return tuple(found)


def _number_of(patients: np.ndarray | None, rows: np.ndarray) -> int | None:
    return None if patients is None else len(np.unique(patients[rows]))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return None if value != value else value


def _side(content: Any, labels: Sequence[Any]) -> Side:
    _check_keys(content, Side)
    classes = tuple(ClassCount(label, _count(n), _count_or_none(patients)) for label, n, patients in content["classes"])
    if [each.label for each in classes] != list(labels):
        raise ModelFolderError(f"the counts are of {[each.label for each in classes]!r:.200}, not of {labels!r:.200}.")
    sketch = tuple(content["fingerprint"])
    if not all(isinstance(each, str) for each in sketch):
        raise ModelFolderError("a fingerprint must hold texts.")
    return Side(_count(content["n_images"]), _count_or_none(content["n_patients"]), classes, sketch)


def _validated(content: Any, labels: Sequence[Any]) -> Validated:
    _check_keys(content, Validated)
    if content["label"] not in labels:
        raise ModelFolderError(f"the validated label {content['label']!r:.200} is none of {labels!r:.200}.")
    value, low, high = (math.nan if one is None else _share(one) for one in content["auroc"])
    bins = tuple(
        Bin(_share(proba), _share(share), _share(low), _share(high), _count(n))
        for proba, share, low, high, n in content["reliability"]
    )
    return Validated(content["label"], Estimate(value, low, high), bins)


def _check_keys(content: Any, kind: type) -> None:
    wanted = {field.name for field in fields(kind)}
    if not isinstance(content, dict) or set(content) != wanted:
        raise ModelFolderError(f"a {kind.__name__} must hold {sorted(wanted)}. Got {content!r:.200}.")


def _share(value: Any) -> float:
    return check_number("share", value, caller="Provenance", low=0, high=1)


def _count(value: Any) -> int:
    return check_number("number", value, caller="Provenance", low=0, integer=True)


def _count_or_none(value: Any) -> int | None:
    return None if value is None else _count(value)
