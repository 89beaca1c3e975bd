"""Gradients of the score with respect to the pixels.

In every formula S is the explained score, x the image in the normalised units that the network sees, and n the number
of evaluations. Where a map is a magnitude, a pixel has the largest of its channels; otherwise their sum.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cxr_estimator._validation import check_choice, check_number
from cxr_estimator.attribution._baselines import baseline as baseline_of
from cxr_estimator.attribution._problem import Around, Problem, add_to
from cxr_estimator.attribution._types import Attribution

_AVERAGES: dict[str, Callable[[Tensor], Tensor]] = {"gradient": lambda g: g, "magnitude": torch.abs}


def saliency(problem: Problem) -> Attribution:
    """Show how much the score changes when a pixel changes a little.

    M = max_c |dS / dx_c|  (section 3.1). Values are >= 0 and say nothing of the direction.

    Use it for: a first, cheap look at which pixels the network is sensitive to.
    Fails: where the score saturates, the gradient is near 0 although the pixel matters; in deep networks the gradient
    jumps from pixel to pixel, so that maps look like noise.

    References
    ----------
    Simonyan et al. (2014), Deep inside convolutional networks, ICLR workshop, doi:10.48550/arXiv.1312.6034
    """
    return Attribution(magnitude(input_gradient(problem)))


def input_x_gradient(problem: Problem) -> Attribution:
    """Multiply each pixel by its gradient: what it adds to the score, if the network were linear.

    M = sum_c x_c dS / dx_c  (section 3.2). Signed: below 0 is evidence against the target. x is in normalised units,
    as in captum, so a pixel at the mean grey of the normalisation gets 0. In a network of ReLUs without biases the
    values sum to the score; elsewhere they need not, and no completeness is claimed.

    Use it for: signed contributions at the price of one gradient.
    Fails: as `saliency` does, and it hides every pixel near the mean grey, whatever it shows.

    References
    ----------
    Shrikumar et al. (2016), Not just a black box, doi:10.48550/arXiv.1605.01713
    """
    return Attribution((problem.x * input_gradient(problem)).sum(dim=1))


def smooth_grad(
    problem: Problem, *, n_samples: int = 50, noise: float = 0.15, average: str = "gradient"
) -> Attribution:
    """Average the gradients of noisy copies of the image, so that what jumps from pixel to pixel cancels out.

    M = max_c |1/n sum_i g_c(x + e_i)|,  g = dS / dx,  e_i ~ N(0, s^2),  s = noise (max x - min x)  (section 3.1).
    Values are >= 0. `spread` is the standard deviation of a single noisy gradient; that of the mean is
    sqrt(n_samples) times smaller.

    Parameters
    ----------
    n_samples : int, default=50
        Noisy copies of each image, 2 to 100,000.
    noise : float in (0, 1], default=0.15
        Standard deviation of the noise as a share of the image's own range; the paper advises 0.1 to 0.2.
    average : {"gradient", "magnitude"}, default="gradient"
        What is averaged. "magnitude": M = max_c 1/n sum_i |g_c(x + e_i)|, in which gradients of opposite signs do not
        cancel.

    Use it for: sensitivity maps that can be looked at.
    Fails: strong noise blurs small findings and leads off the kind of image that the network knows.

    References
    ----------
    Smilkov et al. (2017), SmoothGrad, doi:10.48550/arXiv.1706.03825
    """
    check_choice("average", average, _AVERAGES, caller="smooth_grad")
    mean, variance = _moments(problem, n_samples, noise, _AVERAGES[average], caller="smooth_grad")
    return Attribution(magnitude(mean), spread=magnitude(variance.sqrt()))


def var_grad(problem: Problem, *, n_samples: int = 50, noise: float = 0.15) -> Attribution:
    """Show where the gradient varies most when noise is added to the image.

    M = max_c Var_i g_c(x + e_i),  with g and e_i as for `smooth_grad`  (eq. 2). Values are >= 0. The variance is the
    unbiased one, with 1 / (n - 1), so that it does not depend on the number of samples.

    Parameters
    ----------
    n_samples : int, default=50
        Noisy copies of each image, 2 to 100,000.
    noise : float in (0, 1], default=0.15
        Standard deviation of the noise as a share of the image's own range.

    Use it for: pixels on which the score depends in more than a linear way; few samples give a stable map.
    Fails: it is independent of the gradient itself, so a pixel with a large but constant effect gets 0; units are
    squared, so a few pixels outshine the rest.

    References
    ----------
    Adebayo et al. (2018), Local explanation methods for deep neural networks lack sensitivity to parameter values,
    ICLR workshop, doi:10.48550/arXiv.1810.03307
    """
    return Attribution(magnitude(_moments(problem, n_samples, noise, _AVERAGES["gradient"], caller="var_grad")[1]))


def integrated_gradients(problem: Problem, *, n_steps: int = 64, baseline: Any = None) -> Attribution:
    """Share out the difference to the score of a baseline, along the straight line from there to the image.

    M = sum_c (x_c - b_c) 1/n sum_k g_c(b + (k - 1/2) / n (x - b)),  g = dS / dx  (eq. 1; the paper's eq. 3 with the
    midpoint rule, whose error falls with n^2 where the network is smooth). Signed: below 0 is evidence against the
    target. The values sum to S(x) - S(b), up to the error of the sum over n steps.

    Parameters
    ----------
    n_steps : int, default=64
        Points on the line, at most 100,000. Take more if the completeness residual is above some 5%.
    baseline : {"black", "mean", "blur", "background"} or array, optional
        Where the line begins; default: the background, if there is one, else blur. "black" is so far from any
        radiograph that the line to it takes several times the steps.

    Use it for: contributions that add up, each pixel against a reference that means "nothing there".
    Fails: a pixel that equals the baseline gets 0, whatever it shows: with "black", air in the lungs cannot be
    evidence. The points on the line are images the network never saw, and their gradients are noisy.

    References
    ----------
    Sundararajan et al. (2017), Axiomatic attribution for deep networks, ICML, doi:10.48550/arXiv.1703.01365
    """
    check_number("n_steps", n_steps, caller="integrated_gradients", low=1, high=100_000, integer=True)
    reference = baseline_of(problem, baseline, caller="integrated_gradients")
    line = problem.x - reference.images
    total = torch.zeros_like(problem.x)
    for owner, number in problem.chunks(n_steps):
        share = ((number + 0.5) / n_steps).view(-1, 1, 1, 1)
        _, gradient = problem.gradients(reference.images[owner] + share * line[owner], owner)
        add_to(total, owner, gradient)
    rows = torch.arange(len(problem), device=problem.x.device)
    return Attribution(
        (line * total / n_steps).sum(dim=1),
        baseline=reference.name,
        difference=problem.score - problem.scores(reference.images, rows),
    )


def input_gradient(problem: Problem, around: Around | None = None) -> Tensor:
    """Return the gradient (n, C, H, W) of each image's score; for `around` see `Problem.gradients`."""
    return torch.cat([problem.gradients(problem.x[owner], owner, around)[1] for owner, _ in problem.chunks(1)])


