"""Robustness by hand, and max-sensitivity against captum."""

from __future__ import annotations

import dataclasses

import captum.attr
import captum.metrics
import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from cxr_estimator.attribution import Problem
from cxr_estimator.errors import InvalidParameterError
from cxr_estimator.metrics import Context, measure
from cxr_estimator.metrics._ranks import spearman
from cxr_estimator.metrics.robustness import _shift
from tests.attribution.networks import Linear, positive
from tests.metrics.requests import answering, explained_by

UP = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
X = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 1)
    return nn.Sequential(*layers).eval().requires_grad_(False)


class Pointwise(nn.Module):
    """The logit is the sum of x^2, so that the map of `input_x_gradient`, 2 x^2, moves with the image."""

    def forward(self, x):
        return x.square().sum(dim=(1, 2, 3))[:, None]


def test_spearman_with_ties_is_that_of_scipy():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 4, (2, 5, 6, 6)).astype(np.float32)
    expected = [spearmanr(one.ravel(), other.ravel()).statistic for one, other in zip(a, b, strict=True)]
    np.testing.assert_allclose(spearman(a, b), expected, rtol=1e-12)
    a[0], b[1], b[2, 0, 0] = 1.0, 0.0, np.nan
    assert np.isnan(spearman(a, b)).tolist() == [True, True, True, False, False]


def test_max_sensitivity_by_hand(explain_values):
    # the map is 5 long; it moves by 0, 1 and 5
    answers = [torch.tensor([[[3.0, 4.0]]]), torch.tensor([[[3.0, 5.0]]]), torch.tensor([[[6.0, 8.0]]])]
    context, _ = answering(torch.zeros(1, 1, 1, 2), answers)
    explanation = explain_values([[[3, 4]]])
    assert measure("max_sensitivity", explanation, context, n_draws=3).tolist() == [1.0]
    context, _ = answering(torch.zeros(1, 1, 1, 2), answers)
    np.testing.assert_allclose(measure("max_sensitivity", explanation, context, n_draws=2), [0.2])


def test_max_sensitivity_perturbs_pixels_within_the_radius(explain_values):
    x = torch.zeros(2, 2, 16, 16)
    context, asked = answering(x, torch.ones(4, 2, 16, 16))
    context = dataclasses.replace(context, problem=Problem(None, x, positive(2), mean=(0.5, 0.2), std=(0.25, 2.0)))
    measure("max_sensitivity", explain_values(np.ones((2, 16, 16))), context, n_draws=4, radius=0.1)
    change = torch.stack([variant.unit() - context.problem.unit() for variant in asked])
    assert 0.099 < change.max() < 0.10001
    assert -0.10001 < change.min() < -0.099
    assert abs(change.mean()) < 0.01
    assert len(change.flatten(2).flatten(0, 1).unique(dim=0)) == 8  # for each image and draw


@pytest.mark.parametrize(
    ("method", "oracle", "options"),
    [("input_x_gradient", captum.attr.InputXGradient, {}), ("integrated_gradients", captum.attr.IntegratedGradients, {
        "baselines": 0.0, "n_steps": 8, "method": "riemann_middle"})],
)  # fmt: skip
def test_max_sensitivity_is_that_of_captum(explain_values, network, method, oracle, options):
    own = {"n_steps": 8, "baseline": "black"} if options else {}
    explanation, context = explained_by(explain_values, network, X, method, **own)
    seen = []

    def explain(variant):
        seen.append(variant.x)
        return context.explain(variant)

    found = measure("max_sensitivity", explanation, dataclasses.replace(context, explain=explain))
    assert (found > 0.001).all()
    expected = captum.metrics.sensitivity_max(
        oracle(network).attribute,
        X.clone().requires_grad_(),
        perturb_func=lambda inputs: torch.stack(seen, dim=1).flatten(0, 1).requires_grad_(),
        n_perturb_samples=10,
        **options,
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_max_sensitivity_of_a_constant_gradient_is_zero(explain_values):
    weights = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(0))
    explanation, context = explained_by(explain_values, Linear(weights), X, "saliency")
    assert measure("max_sensitivity", explanation, context).tolist() == [0, 0, 0]


