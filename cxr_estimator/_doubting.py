"""The half of an estimator that says how far an answer can be trusted, and when to give none."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from cxr_estimator import _checking, abstention
from cxr_estimator.abstention import Abstention, SelectivePrediction
from cxr_estimator.conformal import Conformal, conformalized, prediction_sets
from cxr_estimator.ood import ImageCheck, OodStatistics
from cxr_estimator.uncertainty import Uncertainty, sample


class Doubting:
    """Uncertainty, prediction sets, abstention and out-of-distribution checks, from what `Deciding` offers.

    `self` is of any type where work is handed on together with the estimator: a `CXRClassifier` or a `CXREnsemble`.
    """

    abstention_: Abstention | None
    conformal_: Conformal | None
    ood_: OodStatistics | None

    def uncertainty(
        self: Any,
        X,
        *,
        method=None,
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
        method : {"test_time_augmentation", "mc_dropout", "ensemble"}, optional
            Keys of `uncertainty.SAMPLERS`. Default: "ensemble" for a `CXREnsemble`, which the others do not suit, else
            "test_time_augmentation". "mc_dropout" needs a network with dropout, see the parameter `dropout`.
        n_samples : int, default=20
            T, and so the number of passes through the network; for "mc_dropout" mostly of its last layers only. An
            ensemble asks each member once.
        random_state : int, optional
            Default: that of the classifier.
        progress : callable, optional
            Called as `progress(done, total)`, in images and fractions of one. What it raises stops the work; of an
            ensemble it is called once, at the end.
        **options
            `augment` in {"light", "strong", "robust"} for "test_time_augmentation".

        Raises
        ------
        UnsupportedMethodError
            "mc_dropout" of a network without dropout, "ensemble" of a single one, or the others of an ensemble.
        """
        return sample(
            self, X, method=method, n_samples=n_samples, random_state=random_state, progress=progress, **options
        )

    def conformalize(self: Any, X, y, *, groups=None, method="lac", random_state=None) -> Any:
        """Keep what the network says to images of known classes, for `predict_set` to compare with; return self.

        What is kept, `conformal_`, are outputs of the network and no images. A later `calibrate` changes them as it
        changes those of new images.

        Parameters
        ----------
        X, y : images and labels
            Such as the images to come will be, in the same mixture of classes. Not the images that the network was
            trained on, nor those that chose its thresholds or calibrated it, nor those it will be judged on.
        groups : sequence of N patients, optional
            Images of one patient resemble each other, so that one random image of each patient is used: patients, not
            images, are exchangeable. Without groups each image counts as a patient of its own.
        method : {"lac", "aps"}, default="lac"
            Keys of `conformal.SCORES`. "aps" is for three classes or more.
        random_state : int, optional
            Default: that of the estimator.

        Raises
        ------
        DataError
            Several labels per image, for which no set of classes is defined, or no image of a class.

        References
        ----------
        Sadinle, Lei & Wasserman (2019), Least ambiguous set-valued classifiers with bounded error levels, JASA 114,
        doi:10.1080/01621459.2017.1395341 (lac)
        Romano, Sesia & Candes (2020), Classification with valid and adaptive coverage, NeurIPS, arXiv:2006.02544 (aps,
        here with the true class itself left out of the score instead of a random part of it, so that nothing is random)
        Dunn, Wasserman & Ramdas (2022), Distribution-free prediction sets for two-layer hierarchical models, JASA,
        doi:10.1080/01621459.2022.2060112 (patients)
        """
        self.conformal_ = conformalized(self, X, y, groups=groups, method=method, random_state=random_state)
        return self

    def predict_set(self: Any, X, *, coverage=0.9) -> np.ndarray:
        """Return which classes cannot be excluded, bool (N, K), columns as in `classes_`.

        Of the patients to come, a random image of at least this share will have its true class in its set, if they
        are as those of `conformalize`: on average over such sets of patients, over all classes together, and not for
        each class by itself. The share is exceeded by at most 1 / (n + 1), unless many probabilities are equal, as
        after isotonic calibration; by "aps" also where the likeliest class alone is right more often than that, since
        it is always in the set.

        A set of several classes, or an empty one (no class fits the image; "lac" only), is a reason not to answer. All
        classes are in the set of an image that could not be read with `on_error="skip"`.

        Parameters
        ----------
        X : images
        coverage : float in [0.5, 1), default=0.9

        Raises
        ------
        NotFittedError
            There was no `conformalize`.
        DataError
            Too few patients for this coverage; the message says how many it takes, and which coverage they allow.
        MissingPackageError
            Needs the package mapie: `pip install 'cxr_estimator[conformal]'`.
        """
        return prediction_sets(self, X, coverage)

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
        answer_unusual=False,
        random_state=None,
        progress=None,
    ) -> Any:
        """Choose from how much doubt on `predict_with_abstention` gives no answer.

        `abstention_` tells what it comes to on these images: the share answered, and of how many the answer is wrong.

        Parameters
        ----------
        X, y : images and labels
            Not the images the network was trained on, nor those it will be judged on.
        doubt : str or list of str, default="probability"
            Keys of `doubts.DOUBTS`: "probability" (near the operating point), "test_time_augmentation",
            "mc_dropout", "ensemble" (where repeated answers differ) and "explanation" (where the Grad-CAM map changes
            with small shifts of the image). Several are ranked among these images, and averaged.
        coverage : float in (0, 1], optional
            Share of the images that is to be answered, of those that are not unusual.
        max_error : float in (0, 1), optional
            Instead: answer as many as possible while at most this share of the answers is wrong.
        confidence : float in (0, 1), default=0.95
            With which `max_error` holds, for images of other patients drawn like these.
        groups : sequence of N patients, optional
            For the intervals, and for `max_error`, which then rests on one random image of each patient.
        operating_point : str, optional
            Key of `operating_points_` that decides between two classes; default: the one that was set last.
        answer_unusual : bool, default=False
            Whether images are answered that `check_images` calls unusual, where the estimator can tell (`ood_`).
            However sure a network is of them, nothing is known of its errors there.
        random_state : int, optional
            Default: that of the estimator.
        progress : callable, optional
            Called as `progress(done, total)`, in images. What it raises stops the work.

        Raises
        ------
        DataError
            The error cannot be promised on so few images; or several labels per image, which have no one answer.
        """
        check_is_fitted(self, "classes_")
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
            answer_unusual=answer_unusual,
            random_state=random_state,
            progress=progress,
        )
        return self

    def predict_with_abstention(self: Any, X, *, progress=None) -> SelectivePrediction:
        """Return labels where the estimator is sure enough, as `set_abstention` has chosen, and None elsewhere.

        Parameters
        ----------
        X : images
        progress : callable, optional
            As for `set_abstention`.

        Returns
        -------
        SelectivePrediction
            `labels` (N,), `answered` (N,), `doubt` (N,) and `reasons`: why there is no answer.
        """
        check_is_fitted(self, "classes_")
        return abstention.predict(self, X, progress)

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
        self.ood_ = _checking.learn_from_images(self._members()[0], X, groups, random_state)
        return self

    def ood_score(self: Any, X) -> np.ndarray:
        """Return how unlike images are to those the network was trained on, (N,), float32; higher = stranger.

        With `on_error="skip"` that of an unreadable image is NaN, and a warning lists it.
        """
        return _checking.ood_score(self._members()[0], X)

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
        return _checking.check_images(self._members()[0], X, false_alarm_rate).check
