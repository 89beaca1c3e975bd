"""What stands for "nothing to see"."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from cxr_estimator.attribution import Problem, TargetRule
from cxr_estimator.attribution._baselines import baseline, blurred
from cxr_estimator.errors import InvalidParameterError


def problem_of(background=None, shape=(2, 1, 20, 30)):
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    rule = TargetRule(None, index=torch.zeros(len(x), dtype=torch.int64))
    mean, std = (0.4,) * shape[1], (0.2,) * shape[1]
    return Problem(nn.Identity(), (x - 0.4) / 0.2, rule, mean=mean, std=std, background=background)


def test_kinds_by_hand():
    problem = problem_of()
    black = baseline(problem, "black", caller="t")
    torch.testing.assert_close(black.images, torch.full_like(problem.x, -0.4 / 0.2))
    assert black.name == "black"
    mean = baseline(problem, "mean", caller="t").images
    torch.testing.assert_close(mean[1], problem.x[1].mean().expand(1, 20, 30))
    given = baseline(problem, np.full((20, 30), 0.6), caller="t")
    torch.testing.assert_close(given.images, torch.full_like(problem.x, 1.0))
    assert given.name == "array"
    in_colour = baseline(problem, np.full((1, 20, 30), 0.4), caller="t")
    torch.testing.assert_close(in_colour.images, torch.zeros_like(problem.x))


def test_the_default_is_the_background_where_there_is_one():
    background = torch.stack([torch.zeros(1, 20, 30), torch.ones(1, 20, 30)])
    found = baseline(problem_of(background), None, caller="t")
    assert found.name == "background"
    torch.testing.assert_close(found.images, torch.full((2, 1, 20, 30), 0.5))
    without = baseline(problem_of(), None, caller="t")
    assert without.name == "blur"
    torch.testing.assert_close(without.images, blurred(problem_of().x))


def test_blurring_keeps_what_is_even_and_spreads_what_is_not():
    torch.testing.assert_close(blurred(torch.full((1, 3, 20, 30), 0.7)), torch.full((1, 3, 20, 30), 0.7))
    point = torch.zeros(1, 1, 41, 41)
    point[0, 0, 20, 20] = 1.0
    spread = blurred(point)[0, 0]
    assert spread.sum().item() == pytest.approx(1.0, abs=1e-3)
    offsets = torch.arange(41) - 20.0
    deviation = (spread.sum(dim=0) * offsets**2).sum().sqrt().item()
    assert deviation == pytest.approx(4.1, rel=0.05)  # a tenth of the side
    torch.testing.assert_close(spread, spread.T)
    assert blurred(torch.rand(1, 1, 2, 3)).shape == (1, 1, 2, 3)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("white", "'baseline' parameter of t must be one of 'black', 'mean', 'blur', 'background'"),
        ("background", "'background' parameter of explain must be given"),
        (np.zeros((2, 1, 20, 30)), "an array of shape"),  # one for each image: of this batch, or of all?
        (np.zeros((20, 31)), r"an array of shape \(20, 30\) or \(1, 20, 30\), as the network sees an image"),
        (np.full((20, 30), 1.5), r"an array of pixels in \[0, 1\]"),
        (np.full((20, 30), np.nan), r"an array of pixels in \[0, 1\]"),
        ([["a"]], "or an array"),
    ],
)
def test_bad_baselines(kind, message):
    with pytest.raises(InvalidParameterError, match=message):
        baseline(problem_of(), kind, caller="t")