def magnitude(values: Tensor) -> Tensor:
    """Return the largest absolute value over the channels of (n, C, H, W)."""
    return values.abs().amax(dim=1)


def _moments(
    problem: Problem, n_samples: int, noise: float, of: Callable[[Tensor], Tensor], *, caller: str
) -> tuple[Tensor, Tensor]:
    """Return mean and variance (n, C, H, W) over noisy images, of what `of` makes of the gradients."""
    check_number("n_samples", n_samples, caller=caller, low=2, high=100_000, integer=True)
    check_number("noise", noise, caller=caller, low=0, high=1, open_low=True)
    deviation = noise * (problem.x.amax(dim=(1, 2, 3), keepdim=True) - problem.x.amin(dim=(1, 2, 3), keepdim=True))
    # float64, since a small variance is the difference of large sums; on the CPU, since not every device has it
    total, squares = (torch.zeros(problem.x.shape, dtype=torch.float64) for _ in range(2))
    for owner, number in problem.chunks(n_samples):
        noisy = problem.x[owner] + deviation[owner] * _noise(problem, owner, number)
        found = of(problem.gradients(noisy, owner)[1]).cpu().double()
        add_to(total, owner.cpu(), found)
        add_to(squares, owner.cpu(), found.square())
    mean = total / n_samples
    variance = ((squares - n_samples * mean.square()) / (n_samples - 1)).clamp(min=0)
    return mean.to(problem.x), variance.to(problem.x)


def _noise(problem: Problem, owner: Tensor, number: Tensor) -> Tensor:
    """Return standard normal noise (m, C, H, W), which does not depend on how evaluations fall into batches."""
    generators = [problem.generator(*which) for which in zip(owner.tolist(), number.tolist(), strict=True)]
    noise = [rng.standard_normal(problem.x.shape[1:], dtype=np.float32) for rng in generators]
    return torch.from_numpy(np.stack(noise)).to(problem.x)
