"""The half of `CXRClassifier` that turns what the network says into probabilities and decisions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from cxr_estimator import _operating, _predicting
from cxr_estimator._outputs import Task
from cxr_estimator._validation import invalid
from cxr_estimator.attribution import TargetRule
from cxr_estimator.calibration import Calibration
from cxr_estimator.statistics import N_RESAMPLES
from cxr_estimator.thresholds import DEFAULT_POINT, OperatingPoint


class Deciding:
    """Probabilities, operating points, calibration, decisions of a `CXRClassifier`.

    Where work is handed on together with the classifier, `self` is of any type: it is always a `CXRClassifier`.
    """

    task_: Task
    classes_: np.ndarray
    pos_label_: Any
    operating_points_: dict[str, OperatingPoint]
    calibration_: Calibration | None
    active_point_: str | None

    @property
    def threshold_(self: Any) -> float | None:
        """The active operating point as a probability of `pos_label_`; None for several classes."""
        check_is_fitted(self, "model_")
        return None if self.active_point_ is None else self.thresholds_[self.active_point_]

    @property
    def thresholds_(self: Any) -> dict[str, float]:
        """The probability from which each operating point counts its label as present.

        Calibrated for two classes. Of several classes it is the network's own: calibrated ones depend on all classes.
        """
        check_is_fitted(self, "model_")
        return {name: _operating.threshold_of(self, point) for name, point in self.operating_points_.items()}

    def decision_function(self, X) -> np.ndarray:
        """Return the calibrated log-odds of `classes_[1]`, (N,), or the logits (N, K) of K > 2 classes; float64.

        Of several labels per image the log-odds (N, K). The operating point does not shift them. With `on_error="skip"`
        the row of an unreadable image is NaN.
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

        Of several labels per image 1 or 0 for each, (N, K) int64. With `on_error="skip"` the label of an unreadable
        image is None, and its row NaN.

        Parameters
        ----------
        X : images
        operating_point : str, optional
            Key of `operating_points_`, for two classes; default: the one that was set last.
        """
        check_is_fitted(self, "model_")
        if operating_point is not None and self.task_ is not Task.BINARY:
            raise invalid("operating_point", "predict", "None for several classes; `flag` asks one", operating_point)
        point = _operating.named_point(self, operating_point, "predict")
        logits = self._logits(X)
        return _predicting.labels(self, self._decide(logits, point), logits)

    def flag(self: Any, X, operating_point=None) -> np.ndarray:
        """Return which images (N,) an operating point counts as positive: True, False, or None for an unreadable one.

        Parameters
        ----------
        X : images
        operating_point : str, optional
            Key of `operating_points_`; default, for two classes: the one that was set last.
        """
        check_is_fitted(self, "model_")
        point = _operating.named_point(self, operating_point, "flag")
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
        return _predicting.score(self, X, y, sample_weight)

    def set_threshold(
        self: Any,
        rule,
        *,
        X=None,
        y=None,
        groups=None,
        label=None,
        name=DEFAULT_POINT,
        n_resamples=N_RESAMPLES,
        **options,
    ) -> Any:
        """Choose an operating point and keep it under `name`. Of two classes it is what `predict` uses from now on.

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
            class, and `flag` asks the point. Default: `pos_label_`.
        name : str, default="default"
            Such as "screening" or "rule_in".
        n_resamples : int, default=1000
            Of the bootstrap over patients.
        **options
            Of the rule: `at_least` in (0, 1] for "sensitivity" and "specificity"; `beta` (default 1) for "f_beta";
            `false_negative_cost`, `false_positive_cost` and, if not as in y, `prevalence` for "cost".

        Raises
        ------
        DataError
            Images of one label only, or no cut-off that does what was asked: the message says what is attainable.
        """
        if isinstance(rule, OperatingPoint):
            check_is_fitted(self, "model_")
            label = _operating.point_label(self, rule.label, "set_threshold")
            point = replace(rule, label=label, name=rule.name if name == DEFAULT_POINT else name)
        else:
            point = _operating.operating_point(
                self, rule, X, y, groups=groups, label=label, name=name, n_resamples=n_resamples, options=options
            )
        self.operating_points_ = {**self.operating_points_, point.name: point}
        if self.task_ is Task.BINARY:
            self.active_point_ = point.name
        return self

    def calibrate(self: Any, X, y, *, groups=None, method="temperature", prevalence=None) -> Any:
        """Make the probabilities agree with observed frequencies; replaces an earlier calibration.

        The weights of the classes in the loss are undone first: they shift all log-odds by a known amount. Operating
        points that a rule chose keep their decisions, and get the probability that now belongs to them; one that was
        given as a number keeps the number, and so decides anew.

        Explanations and their metrics speak of the network's own output, before calibration.

        Parameters
        ----------
        X, y : images and labels
            Not the images the network was trained on, nor those it will be judged on.
        groups : sequence of N patients, optional
        method : {"temperature", "platt", "isotonic"}, default="temperature"
            Keys of `calibration.CALIBRATORS`; they need 10, 20 and 50 images of each class.
        prevalence : float or dict of label to float, optional
            Share of the positive label (or of each class) where the model will be used, if not as among these images.

        Raises
        ------
        DataError
            Too few images of a class, or "isotonic" would merge an operating point with its neighbours.
        """
        new = _operating.calibration(self, X, y, groups=groups, method=method, prevalence=prevalence)
        self.operating_points_ = _operating.recalibrated_points(self, new)
        self.calibration_ = new
        return self

    def _logits(self: Any, X: Any) -> np.ndarray:
        """Return the network's own logits (N, 1) or (N, K), float32; a row of NaN for an unreadable image."""
        return _predicting.run_network(self, X).values

    def _calibrated(self, logits: np.ndarray) -> np.ndarray:
        """Return calibrated logits, float64, of the same shape."""
        return logits.astype(np.float64) if self.calibration_ is None else self.calibration_(logits)

    def _proba(self, logits: np.ndarray, *, calibrated: bool = True) -> np.ndarray:
        """Return the probabilities (N, K) for the network's own logits."""
        if calibrated:
            logits = self._calibrated(logits)
        return self.task_.proba(torch.from_numpy(logits.astype(np.float64))).numpy()

    def _scores(self, logits: np.ndarray, label: Any = None) -> np.ndarray:
        """Return the raw log-odds (N,) of a label, by default of `pos_label_`, against all others."""
        label = self.pos_label_ if label is None else label
        place = self.classes_.tolist().index(label)
        return self.task_.log_odds(torch.from_numpy(logits.astype(np.float64))).numpy()[:, place]

    def _decide(self, logits: np.ndarray, point: OperatingPoint | None = None) -> np.ndarray:
        """Return the index (N,) of the decided class, by the active operating point or another one.

        Of several labels per image 1 or 0 for each, (N, K): from a probability of 0.5 on.
        """
        if self.task_ is Task.MULTILABEL:
            return (logits >= 0.0).astype(np.int64)
        return self._target_rule(point=point).predicted(torch.from_numpy(logits)).numpy()

    def _target_rule(
        self: Any, index: torch.Tensor | None = None, *, margin: bool = False, point: OperatingPoint | None = None
    ) -> TargetRule:
        if self.task_ is not Task.BINARY:
            return TargetRule(None, index=index, margin=margin, task=self.task_)
        positive_index = int(self.pos_label_ == self.classes_[1])
        point = point or _operating.named_point(self, None, "predict")
        return TargetRule(point, positive_index, index, margin, self.task_)
