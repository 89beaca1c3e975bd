"""Partition SHAP: the shap library's engine, on our forward passes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cxr_estimator._validation import check_number
from cxr_estimator.attribution._baselines import baseline as baseline_of
from cxr_estimator.attribution._problem import Problem
from cxr_estimator.attribution._types import Attribution

_AT_ONCE = 32  # splits of the tree are chosen for so many images together; part of the result, so no option of the host
_ENGINE = threading.Lock()  # the engine draws from NumPy's one global generator


def partition_shap(problem: Problem, *, n_evaluations: int = 500, baseline: Any = None) -> Attribution:
    """Halve the image again and again where the score depends on it most, and share the score along that tree.

    The values are Owen values: Shapley values in which the halves of a rectangle are played against each other, with
    the rest of the image either shown or hidden. The rectangle with the largest effect is cut next, until
    `n_evaluations` are spent; what is left uncut shares its value equally among its pixels. Values sum to score(x) -
    score(baseline).

    This runs `shap.PartitionExplainer` with a masker of our own, which hides all channels of a pixel together, and with
    32 images per step instead of 10. Where effects tie, the engine cuts at random: here with a fixed seed. The first
    call in a process takes some 15 seconds more, in which the engine is compiled.

    Parameters
    ----------
    n_evaluations : int, default=500
        Images put through the network per map, about.
    baseline : {"black", "mean", "blur", "background"} or array, optional
        What hidden pixels show; default: the background, if there is one, else blur.

    Use it for: regional evidence that is finest where it matters, from any network, without gradients.

    Fails: edges lie on a fixed grid of halves, not along anatomy; what is spread over the whole image is cut nowhere
    finely; and the mixtures of image and baseline have straight edges that no radiograph has.

    References
    ----------
    Lundberg & Lee (2017), A unified approach to interpreting model predictions, NeurIPS, doi:10.48550/arXiv.1705.07874
    Owen (1977), Values of games with a priori unions, doi:10.1007/978-3-642-45494-3_7
    """
    check_number("n_evaluations", n_evaluations, caller="partition_shap", low=4, integer=True)
    from shap import PartitionExplainer  # takes seconds to import

    reference = baseline_of(problem, baseline, caller="partition_shap")
    height, width = problem.x.shape[2:]
    masker = _Masks(height, width)
    values, base = torch.zeros_like(problem.x[:, 0]), torch.zeros_like(problem.score)
    for row in range(len(problem)):

        def scores(masks: np.ndarray, row: int = row) -> np.ndarray:
            return _scores(problem, row, reference.images[row], masks, n_evaluations)

        with _seeded():
            found = PartitionExplainer(scores, masker)(
                np.zeros((1, height, width)), max_evals=n_evaluations, batch_size=_AT_ONCE, silent=True
            )
        values[row] = torch.from_numpy(found.values[0]).to(values)
        base[row] = float(found.base_values[0])
        problem.advance(0.0)
    return Attribution(values, baseline=reference.name, difference=problem.score - base)


class _Masks:
    """A masker of the shap library: the features are pixels, and what it hands to the model is which of them show."""

    immutable_outputs = True

    def __init__(self, height: int, width: int) -> None:
        from shap.maskers import Image

        self.shape = (1, height * width)
        self.clustering = Image(0.0, (height, width, 1)).clustering

    def __call__(self, mask: np.ndarray, x: np.ndarray) -> tuple[np.ndarray]:
        return (mask.reshape(1, *x.shape),)


def _scores(problem: Problem, row: int, reference: Tensor, masks: np.ndarray, expected: int) -> np.ndarray:
    """Return the scores of image `row` with only the pixels of `masks` (m, H, W) shown."""
    show = torch.from_numpy(masks).to(reference.device)[:, None]
    owner = torch.full((len(masks),), row, device=reference.device)
    found = problem.scores(torch.where(show, problem.x[row], reference), owner)
    problem.tell(len(masks) / (len(problem) * expected))  # `_ENGINE` is held: to give way could end in a deadlock
    return found.cpu().double().numpy()


@contextmanager
def _seeded() -> Iterator[None]:
    """Within the block, NumPy's global generator starts at a fixed seed; its state comes back afterwards."""
    with _ENGINE:
        state = np.random.get_state()  # noqa: NPY002 - what the engine uses
        np.random.seed(0)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(state)  # noqa: NPY002
