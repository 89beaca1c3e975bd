"""Metrics of faithfulness by hand, against slow loops and other libraries."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from cxr_estimator.attribution._baselines import blurred
from cxr_estimator.errors import InvalidParameterError
from cxr_estimator.metrics import METRICS, Request, measure, measure_all
from cxr_estimator.metrics._imputation import imputed
from cxr_estimator.metrics._reference import moved
from cxr_estimator.metrics.faithfulness import deletion_curve, insertion_curve
from cxr_estimator.metrics.subsets import _STREAM, _chosen
from tests.metrics.networks import linear

FAITHFULNESS = [name for name, metric in METRICS.items() if metric.family == "faithfulness"]
X = np.array([[[0.4, 0.3], [0.2, 0.1]]])
ONES = np.ones((2, 2))
RAW = {"relative": False, "output": "score", "baseline": "black"}


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        # the score is 2 and falls to 1.6, 1.3, 1.1 and 1 as pixels go in the order of the map, else 1.9, 1.7, 1.4, 1
        ("deletion_auc", {"steps": 4}, (2 / 2 + 1.6 + 1.3 + 1.1 + 1 / 2) / 4),
        ("deletion_auc", {"steps": 2}, (2 / 2 + 1.3 + 1 / 2) / 2),
        ("insertion_auc", {"steps": 4}, (1 / 2 + 1.4 + 1.7 + 1.9 + 2 / 2) / 4),
        ("aopc", {"steps": 4}, (0 + 0.4 + 0.7 + 0.9 + 1) / 5),
        ("aopc_lerf", {"steps": 4}, (0 + 0.1 + 0.3 + 0.6 + 1) / 5),
        ("abpc", {"steps": 4}, (0 + 0.3 + 0.4 + 0.3 + 0) / 5),
        ("top_k_deletion", {"k": 25}, 0.4),
        ("top_k_deletion", {"k": 50}, 0.7),
        ("top_k_deletion", {"k": 100}, 1.0),
        ("comprehensiveness", {}, (0 + 0 + 0 + 0.4 + 0.7) / 5),
        ("sufficiency", {}, (1 + 1 + 1 + 0.6 + 0.3) / 5),
        ("infidelity", {"unit": "pixel", "normalise": False, "n_subsets": 8}, 0.0),
        ("sensitivity_n", {"unit": "pixel", "n_subsets": 8}, 1.0),
    ],
)
def test_by_hand(explain_values, name, options, expected):
    found = measure(name, explain_values(X), linear(ONES, X), **RAW, **options)
    np.testing.assert_allclose(found, [expected], atol=1e-6)


def test_probability_degradation_by_hand(explain_values):
    f = 1 / (1 + np.exp(-np.array([2, 1.6, 1.3, 1.1, 1])))
    found = measure(
        "probability_degradation", explain_values(X), linear(ONES, X), relative=False, baseline="black", steps=4
    )
    np.testing.assert_allclose(found, [np.mean(1 - f[1:] / f[0])], rtol=1e-5)
    with pytest.raises(InvalidParameterError, match="'output' parameter of probability_degradation must be 'proba'"):
        measure("probability_degradation", explain_values(X), linear(ONES, X), output="score")


@pytest.mark.parametrize("n_units", [4, 9, 16])
def test_both_orders_are_rounded_alike(explain_values, n_units):
    """Where image and weights are uniform, no order is better than another."""
    x = np.full((1, 24, 24), 0.5)
    options = {**RAW, "unit": "patch", "n_units": n_units, "steps": 20}
    values = np.random.default_rng(0).normal(size=(1, 24, 24))
    for name, expected in (("abpc", 0.0), ("aopc", x.sum() / 2), ("aopc_lerf", x.sum() / 2)):
        found = measure(name, explain_values(values), linear(np.ones((24, 24)), x), **options)
        np.testing.assert_allclose(found, [expected], atol=1e-3 * x.sum() if name == "abpc" else 0.02 * x.sum())


def test_each_set_of_units_is_evaluated_once(explained):
    explanation, context = explained(slice(0, 3))
    before = context.problem.evaluations
    deletion_curve(explanation, context, steps=64, unit="patch", n_units=16)
    assert context.problem.evaluations - before == 3 * 16  # not 63


def test_probabilities_by_hand(explain_values):
    found = deletion_curve(explain_values(X), linear(ONES, X), steps=4, baseline="black")
    np.testing.assert_allclose(found, [1 / (1 + np.exp(-np.array([2, 1.6, 1.3, 1.1, 1])))], rtol=1e-6)


def test_infidelity_by_hand(explain_values):
    """Twice the right map: hiding any one pixel of value v changes the score by v, and the map says 2 v."""
    options = {**RAW, "unit": "pixel", "n_subsets": 400}
    found = measure("infidelity", explain_values(2 * X), linear(ONES, X), normalise=False, **options)
    np.testing.assert_allclose(found, [np.mean(X**2)], rtol=0.15)  # 400 draws of four pixels
    np.testing.assert_allclose(measure("infidelity", explain_values(2 * X), linear(ONES, X), **options), 0, atol=1e-9)
    turned = measure("infidelity", explain_values(-X), linear(ONES, X), **options)
    np.testing.assert_allclose(turned, [np.mean(X**2)], rtol=0.15)  # the best scale that is not negative is 0


def test_units_are_hidden_whole_by_their_mean(explain_values):
    x = np.arange(16.0).reshape(1, 4, 4) / 100
    values = np.zeros((1, 4, 4))
    values[0, :2, 2:] = [[9, -1], [-1, -1]]  # a mean of 1.5, whereas the brightest other patch has 1
    values[0, 2:, :2] = 1
    how = {"unit": "patch", "n_units": 4, "output": "score", "baseline": "black"}
    found = deletion_curve(explain_values(values), linear(np.ones((4, 4)), x), steps=4, **how)
    whole, first, second = x.sum(), x[0, :2, 2:].sum(), x[0, 2:, :2].sum()
    np.testing.assert_allclose(found[0, :3], [1 + whole, 1 + whole - first, 1 + whole - first - second], rtol=1e-5)


def test_deletion_and_insertion_are_those_of_rise(explained, fitted):
    """The paper's procedure, image by image and step by step."""
    explanation, context = explained(slice(0, 3))
    problem, n = context.problem, 32 * 32
    deletion = measure("deletion_auc", explanation, context, relative=False, steps=8)
    insertion = measure("insertion_auc", explanation, context, relative=False, steps=8)
    for row in range(3):
        x = problem.x[row : row + 1]
        # noise far below any difference between values settles ties, as any order of them would do
        order = np.lexsort((problem.generator(row, 0x71E5).permutation(n).argsort(), -explanation.values[row].ravel()))
        for start, finish, found in (
            (x, x.mean().expand_as(x), deletion[row]),
            (blurred(x), x, insertion[row]),
        ):
            probabilities = []
            for step in range(9):
                changed = start.clone().flatten()
                chosen = order[: round(step / 8 * n)].copy()
                changed[chosen] = finish.flatten()[chosen]
                logit = fitted.model_(changed.view_as(x)).item()
                probabilities.append(1 / (1 + np.exp(-logit)))
            expected = np.sum(probabilities) / 8 - (probabilities[0] + probabilities[-1]) / 16  # trapezoids
            np.testing.assert_allclose(found, expected, atol=2e-3)


