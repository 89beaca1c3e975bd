"""Sanity: does the map depend on what the network has learned."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cxr_estimator._validation import check_number
from cxr_estimator.attribution import Problem
from cxr_estimator.explanation import Explanation
from cxr_estimator.inference import evaluating
from cxr_estimator.metrics._ranks import correlation, mean_kept, unit_ranks
from cxr_estimator.metrics._types import Context

_WEIGHTS, _NOISE = 0x3E16, 0x3E17
_N_NOISE = 8  # images; every channel of every batch norm then has several values


def parameter_randomisation(explanation: Explanation, context: Context, *, n_stages: int = 4) -> np.ndarray:
    """Mean rank correlation (Spearman) of |map| with that of randomised networks, in [-1, 1]; lower is better.

    The modules that hold parameters are cut into `n_stages` groups, from the output to the input; group after group
    is randomised in a copy of the network, which is explained after each ("cascading"). What is explained stays. A map
    that does not change when the network is destroyed does not explain it. A map that turns constant shares no order
    with the original one and counts 0. NaN where the original map is constant.

    Each parameter is drawn anew from a normal distribution with its own root mean square. Deviation: the paper draws
    from the distribution of the initialisation. Not every tensor of a timm network has one that can be asked for
    (tokens, layer scales, tables of positions), and PyTorch's own leaves the output of an EfficientNet-B0 constant up
    to rounding. Batch norms of randomised groups take their running statistics from a pass of noise images, since
    those of the trained network no longer fit.

    References
    ----------
    Adebayo et al. (2018), Sanity checks for saliency maps, NeurIPS, doi:10.48550/arXiv.1810.03292 (section 3.1)
    """
    check_number("n_stages", n_stages, caller="parameter_randomisation", low=1, high=1000, integer=True)
    problem = context.perturbed.problem
    with evaluating(problem.model):  # nobody else's hooks are copied
        model = deepcopy(problem.model)
    original = unit_ranks(np.abs(explanation.values))
    # generators of its own, on the CPU: the same weights on every device, whatever other threads draw meanwhile
    generator = torch.Generator().manual_seed(_seed(problem, _WEIGHTS))
    noise = _noise_images(problem)
    randomised: list[nn.Module] = []
    found = []
    with evaluating(model):
        for stage in _stages(model, n_stages):
            _randomise(stage, generator)
            randomised += stage
            _estimate_statistics(model, randomised, noise)
            values = context.map_of(problem.variant(model=model))
            found.append(correlation(original, unit_ranks(np.abs(values))))
    return mean_kept(found, np.abs(explanation.values))


def _stages(model: nn.Module, count: int) -> list[list[nn.Module]]:
    """Return the modules with something to randomise, the last ones first, in `count` groups or as many as can be."""
    modules = [
        module
        for module in model.modules()
        if isinstance(module, _BatchNorm) or any(True for _ in module.parameters(recurse=False))
    ]
    groups = np.array_split(np.arange(len(modules))[::-1], max(min(count, len(modules)), 1))
    return [[modules[number] for number in group] for group in groups]


@torch.no_grad()
def _randomise(modules: Sequence[nn.Module], generator: torch.Generator) -> None:
    for module in modules:
        for parameter in module.parameters(recurse=False):
            noise = torch.randn(parameter.shape, generator=generator).to(parameter)
            parameter.copy_(noise * parameter.square().mean().sqrt())


@torch.no_grad()
def _estimate_statistics(model: nn.Module, modules: Sequence[nn.Module], x: Tensor) -> None:
    """Let those of the modules that are batch norms take their running statistics from the images `x`, and no other."""
    norms = [module for module in modules if isinstance(module, _BatchNorm) and module.track_running_stats]
    if not norms:
        return
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative mean, here over a single batch
        norm.train()
    model(x)
    for norm in norms:
        norm.eval()


def _noise_images(problem: Problem) -> Tensor:
    """Return images of uniform noise: the same for every batch, so that no image depends on those beside it."""
    noise = np.random.default_rng(_seed(problem, _NOISE)).random((_N_NOISE, *problem.x.shape[1:]), np.float32)
    return problem.normalised(torch.from_numpy(noise).to(problem.x))


def _seed(problem: Problem, stream: int) -> int:
    return int(np.random.default_rng([problem.seed, stream]).integers(2**63))
