"""The half of an estimator that says how far an answer can be trusted, and when to give none."""

from __future__ import annotations

from typing import Any

from cxr_estimator.uncertainty import Uncertainty, sample


class Doubting:
    """Uncertainty, prediction sets, abstention and out-of-distribution checks, from what `Deciding` offers.

    `self` is of any type where work is handed on together with the estimator: a `CXRClassifier` or a `CXREnsemble`.
    """

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
