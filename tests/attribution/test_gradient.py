"""Gradients and what is made of them: by hand, against captum, and the completeness of integrated gradients."""

from __future__ import annotations

import captum.attr
import numpy as np
import pytest
import torch
from torch import nn

from cxr_estimator import make_phantoms
from cxr_estimator.attribution import METHODS, Problem, TargetRule
from cxr_estimator.backbones import build_backbone
from cxr_estimator.errors import InvalidParameterError, InvalidTypeError
from cxr_estimator.inference import Execution
from tests.attribution.networks import Linear
from tests.conftest import small_classifier

IDS = ("a1", "b2", "c3")


class Quadratic(nn.Module):
    """The logit is the sum of x^2 / 2, so its gradient is x."""

    def forward(self, x):
        return (x.square() / 2).sum(dim=(1, 2, 3))[:, None]


def rule(*index):
    return TargetRule(None, index=torch.tensor(index))


def run(method, model, x, *index, options=None, **more):
    return METHODS[method].function(Problem(model, x, rule(*index), **more), **(options or {}))


WEIGHT = torch.tensor([[[1.0, -2.0]], [[0.5, 3.0]]])  # two channels of one row of two pixels
X = torch.tensor([[[[2.0, 1.0]], [[4.0, -1.0]]]])


def test_by_hand():
    assert run("saliency", Linear(WEIGHT), X, 1).values.tolist() == [[[1.0, 3.0]]]
    assert run("saliency", Linear(WEIGHT), X, 0).values.tolist() == [[[1.0, 3.0]]]
    assert run("input_x_gradient", Linear(WEIGHT), X, 1).values.tolist() == [[[4.0, -5.0]]]
    assert run("input_x_gradient", Linear(WEIGHT), X, 0).values.tolist() == [[[-4.0, 5.0]]]


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("n_steps", [1, 7, 64])
def test_integrated_gradients_of_a_linear_network_are_exact(index, n_steps):
    """Black is (0 - mean) / std = (-1, -4), so the values are +-sum_c w (x - b)."""
    options = {"n_steps": n_steps, "baseline": "black"}
    result = run("integrated_gradients", Linear(WEIGHT), X, index, options=options, mean=(0.5, 1.0), std=(0.5, 0.25))
    sign = 2 * index - 1
    expected = sign * torch.tensor([[[1 * 3 + 0.5 * 8, -2 * 2 + 3 * 3.0]]])
    torch.testing.assert_close(result.values, expected, atol=1e-5, rtol=1e-6)
    assert result.difference.item() == pytest.approx(sign * 12.0, abs=1e-5)
    assert result.baseline == "black"


def test_the_midpoint_rule_is_exact_for_a_quadratic_score():
    """From b to x, the contribution of a pixel is (x^2 - b^2) / 2; a single step suffices."""
    unit = torch.tensor([[[0.25, 1.0], [0.0, 0.5]]])
    given = np.array([[0.25, 0.5], [1.0, 0.0]], dtype=np.float32)
    options = {"n_steps": 1, "baseline": given}
    result = run("integrated_gradients", Quadratic(), unit[None], 1, options=options)
    torch.testing.assert_close(result.values, (unit.square() - torch.from_numpy(given).square()) / 2)
    assert result.baseline == "array"
    assert result.values[0, 0, 0] == 0  # where the image equals the baseline


# not densenet121: at one of its million ReLUs an input of 0 up to rounding turns with the order of the batch
NETWORKS = ("plain_cnn", "resnet18", "convnextv2_atto", "vit_tiny_patch16_224")


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    torch.manual_seed(0)
    return {n: build_backbone(request.param, num_outputs=n, channels=3, image_size=64).eval() for n in (1, 3)}


