"""Expected gradients: integrated gradients with images, not one image, as the reference."""

from __future__ import annotations

import numpy as np
import torch

from cxr_estimator._validation import check_number
from cxr_estimator.attribution._problem import Problem, add_to
from cxr_estimator.attribution._types import Attribution


def gradient_shap(problem: Problem, *, n_samples: int = 64) -> Attribution:
    """Average gradients over points on the lines to reference images, times the difference to them.

    phi = E_(b, a) sum_channels (x - b) d score / dx (b + a (x - b)), b a background image, a uniform in [0, 1] (eq. 5).

    Of the draws, equally many (give or take one) go to each background image, and the a are one from each of
    `n_samples` equal parts of [0, 1], which leaves the expectation as it is and scatters less. Values sum to score(x) -
    mean_b score(b) in expectation only: the completeness residual says how far the draws are from that.

    Parameters
    ----------
    n_samples : int, default=64
        Draws per image, each of them one gradient.

    Use it for: pixel-level evidence in any network, transformers included, where no single baseline is natural.

    Fails: maps are grainy; few draws leave noise, which shows in the residual and in the error bars; points between two
    radiographs are images that the network has never seen.

    References
    ----------
    Erion et al. (2021), Improving performance of deep learning models with axiomatic attribution priors and expected
    gradients, Nature Machine Intelligence 3, doi:10.1038/s42256-021-00343-w
    """
    check_number("n_samples", n_samples, caller="gradient_shap", low=1, high=100_000, integer=True)
    difference = problem.score - problem.background_score
    background = problem.references
    draws = [_draws(problem.generator(row), n_samples, len(background)) for row in range(len(problem))]
    picks = torch.from_numpy(np.stack([pick for pick, _ in draws])).to(problem.x.device)
    steps = torch.from_numpy(np.stack([step for _, step in draws])).to(problem.x)
    values = torch.zeros_like(problem.x[:, 0])
    for owner, number in problem.chunks(n_samples):
        b = background[picks[owner, number]]
        to_x = problem.x[owner] - b
        _, gradients = problem.gradients(b + steps[owner, number].view(-1, 1, 1, 1) * to_x, owner)
        add_to(values, owner, (gradients * to_x).sum(dim=1) / n_samples)
    return Attribution(values, baseline="background", difference=difference)


def _draws(rng: np.random.Generator, count: int, n_background: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which background image each draw compares with, and how far from it towards the image it lies."""
    rounds = [rng.permutation(n_background) for _ in range(-(-count // n_background))]
    return np.concatenate(rounds)[:count], rng.permutation((np.arange(count) + rng.random(count)) / count)
