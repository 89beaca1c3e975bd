"""Error bars: a method repeated, over seeds where it is random and over slightly changed images where it is not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from cxr_estimator.attribution._problem import Problem
from cxr_estimator.attribution._types import Attribution, Method

REPEATS = 5
_NOISE = 0.02  # standard deviation, as a share of the range of pixels


def repeated(method: Method, problem: Problem, options: Mapping[str, Any], repeats: int = REPEATS) -> Attribution:
    """Return the mean map of several runs, and their pointwise standard deviation as `spread`.

    A random method runs with several seeds. For any other, Gaussian noise of 2% of the range of pixels is added to the
    images; for a combination, which may be of both, the one and the other. What is explained stays the class decided
    for the image itself.
    """
    results = []
    for number in range(repeats):
        variant = _variant(method, problem, number)
        results.append(method.function(variant, **options))
        problem.evaluations += variant.evaluations
    values = torch.stack([result.values for result in results])
    differences = [result.difference for result in results if result.difference is not None]
    counts = [result.evaluations for result in results if result.evaluations is not None]
    return results[0]._replace(
        values=values.mean(dim=0),
        spread=values.std(dim=0),
        difference=torch.stack(differences).mean(dim=0) if differences else None,
        evaluations=torch.stack(counts).sum(dim=0) if counts else None,
    )


def _variant(method: Method, problem: Problem, number: int) -> Problem:
    # not seed + number, or the repetitions of neighbouring seeds would be the same but for one
    seed = int(np.random.SeedSequence([problem.seed, number]).generate_state(1)[0])
    if method.random and method.family != "combination":
        return problem.variant(seed=seed)
    shape = problem.x.shape[1:]
    noise = [problem.generator(row, number).standard_normal(shape, np.float32) for row in range(len(problem))]
    changed = problem.unit() + _NOISE * torch.from_numpy(np.stack(noise)).to(problem.x)
    return problem.variant(seed=seed, x=problem.normalised(changed))
