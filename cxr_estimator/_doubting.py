"""The half of an estimator that says how far an answer can be trusted, and when to give none."""

from __future__ import annotations

from typing import Any

import numpy as np

from cxr_estimator import _checking
from cxr_estimator.ood import ImageCheck, OodStatistics


class Doubting:
    """Uncertainty, prediction sets, abstention and out-of-distribution checks, from what `Deciding` offers.

    `self` is of any type where work is handed on together with the estimator: a `CXRClassifier` or a `CXREnsemble`.
    """

    ood_: OodStatistics | None

    # -- out of distribution ------------------------------------------------------------------------------------------

    def fit_ood(self: Any, X, *, groups=None, random_state=None) -> Any:
        """Learn what ordinary images are like, for `check_images`; `fit` does so by itself where it can.

        Half of the patients give the statistics, half the cut-off; one image of each is drawn, of 3,000 at most.
        Replaces earlier statistics. Nothing that is kept shows a patient; see `ood`.

        Parameters
        ----------
        X : images
            Ordinary ones, from where the model will be used. Not those the network was trained on: what it makes of
            these is not what it makes of new ones.
        groups : sequence of N patients, optional
            Without them each image counts as a patient.
        random_state : int, optional
            Default: that of the estimator.

        Raises
        ------
        DataError
            Readable images of fewer than 40 patients.
        """
        self.ood_ = _checking.learn_from_images(self, X, groups, random_state)
        return self

    def ood_score(self: Any, X) -> np.ndarray:
        """Return how unlike images are to those the network was trained on, (N,), float32; higher = stranger.

        0 is the median of held-out patients. With `on_error="skip"` that of an unreadable image is NaN, and a warning
        lists it.
        """
        return _checking.ood_score(self, X)

    def check_images(self: Any, X, *, false_alarm_rate=_checking.FALSE_ALARM_RATE) -> ImageCheck:
        """Say which images are so unusual that the answer should not be relied on, and why.

        Parameters
        ----------
        X : images
        false_alarm_rate : float in (0, 1), default=0.05
            The share of ordinary images, of new patients from where the held-out ones came, that may be called unusual.
            It is kept with 95% confidence where enough patients were held out (59 for 0.05), else on average.

        Returns
        -------
        ImageCheck
            `score`, `p_value`, `is_unusual`, `reason`, `correction` and `sentences`. Of a network on grey images the
            colour of an image plays no part.

        Raises
        ------
        DataError
            The model has no statistics (`ood_` is None).
        InvalidParameterError
            A rate that so few held-out patients cannot tell.
        """
        return _checking.check_images(self, X, false_alarm_rate).check
