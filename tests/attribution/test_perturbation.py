"""Occlusion and RISE, against captum, a slow definition and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum.attr import Occlusion
from scipy.stats import spearmanr
from torch import nn

from cxr_estimator.attribution import METHODS, Problem, TargetRule
from cxr_estimator.attribution._random_masks import RandomMasks, reliability
from cxr_estimator.attribution._superpixels import superpixels
from cxr_estimator.backbones import build_backbone
from cxr_estimator.errors import InvalidParameterError, InvalidTypeError
from tests.attribution.networks import NEGATIVE, POSITIVE, Linear, positive

occlusion, superpixel_occlusion, rise = (METHODS[m].function for m in ("occlusion", "superpixel_occlusion", "rise"))


def linear(channels=1, height=8, width=8, n=2):
    rng = torch.Generator().manual_seed(0)
    weights = torch.randn(channels, height, width, generator=rng)
    return Linear(weights).requires_grad_(False), torch.randn(n, channels, height, width, generator=rng)


@pytest.mark.parametrize("channels", [1, 3])
def test_one_pixel_of_a_linear_model_loses_weight_times_difference(channels):
    model, x = linear(channels)
    result = occlusion(Problem(model, x, positive(2)), window=1, baseline="black")
    torch.testing.assert_close(result.values, (model.weights * x).sum(dim=1), atol=1e-5, rtol=1e-5)
    result = occlusion(Problem(model, x, positive(2)), window=1, baseline="mean")
    mean = x.mean(dim=(2, 3), keepdim=True)
    torch.testing.assert_close(result.values, (model.weights * (x - mean)).sum(dim=1), atol=1e-5, rtol=1e-5)
    assert result.baseline == "mean"


def test_occlusion_by_hand():
    """1 2 3 under windows of 2 at 0 and 1: weights 1, losses 1 + 2 and 2 + 3; the middle has their mean."""
    x = torch.tensor([[[[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]]])
    problem = Problem(Linear(torch.ones(1, 2, 3)).requires_grad_(False), x, POSITIVE)
    result = occlusion(problem, window=2, stride=1, baseline="black")
    assert result.values[0].tolist() == [[3.0, 4.0, 5.0]] * 2
    assert problem.evaluations == 1 + 2
    other = occlusion(Problem(problem.model, x, NEGATIVE), window=2, stride=1, baseline="black")
    assert (other.values == -result.values).all()


@pytest.mark.parametrize(("window", "stride"), [(9, 5), (8, 8), (7, 3), (30, 4), (1, 1)])
@pytest.mark.parametrize("height", [30, 33])
def test_equals_captum_also_at_the_borders(window, stride, height):
    torch.manual_seed(0)
    model = build_backbone("plain_cnn", num_outputs=3, channels=3, image_size=32).eval().requires_grad_(False)
    x = torch.randn(2, 3, height, 30)
    if window == 1:
        x = x[:, :, :8, :8]
    problem = Problem(model, x, TargetRule(None, index=torch.tensor([0, 2])))
    ours = occlusion(problem, window=window, stride=stride, baseline="mean")
    theirs = Occlusion(model).attribute(
        x,
        sliding_window_shapes=(3, window, window),
        strides=(3, stride, stride),
        baselines=x.mean(dim=(2, 3), keepdim=True).expand_as(x),
        target=torch.tensor([0, 2]),
    )
    assert theirs.abs().max() > 1e-3
    torch.testing.assert_close(ours.values, theirs[:, 0], atol=1e-6, rtol=1e-4)


def test_default_window_is_an_eighth_of_the_side(fitted, phantoms):
    explained = fitted.explain(phantoms.X[:1], method="occlusion")
    same = fitted.explain(phantoms.X[:1], method="occlusion", window=4, stride=2)
    assert (explained.values == same.values).all()
    assert explained.evaluations.tolist() == [1 + 15**2]


def test_superpixels_of_a_linear_model_lose_what_is_in_them():
    model, x = linear(channels=3, height=12, width=16)
    problem = Problem(model, x, positive(2))
    result = superpixel_occlusion(problem, n_segments=9, baseline="black")
    segments = superpixels(problem, "slic", 9, caller="test")
    product = (model.weights * x).sum(dim=1)
    for row in range(2):
        for segment in segments[row].unique():
            inside = segments[row] == segment
            torch.testing.assert_close(
                result.values[row][inside],
                product[row][inside].sum().expand(int(inside.sum())),
                atol=1e-4,
                rtol=1e-4,
            )
    assert result.evaluations.tolist() == [1 + len(one.unique()) for one in segments]
    assert problem.evaluations == int(result.evaluations.sum())


def test_a_segment_filled_with_its_own_mean_loses_nothing_where_it_is_flat():
    x = torch.zeros(1, 1, 8, 8)
    x[:, :, :4] = 2.0
    x[:, :, 4:, :4] = torch.randn(4, 4)
    model, _ = linear()
    problem = Problem(model, x, POSITIVE)
    values = superpixel_occlusion(problem, segmentation="grid", n_segments=4, baseline="segment_mean").values[0]
    torch.testing.assert_close(values[:4], torch.zeros(4, 8), atol=1e-5, rtol=0)
    torch.testing.assert_close(values[4:, 4:], torch.zeros(4, 4), atol=1e-5, rtol=0)
    loss = (model.weights[0, 4:, :4] * (x[0, 0, 4:, :4] - x[0, 0, 4:, :4].mean())).sum()
    torch.testing.assert_close(values[4:, :4], loss.expand(4, 4), atol=1e-5, rtol=1e-5)


class Curved(nn.Module):
    """A logit that is not linear, so that nothing agrees by chance."""

    def forward(self, x):
        return (x.mean(dim=1)[:, 2:9, 3:8].mean(dim=(1, 2)) ** 2 + torch.tanh(x[:, 0, 5, 5]))[:, None] - 4


def slow_masks(problem, row, count, grid, p):
    """The masks as the paper tells it: resize the whole grid in two dimensions, then crop."""
    height, width = problem.x.shape[2:]
    cell = (-(-height // grid), -(-width // grid))
    rng = problem.generator(row)
    size = ((grid + 1) * cell[0], (grid + 1) * cell[1])
    for _ in range(count):
        top, left = int(rng.random() * cell[0]), int(rng.random() * cell[1])
        small = torch.from_numpy(rng.random((grid, grid)) < p)
        large = F.interpolate(small[None, None].float(), size=size, mode="bilinear")[0, 0]
        yield large[top : top + height, left : left + width]


@pytest.mark.parametrize("centre", [True, False])
@pytest.mark.parametrize("p", [0.5, 0.2])
def test_rise_equals_its_definition(centre, p):
    x = torch.randn(2, 3, 13, 11, generator=torch.Generator().manual_seed(3))
    problem = Problem(Curved(), x, TargetRule(None, index=torch.tensor([1, 0])), seed=5)
    result = rise(problem, n_masks=75, grid=4, p=p, centre=centre, baseline="black")
    assert result.evaluations.tolist() == [76, 76]
    for row, sign in enumerate((1, -1)):
        masks = list(slow_masks(problem, row, 75, 4, p))
        scores = [sign * Curved()((x[row] * mask)[None]).item() for mask in masks]
        mean = sum(scores) / 75 if centre else 0.0
        expected = sum((score - mean) * mask for score, mask in zip(scores, masks, strict=True)) / (75 * p)
        torch.testing.assert_close(result.values[row], expected, atol=1e-5, rtol=1e-4)


def test_masks_lie_in_the_unit_interval_with_mean_p():
    problem = Problem(Curved(), torch.randn(1, 1, 28, 28), POSITIVE)
    masks = RandomMasks(problem, 3000, 7, 0.3)
    drawn = masks.of(torch.zeros(3000, dtype=torch.int64), torch.arange(3000))
    assert drawn.min() == 0
    assert drawn.max() == pytest.approx(1.0)
    torch.testing.assert_close(drawn.mean(dim=0), torch.full((28, 28), 0.3), atol=0.04, rtol=0)
    assert drawn.std(dim=(1, 2)).min() > 0


def test_centring_takes_noise_away_and_changes_nothing_but_a_constant():
    """A linear model at two seeds: the map goes with the share of the score that a pixel's cell holds."""
    x = torch.zeros(1, 1, 16, 16)
    x[:, :, 4:9, 9:13] = 1.0
    model = Linear(torch.ones(1, 16, 16)).requires_grad_(False)

    def maps(centre):
        found = [
            rise(Problem(model, x, POSITIVE, seed=seed), n_masks=2000, centre=centre, baseline="black").values[0]
            for seed in (0, 1)
        ]
        return found[0], (found[0] - found[1]).std()

    centred, noise = maps(True)
    plain, more_noise = maps(False)
    assert noise < 0.8 * more_noise
    assert spearmanr(centred.ravel(), plain.ravel())[0] > 0.8
    assert centred[6, 11] > 10 * noise
    assert abs(centred.median()) < 3 * noise


