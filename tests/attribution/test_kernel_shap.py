"""Kernel SHAP, against Shapley values from their definition and against shap."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import shap
import torch
from torch import nn

from cxr_estimator.attribution import Problem, TargetRule
from cxr_estimator.attribution._baselines import baseline
from cxr_estimator.attribution._superpixels import superpixels
from cxr_estimator.attribution.kernel_shap import _coalitions, _dealt, _sizes, kernel_shap
from cxr_estimator.errors import InvalidParameterError


def small_net():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 100, 8), nn.Tanh(), nn.Linear(8, 1))
    return net.eval().requires_grad_(False)


def problem_of(net, n=2, seed=0, size=12):
    torch.manual_seed(1)
    return Problem(net, torch.rand(n, 1, size, size), TargetRule(None, index=torch.tensor([1, 0, 1, 0][:n])), seed=seed)


def worth(problem, row, segments, reference):
    """The score of an image with only some of its segments, as a function of sets of them."""
    known: dict[frozenset, float] = {}

    def score(present):
        present = frozenset(present)
        if present not in known:
            keep = torch.isin(segments[row], torch.tensor(sorted(present), dtype=torch.int64))
            image = torch.where(keep, problem.x[row], reference[row])
            known[present] = problem.scores(image[None], torch.tensor([row])).item()
        return known[present]

    return score


def shapley_values(score, count):
    """The definition: what a segment adds to those before it, averaged over all orders."""
    values = np.zeros(count)
    orders = list(permutations(range(count)))
    for order in orders:
        for position, segment in enumerate(order):
            values[segment] += score(order[: position + 1]) - score(order[:position])
    return values / len(orders)


def of_segments(result, segments):
    """The value of each segment, (n, count)."""
    count = int(segments.max()) + 1
    return np.stack(
        [[float(values[where == k].sum()) for k in range(count)]
         for values, where in zip(result.values, segments, strict=True)]
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["blur", "black", "mean"])
def test_all_coalitions_give_shapley_values(kind):
    problem = problem_of(small_net())
    segments = superpixels(problem, "grid", 6, caller="t")
    result = kernel_shap(problem, n_samples=64, n_segments=6, segmentation="grid", baseline=kind)
    found = of_segments(result, segments)
    reference = baseline(problem, kind, caller="t").images
    for row in range(2):
        expected = shapley_values(worth(problem, row, segments, reference), 6)
        np.testing.assert_allclose(found[row], expected, atol=1e-5 * np.abs(expected).max() + 1e-7)
    torch.testing.assert_close(result.values.sum(dim=(1, 2)), result.difference, atol=1e-6, rtol=1e-5)
    assert result.baseline == kind
    one = result.values[0][segments[0] == 3]
    assert (one == one[0]).all()  # spread evenly


def test_equals_shap():
    problem = problem_of(small_net())
    segments = superpixels(problem, "grid", 8, caller="t")
    count = int(segments.max()) + 1
    found = of_segments(kernel_shap(problem, n_samples=600, n_segments=8, segmentation="grid"), segments)
    reference = baseline(problem, "blur", caller="t").images
    for row in range(2):
        score = worth(problem, row, segments, reference)

        def predict(coalitions, score=score):
            return np.array([score(np.flatnonzero(z)) for z in coalitions])

        peer = shap.KernelExplainer(predict, np.zeros((1, count)))
        theirs = peer.shap_values(np.ones((1, count)), nsamples=2**count, l1_reg=False, silent=True)[0]
        np.testing.assert_allclose(found[row], theirs, atol=1e-4 * np.abs(theirs).max())


@pytest.mark.parametrize("n_samples", [32, 33, 60, 200])
def test_linear_networks_need_no_more_than_two_coalitions_per_segment(n_samples):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(144, 1)).requires_grad_(False)
    problem = problem_of(net)
    segments = superpixels(problem, "grid", 16, caller="t")
    result = kernel_shap(problem, n_samples=n_samples, n_segments=16, segmentation="grid", baseline="black")
    effect = torch.tensor([1.0, -1.0]).view(2, 1, 1) * (net[1].weight.view(12, 12) * problem.x[:, 0])
    expected = np.stack([[float(effect[row][segments[row] == k].sum()) for k in range(16)] for row in range(2)])
    np.testing.assert_allclose(of_segments(result, segments), expected, atol=1e-4)


def test_samples_come_near_the_exact_values():
    problem = problem_of(small_net())
    options = {"n_segments": 9, "segmentation": "grid"}
    exact = kernel_shap(problem, n_samples=512, **options).values
    before = problem.evaluations
    errors = {}
    for n_samples in (20, 200):
        result = kernel_shap(problem, n_samples=n_samples, **options)
        torch.testing.assert_close(result.values.sum(dim=(1, 2)), result.difference, atol=1e-6, rtol=1e-5)
        errors[n_samples] = float((result.values - exact).norm() / exact.norm())
    assert problem.evaluations - before == 2 * (20 + 1 + 200 + 1)
    assert errors[200] < 0.05
    assert errors[200] < errors[20] / 2


def test_seed_and_content_decide():
    options = {"n_samples": 30, "n_segments": 9, "segmentation": "grid"}
    one, again = (kernel_shap(problem_of(small_net()), **options).values for _ in range(2))
    assert torch.equal(one, again)
    assert not torch.equal(one, kernel_shap(problem_of(small_net(), seed=1), **options).values)


@pytest.mark.parametrize("segmentation", ["slic", "quickshift", "felzenszwalb"])
def test_segmentations_and_given_baselines(segmentation):
    problem = problem_of(small_net())
    given = np.full((12, 12), 0.25, dtype=np.float32)
    result = kernel_shap(problem, n_samples=300, n_segments=8, segmentation=segmentation, baseline=given)
    segments = superpixels(problem, segmentation, 8, caller="t")
    for values, where in zip(result.values, segments, strict=True):
        assert all(len(values[where == k].unique()) == 1 for k in range(int(where.max()) + 1))
    assert result.baseline == "array"
    torch.testing.assert_close(result.values.sum(dim=(1, 2)), result.difference, atol=1e-6, rtol=1e-5)


def test_an_image_of_one_segment_gets_the_whole_difference():
    problem = Problem(small_net(), torch.full((1, 1, 12, 12), 0.7), TargetRule(None, index=torch.tensor([1])))
    result = kernel_shap(problem, n_samples=50, n_segments=4, segmentation="felzenszwalb", baseline="black")
    torch.testing.assert_close(result.values, (result.difference / 144).view(1, 1, 1).expand(1, 12, 12))


def test_coalitions():
    present, weights = _coalitions(np.random.default_rng(0), 4, 16)
    assert len(present) == 14
    by_size = {int(size): float(weight) for size, weight in zip(present.sum(axis=1), weights, strict=True)}
    assert by_size == pytest.approx({1: 1 / (4 * 3), 2: 1 / (6 * 4), 3: 1 / (4 * 3)})  # 1 / (C(4, s) s (4 - s))
    present, weights = _coalitions(np.random.default_rng(0), 10, 301)
    assert len(present) == 300
    assert (weights == 1).all()
    assert (present[:150] == ~present[150:]).all()
    assert ((present.sum(axis=1) > 0) & (present.sum(axis=1) < 10)).all()


def test_sizes_follow_the_shapley_kernel():
    """p(s) ~ 1 / (s (M - s)); a pair holds both s and M - s, but M / 2 only once: M = 4 gives 1/3 : 1/8."""
    expected = 110 * np.array([1 / 3, 1 / 8]) / (1 / 3 + 1 / 8)
    for seed in range(20):
        sizes = _sizes(np.random.default_rng(seed), 4, 110)
        assert [size for size, _ in sizes] == [1, 2]
        assert sum(times for _, times in sizes) == 110
        np.testing.assert_allclose([times for _, times in sizes], expected, atol=1.0)


def test_dealing_uses_all_segments_equally():
    present = _dealt(np.random.default_rng(0), 12, 3, 8)
    assert present.sum(axis=1).tolist() == [3] * 8
    assert present.sum(axis=0).tolist() == [2] * 12
    assert _dealt(np.random.default_rng(0), 12, 3, 0).shape == (0, 12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_samples": 3}, "'n_samples' parameter of kernel_shap must be an integer >= 4 and <= 100000. Got 3"),
        ({"n_samples": 31, "n_segments": 16}, "kernel_shap must be >= 32, twice the 16 segments of an image"),
        ({"n_segments": 1}, "'n_segments' parameter of kernel_shap must be an integer >= 2. Got 1"),
        ({"segmentation": "voronoi"}, "'segmentation' parameter of kernel_shap must be one of 'slic'"),
        ({"baseline": "grey"}, "'baseline' parameter of kernel_shap must be one of 'black'"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InvalidParameterError, match=message):
        kernel_shap(problem_of(small_net()), **{"segmentation": "grid", **options})


def test_progress_is_told():
    told = []
    problem = problem_of(small_net(), n=4)
    problem.progress = told.append
    kernel_shap(problem, n_samples=40, n_segments=9, segmentation="grid")
    assert sum(told) == pytest.approx(1.0)
    assert len(told) == 8  # 40 in batches of 32, per image