def test_seed_stability_by_hand(explain_values):
    explanation = dataclasses.replace(explain_values(UP), seed=7)
    for answers, expected in (
        ([UP, UP], 1.0),
        ([-UP, UP], -1 / 3),  # of three pairs, two are opposite
        ([UP, 0 * UP], 1 / 3),  # of three pairs, two share no order
    ):
        context, asked = answering(torch.zeros(1, 1, 2, 2), answers)
        np.testing.assert_allclose(measure("seed_stability", explanation, context), [expected], rtol=1e-12)
        assert len({0, *(variant.seed for variant in asked)}) == 3
    constant = dataclasses.replace(explain_values(torch.ones(1, 2, 2)), seed=7)
    assert np.isnan(measure("seed_stability", constant, answering(torch.zeros(1, 1, 2, 2), [UP, UP])[0]))


def test_seed_stability_of_methods_without_randomness_is_one_for_nothing(explain_values):
    context, asked = answering(torch.zeros(2, 1, 2, 2), [])
    assert measure("seed_stability", explain_values(UP.expand(2, 2, 2)), context).tolist() == [1.0, 1.0]
    assert not asked


def test_seed_stability_grows_with_the_number_of_masks(explain_values, network):
    few, many = (
        measure("seed_stability", *explained_by(explain_values, network, X, "rise", n_masks=count))
        for count in (20, 1000)
    )
    assert (few < 0.9).all()
    assert (few + 0.1 < many).all()
    assert (many < 1).all()


def test_error_bars_of_a_method_without_randomness_depend_on_the_seed(explained):
    explanation, context = explained(slice(0, 2), method="saliency", error_bars=True)
    values = measure("seed_stability", explanation, context, n_seeds=2)
    assert ((values > 0.5) & (values < 1)).all()


def test_augmentation_consistency_by_hand(explain_values):
    # columns of 0, 1, 0, 1, ... that stay where they are: shifted back by an odd number of columns they are opposite
    stripes = torch.arange(20).remainder(2).expand(1, 20, 20)
    x = torch.arange(400.0).view(1, 1, 20, 20)
    context, asked = answering(x, stripes.expand(30, 1, 20, 20))
    values = measure("augmentation_consistency", explain_values(stripes), context, n_draws=30)
    right = [round(float(x[0, 0, 10, 10] - variant.x[0, 0, 10, 10]) % 20) for variant in asked]
    assert set(right) == {0, 1, 19}
    np.testing.assert_allclose(values, np.mean([1 if one == 0 else -1 for one in right]))


def test_augmentation_consistency_repeats_the_edge(explain_values):
    x = torch.arange(16.0).view(1, 1, 4, 4)
    context, asked = answering(x, [x[0]])
    measure("augmentation_consistency", explain_values(x[0]), context, n_draws=1)
    down, right = _shift(context.problem, 0, 0, 0.05)
    padded = nn.functional.pad(x, (1, 1, 1, 1), mode="replicate")
    assert (asked[0].x == padded[:, :, 1 - down : 5 - down, 1 - right : 5 - right]).all()


def test_shifts_go_everywhere_but_nowhere():
    problem = Problem(None, torch.zeros(1, 1, 40, 20), positive(1))
    shifts = {_shift(problem, 0, draw, 0.05) for draw in range(400)}
    everywhere = {(down, right) for down in range(-2, 3) for right in range(-1, 2)}
    assert shifts == everywhere - {(0, 0)}


def test_augmentation_consistency_of_a_map_that_follows_and_of_one_that_stays(explain_values):
    explanation, context = explained_by(explain_values, Pointwise(), X, "input_x_gradient")
    np.testing.assert_allclose(measure("augmentation_consistency", explanation, context, shift=0.2), 1, rtol=1e-12)
    staying = Context(context.problem, lambda variant: torch.from_numpy(explanation.values))
    assert (measure("augmentation_consistency", explanation, staying) < 0.5).all()
    vanishing = Context(context.problem, lambda variant: torch.zeros(3, 8, 8))
    assert measure("augmentation_consistency", explanation, vanishing).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("max_sensitivity", {"n_draws": 0}),
        ("max_sensitivity", {"n_draws": 1001}),
        ("max_sensitivity", {"radius": 0}),
        ("max_sensitivity", {"radius": 1.1}),
        ("seed_stability", {"n_seeds": 1}),
        ("seed_stability", {"n_seeds": 1001}),
        ("augmentation_consistency", {"n_draws": 0}),
        ("augmentation_consistency", {"n_draws": 1001}),
        ("augmentation_consistency", {"shift": 0}),
        ("augmentation_consistency", {"shift": 0.6}),
    ],
)
def test_bad_options(explain_values, name, options):
    context, asked = answering(torch.zeros(1, 1, 2, 2), [])
    with pytest.raises(InvalidParameterError, match=f"'{next(iter(options))}' parameter of {name} must be"):
        measure(name, explain_values(UP), context, **options)
    assert not asked
