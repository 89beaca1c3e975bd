"""LIME: a linear model of which segments of the image make the score."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cxr_estimator._validation import check_number
from cxr_estimator.attribution._problem import Problem
from cxr_estimator.attribution._superpixels import painted, superpixels, without_segments
from cxr_estimator.attribution._types import Attribution


def lime(
    problem: Problem,
    *,
    n_samples: int = 1000,
    segmentation: str = "slic",
    n_segments: int = 50,
    kernel_width: float = 0.25,
    baseline: Any = None,
    n_runs: int = 1,
) -> Attribution:
    """Fit a linear model to the scores of the image with random segments absent, and paint its weights on them.

    w = argmin_w  sum_z pi(z) (score(z) - w z - c)^2 + |w|^2,  pi(z) = sqrt(exp(-d(z)^2 / kernel_width^2))  (eq. 1 and
    2), where z is 1 for a segment that is present, each with probability 1/2, and d the cosine distance to the whole
    image. The engine is that of the library `lime`, without selection of features. Signed: below 0 is evidence against
    the target.

    Deviations from `lime_image`: the explained number is the score, a logit, and no probability, which would flatten
    near 0 and 1; absent segments show the average chest, not their own mean; SLIC gives segments of even size, where
    quickshift makes few of a grey image's lungs. Segmentation, samples and fit follow from seed and image.

    Parameters
    ----------
    n_samples : int, default=1000
        Images per run, 2 to 100,000; the first is the unchanged one.
    segmentation : {"slic", "quickshift", "felzenszwalb", "grid"}
    n_segments : int, default=50
        Wanted number of segments.
    kernel_width : float, default=0.25
        0.01 to 100. The smaller, the less do images count of which much is absent.
    baseline : {"black", "mean", "blur", "background", "segment_mean"} or array, optional
        What absent segments show; default: the background, if there is one, else blur.
        "segment_mean" is what the library does.
    n_runs : int, default=1
        The map is the mean of as many runs (at most 100) with different samples, and `spread` their standard deviation.

    Use it for: a few regions and their signed weights, as many readers know it.
    Fails: the map can be no finer than the segments, and changes with their number and with the samples (see
    `n_runs`); the linear model misses what regions do together; half-hidden images are unlike any radiograph.

    References
    ----------
    Ribeiro et al. (2016), "Why should I trust you?", KDD, doi:10.1145/2939672.2939778
    """
    caller = "lime"
    check_number("n_samples", n_samples, caller=caller, low=2, high=100_000, integer=True)
    check_number("kernel_width", kernel_width, caller=caller, low=0.01, high=100)
    check_number("n_runs", n_runs, caller=caller, low=1, high=100, integer=True)
    segments = superpixels(problem, segmentation, n_segments, caller=caller)
    absent = without_segments(problem, segments, baseline, caller=caller)
    counts = (segments.flatten(1).amax(dim=1) + 1).tolist()
    rngs = [problem.generator(row) for row in range(len(problem))]
    present = [_sampled(rng, n_runs, n_samples, count) for rng, count in zip(rngs, counts, strict=True)]
    scores = _scores(problem, segments, absent.images, present).cpu().numpy().astype(np.float64)
    weights = np.zeros((n_runs, len(problem), max(counts)), dtype=np.float32)
    for row, count in enumerate(counts):
        for run in range(n_runs):
            labels = scores[row].reshape(n_runs, n_samples)[run]
            weights[run, row, :count] = fitted(present[row][run], labels, kernel_width, int(rngs[row].integers(2**31)))
    maps = torch.stack([painted(one, segments) for one in torch.from_numpy(weights).to(problem.x)])
    return Attribution(
        maps.mean(dim=0),
        baseline=absent.name,
        spread=maps.std(dim=0) if n_runs > 1 else None,
    )


def fitted(present: np.ndarray, scores: np.ndarray, kernel_width: float, seed: int) -> np.ndarray:
    """Return the weight (s,) of each segment for samples (m, s) and their scores (m,)."""
    from lime.lime_base import LimeBase  # takes a second

    distances = 1 - np.sqrt(present.mean(axis=1))  # the cosine distance to a row of ones
    engine = LimeBase(partial(_kernel, width=kernel_width), random_state=seed)
    _, pairs, _, _ = engine.explain_instance_with_data(
        present.astype(np.float64), scores[:, None], distances, 0, present.shape[1], feature_selection="none"
    )
    weights = np.empty(present.shape[1])
    for segment, weight in pairs:
        weights[segment] = weight
    return weights


def _kernel(distances: np.ndarray, width: float) -> np.ndarray:
    return np.sqrt(np.exp(-(distances**2) / width**2))


def _sampled(rng: np.random.Generator, n_runs: int, n_samples: int, count: int) -> np.ndarray:
    """Return which segments are present, (n_runs, n_samples, count) bool; in the first sample of a run, all."""
    present = rng.integers(0, 2, (n_runs, n_samples, count), dtype=np.uint8).astype(bool)
    present[:, 0] = True
    return present


def _scores(problem: Problem, segments: Tensor, absent: Tensor, present: list[np.ndarray]) -> Tensor:
    """Return the scores (n, samples of all runs) of the images with only the segments that are `present`."""
    n_runs, n_samples, _ = present[0].shape
    most = max(one.shape[2] for one in present)
    padded = [np.pad(one, ((0, 0), (0, 0), (0, most - one.shape[2]))) for one in present]
    on = torch.from_numpy(np.stack(padded)).flatten(1, 2).to(problem.x.device)
    scores = problem.x.new_empty(on.shape[:2])
    for owner, number in problem.chunks(n_runs * n_samples):
        shown = painted(on[owner, number], segments[owner])[:, None].to(absent)
        mixed = torch.lerp(absent[owner], problem.x[owner], shown)  # three times as fast as torch.where
        scores[owner, number] = problem.scores(mixed, owner)
    return scores