class TwoOutputs(torch.nn.Module):
    """Probabilities of both classes, as Quantus wants them."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        proba = torch.sigmoid(self.model(x))
        return torch.cat([1 - proba, proba], dim=1)


@pytest.mark.parametrize(("unit", "n_units"), [("pixel", 4), ("patch", 16)])
def test_curves_and_aopc_equal_those_of_quantus(explained, fitted, unit, n_units):
    import quantus

    explanation, context = explained(slice(0, 3))
    values = np.random.default_rng(0).normal(size=explanation.values.shape).astype(np.float32)  # without ties
    explanation, problem = dataclasses.replace(explanation, values=values), context.problem
    black = float(problem.normalised(torch.zeros(1, 1, 1))[0, 0, 0])
    options = {"normalise": False, "abs": False, "disable_warnings": True, "perturb_baseline": black}
    data = {
        "x_batch": problem.x.numpy(),
        "y_batch": np.ones(3, dtype=int),
        "a_batch": values[:, None],
        "softmax": False,
    }
    how = {"baseline": "black", "unit": unit, "n_units": n_units}
    if unit == "pixel":
        steps = 8
        flipping = quantus.PixelFlipping(features_in_step=32 * 32 // steps, **options)
        theirs = np.array(flipping(model=TwoOutputs(fitted.model_).eval(), channel_first=True, **data))
        drops = context.problem.target.proba(problem.logits).numpy()[:, None] - theirs
    else:
        steps = 16
        regions = quantus.RegionPerturbation(patch_size=8, regions_evaluation=16, **options)
        drops = np.array(regions(model=TwoOutputs(fitted.model_).eval(), channel_first=True, **data))
    curve = deletion_curve(explanation, context, steps=steps, **how)
    np.testing.assert_allclose(curve[:, :1] - curve[:, 1:], drops, atol=1e-5)
    aopc = measure("aopc", explanation, context, relative=False, steps=steps, **how)
    np.testing.assert_allclose(aopc, drops.sum(axis=1) / (steps + 1), atol=1e-5)


def test_curves_begin_and_end_where_they_must(explained):
    explanation, context = explained(slice(0, 4))
    deletion = deletion_curve(explanation, context, steps=5)
    insertion = insertion_curve(explanation, context, steps=5)
    proba = context.problem.target.proba(context.problem.logits).numpy()
    np.testing.assert_allclose(deletion[:, 0], proba, atol=1e-6)
    np.testing.assert_allclose(insertion[:, -1], proba, atol=1e-6)
    other = dataclasses.replace(explanation, values=-explanation.values)
    np.testing.assert_allclose(deletion_curve(other, context, steps=5)[:, -1], deletion[:, -1], atol=1e-6)


def test_infidelity_equals_that_of_captum(explain_values):
    from captum.metrics import infidelity, infidelity_perturb_func_decorator

    rng = np.random.default_rng(0)
    x, values = rng.random((2, 4, 4)), rng.normal(size=(2, 4, 4))
    context = linear(rng.normal(size=(4, 4)), x)
    found = measure(
        "infidelity", explain_values(values), context, **RAW, unit="pixel", n_subsets=32, normalise=False, share=0.5
    )
    drops = context.perturbed  # the same subsets, drawn again
    for row in range(2):
        chosen = _chosen(drops.problem.generator(row, _STREAM), 16, 32, 0.5).float().view(32, 1, 4, 4)
        draws = iter(chosen)

        @infidelity_perturb_func_decorator(False)
        def hide(inputs, draws=draws):
            mask = torch.stack([next(draws) for _ in range(len(inputs))])
            return inputs * (1 - mask)

        image = drops.problem.x[row : row + 1]
        gradient = torch.as_tensor(values[row], dtype=torch.float32)[None, None] / image  # captum wants it per unit
        expected = infidelity(
            drops.problem.model, hide, image, gradient, target=0, n_perturb_samples=32, max_examples_per_batch=32
        )
        np.testing.assert_allclose(found[row], expected.item(), rtol=1e-3)


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # of pytorch-grad-cam
def test_imputation_solves_the_equations_of_road():
    from pytorch_grad_cam.metrics.road import NoisyLinearImputer

    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, 3, 24, 20, generator=generator)
    hidden = torch.rand(2, 1, 24, 20, generator=generator) < 0.6
    hidden[1, :, 4:20, 3:18] = True  # one large hole
    found = imputed(x, hidden)
    for row in range(2):
        imputer = NoisyLinearImputer(noise=0)
        expected = imputer(x[row], (~hidden[row, 0]).float())
        np.testing.assert_allclose(found[row], expected, atol=2e-3)


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # of pytorch-grad-cam
def test_road_equals_that_of_pytorch_grad_cam(explained, fitted, monkeypatch):
    from pytorch_grad_cam.metrics import road

    monkeypatch.setattr(road.torch, "randn_like", torch.zeros_like)  # no noise
    explanation, context = explained(slice(0, 3))
    values = explanation.values + np.random.default_rng(0).normal(0, 1e-6, explanation.values.shape)  # no ties
    explanation = dataclasses.replace(explanation, values=values.astype(np.float32))
    found = measure("road", explanation, context, relative=False)
    combined = road.ROADCombined(percentiles=[20, 40, 60, 80])
    with torch.no_grad():
        targets = [lambda output: torch.sigmoid(output[0])] * 3
        expected = combined(context.problem.x, explanation.values, targets, fitted.model_)
    np.testing.assert_allclose(found, expected, atol=5e-3)


def test_all_hidden_leaves_the_mean():
    x = torch.rand(1, 1, 5, 7)
    assert torch.isfinite(imputed(x, torch.ones(1, 1, 5, 7, dtype=torch.bool))).all()
    assert torch.equal(imputed(x, torch.zeros(1, 1, 5, 7, dtype=torch.bool)), x)


def test_each_perturbed_image_is_evaluated_once(explained):
    explanation, context = explained(slice(0, 5))
    problem = context.problem
    before = problem.evaluations
    once = measure("deletion_auc", explanation, context, steps=10, n_references=2)
    # 9 steps for the map and each of its two references, and the common last one
    assert problem.evaluations - before == 5 * (3 * 9 + 1)
    measure("aopc", explanation, context, steps=10, n_references=2)
    measure("probability_degradation", explanation, context, steps=5, n_references=2)
    measure("top_k_deletion", explanation, context, k=30, n_references=2)
    assert problem.evaluations - before == 5 * (3 * 9 + 1)
    again = measure_all({"again": Request("deletion_auc", {"steps": 10})}, explanation, context, n_references=2)
    assert (again["again"] == once).all()
    # the same images, in the other order
    measure("insertion_auc", explanation, context, steps=10, n_references=2, baseline="mean")
    measure("aopc_lerf", explanation, context, steps=10, n_references=2)
    assert problem.evaluations - before == 5 * (2 * 3 * 9 + 1)


@pytest.mark.parametrize("name", FAITHFULNESS)
def test_perfect_beats_random_beats_reversed(explain_values, name):
    """On a score whose true attribution is known: weights times pixels, in patches as metrics over subsets want it."""
    rng = np.random.default_rng(0)
    truth = np.kron(rng.normal(size=(8, 4, 4)), np.ones((4, 4)))
    x = 0.3 + 0.7 * rng.random((8, 16, 16))
    options = {"unit": "patch", "n_units": 16}
    found = {}
    for kind in ("perfect", "random", "reversed"):
        each = []
        for row in range(8):
            context = linear(truth[row] / 8, x[row : row + 1])
            values = {"perfect": truth[row] * x[row], "reversed": -truth[row] * x[row]}.get(kind)
            values = np.kron(rng.normal(size=(4, 4)), np.ones((4, 4))) if values is None else values
            baseline = {} if name == "road" else {"baseline": "black"}
            each.append(measure(name, explain_values(values[None]), context, relative=False, **options, **baseline))
        sign = 1 if METRICS[name].greater_is_better else -1
        found[kind] = sign * np.mean(each)
    print(name, {kind: round(float(value), 3) for kind, value in found.items()})
    assert found["perfect"] > found["random"] > found["reversed"]


@pytest.mark.parametrize("name", FAITHFULNESS)
def test_a_constant_network_gains_nothing(explain_values, name):
    rng = np.random.default_rng(0)
    context = linear(np.zeros((16, 16)), rng.random((3, 16, 16)))
    found = measure(name, explain_values(rng.normal(size=(3, 16, 16))), context)
    np.testing.assert_allclose(found, 0.0, atol=1e-6)


@pytest.mark.parametrize("name", FAITHFULNESS)
def test_only_the_order_or_the_shape_counts_not_the_scale(explained, name):
    explanation, context = explained(slice(0, 4))
    scaled = dataclasses.replace(explanation, values=4.0 * explanation.values)
    np.testing.assert_allclose(measure(name, scaled, context), measure(name, explanation, context), atol=1e-6)


def test_reference_maps_are_the_map_elsewhere(explained):
    explanation, context = explained(slice(0, 4))
    values = explanation.values
    one, other = moved(values, context.problem, 0), moved(values, context.problem, 1)
    for map_ in (one, other):
        np.testing.assert_array_equal(np.sort(map_.reshape(4, -1)), np.sort(values.reshape(4, -1)))
        assert (map_ != values).any(axis=(1, 2)).all()
    assert (one != other).any()
    np.testing.assert_array_equal(moved(values, context.problem, 0), one)
    alone, lone = explained(slice(2, 3))
    np.testing.assert_allclose(moved(alone.values, lone.problem, 0)[0], one[2], atol=1e-6)


def test_every_baseline_and_unit_works(explained):
    explanation, context = explained(slice(0, 2))
    found = {
        baseline: measure("aopc", explanation, context, relative=False, steps=4, baseline=baseline)
        for baseline in ("black", "mean", "blur", "background", "noise", "imputed")
    }
    found |= {
        unit: measure("aopc", explanation, context, relative=False, steps=4, unit=unit, n_units=16)
        for unit in ("patch", "superpixel")
    }
    found["array"] = measure("aopc", explanation, context, relative=False, steps=4, baseline=np.full((32, 32), 0.5))
    assert all(np.isfinite(values).all() for values in found.values())
    assert len({round(float(values[0]), 9) for values in found.values()}) == len(found)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"steps": 0}, "steps"),
        ({"steps": 2.5}, "steps"),
        ({"unit": "cell"}, "unit"),
        ({"unit": "patch", "n_units": 10**6}, "n_segments"),
        ({"baseline": "white"}, "baseline"),
        ({"output": "logit"}, "output"),
    ],
)
def test_bad_options(explained, options, match):
    explanation, context = explained(slice(0, 2))
    with pytest.raises((InvalidParameterError, TypeError), match=match):
        measure("deletion_auc", explanation, context, **options)


def test_the_loop_can_be_stopped(explained):
    explanation, context = explained(slice(0, 2))

    def stop(share):
        raise KeyboardInterrupt

    context.problem.progress = stop
    with pytest.raises(KeyboardInterrupt):
        measure("deletion_auc", explanation, context)
    context.problem.progress = None
    assert np.isfinite(measure("deletion_auc", explanation, context)).all()
