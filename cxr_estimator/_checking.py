"""What the out-of-distribution methods do: choose one image per patient, learn the statistics, judge images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from cxr_estimator._ood_blocks import CORRECTIONS, REASONS, features, widths
from cxr_estimator._predicting import execution, images, reading, report, run_over
from cxr_estimator._progress import bar
from cxr_estimator._validation import check_per_image, check_seed
from cxr_estimator.errors import DataError
from cxr_estimator.inference import Execution, pixel_logits
from cxr_estimator.ood import PATIENTS, ImageCheck, OodStatistics, Strangeness
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
    model: nn.Module,
    preprocessing: Preprocessing,
    how: Execution,
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
    return _learn(model, preprocessing, how, pixels, chosen[0][:_MOST], chosen[1][:_MOST_HELD_OUT])


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
    return _learn(clf.model_, clf.preprocessing_, execution(clf), found.pixels, rows[:half], rows[half:])


def _learn(
    model: nn.Module,
    preprocessing: Preprocessing,
    how: Execution,
    pixels: np.ndarray,
    rows: np.ndarray,
    held_out: np.ndarray,
) -> OodStatistics:
    def run(network: nn.Module, x: Tensor) -> Tensor:
        return features(network, x, preprocessing)

    known, new = (pixel_logits(model, PixelRows(pixels, part), preprocessing, how, run) for part in (rows, held_out))
    return OodStatistics.learn(known, new, widths(model, preprocessing))


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
    judge = _Judge(statistics_of(clf, "ood_score"), clf.preprocessing_)
    return run_over(clf, images(clf, X), judge.width, judge).values[:, 0]


class Checked(NamedTuple):
    """What was asked of each image in one pass."""

    logits: np.ndarray  # (N, K), float32, with rows of NaN
    check: ImageCheck


def check_images(clf: CXRClassifier, X: Any, false_alarm_rate: float, *, with_logits: bool = False) -> Checked:
    """Judge images, and diagnose the unusual ones; with the network's logits in the same pass, if asked for."""
    statistics = statistics_of(clf, "check_images")
    cut_off = statistics.cut_off(false_alarm_rate)
    judge = _Judge(statistics, clf.preprocessing_, clf.task_.num_outputs(len(clf.classes_)) if with_logits else 0)
    values = run_over(clf, images(clf, X), judge.width, judge).values
    score, reason, correction, corrected = values[:, : len(Strangeness._fields)].T
    unusual = score > cut_off.score
    # a photograph has a least strange correction too, but stays strange
    puts_right = unusual & (corrected <= cut_off.score)
    check = ImageCheck(
        score,
        statistics.p_values(score),
        _none_where(np.isnan(score), unusual),
        _named(REASONS, np.where(unusual, reason, -1)),
        _named(CORRECTIONS, np.where(puts_right, correction, -1)),
        float(false_alarm_rate),
        cut_off.is_certain,
        len(statistics.reference),
    )
    return Checked(values[:, len(Strangeness._fields) :], check)


def _none_where(unreadable: np.ndarray, values: np.ndarray) -> np.ndarray:
    if not unreadable.any():
        return values
    values = values.astype(object)
    values[unreadable] = None
    return values


def _named(table: Mapping[str, Any], places: np.ndarray) -> np.ndarray:
    """Return the keys at these places; None for -1."""
    return np.array([*table, None], dtype=object)[places.astype(np.int64)]


class _Judge:
    """What to compute of a batch, (n, `width`): the columns of `Strangeness`, and `n_logits` logits or none."""

    def __init__(self, statistics: OodStatistics, preprocessing: Preprocessing, n_logits: int = 0) -> None:
        self._statistics = statistics
        self._preprocessing = preprocessing
        self._n_logits = n_logits
        self.width = len(Strangeness._fields) + n_logits

    def __call__(self, model: nn.Module, x: Tensor) -> Tensor:
        found = self._statistics.strangeness(features(model, x, self._preprocessing).cpu().numpy())
        columns = torch.from_numpy(np.column_stack(found).astype(np.float32))
        return torch.cat([columns, model(x).float().cpu()], dim=1) if self._n_logits else columns
