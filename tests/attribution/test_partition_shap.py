"""Partition SHAP, against the engine called by hand."""

from __future__ import annotations

import numpy as np
import pytest
import shap
import torch
from torch import nn

from cxr_estimator.attribution import Problem, TargetRule
from cxr_estimator.attribution._baselines import baseline
from cxr_estimator.attribution.partition_shap import partition_shap
from cxr_estimator.errors import InvalidParameterError


def problem_of(channels=1, **options):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(channels, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 140, 8), nn.Tanh())
    net.add_module("head", nn.Linear(8, 1))
    x = torch.rand(2, channels, 12, 16)
    rule = TargetRule(None, index=torch.tensor([1, 0]))
    return Problem(net.eval().requires_grad_(False), x, rule, mean=(0.4,) * channels, std=(0.3,) * channels, **options)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["blur", "mean"])
def test_equals_the_engine_by_hand(channels, kind):
    """As a user of shap would do it, in pixels (H, W, C), on a model that normalises."""
    problem = problem_of(channels)
    ours = partition_shap(problem, n_evaluations=120, baseline=kind)
    unit = problem.unit().permute(0, 2, 3, 1).numpy()
    hidden = problem.unit(baseline(problem, kind, caller="t").images).permute(0, 2, 3, 1).numpy()
    for row, sign in enumerate((1.0, -1.0)):

        def model(pixels, sign=sign):
            return sign * problem.model(problem.normalised(torch.from_numpy(pixels).permute(0, 3, 1, 2)))[:, 0].numpy()

        np.random.seed(0)
        peer = shap.Explainer(model, shap.maskers.Image(hidden[row]))
        theirs = peer(unit[row : row + 1], max_evals=120, batch_size=32, silent=True)
        expected = theirs.values[0].sum(axis=2)
        np.testing.assert_allclose(ours.values[row], expected, atol=1e-5 * np.abs(expected).max())
        assert ours.difference[row].item() == pytest.approx(expected.sum(), abs=1e-5)
    assert ours.baseline == kind


def test_linear_networks_give_weight_times_difference():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 1)).requires_grad_(False)
    problem = Problem(net, torch.rand(1, 1, 4, 4), TargetRule(None, index=torch.tensor([1])))
    result = partition_shap(problem, n_evaluations=2000, baseline="black")  # enough to cut down to pixels
    torch.testing.assert_close(result.values, net[1].weight.view(1, 4, 4) * problem.x[:, 0], atol=1e-5, rtol=1e-4)


def test_the_sum_is_the_difference_and_the_same_each_time():
    problem = problem_of()
    torch.manual_seed(3)
    reference = baseline(problem, "blur", caller="t").images
    result = partition_shap(problem, n_evaluations=100)
    expected = problem.score - problem.scores(reference, torch.arange(2))
    torch.testing.assert_close(result.difference, expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(result.values.sum(dim=(1, 2)), expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(partition_shap(problem_of(seed=5), n_evaluations=100).values, result.values)


def test_more_evaluations_cut_finer():
    pieces = [len(partition_shap(problem_of(), n_evaluations=count).values[0].unique()) for count in (10, 60, 400)]
    assert pieces == sorted(set(pieces))


def test_it_leaves_no_trace(capfd):
    np.random.seed(7)
    expected = np.random.rand(3).tolist()
    np.random.seed(7)
    told = []
    partition_shap(problem_of(progress=told.append), n_evaluations=80)
    assert np.random.rand(3).tolist() == expected
    assert capfd.readouterr() == ("", "")
    assert sum(told) == pytest.approx(1.0, abs=0.02)
    assert len(told) > 4

    def stop(share):
        raise KeyboardInterrupt

    np.random.seed(7)
    with pytest.raises(KeyboardInterrupt):
        partition_shap(problem_of(progress=stop), n_evaluations=80)
    assert np.random.rand(3).tolist() == expected


@pytest.mark.parametrize("count", [10, 33, 100])
def test_evaluations_are_what_was_asked_for(count):
    problem = problem_of()
    partition_shap(problem, n_evaluations=count)
    assert 2 * (count - 1) <= problem.evaluations - 2 <= 2 * (count + 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_evaluations": 3}, "'n_evaluations' parameter of partition_shap must be an integer >= 4. Got 3"),
        ({"baseline": "grey"}, "'baseline' parameter of partition_shap must be one of 'black'"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InvalidParameterError, match=message):
        partition_shap(problem_of(), **options)