def test_rise_stops_where_the_map_has_converged(fitted, phantoms):
    X = phantoms.X[:6]
    request = {"method": "rise", "n_masks": 1200, "grid": 4, "batch_size": 16}
    whole = fitted.explain(X, **request)
    assert whole.evaluations.tolist() == [1201] * 6
    soon = fitted.explain(X, **request, converge=0.9)
    counts = soon.evaluations
    assert len(set(counts.tolist())) > 1
    assert ((counts - 1) % 100 == 0).all()
    assert (counts < 1201).any()
    for row, count in enumerate(counts):  # each as if it had been asked for that many masks
        alone = fitted.explain(X[row : row + 1], **{**request, "n_masks": int(count) - 1})
        np.testing.assert_allclose(soon.values[row], alone.values[0], atol=1e-4 * np.abs(alone.values).max())
    never = fitted.explain(X[:2], **{**request, "n_masks": 150}, converge=0.999999)
    assert never.evaluations.tolist() == [151] * 2


def test_convergence_promises_the_agreement_of_two_seeds(fitted, phantoms):
    X = phantoms.X[:12]
    maps = [
        fitted.explain(X, method="rise", n_masks=3000, grid=4, converge=0.85, random_state=seed).values.reshape(12, -1)
        for seed in (0, 1)
    ]
    agreement = [spearmanr(one, other)[0] for one, other in zip(*maps, strict=True)]
    assert 0.78 < np.mean(agreement) < 0.99


