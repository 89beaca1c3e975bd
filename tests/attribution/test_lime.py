"""LIME, against the library lime and on models whose weights are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lime.lime_image import LimeImageExplainer

from cxr_estimator.attribution import METHODS, Problem, TargetRule
from cxr_estimator.attribution._superpixels import painted, superpixels, without_segments
from cxr_estimator.attribution.lime import _sampled
from cxr_estimator.backbones import build_backbone
from cxr_estimator.errors import InvalidParameterError, InvalidTypeError
from tests.attribution.networks import Linear, positive

lime = METHODS["lime"].function


class Dealt:
    """In place of lime's random numbers: the samples that are to be compared."""

    def __init__(self, present):
        self.present = present

    def randint(self, low, high, size):
        assert (low, high, size) == (0, 2, self.present.size)
        return self.present.astype(np.int64).ravel()


@pytest.mark.parametrize("segmentation", ["slic", "grid"])
@pytest.mark.parametrize("hidden", ["segment_mean", "black"])
def test_equals_lime(segmentation, hidden):
    torch.manual_seed(0)
    model = build_backbone("plain_cnn", num_outputs=3, channels=3, image_size=32).eval().requires_grad_(False)
    unit = torch.rand(1, 3, 32, 32)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.1)
    statistics = [torch.tensor(values).view(1, 3, 1, 1) for values in (mean, std)]
    x = (unit - statistics[0]) / statistics[1]
    problem = Problem(model, x, TargetRule(None, index=torch.tensor([2])), mean=mean, std=std, seed=3)
    options = {"n_samples": 120, "segmentation": segmentation, "n_segments": 12, "kernel_width": 0.3}
    ours = lime(problem, **options, baseline=hidden)

    segments = superpixels(problem, segmentation, 12, caller="test")[0].numpy()
    explainer = LimeImageExplainer(kernel_width=0.3, feature_selection="none", random_state=0)
    explainer.random_state = Dealt(_sampled(problem.generator(0), 1, 120, segments.max() + 1)[0])

    def classify(images):
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
        return model((pixels - statistics[0]) / statistics[1]).detach().numpy()

    theirs = explainer.explain_instance(
        unit[0].permute(1, 2, 0).numpy().astype(np.float64),
        classify,
        labels=(2,),
        top_labels=None,
        hide_color=None if hidden == "segment_mean" else 0.0,
        num_samples=120,
        segmentation_fn=lambda image: segments,
        random_seed=0,
    )
    weights = np.zeros(segments.max() + 1)
    for segment, weight in theirs.local_exp[2]:
        weights[segment] = weight
    assert np.abs(weights).max() > 1e-3
    np.testing.assert_allclose(ours.values[0].numpy(), weights[segments], atol=1e-6, rtol=1e-4)
    assert ours.baseline == hidden
    assert ours.spread is None


def test_the_weights_of_a_linear_model_are_what_its_segments_hold():
    """But for the ridge, which draws them a little towards 0, more so where few samples count."""
    x = torch.randn(2, 1, 12, 16, generator=torch.Generator().manual_seed(0))
    weights = torch.randn(1, 12, 16, generator=torch.Generator().manual_seed(1))
    problem = Problem(Linear(weights).requires_grad_(False), x, positive(2))
    found = lime(problem, n_samples=2000, segmentation="grid", n_segments=12, kernel_width=10.0, baseline="black")
    segments = superpixels(problem, "grid", 12, caller="test")
    product = (weights * x).sum(dim=1)
    held = torch.stack([torch.stack([product[i][segments[i] == s].sum() for s in range(12)]) for i in range(2)])
    torch.testing.assert_close(found.values, painted(held, segments), atol=0.05, rtol=0.02)


def test_runs_are_averaged_and_give_a_spread(fitted, phantoms):
    X = phantoms.X[:3]
    several = fitted.explain(X, method="lime", n_samples=60, n_segments=16, n_runs=4)
    assert several.evaluations.tolist() == [1 + 240] * 3
    assert several.spread.shape == (3, 32, 32)
    assert (several.spread.max(axis=(1, 2)) > 0).all()
    one = fitted.explain(X, method="lime", n_samples=60, n_segments=16)
    other = fitted.explain(X, method="lime", n_samples=60, n_segments=16, random_state=1)
    assert one.spread is None
    assert not np.allclose(one.values, other.values)
    wide = 5 * several.spread + 1e-6  # the first of the four is the one run
    assert (np.abs(several.values - one.values) <= wide).all()


def test_each_segment_has_one_weight(fitted, phantoms):
    explained = fitted.explain(phantoms.X[:2], method="lime", n_samples=40, segmentation="grid", n_segments=16)
    cells = explained.values.reshape(2, 4, 8, 4, 8)
    assert (cells == cells[:, :, :1, :, :1]).all()


def test_global_random_numbers_and_the_console_are_left_alone(fitted, phantoms, capfd):
    np.random.seed(7)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    fitted.explain(phantoms.X[:2], method="lime", n_samples=40, n_segments=8)
    assert (np.random.get_state()[1] == before[0]).all()
    assert (torch.get_rng_state() == before[1]).all()
    assert capfd.readouterr() == ("", "")


def test_what_stands_for_an_absent_segment():
    x = torch.randn(2, 3, 6, 6)
    problem = Problem(Linear(torch.ones(3, 6, 6)).requires_grad_(False), x, positive(2))
    segments = torch.arange(36).view(1, 6, 6).expand(2, 6, 6) // 12
    absent = without_segments(problem, segments, "segment_mean", caller="test").images
    for row in range(2):
        for band in range(3):
            expected = x[row, :, 2 * band : 2 * band + 2].mean(dim=(1, 2))
            torch.testing.assert_close(absent[row, :, 2 * band : 2 * band + 2], expected[:, None, None].expand(3, 2, 6))
    assert (without_segments(problem, segments, np.zeros((6, 6)), caller="test").images == 0).all()


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"n_samples": 1}, InvalidParameterError, "'n_samples' parameter of lime must be an integer >= 2"),
        ({"n_samples": "all"}, InvalidTypeError, "'n_samples' parameter of lime must be an integer"),
        ({"kernel_width": 0}, InvalidParameterError, "'kernel_width' parameter of lime must be a number >= 0.01"),
        ({"n_runs": 0}, InvalidParameterError, "'n_runs' parameter of lime must be an integer >= 1"),
        ({"segmentation": "slick"}, InvalidParameterError, "Did you mean 'slic'"),
        ({"n_segments": 2000}, InvalidParameterError, "at most the 1024 pixels"),
        ({"baseline": "segment"}, InvalidParameterError, "'baseline' parameter of lime must be one of 'segment_mean'"),
        ({"baseline": np.zeros((3, 3))}, InvalidParameterError, "an array of shape"),
    ],
)
def test_bad_options(fitted, phantoms, options, error, said):
    with pytest.raises(error, match=said):
        fitted.explain(phantoms.X[:1], method="lime", **options)