@pytest.mark.parametrize("num_outputs", [1, 3])
def test_equals_captum(network, num_outputs):
    model = network[num_outputs]
    torch.manual_seed(1)
    x, reference = torch.randn(2, 3, 64, 64), torch.full((2, 3, 64, 64), -2.0)
    index = (1, 0) if num_outputs == 1 else (2, 0)
    target = None if num_outputs == 1 else list(index)
    sign = torch.tensor([1.0, -1.0 if num_outputs == 1 else 1.0]).view(2, 1, 1)

    leaf = x.clone().requires_grad_()  # captum warns where it has to ask for gradients itself

    def check(ours, theirs):
        assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()

    theirs = captum.attr.Saliency(model).attribute(leaf, target=target)
    check(run("saliency", model, x, *index).values, theirs.amax(dim=1))
    theirs = captum.attr.InputXGradient(model).attribute(leaf, target=target).detach()
    check(run("input_x_gradient", model, x, *index).values, sign * theirs.sum(dim=1))
    theirs = captum.attr.IntegratedGradients(model).attribute(
        leaf, reference, target=target, method="riemann_middle", n_steps=12, internal_batch_size=8
    )
    how = {
        "options": {"n_steps": 12, "baseline": "black"},
        "mean": (1.0,) * 3,
        "std": (0.5,) * 3,
        "execution": Execution(x.device, 8),
    }
    ours = run("integrated_gradients", model, x, *index, **how)
    check(ours.values, sign * theirs.detach().sum(dim=1))
    with torch.no_grad():
        change = (model(x) - model(reference)).gather(1, torch.tensor(target or (0, 0))[:, None])[:, 0]
    torch.testing.assert_close(ours.difference, sign.view(2) * change, atol=1e-5, rtol=1e-5)


def drawn(seed, image_id, number, shape):
    """The noise of one evaluation, as its documentation has it."""
    return np.random.default_rng([seed, int(image_id, 16), number]).standard_normal(shape, dtype=np.float32)


def noisy_gradients(x, n_samples, noise, seed):
    """Gradients of `Quadratic` at noisy images, (n_samples, n, C, H, W)."""
    span = np.array([image.max() - image.min() for image in x]).reshape(-1, 1, 1, 1)
    return np.stack(
        [
            x + noise * span * np.stack([drawn(seed, key, number, x.shape[1:]) for key in IDS])
            for number in range(n_samples)
        ]
    )


def test_noise_by_hand():
    x = np.random.default_rng(0).normal(size=(3, 2, 5, 4)).astype(np.float32)
    gradients = noisy_gradients(x, 6, 0.2, seed=7).astype(np.float64)
    problem = {"seed": 7, "image_ids": IDS, "options": {"n_samples": 6, "noise": 0.2}}
    found = run("smooth_grad", Quadratic(), torch.from_numpy(x), 1, 1, 0, **problem)
    np.testing.assert_allclose(found.values, np.abs(gradients.mean(axis=0)).max(axis=1), rtol=1e-5)
    deviation = gradients.std(axis=0, ddof=1).max(axis=1)
    np.testing.assert_allclose(found.spread, deviation, rtol=1e-5)
    variance = run("var_grad", Quadratic(), torch.from_numpy(x), 1, 1, 0, **problem).values
    np.testing.assert_allclose(variance, deviation**2, rtol=1e-5)
    problem["options"]["average"] = "magnitude"
    found = run("smooth_grad", Quadratic(), torch.from_numpy(x), 1, 1, 0, **problem)
    np.testing.assert_allclose(found.values, np.abs(gradients).mean(axis=0).max(axis=1), rtol=1e-5)
    np.testing.assert_allclose(found.spread, np.abs(gradients).std(axis=0, ddof=1).max(axis=1), rtol=1e-5)


def test_the_noise_has_the_asked_share_of_the_range():
    x = torch.rand(1, 1, 40, 40) * 3 + 5
    spread = run("smooth_grad", Quadratic(), x, 1, options={"n_samples": 40, "noise": 0.1}).spread
    assert spread.square().mean().sqrt().item() == pytest.approx(0.1 * (x.max() - x.min()).item(), rel=0.02)


def test_the_gradient_of_a_linear_network_has_no_spread():
    result = run("smooth_grad", Linear(WEIGHT), X, 1, options={"n_samples": 5})
    torch.testing.assert_close(result.values, torch.tensor([[[1.0, 3.0]]]))
    assert result.spread.tolist() == run("var_grad", Linear(WEIGHT), X, 1).values.tolist() == [[[0.0, 0.0]]]


