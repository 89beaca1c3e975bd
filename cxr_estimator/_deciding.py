"""The half of an estimator that turns what the network says into probabilities and decisions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from cxr_estimator import _decisions, _operating
from cxr_estimator._outputs import Task
from cxr_estimator._validation import invalid
from cxr_estimator.abstention import Abstention
from cxr_estimator.calibration import Calibration, label_log_odds
from cxr_estimator.images import ImageSequence
from cxr_estimator.inference import Logits
from cxr_estimator.statistics import N_RESAMPLES
from cxr_estimator.thresholds import OperatingPoint


class Deciding(ABC):
    """Probabilities, operating points, calibration, decisions, from `_images` and `_run` of the estimator.

    Where work is handed on together with the estimator, `self` is of any type: a `CXRClassifier` or a `CXREnsemble`.
    """

    classes_: np.ndarray
    pos_label_: Any
    operating_points_: dict[str, OperatingPoint]
    calibration_: Calibration | None
    abstention_: Abstention | None
    active_points_: tuple[str, ...]
    task_: Task

    @property
    def threshold_(self: Any) -> float | None:
        """The active operating point as a probability of `pos_label_`; None for several classes."""
        check_is_fitted(self, "classes_")
        name = self.active_point_
        return None if name is None else self.thresholds_[name]

    @property
    def active_point_(self) -> str | None:
        """The name of the operating point that decides between two classes; None for several, or several labels."""
        check_is_fitted(self, "classes_")
        return self.active_points_[0] if self.task_ is Task.BINARY else None

    @property
    def thresholds_(self: Any) -> dict[str, float]:
        """The probability from which each operating point counts its label as present.

        Calibrated. Only of several classes it is the network's own, before any calibration: calibrated probabilities
        depend on all classes, and no single one of them decides.
        """
        check_is_fitted(self, "classes_")
        return {name: _operating.threshold_of(self, point) for name, point in self.operating_points_.items()}

    def decision_function(self, X) -> np.ndarray:
        """Return calibrated log-odds of `classes_[1]`, (N,), logits (N, K) of K > 2 classes, or log-odds of labels.

        The operating point does not shift them. With `on_error="skip"` the row of an unreadable image is NaN.
        """
        logits = self._calibrated(self._logits(X))
        return logits[:, 0] if self.task_ is Task.BINARY else logits

    def predict_proba(self, X) -> np.ndarray:
        """Return probabilities (N, K), float64, columns in the order of `classes_`, in as many rows as X has.

        Those of several labels per image are independent. With `on_error="skip"` the row of an unreadable image is NaN,
        and a warning lists it.
        """
        return self._proba(self._logits(X))

    def predict(self: Any, X, operating_point=None) -> np.ndarray:
        """Return labels (N,): `pos_label_` from the operating point on; of several classes the likeliest.

        Of several labels per image 1 or 0 for each, (N, K) int64, by the operating point of each. With
        `on_error="skip"` the label of an unreadable image is None, and its row NaN.

        Parameters
        ----------
        X : images
        operating_point : str, optional
            Key of `operating_points_`, for two classes; default: the one that was set last.
        """
        check_is_fitted(self, "classes_")
        point = _decisions.deciding_point(self, operating_point, "predict")
        return _decisions.said(self, self._logits(X), point)

    def flag(self: Any, X, operating_point=None) -> np.ndarray:
        """Return which images (N,) an operating point counts as positive: True, False, or None for an unreadable one.

        Parameters
        ----------
        X : images
        operating_point : str, optional
            Key of `operating_points_`; default, for two classes: the one that was set last.
        """
        check_is_fitted(self, "classes_")
        point = _decisions.named_point(self, operating_point, "flag")
        if point is None:
            raise invalid("operating_point", "flag", f"one of {list(self.operating_points_)}", None)
        logits = self._logits(X)
        unreadable = np.isnan(logits).any(axis=1)
        found = point.is_positive(self._scores(logits, point.label))
        if unreadable.any():
            found = found.astype(object)
            found[unreadable] = None
        return found

    def score(self: Any, X, y, sample_weight=None) -> float:
        """Return the accuracy, in [0, 1], of `predict` on images X with true labels y (N,).

        Of several labels per image, y (N, K): the share of images with all labels right, among those with all known.

        With `on_error="skip"` an unreadable image counts as wrong, so that none can improve the score by being
        unreadable; a warning lists them. `evaluate` leaves them out instead, and says how many.

        `sample_weight` (N,) are numbers that are not negative.
        """
        return _decisions.score(self, X, y, sample_weight)

    def set_threshold(
        self: Any,
        rule,
        *,
        X=None,
        y=None,
        groups=None,
        label=None,
        name=None,
        n_resamples=N_RESAMPLES,
        augment=None,
        copies=4,
        **options,
    ) -> Any:
        """Choose an operating point and keep it under `name`. `predict` uses it from now on, but for several classes.

        Parameters
        ----------
        rule : float in (0, 1), str or OperatingPoint
            A probability of the label; a rule applied to X and y; or a point that `cross_val_threshold` chose. Rules,
            the keys of `thresholds.RULES`: "youden" (largest sensitivity + specificity), "sensitivity" (largest
            specificity among the cut-offs with at least that sensitivity), "specificity" (the other way round),
            "f_beta" and "cost" (least expected cost). Of equally good cut-offs the highest is taken.
            "sensitivity>=0.95" is short for "sensitivity" and `at_least=0.95`.
        X, y : images and labels, for a rule
            Not the images the network was trained on, nor those it will be judged on: their fingerprint is kept, and
            `evaluate` warns of images that it knows.
        groups : sequence of N patients, optional
            For the intervals; without them each image counts as one.
        label : label, optional
            Of several classes the one that this point decides for, against all others; `predict` stays the likeliest
            class, and `flag` asks the point. Of several labels per image the one it decides on. Default: `pos_label_`.
        name : str, optional
            Such as "screening" or "rule_in". Default: "default", or the label where there are not two classes.
        n_resamples : int, default=1000
            Of the bootstrap over patients.
        augment : {"light", "strong", "robust"}, optional
            Let each image choose together with randomly changed copies of itself, all weighted equally, as other
            scanners might show it; see `docs/evaluation.md`. A copy counts as its patient's. All that is random follows
            from `random_state`, the image's content and the number of the copy. Keys of `augmentation.AUGMENTATIONS`.
        copies : int, default=4
            How many of each image, 1 to 1,000.
        **options
            Of the rule: `at_least` in (0, 1] for "sensitivity" and "specificity"; `beta` (default 1) for "f_beta";
            `false_negative_cost`, `false_positive_cost` and, if not as in y, `prevalence` for "cost".

        Raises
        ------
        DataError
            Images of one label only, or no cut-off that does what was asked: the message says what is attainable.
        """
        if isinstance(rule, OperatingPoint):
            given = {"X": X, "y": y, "groups": groups, "label": label, "augment": augment, **options}
            point = _operating.ready_point(self, rule, name, given)
        else:
            point = _operating.operating_point(
                self,
                rule,
                X,
                y,
                groups=groups,
                label=label,
                name=name,
                n_resamples=n_resamples,
                augment=augment,
                copies=copies,
                options=options,
            )
        self.active_points_ = _operating.with_point(self, point)
        self.operating_points_ = {**self.operating_points_, point.name: point}
        return self

    def calibrate(
        self: Any, X, y=None, *, groups=None, method="temperature", prevalence=None, augment=None, copies=4
    ) -> Any:
        """Make the probabilities agree with observed frequencies; replaces an earlier calibration.

        The weights of the classes in the loss are undone first: they shift all log-odds by a known amount. Operating
        points that a rule chose keep their decisions, and get the probability that now belongs to them; one that was
        given as a number keeps the number, and so decides anew.

        Explanations and their metrics speak of the network's own output, before calibration. What `set_abstention`
        chose is dropped: it spoke of the old probabilities.

        Parameters
        ----------
        X, y : images and labels
            Not the images the network was trained on, nor those it will be judged on. Or X alone: a Calibration that
            `cross_val_calibration` fitted.
        groups : sequence of N patients, optional
        method : {"temperature", "platt", "isotonic"}, default="temperature"
            Keys of `calibration.CALIBRATORS`; they need 10, 20 and 50 images of each class.
        prevalence : float or dict of label to float, optional
            Share of the positive label (or of each class) where the model will be used, if not as among these images.
        augment, copies
            As for `set_threshold`: fit it to changed copies of the images as well.

        Raises
        ------
        DataError
            Too few images of a class, or "isotonic" would merge an operating point with its neighbours.
        InvalidParameterError
            A Calibration for another task or number of classes, or with other parameters beside it.
        """
        if isinstance(X, Calibration):
            other = None if method in ("temperature", X.method) else method
            given = {"y": y, "groups": groups, "method": other, "prevalence": prevalence, "augment": augment}
            new = _operating.ready_calibration(self, X, given)
        else:
            new = _operating.calibration(
                self, X, y, groups=groups, method=method, prevalence=prevalence, augment=augment, copies=copies
            )
        self.operating_points_ = _operating.recalibrated_points(self, new)
        self.calibration_, self.abstention_ = new, None
        return self

    @abstractmethod
    def _images(self, X: Any) -> ImageSequence:
        """Return X as images that this fitted estimator can judge."""

    @abstractmethod
    def _run(self, X: Any) -> Logits:
        """Return the raw logits of each image, and which images could be read; the others are reported."""

    def _logits(self, X: Any) -> np.ndarray:
        """Return the network's own logits (N, 1) or (N, K), float32; a row of NaN for an unreadable image."""
        return self._run(X).values

    def _calibrated(self, logits: np.ndarray) -> np.ndarray:
        """Return calibrated logits, float64, of the same shape."""
        return logits.astype(np.float64) if self.calibration_ is None else self.calibration_(logits)

    def _proba(self, logits: np.ndarray, *, calibrated: bool = True) -> np.ndarray:
        """Return the probabilities (N, K) for the network's own logits."""
        logits = self._calibrated(logits) if calibrated else logits.astype(np.float64)
        return self.task_.proba(torch.from_numpy(logits)).numpy()

    def _scores(self, logits: np.ndarray, label: Any = None) -> np.ndarray:
        """Return the raw log-odds (N,) of a label, by default of `pos_label_`, against all others."""
        place = self.classes_.tolist().index(self.pos_label_ if label is None else label)
        return label_log_odds(logits, self.task_)[:, place]

    def _decide(self: Any, logits: np.ndarray) -> np.ndarray:
        """Return the index (N,) of the decided class, or 1 or 0 for each of several labels (N, K)."""
        return _decisions.decided(self, logits)
