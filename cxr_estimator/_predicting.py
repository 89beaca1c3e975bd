"""What every answer of a fitted `CXRClassifier` needs: the images, the device, the logits, what was skipped."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from joblib import effective_n_jobs
from sklearn.utils.validation import check_is_fitted
from torch import nn

from cxr_estimator._progress import bar
from cxr_estimator._rows import check_rows, is_table
from cxr_estimator._validation import (
    check_choice,
    check_number,
    invalid,
    wrong_type,
)
from cxr_estimator.backbones import embed, embedding_size
from cxr_estimator.errors import DataError, ModelFolderError, SkippedImage, SkippedImagesWarning
from cxr_estimator.images import ImageSequence, as_images
from cxr_estimator.inference import (
    BFLOAT16_TOLERANCE,
    PRECISIONS,
    Execution,
    Logits,
    Run,
    check_device,
    check_precision,
    forward,
    predict_logits,
)
from cxr_estimator.preprocessing import Preprocessing
from cxr_estimator.reading import Reading

if TYPE_CHECKING:
    from cxr_estimator.classifier import CXRClassifier

_CLASS = "CXRClassifier"


def check_run_parameters(clf: CXRClassifier) -> None:
    """Raise for the first bad parameter among those that a fitted classifier still uses."""
    check_choice("on_error", clf.on_error, ("raise", "skip"), caller=_CLASS)
    check_choice("precision", clf.precision, PRECISIONS, caller=_CLASS)
    check_folder("cache_dir", clf.cache_dir)
    check_number("batch_size", clf.batch_size, caller=_CLASS, low=2, integer=True)
    check_number("verbose", int(clf.verbose) if isinstance(clf.verbose, bool) else clf.verbose, caller=_CLASS, low=0)
    if clf.n_jobs is not None and (check_number("n_jobs", clf.n_jobs, caller=_CLASS, integer=True) == 0):
        raise invalid("n_jobs", _CLASS, "None or an integer other than 0", clf.n_jobs)


def check_folder(name: str, value: Any) -> None:
    """Raise unless `value` is None or a path."""
    if value is not None and not (isinstance(value, str | os.PathLike) and os.fspath(value)):
        raise wrong_type(name, _CLASS, "None or the path of a folder", value)


def images(clf: CXRClassifier, X: Any) -> ImageSequence:
    """Return X as images that `clf`, which must be fitted, can judge."""
    check_is_fitted(clf, "model_")
    check_run_parameters(clf)
    if not is_table(X):
        return as_images(X)
    if clf.image_shape_ is None:
        raise DataError(
            f"X holds rows of numbers (shape {np.shape(X)}), but the model was fitted on images. For one image pass "
            "image[None]."
        )
    return as_images(check_rows(clf, X)).with_row_shape(clf.image_shape_)


def run_network(clf: CXRClassifier, X: Any) -> Logits:
    """Return the logits (N, 1) or (N, K), float32; the row of an unreadable image is NaN, and it is reported."""
    sequence = images(clf, X)
    return run_over(clf, sequence, clf.task_.num_outputs(len(clf.classes_)))


def run_embedding(clf: CXRClassifier, X: Any) -> Logits:
    """Return the embeddings (N, D), float32, with rows of NaN as in `run_network`."""
    sequence = images(clf, X)
    return run_over(clf, sequence, embedding_size(clf.model_), embed)


def run_members(members: Sequence[CXRClassifier], X: Any) -> tuple[np.ndarray, Logits]:
    """Return the logits of several networks, (M, N, K), and what was read.

    Networks that see images in the same way see them together, so that each image is read once.
    """
    width = members[0].task_.num_outputs(len(members[0].classes_))
    alike: dict[Preprocessing, list[int]] = {}
    for place, member in enumerate(members):
        alike.setdefault(member.preprocessing_, []).append(place)
    values: dict[int, np.ndarray] = {}
    read: list[Logits] = []
    for places in alike.values():
        own = [members[place] for place in places]
        # the networks are held one by one, inside: to hold one while waiting for the next could wait for ever
        found = run_over(own[0], images(own[0], X), width * len(own), _side_by_side(own), model=nn.Identity())
        values |= dict(zip(places, np.split(found.values, len(own), axis=1), strict=True))
        read.append(found)
    return np.stack([values[place] for place in range(len(members))]), _read_by_all(read)


def _read_by_all(found: Sequence[Logits]) -> Logits:
    """Return the ids of the images that all could read, and those that one could not; the values are the first's."""
    skipped = {item.position: item for one in found for item in one.skipped}
    first = found[0]
    own = {item.position for item in first.skipped}
    positions = [row for row in range(len(first.values)) if row not in own]
    ids = [each for row, each in zip(positions, first.content_ids, strict=True) if row not in skipped]
    return Logits(first.values, tuple(skipped[row] for row in sorted(skipped)), tuple(ids))


def _side_by_side(members: Sequence[CXRClassifier]) -> Run:
    how = [execution(member) for member in members]

    def run(_: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([forward(one.model_, x, own) for one, own in zip(members, how, strict=True)], dim=1)

    return run


def run_over(
    clf: CXRClassifier,
    sequence: ImageSequence,
    width: int,
    run: Run = nn.Module.__call__,
    model: nn.Module | None = None,
) -> Logits:
    """Return what the network, or `run`, gives for each image, (N, width); unreadable images are reported."""
    with bar(len(sequence), "predicting", clf.verbose) as progress:
        found = predict_logits(
            clf.model_ if model is None else model,
            sequence,
            clf.preprocessing_,
            execution(clf),
            reading(clf),
            num_outputs=width,
            progress=progress,
            run=run,
        )
    report(found.skipped, stacklevel=7)
    undefined = set(np.flatnonzero(~np.isfinite(found.values).all(axis=1)).tolist())
    broken = sorted(undefined - {item.position for item in found.skipped})
    if broken:  # so that NaN always means unreadable
        raise not_finite(sequence.source(broken[0]))
    return found


def not_finite(source: str) -> ModelFolderError:
    """Return (not raise) the error for a network that gives NaN or infinity for an image that could be read."""
    return ModelFolderError(f"The network gives no finite output for {source}: bad weights.")


def report(skipped: tuple[SkippedImage, ...], *, stacklevel: int = 4) -> None:
    """Warn of the skipped images, if there are any."""
    if skipped:
        warnings.warn(SkippedImagesWarning(skipped), stacklevel=stacklevel)


def reading(clf: CXRClassifier) -> Reading:
    """Return how `clf` reads images; by default on as many threads as torch computes with."""
    threads = torch.get_num_threads() if clf.n_jobs is None else effective_n_jobs(clf.n_jobs)
    return Reading(clf.on_error, threads, clf.cache_dir)


def execution(clf: CXRClassifier) -> Execution:
    """Move the network to the device that the parameter `device` asks for now, and return how it runs there."""
    device = check_device(clf.device, caller=_CLASS)
    clf.model_.to(device)
    precision = check_precision(clf.precision, device, caller=_CLASS)
    if clf.precision == "auto" and not clf.bfloat16_change_ <= BFLOAT16_TOLERANCE:
        precision = "float32"
    return Execution(device, clf.batch_size, precision)
