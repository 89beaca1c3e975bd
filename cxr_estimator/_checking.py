"""What the out-of-distribution methods do: choose one image per patient, learn the statistics, judge images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from cxr_estimator._ood_blocks import BLOCKS, CORRECTIONS, features, widths
from cxr_estimator._predicting import execution, images, reading, report, run_over
from cxr_estimator._progress import bar
from cxr_estimator._validation import check_per_image, check_seed
from cxr_estimator.errors import DataError
from cxr_estimator.inference import denormalise, normalise, pixel_logits
from cxr_estimator.ood import PATIENTS, ImageCheck, OodStatistics
from cxr_estimator.preprocessing import Preprocessing
from cxr_estimator.reading import PixelRows, prepare

if TYPE_CHECKING:
    from cxr_estimator.classifier import CXRClassifier

FALSE_ALARM_RATE = 0.05
_MOST, _MOST_HELD_OUT = 2000, 1000  # patients, beyond which statistics hardly improve
_STREAM = 7_031  # so that the draw is independent of others with the same seed


def one_per_patient(rows: np.ndarray, patients: np.ndarray | None, rng: np.random.Generator) -> np.ndarray:
    """Return one of the `rows` of each patient, in random order; `patients` are those of the rows."""
    order = rng.permutation(len(rows))
    if patients is None:
        return rows[order]
    _, first = np.unique(patients[order], return_index=True)
    return rng.permutation(rows[order[first]])


def learn_from_sides(
    clf: CXRClassifier,
    pixels: np.ndarray,
    sides: tuple[np.ndarray, np.ndarray],
    owners: tuple[np.ndarray | None, np.ndarray | None],
    seed: int,
) -> OodStatistics | None:
    """Return statistics from the rows of `pixels` that trained and that were held out; None for under 20 patients."""
    rng = np.random.default_rng([_STREAM, seed])
    chosen = [one_per_patient(rows, owner, rng) for rows, owner in zip(sides, owners, strict=True)]
    if min(map(len, chosen)) < PATIENTS:
        return None
    return _learn(clf, pixels, chosen[0][:_MOST], chosen[1][:_MOST_HELD_OUT])


def learn_from_images(clf: CXRClassifier, X: Any, groups: Any, random_state: Any) -> OodStatistics:
    """Return statistics from half of the patients of X, with cut-offs from the other half."""
    caller = "fit_ood"
    sequence = images(clf, X)
    seed = check_seed(clf.random_state if random_state is None else random_state, caller=caller)
    patients = None if groups is None else check_per_image("groups", groups, len(sequence), caller=caller)
    rng = np.random.default_rng([_STREAM, seed])
    chosen = one_per_patient(np.arange(len(sequence)), patients, rng)[: _MOST + _MOST_HELD_OUT]
    with bar(len(chosen), "reading images", clf.verbose) as progress:
        found = prepare(sequence, clf.preprocessing_, reading(clf), indices=chosen.tolist(), progress=progress)
    report(found.skipped)
    n_patients = len(found.index)
    if n_patients < 2 * PATIENTS:
        raise DataError(
            f"{caller}: X must hold readable images of {2 * PATIENTS} patients at least, {PATIENTS} for the statistics "
            f"and {PATIENTS} for the cut-off. Got {n_patients}."
        )
    half = max(n_patients - n_patients // 2, n_patients - _MOST_HELD_OUT)
    rows = np.arange(n_patients)
    return _learn(clf, found.pixels, rows[:half], rows[half:])


def _learn(clf: CXRClassifier, pixels: np.ndarray, rows: np.ndarray, held_out: np.ndarray) -> OodStatistics:
    how = execution(clf)

    def run(model: nn.Module, x: Tensor) -> Tensor:
        return features(model, x, clf.preprocessing_)

    known, new = (
        pixel_logits(clf.model_, PixelRows(pixels, part), clf.preprocessing_, how, run) for part in (rows, held_out)
    )
    return OodStatistics.learn(known, new, widths(clf.model_, clf.preprocessing_))


def statistics_of(clf: Any, caller: str) -> OodStatistics:
    """Return the statistics of a fitted estimator, or raise an error that says how to get them."""
    check_is_fitted(clf, "model_")
    if clf.ood_ is None:
        raise DataError(
            f"{caller}: the model knows no ordinary images, for want of {PATIENTS} patients to train on and {PATIENTS} "
            "to validate on, or because it was saved without. Call fit_ood with images the network was not trained on."
        )
    return clf.ood_


def ood_score(clf: CXRClassifier, X: Any) -> np.ndarray:
    """Return how strange images are, (N,), float32."""
    return run_over(clf, images(clf, X), 1, _Judge(statistics_of(clf, "ood_score"), clf.preprocessing_)).values[:, 0]


class Checked(NamedTuple):
    """What was asked of each image in one pass."""

    logits: np.ndarray  # (N, K), float32, with rows of NaN
    check: ImageCheck


def check_images(clf: CXRClassifier, X: Any, false_alarm_rate: float, *, with_logits: bool = False) -> Checked:
    """Judge images, and diagnose the unusual ones; with the network's logits in the same pass, if asked for."""
    statistics = statistics_of(clf, "check_images")
    cut_off = statistics.cut_off(false_alarm_rate)
    judge = _Judge(statistics, clf.preprocessing_, cut_off.score, with_logits)
    n_logits = clf.task_.num_outputs(len(clf.classes_)) if with_logits else 0
    values = run_over(clf, images(clf, X), 3 + n_logits, judge).values
    score, readable = values[:, 0], ~np.isnan(values[:, 0])
    unusual = score > cut_off.score
    names = np.array([*BLOCKS, None], dtype=object), np.array([*CORRECTIONS, None], dtype=object)
    found = np.where(unusual[:, None], values[:, 1:3], -1).astype(np.int64)
    check = ImageCheck(
        score,
        statistics.p_values(score),
        _none_where(~readable, unusual),
        names[0][found[:, 0]],
        names[1][found[:, 1]],
        float(false_alarm_rate),
        cut_off.is_certain,
        len(statistics.reference),
    )
    return Checked(values[:, 3:], check)


