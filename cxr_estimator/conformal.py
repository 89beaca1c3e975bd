"""Prediction sets with a promised coverage: split conformal prediction, by MAPIE.

`SCORES` is the one table of how unusual a class is for an image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError

from cxr_estimator._operating import judged
from cxr_estimator._optional import needed
from cxr_estimator._outputs import Task
from cxr_estimator._validation import check_choice, check_number, check_seed, invalid
from cxr_estimator.errors import DataError, ModelFolderError
from cxr_estimator.fingerprints import fingerprint

if TYPE_CHECKING:
    from cxr_estimator.classifier import CXRClassifier

SCORES: Mapping[str, str] = {
    "lac": "one minus the probability of the class: the smallest sets; an image that fits no class gets none",
    "aps": "the probability of all likelier classes together: never empty; for three classes or more",
}
_ANY = "lac"  # suits two classes as well


@dataclass(frozen=True, eq=False)
class Conformal:
    """What the network said to the images that prediction sets compare with: numbers only, no image.

    Attributes
    ----------
    method : str
        Key of `SCORES`.
    logits : ndarray (n, 1) or (n, K), float32
        Raw, so that a later calibration changes them as it changes those of new images. One image of each patient.
    target : ndarray (n,), int64
        Index of the true class.
    n_images : int
        How many images there were to choose from.
    fingerprint : tuple of str
        Sketch of the n images, see `fingerprints`.
    """

    method: str
    logits: np.ndarray
    target: np.ndarray
    n_images: int
    fingerprint: tuple[str, ...] = ()

    @property
    def n_patients(self) -> int:
        """How many images are compared with, one of each patient."""
        return len(self.target)

    def sets(self, proba_of: Callable[[np.ndarray], np.ndarray], logits: np.ndarray, coverage: float) -> np.ndarray:
        """Return the sets, bool (N, K), for raw logits (N, 1) or (N, K); `proba_of` makes probabilities of logits.

        Raises
        ------
        DataError
            Too few patients for this coverage.
        """
        _check_size(self.n_patients, coverage)
        return _sets(proba_of(self.logits), self.target, proba_of(logits), self.method, coverage)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON types, exactly."""
        lists = {"logits": self.logits.tolist(), "target": self.target.tolist(), "fingerprint": list(self.fingerprint)}
        return {**vars(self), **lists}

    @classmethod
    def from_dict(cls, content: dict[str, Any], task: Task, n_classes: int) -> Conformal:
        """Undo `to_dict` for a model of so many classes; raises ValueError, TypeError or LookupError otherwise."""
        caller = cls.__name__
        _check_method(content["method"], n_classes, caller)
        if task is Task.MULTILABEL:
            raise ModelFolderError("prediction sets are for one class per image.")
        target = [
            check_number("target", each, caller=caller, low=0, high=n_classes - 1, integer=True)
            for each in content["target"]
        ]
        if set(target) != set(range(n_classes)):
            raise ModelFolderError(f"the images of the prediction sets must be of each of {n_classes} classes.")
        logits = np.array(content["logits"])
        if logits.dtype.kind != "f" or logits.shape != (len(target), task.num_outputs(n_classes)):
            raise ModelFolderError(f"the logits of the prediction sets do not fit {len(target)} images.")
        with np.errstate(over="ignore"):
            logits = logits.astype(np.float32)
        if not np.isfinite(logits).all():
            raise ModelFolderError("the logits of the prediction sets hold numbers that are too large.")
        check_number("n_images", content["n_images"], caller=caller, low=len(target), integer=True)
        arrays = {"logits": logits, "target": np.array(target, dtype=np.int64)}
        return cls(**{**content, **arrays, "fingerprint": tuple(map(str, content["fingerprint"]))})


