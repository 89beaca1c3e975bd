"""CXREnsemble: several networks that answer, and are explained, as one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from cxr_estimator import _ensembling
from cxr_estimator._deciding import Deciding
from cxr_estimator._doubting import Doubting
from cxr_estimator._fitting import initial_points
from cxr_estimator._outputs import Task
from cxr_estimator._predicting import run_members
from cxr_estimator._sharing import Sharing
from cxr_estimator._validation import invalid
from cxr_estimator.card import ModelCard
from cxr_estimator.classifier import CXRClassifier
from cxr_estimator.images import ImageSequence
from cxr_estimator.inference import Logits
from cxr_estimator.ood import OodStatistics


class CXREnsemble(Deciding, Doubting, Sharing, ClassifierMixin, BaseEstimator):
    """Several classifiers whose mean log-odds decide (a deep ensemble).

    The logit of the ensemble is the mean of its members' logits, that is, their odds are pooled geometrically. Unlike
    the mean of probabilities this keeps what explains the ensemble simple: of every method that is linear in the
    network (gradients, integrated gradients, SHAP, occlusion) the mean of the members' maps is exactly the map of the
    ensemble, and sums to what it should. Where members disagree is its uncertainty.

    Operating points, calibration, prediction sets and evaluation work as those of a `CXRClassifier`, on the mean; those
    that members may have had are not used.

    Parameters
    ----------
    estimator : CXRClassifier
        The template; each member is a clone of it with a seed of its own. Later changes of its device, precision,
        batch size, `n_jobs`, `cache_dir`, `verbose` and `on_error` apply to all members.
    n_estimators : int, default=5
        Number of members, 2 to 100.
    random_state : int, RandomState, Generator or None, default=None
        Seeds the members. Default: that of the template.

    Attributes
    ----------
    estimators_ : list of CXRClassifier
    task_, classes_, pos_label_, threshold_, thresholds_, operating_points_, calibration_, conformal_,
    class_weights_
        As those of a `CXRClassifier`.

    References
    ----------
    Lakshminarayanan et al. (2017), "Simple and scalable predictive uncertainty estimation using deep ensembles",
    arXiv:1612.01474, who average probabilities.

    Examples
    --------
    >>> from cxr_estimator import CXRClassifier, CXREnsemble, make_phantoms
    >>> data = make_phantoms(40, size=32, random_state=0)
    >>> one = CXRClassifier("plain_cnn", image_size=32, max_epochs=1, pos_label="PNEUMONIA", random_state=0)
    >>> ensemble = CXREnsemble(one, n_estimators=2).fit(data.X, data.y, groups=data.groups)
    >>> ensemble.predict_proba(data.X[:3]).shape, ensemble.explain(data.X[:3]).values.shape
    ((3, 2), (3, 32, 32))
    """

    task_: Task
    estimators_: list[CXRClassifier]

    def __init__(self, estimator, n_estimators=5, *, random_state=None):
        self.estimator = estimator
        self.n_estimators = n_estimators
        self.random_state = random_state

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        template = get_tags(self.estimator)
        tags.input_tags, tags.classifier_tags = template.input_tags, template.classifier_tags
        return tags

    def fit(self, X, y, *, groups=None, sample_weight=None) -> CXREnsemble:
        """Fit all members on all images; parameters and errors as those of `CXRClassifier.fit`.

        They differ in their first weights, the order of images, the augmentation and the validation patients.
        """
        members = _ensembling.fitted_members(self, X, y, groups=groups, sample_weight=sample_weight)
        return self._join(members)

    @classmethod
    def from_fitted(cls, models: Sequence[CXRClassifier]) -> CXREnsemble:
        """Return an ensemble of classifiers that are fitted already, such as several backbones.

        Parameters
        ----------
        models : sequence of 2 to 100 CXRClassifier
            Of the same task and classes. Their networks are shared, not copied; how they run is taken from the first.

        Raises
        ------
        DataError
            The models have different classes, or differ in what else must agree.
        """
        members = [copy(model) for model in _ensembling.check_members(models)]
        template = CXRClassifier(**members[0].get_params(deep=False)).set_params(threshold=0.5)
        return cls(template, len(members))._join(members)

    def _join(self, members: list[CXRClassifier]) -> CXREnsemble:
        """Set the fitted attributes."""
        first = members[0]
        self.estimators_ = members
        self.task_, self.classes_, self.pos_label_ = first.task_, first.classes_, first.pos_label_
        self.class_weights_ = _ensembling.geometric_mean_of_weights(members)
        points: Any = initial_points(self.estimator, self.task_, self.classes_, self.pos_label_)
        self.operating_points_ = {point.name: point for point in points}
        self.active_points_, self.calibration_ = tuple(self.operating_points_), None
        self.conformal_ = self.abstention_ = self.card_ = None
        for name in ("n_features_in_", "feature_names_in_"):
            self.__dict__.pop(name, None)
            if hasattr(first, name):
                setattr(self, name, getattr(first, name))
        return self

    def _images(self, X: Any) -> ImageSequence:
        check_is_fitted(self, "classes_")
        return self.estimators_[0]._images(X)

    def _run(self, X: Any) -> Logits:
        check_is_fitted(self, "classes_")
        return _ensembling.run(self, X)

    @property
    def ood_(self) -> OodStatistics | None:
        """What `check_images` compares with: the statistics of the first member, whose network it asks."""
        check_is_fitted(self, "classes_")
        return self.estimators_[0].ood_

    @ood_.setter
    def ood_(self, statistics: OodStatistics | None) -> None:
        self.estimators_[0].ood_ = statistics

    @property
    def _default_seed(self) -> Any:
        return self.estimator.random_state if self.random_state is None else self.random_state

    def _members(self) -> list[CXRClassifier]:
        check_is_fitted(self, "classes_")
        return _ensembling.running(self)

    def _member_logits(self, X: Any) -> np.ndarray:
        """Return the raw logits of each member, (M, N, 1) or (M, N, K), with rows of NaN for unreadable images."""
        return run_members(self._members(), X)[0]

    def explain(self, X, y=None, *, method="grad_cam", target="predicted", progress=None, **request) -> Any:
        """Explain the mean log-odds: the mean of the members' maps, with their standard deviation as `spread`.

        Parameters
        ----------
        X, y, method, progress, **request
            As for `CXRClassifier.explain`, but without `error_bars`: the spread between members is what there is.
        target : label, "predicted" or "true", default="predicted"
            "predicted" is what the ensemble decides, whatever its members would.

        Returns
        -------
        Explanation, or dict of str to Explanation for a list of methods
            `score` is the ensemble's raw log-odds of the target; `completeness_residual` that of the worst member.
        """
        return _ensembling.EnsemblePlan.check(self, X, y, method, target, request).all(progress)

    def iter_explain(self, X, y=None, *, method="grad_cam", target="predicted", **request) -> Iterator[Any]:
        """Yield what `explain` returns in parts of `batch_size` images, in flat memory. Takes the same parameters."""
        return _ensembling.EnsemblePlan.check(self, X, y, method, target, request).parts()

    # -- save and load ------------------------------------------------------------------------------------------------

    def _write(self, folder: Path, dtype: str | None, card: ModelCard) -> dict[str, str]:
        return _ensembling.save(self, folder, dtype, card)

    def _file_names(self) -> list[str]:
        return _ensembling.file_names(len(self.estimators_))

    @classmethod
    def _bundled(cls) -> Path:
        must = "given: the bundled model is one network, which CXRClassifier.from_pretrained() loads"
        raise invalid("repo_id_or_path", "CXREnsemble.from_pretrained", must, None)

    @classmethod
    def _read(cls, folder: Path, device: str) -> CXREnsemble:
        return _ensembling.load(cls, folder, device)
