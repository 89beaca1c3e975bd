"""Robustness: does the map stay when what should not matter changes.

In every formula phi(x) is the map of the image x. What is explained stays: the class that was decided for the image
itself. What is drawn follows from the seed and the content of each image.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import torch

from cxr_estimator._validation import check_number
from cxr_estimator.attribution import Problem
from cxr_estimator.explanation import Explanation
from cxr_estimator.metrics._ranks import correlation, mean_kept, spearman, unit_ranks
from cxr_estimator.metrics._types import Context

_BOX, _SHIFT = 0xB0C5, 0x5F17
_SEED_STEP = 1000  # so that seeds are not those that error bars go through


def max_sensitivity(
    explanation: Explanation, context: Context, *, n_draws: int = 10, radius: float = 0.02
) -> np.ndarray:
    """Largest ||phi(x + d) - phi(x)|| / ||phi(x)|| over random d, from 0 on; lower is better.

    d is uniform in [-radius, radius] for each pixel and channel, where pixels are in [0, 1]; what leaves [0, 1] is not
    cut off. The largest of `n_draws` is a lower bound of the largest there is. Deviation: the division by the length
    of the map, as in captum, since many maps have no unit. Random methods keep their seed.

    References
    ----------
    Yeh et al. (2019), On the (in)fidelity and sensitivity of explanations, NeurIPS, doi:10.48550/arXiv.1901.09392
    (definition 3.1)
    """
    check_number("n_draws", n_draws, caller="max_sensitivity", low=1, high=1000, integer=True)
    check_number("radius", radius, caller="max_sensitivity", low=0, high=1, open_low=True)
    problem = context.perturbed.problem
    original = torch.from_numpy(explanation.values).double().flatten(1)
    changes = []
    for draw in range(n_draws):
        values = torch.from_numpy(context.map_of(problem.variant(x=_in_box(problem, draw, radius))))
        changes.append((values.double().flatten(1) - original).norm(dim=1))
    return (torch.stack(changes).amax(dim=0) / original.norm(dim=1)).numpy()


def seed_stability(explanation: Explanation, context: Context, *, n_seeds: int = 3) -> np.ndarray:
    """Mean rank correlation (Spearman) between maps made with different seeds, in [-1, 1]; higher is better.

    The explanation is the first of `n_seeds` maps, and all pairs count. Exactly 1 for methods without randomness, of
    which no other map is made. A map that is constant with another seed counts 0. NaN where the map is constant.

    References
    ----------
    Visani et al. (2020), Statistical stability indices for LIME, doi:10.48550/arXiv.2001.11757 (the idea; their
    indices compare linear models of tables)
    """
    check_number("n_seeds", n_seeds, caller="seed_stability", low=2, high=1000, integer=True)
    original, problem = explanation.values, context.perturbed.problem
    if explanation.seed is None:  # neither a random method nor error bars
        return mean_kept([np.ones(len(original))], original)
    seeds = [problem.seed + _SEED_STEP * number for number in range(1, n_seeds)]
    maps = [original, *(context.map_of(problem.variant(seed=seed)) for seed in seeds)]
    pairs = combinations([unit_ranks(each) for each in maps], 2)
    return mean_kept([correlation(a, b) for a, b in pairs], original)


def augmentation_consistency(
    explanation: Explanation, context: Context, *, n_draws: int = 4, shift: float = 0.05
) -> np.ndarray:
    """Mean rank correlation (Spearman) of phi(x) with phi(x shifted) shifted back, in [-1, 1]; higher is better.

    Each of `n_draws` shifts is by up to a share `shift` of each side, in either direction and by one pixel at least;
    the edge is repeated, and only pixels that both maps show are compared. A map that is constant after a shift counts
    0. NaN where the map is constant.

    Networks with strides, pooling or patches do not follow a shift exactly, so the value is below 1 for most.

    References
    ----------
    Crabbé & van der Schaar (2023), Evaluating the robustness of interpretability methods through explanation
    invariance and equivariance, NeurIPS, doi:10.48550/arXiv.2304.06715 (equivariance; here by ranks)
    """
    check_number("n_draws", n_draws, caller="augmentation_consistency", low=1, high=1000, integer=True)
    check_number("shift", shift, caller="augmentation_consistency", low=0, high=0.5, open_low=True)
    problem, original = context.perturbed.problem, explanation.values
    found = []
    for draw in range(n_draws):
        shifts = [_shift(problem, row, draw, shift) for row in range(len(problem))]
        x = torch.stack([_shifted(image, *by) for image, by in zip(problem.x, shifts, strict=True)])
        moved = context.map_of(problem.variant(x=x))
        found.append(np.concatenate([_overlap(*each) for each in zip(original, moved, shifts, strict=True)]))
    return mean_kept(found, original)


def _in_box(problem: Problem, draw: int, radius: float) -> torch.Tensor:
    """Return the images with noise, normalised."""
    shape = problem.x.shape[1:]
    noise = [problem.generator(row, _BOX, draw).uniform(-radius, radius, shape) for row in range(len(problem))]
    return problem.normalised(problem.unit() + torch.from_numpy(np.stack(noise)).to(problem.x))


def _shift(problem: Problem, row: int, draw: int, share: float) -> tuple[int, int]:
    """Return how far image `row` goes down and to the right; not (0, 0)."""
    most = [max(1, round(share * side)) for side in problem.x.shape[2:]]
    down, right = (2 * one + 1 for one in most)
    number = int(problem.generator(row, _SHIFT, draw).integers(down * right - 1))
    number += number >= down * right // 2  # the middle one is no shift
    return number // right - most[0], number % right - most[1]


def _shifted(image: torch.Tensor, down: int, right: int) -> torch.Tensor:
    """Return an image (C, H, W) shifted, its edge repeated."""
    height, width = image.shape[1:]
    rows = (torch.arange(height, device=image.device) - down).clamp(0, height - 1)
    columns = (torch.arange(width, device=image.device) - right).clamp(0, width - 1)
    return image[:, rows][:, :, columns]


def _overlap(original: np.ndarray, moved: np.ndarray, by: tuple[int, int]) -> np.ndarray:
    """Return the correlation (1,) of a map with that of the shifted image, over the pixels of both."""
    here = tuple(slice(max(-step, 0), side - max(step, 0)) for step, side in zip(by, original.shape, strict=True))
    there = tuple(slice(max(step, 0), side - max(-step, 0)) for step, side in zip(by, original.shape, strict=True))
    return spearman(original[here][None], moved[there][None])