def _none_where(unreadable: np.ndarray, values: np.ndarray) -> np.ndarray:
    if not unreadable.any():
        return values
    values = values.astype(object)
    values[unreadable] = None
    return values


class _Judge:
    """What to compute of a batch: score, block and correction of each image, and the logits.

    Corrections are tried in the same pass, so that an image is decoded once.
    """

    def __init__(
        self,
        statistics: OodStatistics,
        preprocessing: Preprocessing,
        cut_off: float | None = None,
        logits: bool = False,
    ) -> None:
        self._statistics = statistics
        self._preprocessing = preprocessing
        self._cut_off = cut_off
        self._logits = logits

    def __call__(self, model: nn.Module, x: Tensor) -> Tensor:
        score, block = self._scores(model, x)
        if self._cut_off is None:
            return torch.from_numpy(score)[:, None]
        correction = np.full(len(score), -1)
        unusual = np.flatnonzero(score > self._cut_off)
        if len(unusual):
            correction[unusual] = self._corrections(model, x[torch.from_numpy(unusual).to(x.device)])
        found = torch.from_numpy(np.stack([score, block, correction], axis=1).astype(np.float32))
        return torch.cat([found, model(x).float().cpu()], dim=1) if self._logits else found

    def _scores(self, model: nn.Module, x: Tensor) -> tuple[np.ndarray, np.ndarray]:
        return self._statistics.scores(features(model, x, self._preprocessing).cpu().numpy())

    def _corrections(self, model: nn.Module, x: Tensor) -> np.ndarray:
        """Return the place of the correction after which each image is least strange; -1 if still unusual."""
        unit = denormalise(x, self._preprocessing)
        tried = (normalise(one.function(unit), self._preprocessing) for one in CORRECTIONS.values())
        scores = np.stack([self._scores(model, one)[0] for one in tried])
        return np.where(scores.min(axis=0) <= self._cut_off, scores.argmin(axis=0), -1)