def test_reliability_by_hand():
    """Ranks 0 1 2 3 and 1 0 2 3 correlate by 1 - 6 * 2 / (4 * 15) = 0.8: 1.6 / 1.8. Opposite halves promise nothing."""
    one = torch.tensor([[[0.0, 1.0], [2.0, 9.0]], [[0.0, 1.0], [2.0, 3.0]]])
    other = torch.tensor([[[0.5, 0.1], [3.0, 4.0]], [[3.0, 2.0], [1.0, 0.0]]])
    found = reliability(torch.stack([one, other]))
    assert found[0].item() == pytest.approx(1.6 / 1.8, abs=1e-6)
    assert found[1].item() < 0


def test_progress_of_several_rounds_never_goes_beyond_the_end(fitted, phantoms):
    told = []
    fitted.explain(
        phantoms.X[:3], method="rise", n_masks=250, converge=0.99999, progress=lambda done, total: told.append(done)
    )
    assert np.diff(told).min() > -1e-9
    assert len(told) > 10
    assert told[-1] == pytest.approx(3.0)
    assert max(told) <= 3 + 1e-6


@pytest.mark.parametrize(
    ("method", "options", "error", "said"),
    [
        ("occlusion", {"window": 0}, InvalidParameterError, "'window' parameter of occlusion must be an integer >= 1"),
        ("occlusion", {"window": 33}, InvalidParameterError, "an integer >= 1 and <= 32"),
        ("occlusion", {"window": 4.0}, InvalidTypeError, "'window' parameter of occlusion must be an integer"),
        ("occlusion", {"window": 4, "stride": 5}, InvalidParameterError, "'stride' parameter .* >= 1 and <= 4"),
        ("occlusion", {"baseline": "grey"}, InvalidParameterError, "'baseline' parameter of occlusion must be one of"),
        ("superpixel_occlusion", {"baseline": "grey"}, InvalidParameterError, "one of 'segment_mean', 'black'"),
        ("superpixel_occlusion", {"segmentation": "x"}, InvalidParameterError, "'segmentation' parameter"),
        ("superpixel_occlusion", {"n_segments": 1}, InvalidParameterError, "'n_segments' parameter"),
        ("rise", {"n_masks": 1}, InvalidParameterError, "'n_masks' parameter of rise must be an integer >= 2"),
        ("rise", {"grid": 33}, InvalidParameterError, "'grid' parameter of rise must be an integer >= 2 and <= 32"),
        ("rise", {"p": 1}, InvalidParameterError, "'p' parameter of rise must be a number >= 0.01 and <= 0.99"),
        ("rise", {"centre": 1}, InvalidTypeError, "'centre' parameter of rise must be True or False"),
        ("rise", {"converge": 1.0}, InvalidParameterError, "'converge' parameter of rise must be a number > 0 and < 1"),
    ],
)
def test_bad_options(fitted, phantoms, method, options, error, said):
    with pytest.raises(error, match=said):
        fitted.explain(phantoms.X[:1], method=method, **options)


@pytest.mark.parametrize("method", ["occlusion", "superpixel_occlusion"])
def test_an_array_as_baseline(fitted, phantoms, method):
    explained = fitted.explain(phantoms.X[:2], method=method, baseline=np.zeros((32, 32)))
    black = fitted.explain(phantoms.X[:2], method=method, baseline="black")
    np.testing.assert_allclose(explained.values, black.values, atol=1e-6)
    assert (explained.baseline, black.baseline) == ("array", "black")
