"""Kernel SHAP: Shapley values of the segments of an image, from coalitions of them."""

from __future__ import annotations

from itertools import product
from math import comb
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cxr_estimator._validation import check_number, invalid
from cxr_estimator.attribution._baselines import baseline as baseline_of
from cxr_estimator.attribution._problem import Problem
from cxr_estimator.attribution._superpixels import superpixels
from cxr_estimator.attribution._types import Attribution

_CALLER = "kernel_shap"


def kernel_shap(
    problem: Problem,
    *,
    n_samples: int = 1000,
    n_segments: int = 50,
    segmentation: str = "slic",
    baseline: Any = None,
) -> Attribution:
    """Share the score among segments by what each adds to coalitions of the others (Shapley values).

    With v(z) the score of the image in which the segments with z_i = 0 are replaced by the baseline, phi minimises
    sum_z w(z) (v(z) - v(0) - z phi)^2 subject to sum phi = v(1) - v(0), with w(z) = (M - 1) / (C(M, |z|) |z| (M - |z|))
    for M segments (theorem 2). Each pixel gets an equal share of its segment's value.

    Where 2^M <= `n_samples` all coalitions are used and the values are exact. Otherwise coalitions are drawn from w, in
    pairs with their complements, with the number of each size as near as can be to what is expected, and those of one
    size dealt from shuffled decks, so that all segments occur equally often.

    Parameters
    ----------
    n_samples : int, default=1000
        Coalitions per image; twice the number of segments at least, and at most 100,000.
    n_segments : int, default=50
    segmentation : {"slic", "quickshift", "felzenszwalb", "grid"}, default="slic"
        How the image is cut.
    baseline : {"black", "mean", "blur", "background"} or array, optional
        What absent segments show; default: the background, if there is one, else blur.

    Use it for: regional evidence with an exact budget from any network, gradients or not.

    Fails: what is finer than a segment is lost; the mixtures of image and baseline have edges that no radiograph has;
    and with few samples for many segments values scatter (see the error bars).

    References
    ----------
    Lundberg & Lee (2017), A unified approach to interpreting model predictions, NeurIPS, doi:10.48550/arXiv.1705.07874
    Covert & Lee (2021), Improving KernelSHAP, AISTATS, doi:10.48550/arXiv.2012.01536
    """
    check_number("n_samples", n_samples, caller=_CALLER, low=4, high=100_000, integer=True)
    reference = baseline_of(problem, baseline, caller=_CALLER)
    segments = superpixels(problem, segmentation, n_segments, caller=_CALLER)
    rows = torch.arange(len(problem), device=problem.x.device)
    empty = problem.scores(reference.images, rows)
    difference = problem.score - empty
    values = torch.zeros_like(problem.x[:, 0])
    counts = segments.flatten(1).amax(dim=1) + 1
    drawn = [_coalitions(problem.generator(row), count, n_samples) for row, count in enumerate(counts.tolist())]
    for row, (present, weights) in enumerate(drawn):
        scores = _scores(problem, row, segments[row], reference.images[row], present)
        gains = scores - float(empty[row])
        shares = _shapley_values(present, weights, gains, float(difference[row]))
        shares /= np.bincount(segments[row].flatten().cpu().numpy())
        values[row] = torch.from_numpy(shares).to(values)[segments[row]]
    return Attribution(values, baseline=reference.name, difference=difference)


def _scores(problem: Problem, row: int, segments: Tensor, reference: Tensor, present: np.ndarray) -> np.ndarray:
    """Return the score of image `row` for each coalition."""
    table = torch.from_numpy(present).to(segments.device)
    found = [torch.zeros(0, device=segments.device)]
    for owner, number in problem.chunks(len(present), rows=[row]):
        keep = table[number][:, segments][:, None]  # (m, 1, H, W)
        found.append(problem.scores(torch.where(keep, problem.x[row], reference), owner))
    return torch.cat(found).cpu().double().numpy()


def _coalitions(rng: np.random.Generator, count: int, n_samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Return coalitions (k, count), bool, without the empty and the full one, and their weights (k,)."""
    if 2**count <= n_samples:
        present = np.array(list(product((False, True), repeat=count)))[1:-1]
        size = present.sum(axis=1)
        each = np.array([0.0, *(1 / (comb(count, s) * s * (count - s)) for s in range(1, count))])
        return present, each[size]
    if n_samples < 2 * count:
        constraint = f">= {2 * count}, twice the {count} segments of an image (coalitions come in pairs)"
        raise invalid("n_samples", _CALLER, constraint, n_samples)
    half = np.concatenate([_dealt(rng, count, size, times) for size, times in _sizes(rng, count, n_samples // 2)])
    return np.concatenate([half, ~half]), np.ones(2 * len(half))


def _sizes(rng: np.random.Generator, count: int, pairs: int) -> list[tuple[int, int]]:
    """Return how many pairs there are of coalitions with 1, 2, ... segments and their complements."""
    size = np.arange(1, count // 2 + 1)
    share = np.where(2 * size == count, 0.5, 1.0) / (size * (count - size))
    edges = np.concatenate([[0.0], share.cumsum() / share.sum() * pairs])
    edges[-1] = pairs  # free of rounding
    return list(zip(size.tolist(), np.diff(np.ceil(edges - rng.random()).astype(int)).tolist(), strict=True))


def _dealt(rng: np.random.Generator, count: int, size: int, times: int) -> np.ndarray:
    """Return `times` coalitions of `size` segments, dealt from shuffled decks of all segments."""
    hands = 1 if 2 * size == count else count // size  # the other half comes as the complement anyway
    decks = [rng.permutation(count)[: hands * size].reshape(hands, size) for _ in range(-(-times // hands))]
    present = np.zeros((times, count), dtype=bool)
    if times:
        np.put_along_axis(present, np.concatenate(decks)[:times], True, axis=1)
    return present


def _shapley_values(present: np.ndarray, weights: np.ndarray, gains: np.ndarray, total: float) -> np.ndarray:
    """Return the values that fit the gains of the coalitions best among those that sum to `total`.

    An equal share of the total, plus a solution in what is orthogonal to equal shares: of all that fit, the smallest is
    the one without a part along them.
    """
    count = present.shape[1]
    root = np.sqrt(weights)
    centred = present - present.mean(axis=1, keepdims=True)
    rest = gains - present.mean(axis=1) * total
    return total / count + np.linalg.lstsq(root[:, None] * centred, root * rest, rcond=None)[0]
