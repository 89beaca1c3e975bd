"""What all checks look at: everything is computed once, by whoever needs it first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import _safe_indexing

from cxr_estimator._decisions import decided
from cxr_estimator._measuring import mask_at_model_size
from cxr_estimator.anatomy import lung_mask, thorax_of
from cxr_estimator.audit._mapped import Mapped, map_images
from cxr_estimator.audit._seen import Looking, Seen
from cxr_estimator.calibration import label_log_odds
from cxr_estimator.curation import duplicates
from cxr_estimator.evaluation import EvaluationReport
from cxr_estimator.evaluation._evaluate import report_of
from cxr_estimator.evaluation._intervals import Patients
from cxr_estimator.ood import ImageCheck
from cxr_estimator.preprocessing import Geometry
from cxr_estimator.roc import delong, macro_auroc
from cxr_estimator.statistics import FEWEST_PATIENTS, Estimate, clustered_mean, patient_bootstrap

UNDEFINED = Estimate(np.nan, np.nan, np.nan)


@dataclass
class Evidence:
    """The request, and what it brings to light.

    Attributes
    ----------
    clf : CXRClassifier
    X : images
    target : ndarray (N,), int
        Index of the true class.
    patient : ndarray (N,), int
    knows_patients : bool
    sources : ndarray (N,) of str, or None
        Where each image comes from: hospital, device, folder.
    subgroups : dict of name to ndarray (N,)
    methods : tuple of str
    needs : frozenset of str
        What the checks need of the passes over the images, see `Check`.
    n_maps : int
        Images whose maps are checked.
    n_resamples : int
    seed : int
    lung_masks : sequence of N masks, or None
        Given ones, bool, at the original size of each image.
    shared_patients : ndarray of bool, or None
        For each patient whether the model was trained on others of their images.
    progress : callable
        Called with how many images more were looked at, or explained.
    """

    clf: Any
    X: Any
    target: np.ndarray
    patient: np.ndarray
    knows_patients: bool
    sources: np.ndarray | None
    subgroups: Mapping[str, np.ndarray]
    methods: tuple[str, ...]
    needs: frozenset[str]
    n_maps: int
    n_resamples: int
    seed: int
    lung_masks: Sequence[Any] | None
    shared_patients: np.ndarray | None
    progress: Callable[[float], Any]

    @cached_property
    def looking(self) -> Looking:
        """The pass over all images."""
        return Looking(self.clf, self.X, self.target, self.patient, self.needs, self.anatomy, self.seed)

    @cached_property
    def seen(self) -> Seen:
        """What the network says of all images, and of their parts."""
        return self.looking.look(self.progress)

    @cached_property
    def readable(self) -> Any:
        """The images that could be read; the others were reported once, by the first pass."""
        return _safe_indexing(self.X, self.seen.index)

    @cached_property
    def report(self) -> EvaluationReport:
        """What `evaluate` finds, of the logits that are known already."""
        seen, rows = self.seen, self.seen.index
        patients = Patients(seen.patient, self.n_resamples, self.seed)
        given = {name: values[rows] for name, values in self.subgroups.items()}
        return report_of(self.clf, seen.logits, seen.target, patients, given)

    @property
    def mapped(self) -> dict[str, Mapped]:
        """Maps of some images by each method, and what checks of single maps say of them."""
        if isinstance(self._mapped, Exception):
            raise self._mapped
        return self._mapped

    @cached_property
    def _mapped(self) -> dict[str, Mapped] | Exception:
        """The maps, or what went wrong: once is enough."""
        try:
            return map_images(self)
        except Exception as error:  # noqa: BLE001 - every check of maps tells of it
            return error

    @cached_property
    def doubles(self) -> pd.DataFrame:
        """The table of `curation.duplicates`."""
        seen = self.seen
        names = self.clf.classes_[seen.target]
        return duplicates(self.readable, y=names, groups=seen.patient if self.knows_patients else None)

    @cached_property
    def unusual(self) -> ImageCheck:
        """What `check_images` finds."""
        return self.clf.check_images(self.readable)

    def anatomy(self, position: int, unit: np.ndarray, geometry: Geometry) -> tuple[Any, Any]:
        """Return masks (H, W) at model size of lungs and thorax of an image (C, H, W); None for what is not found."""
        if self.lung_masks is None:
            lungs = lung_mask(unit.mean(axis=0))
        else:
            lungs = mask_at_model_size(self.lung_masks[position], geometry, position, caller="audit")
        return (lungs, thorax_of(lungs)) if lungs is not None and lungs.any() else (None, None)

    def decided(self, logits: np.ndarray) -> np.ndarray:
        """Return the index (M,) of the decided class; -1 where logits (M, K) are NaN."""
        known, found = ~np.isnan(logits).any(axis=1), np.full(len(logits), -1)
        if known.any():
            found[known] = decided(self.clf, logits[known])
        return found

    def mean(self, values: np.ndarray, patient: np.ndarray) -> Estimate:
        """Return the mean of values (n,) that are not NaN, with its interval over patients."""
        known = ~np.isnan(values)
        return clustered_mean(values[known], patient[known])

    def ranking(self, values: np.ndarray, positive: np.ndarray) -> Estimate:
        """Return the AUROC of values (M,) for what is positive (M,); NaN do not count."""
        known = ~np.isnan(values)
        sides = [np.unique(self.seen.patient[known & (positive == side)]) for side in (True, False)]
        if min(map(len, sides)) < FEWEST_PATIENTS:
            return UNDEFINED
        return delong(values[known], positive[known], self.seen.patient[known])

    def auroc(self, logits: np.ndarray) -> Estimate:
        """Return how well logits (M, K) rank the true classes, on average over these; NaN do not count."""
        if logits.shape[1] == 1:
            return self.ranking(logits[:, 0], self.seen.target == 1)
        known = ~np.isnan(logits).any(axis=1)
        target, patient = self.seen.target[known], self.seen.patient[known]
        if min(len(np.unique(patient[target == k])) for k in range(len(self.clf.classes_))) < FEWEST_PATIENTS:
            return UNDEFINED
        scores = label_log_odds(logits[known], self.clf.task_)
        return patient_bootstrap(
            lambda rows: macro_auroc(scores[rows], target[rows]),
            patient,
            n_resamples=self.n_resamples,
            random_state=self.seed,
        )