def conformalized(clf: CXRClassifier, X: Any, y: Any, *, groups: Any, method: Any, random_state: Any) -> Conformal:
    """Return what `Doubting.conformalize` keeps."""
    caller = "conformalize"
    clf._images(X)  # an unfitted estimator or wrong images, first
    if clf.task_ is Task.MULTILABEL:
        raise DataError(
            f"{caller}: a prediction set is a set of classes of which one is true, and here an image may have several "
            "labels. Operating points decide on each label by itself: see set_threshold."
        )
    _check_method(method, len(clf.classes_), caller)
    seed = check_seed(clf._default_seed if random_state is None else random_state, caller=caller)
    data = judged(clf, X, y, groups, caller=caller)
    rows = data.one_of_each_patient(seed)
    target = np.searchsorted(clf.classes_, data.labels[rows]).astype(np.int64)
    absent = np.setdiff1d(np.arange(len(clf.classes_)), target)
    if len(absent):
        raise DataError(
            f"{caller}: there must be images of each class. Of {clf.classes_[absent].tolist()} there are none (one "
            "image of each patient counts)."
        )
    sketch = fingerprint(data.content_ids[rows].tolist())
    return Conformal(method, data.logits[rows], target, len(data.labels), sketch)


def prediction_sets(clf: CXRClassifier, X: Any, coverage: Any) -> np.ndarray:
    """Return what `Doubting.predict_set` does, bool (N, K)."""
    caller = "predict_set"
    clf._images(X)
    coverage = float(check_number("coverage", coverage, caller=caller, low=0.5, high=1, open_high=True))
    known = clf.conformal_
    if known is None:
        raise NotFittedError(f"{caller} needs images to compare with: call conformalize(X, y) first.")
    _check_size(known.n_patients, coverage)  # before any image is read
    logits = clf._logits(X)
    readable = ~np.isnan(logits).any(axis=1)
    found = np.ones((len(logits), len(clf.classes_)), dtype=bool)
    if readable.any():
        found[readable] = known.sets(clf._proba, logits[readable], coverage)
    return found


def _sets(proba: np.ndarray, target: np.ndarray, new: np.ndarray, method: str, coverage: float) -> np.ndarray:
    """Return the sets (N, K) for probabilities `new` (N, K), from those of images (n, K) of known classes (n,)."""
    mapie = needed("mapie.classification", "mapie", extra="conformal", caller="predict_set")
    judge = mapie.SplitConformalClassifier(
        _Probabilities(new.shape[1]), confidence_level=coverage, conformity_score=_score(method)
    )
    _, sets = judge.conformalize(proba, target).predict_set(new)
    return sets[:, :, 0]


def _score(method: str) -> Any:
    """Return MAPIE's score.

    Its "aps" scores known images with a random part of the true class's own probability, but new ones with none, so
    that 95% instead of 80% were covered on radiographs. Here neither has it: no chance, and no more than was asked for.
    """
    if method == "lac":
        return method
    from mapie.conformity_scores import APSConformityScore

    class Likelier(APSConformityScore):
        def get_conformity_scores(self, y: Any, y_pred: Any, y_enc: Any = None, **others: Any) -> np.ndarray:
            up_to, self.cutoff = self.get_true_label_cumsum_proba(y, y_pred, self.classes)
            return up_to - np.take_along_axis(y_pred, y_enc[:, None], axis=1)

    return Likelier()


class _Probabilities(ClassifierMixin, BaseEstimator):
    """A classifier, to MAPIE, whose input are the probabilities themselves."""

    def __init__(self, n_classes: int) -> None:
        self.n_classes = n_classes
        self.classes_ = np.arange(n_classes)

    def fit(self, X: Any, y: Any) -> _Probabilities:  # never called
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return X

    def predict(self, X: np.ndarray) -> np.ndarray:
        return X.argmax(axis=1)


def _check_method(method: Any, n_classes: int, caller: str) -> None:
    check_choice("method", method, SCORES, caller=caller)
    if n_classes == 2 and method != _ANY:
        raise invalid("method", caller, f"{_ANY!r} where there are two classes", method)


def _check_size(n_patients: int, coverage: float) -> None:
    """Raise where the quantile would be beyond the largest score; MAPIE wants one patient more than the theory."""
    alpha = float(1 - Decimal(str(coverage)))  # as MAPIE does it: 1 - 0.9 is not 0.1
    if n_patients < 1.0 / alpha:
        allowed = math.floor((1.0 - 1.0 / n_patients) * 10_000) / 10_000
        raise DataError(
            f"predict_set: a coverage of {coverage:g} needs {math.ceil(1.0 / alpha)} patients (images, where there "
            f"are no patients) to compare with, and conformalize had {n_patients}. These allow a coverage of up to "
            f"{allowed:g}."
        )
