"""Expected gradients, by hand and against integrated gradients."""

from __future__ import annotations

import captum.attr
import numpy as np
import pytest
import torch
from torch import nn

from cxr_estimator.attribution import Problem, TargetRule
from cxr_estimator.attribution.gradient_shap import _draws, gradient_shap
from cxr_estimator.errors import InvalidParameterError, InvalidTypeError


class Squares(nn.Module):
    """The logit is the sum of the squared pixels, whose integrated gradients are x^2 - b^2."""

    def forward(self, x):
        return x.square().flatten(1).sum(dim=1, keepdim=True)


def problem_of(model, x, background, **options):
    rule = TargetRule(None, index=torch.ones(len(x), dtype=torch.int64))
    return Problem(model.eval(), x, rule, background=background, **options)


def test_linear_networks_give_weight_times_difference():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 1)).requires_grad_(False)
    x, background = torch.randn(3, 1, 4, 4), torch.randn(5, 1, 4, 4)
    result = gradient_shap(problem_of(net, x, background), n_samples=10)  # each background image twice
    expected = net[1].weight.view(4, 4) * (x - background.mean(dim=0))[:, 0]
    torch.testing.assert_close(result.values, expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(result.values.sum(dim=(1, 2)), result.difference, atol=1e-5, rtol=1e-5)


def test_squares_by_hand():
    """At b + a (x - b) the gradient is twice that; with one a from each 200th of [0, 1] the sum is near x^2 - b^2."""
    x, b = torch.tensor([[3.0, -1.0]]).view(1, 1, 1, 2), torch.tensor([[1.0, 0.0]]).view(1, 1, 1, 2)
    result = gradient_shap(problem_of(Squares(), x, b), n_samples=200)
    np.testing.assert_allclose(result.values[0, 0].tolist(), [8.0, 1.0], atol=0.01)
    assert result.difference.item() == 9.0


def test_converges_to_integrated_gradients_averaged_over_the_background():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 6, 3), nn.Softplus(), nn.Flatten(), nn.Linear(96, 1), nn.Tanh())
    net.requires_grad_(False)
    x, background = torch.randn(2, 1, 6, 6), torch.randn(3, 1, 6, 6)
    ours = gradient_shap(problem_of(net, x, background), n_samples=1500).values
    method = captum.attr.IntegratedGradients(net)
    each = [method.attribute(x, b.expand_as(x), target=0, n_steps=64) for b in background[:, None]]
    expected = torch.stack(each).mean(dim=0)[:, 0].float()
    torch.testing.assert_close(ours, expected, atol=2e-3 * float(expected.abs().max()), rtol=0.0)


def test_draws_are_spread_evenly():
    pick, step = _draws(np.random.default_rng(0), 14, 4)
    assert sorted(np.bincount(pick).tolist()) == [3, 3, 4, 4]
    assert sorted((step * 14).astype(int).tolist()) == list(range(14))
    assert not np.array_equal(np.sort(step), step)


def test_spreading_the_draws_lowers_the_scatter():
    """Against plain draws, which are 8 runs of a single draw."""
    torch.manual_seed(0)
    x, background = torch.randn(1, 1, 4, 4), torch.randn(4, 1, 4, 4)

    def run(seed, n_samples):
        return gradient_shap(problem_of(Squares(), x, background, seed=seed), n_samples=n_samples).values

    spread = torch.stack([run(seed, 8) for seed in range(20)])
    plain = torch.stack([run(seed, 1) for seed in range(100, 260)]).view(20, 8, 1, 4, 4).mean(dim=1)
    assert spread.var(dim=0).mean() < plain.var(dim=0).mean() / 4


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (
            0,
            InvalidParameterError,
            "'n_samples' parameter of gradient_shap must be an integer >= 1 and <= 100000. Got 0",
        ),
        (
            2.5,
            InvalidTypeError,
            "'n_samples' parameter of gradient_shap must be an integer >= 1 and <= 100000. Got 2.5",
        ),
    ],
)
def test_bad_numbers_of_samples(value, error, message):
    x = torch.zeros(1, 1, 2, 2)
    with pytest.raises(error, match=message):
        gradient_shap(problem_of(Squares(), x, x), n_samples=value)


def test_a_background_is_needed():
    with pytest.raises(InvalidParameterError, match="'background' parameter of explain must be given"):
        gradient_shap(problem_of(Squares(), torch.zeros(1, 1, 2, 2), None))
