"""The half of an estimator that says how far an answer can be trusted, and when to give none."""

from __future__ import annotations

from typing import Any

from sklearn.utils.validation import check_is_fitted

from cxr_estimator import abstention
from cxr_estimator.abstention import Abstention, SelectivePrediction
from cxr_estimator.uncertainty import Uncertainty, sample


class Doubting:
    """Uncertainty, prediction sets, abstention and out-of-distribution checks, from what `Deciding` offers.

    `self` is of any type where work is handed on together with the estimator: a `CXRClassifier` or a `CXREnsemble`.
    """

    abstention_: Abstention | None

    def uncertainty(
        self: Any,
        X,
        *,
        method="test_time_augmentation",
        n_samples=20,
        random_state=None,
        progress=None,
        **options,
    ) -> Uncertainty:
        """Ask for each image several times, and tell how much the answers differ.

        Probabilities are calibrated as those of `predict_proba`. The samples of an image follow from the seed and its
        content, so they do not depend on which images stand beside it.

        Parameters
        ----------
        X : images
            With `on_error="skip"` the rows of unreadable images are NaN.
        method : {"test_time_augmentation", "mc_dropout"}, default="test_time_augmentation"
            Keys of `uncertainty.SAMPLERS`. "mc_dropout" needs a network with dropout, see the parameter `dropout`.
        n_samples : int, default=20
            T, and so the number of passes through the network; for "mc_dropout" mostly of its last layers only.
        random_state : int, optional
            Default: that of the classifier.
        progress : callable, optional
            Called as `progress(done, total)`, in images and fractions of one. What it raises stops the work.
        **options
            `augment` in {"light", "strong"} for "test_time_augmentation".

        Raises
        ------
        UnsupportedMethodError
            "mc_dropout" of a network without dropout.
        """
        return sample(
            self, X, method=method, n_samples=n_samples, random_state=random_state, progress=progress, **options
        )

    def set_abstention(
        self: Any,
        X,
        y,
        *,
        doubt="probability",
        coverage=None,
        max_error=None,
        confidence=0.95,
        groups=None,
        operating_point=None,
        random_state=None,
    ) -> Any:
        """Choose from how much doubt on `predict_with_abstention` gives no answer.

        `abstention_` tells what it comes to on these images: the share answered, and of how many the answer is wrong.

        Parameters
        ----------
        X, y : images and labels
            Not the images the network was trained on, nor those it will be judged on.
        doubt : str or list of str, default="probability"
            Keys of `abstention.DOUBTS`: "probability" (near the operating point), "test_time_augmentation",
            "mc_dropout", "ensemble" (where repeated answers differ) and "explanation" (where the Grad-CAM map changes
            with small shifts of the image). Several are ranked among these images, and averaged.
        coverage : float in (0, 1], optional
            Share of such images that is to be answered.
        max_error : float in (0, 1), optional
            Instead: answer as many as possible while at most this share of the answers is wrong.
        confidence : float in (0, 1), default=0.95
            With which `max_error` holds, for images of other patients drawn like these.
        groups : sequence of N patients, optional
            For the intervals, and for `max_error`, which then rests on one random image of each patient.
        operating_point : str, optional
            Key of `operating_points_` that decides between two classes; default: the one that was set last.
        random_state : int, optional
            Default: that of the estimator.

        Raises
        ------
        DataError
            The error cannot be promised on so few images; or several labels per image, which have no one answer.
        """
        self.abstention_ = abstention.choose(
            self,
            X,
            y,
            doubt=doubt,
            coverage=coverage,
            max_error=max_error,
            confidence=confidence,
            groups=groups,
            operating_point=operating_point,
            random_state=random_state,
        )
        return self

    def predict_with_abstention(self: Any, X) -> SelectivePrediction:
        """Return labels where the estimator is sure enough, as `set_abstention` has chosen, and None elsewhere.

        The result has `labels` (N,), `answered` (N,), `doubt` (N,) and `reasons`: why there is no answer.
        """
        check_is_fitted(self, "classes_")
        return abstention.predict(self, X)