@pytest.mark.parametrize("method", ["smooth_grad", "var_grad", "integrated_gradients"])
def test_the_size_of_batches_does_not_matter(method):
    torch.manual_seed(0)
    model = build_backbone("plain_cnn", num_outputs=1, channels=1, image_size=32).eval()
    x = torch.randn(3, 1, 32, 32)
    options = {"n_samples": 7} if method != "integrated_gradients" else {"n_steps": 7}
    how = {"image_ids": IDS, "options": options}
    whole, pieces = (
        run(method, model, x, 1, 0, 1, **how, execution=Execution(x.device, size)).values for size in (32, 5)
    )
    torch.testing.assert_close(whole, pieces, atol=1e-4 * whole.abs().max().item(), rtol=0)


def test_streams_of_a_generator():
    problem = Problem(Quadratic(), torch.zeros(1, 1, 2, 2), rule(1), seed=3, image_ids=["ff"])
    assert problem.generator(0).random() == np.random.default_rng([3, 255]).random()
    draws = [problem.generator(0, *stream).random() for stream in [(1,), (1,), (2,), (1, 2)]]
    assert draws[0] == draws[1]
    assert len(set(draws)) == 3


def test_another_seed_gives_another_map(fitted, phantoms):
    one, same, other = (
        fitted.explain(phantoms.X[:2], method="smooth_grad", n_samples=4, random_state=seed) for seed in (1, 1, 2)
    )
    assert (one.values == same.values).all()
    assert not np.allclose(one.values, other.values)
    assert one.spread.shape == one.values.shape


def test_integrated_gradients_are_complete_on_a_trained_network():
    """At 64 steps the values sum to the difference of the scores: to 1% for half of the images, to 5% for most."""
    data = make_phantoms(48, 64, difficulty=0.0, random_state=0)
    clf = small_classifier(
        backbone="resnet10t", image_size=64, max_epochs=10, learning_rate=2e-3, validation_fraction=0.0
    )
    clf.fit(data.X, data.y, groups=data.groups)
    explanation = clf.explain(make_phantoms(10, 64, difficulty=0.0, random_state=1).X, method="integrated_gradients")
    assert np.median(explanation.completeness_residual) <= 0.01
    assert np.percentile(explanation.completeness_residual, 95) <= 0.05
    assert np.median(np.abs(explanation.values.sum(axis=(1, 2)))) > 0.1  # below, the residual would be relative to 0.1
    assert explanation.baseline == "background"


@pytest.mark.filterwarnings("ignore::cxr_estimator.errors.BackgroundWarning")
@pytest.mark.parametrize("kind", ["black", "blur", "background"])
def test_other_baselines(fitted, phantoms, kind):
    explanation = fitted.explain(
        phantoms.X[:4], method="integrated_gradients", baseline=kind, background=phantoms.X[:6], n_steps=64
    )
    assert explanation.baseline == kind
    assert np.median(explanation.completeness_residual) <= 0.02


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("smooth_grad", {"n_samples": 1}, "'n_samples' parameter of smooth_grad must be an integer >= 2"),
        ("var_grad", {"n_samples": 1}, "'n_samples' parameter of var_grad must be an integer >= 2"),
        ("smooth_grad", {"noise": 0.0}, "'noise' parameter of smooth_grad must be a number > 0 and <= 1"),
        ("var_grad", {"noise": 1.5}, "'noise' parameter of var_grad must be a number > 0 and <= 1"),
        ("smooth_grad", {"average": "mean"}, "'average' parameter of smooth_grad must be one of 'gradient'"),
        ("integrated_gradients", {"n_steps": 0}, "'n_steps' parameter of integrated_gradients must be an integer >= 1"),
        ("integrated_gradients", {"baseline": "white"}, "'baseline' parameter of integrated_gradients must be one of"),
        ("integrated_gradients", {"baseline": "background"}, "'background' parameter"),
    ],
)
def test_bad_options(method, options, message):
    with pytest.raises(InvalidParameterError, match=message):
        run(method, Linear(WEIGHT), X, 1, options=options)


def test_numbers_must_be_numbers():
    with pytest.raises(InvalidTypeError, match="'n_steps' parameter of integrated_gradients must be an integer"):
        run("integrated_gradients", Linear(WEIGHT), X, 1, options={"n_steps": 2.5})
