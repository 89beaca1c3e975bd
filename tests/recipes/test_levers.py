"""Levers of the study, against slower ways and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from levers import (
    CHANGES,
    STANDARDS,
    Mixup,
    augmented,
    chain,
    local_contrast,
    pulled,
    random_amplitudes,
    random_bands,
    random_border,
    random_crop,
    random_curve,
    ranks,
    z_scores,
)
from scipy.stats import rankdata

from cxr_estimator import inference, training
from cxr_estimator.augmentation import AUGMENTATIONS
from cxr_estimator.preprocessing import Preprocessing


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def x():
    return torch.rand(4, 1, 24, 24, generator=generator(1))


@pytest.mark.parametrize("name", CHANGES)
def test_each_change(name, x):
    before = x.clone()
    out = CHANGES[name](x, generator(3))
    assert torch.equal(x, before)
    assert out.shape == x.shape
    assert out.min() >= 0
    assert out.max() <= 1
    assert torch.equal(out, CHANGES[name](x, generator(3)))
    assert not torch.equal(out, CHANGES[name](x, generator(4)))
    assert not torch.equal(out, x)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32))
def test_a_curve_rises_from_black_to_white(seed):
    grey = torch.linspace(0, 1, 101).view(1, 1, 1, -1)
    out = random_curve(grey, generator(seed)).flatten()
    assert out[0] == 0
    assert out[-1] == pytest.approx(1)
    assert (out.diff() > 0).all()


def test_bands_change_the_amplitude_of_a_wave_and_nothing_else():
    phase = torch.arange(32) * (2 * torch.pi / 32)
    for waves in (1, 2, 4, 8):
        wave = (0.5 + 0.1 * torch.sin(waves * phase)).expand(1, 1, 32, 32)
        out = random_bands(wave, generator(waves))
        gain = (out - 0.5).abs().max() / (wave - 0.5).abs().max()
        torch.testing.assert_close(out, 0.5 + gain * (wave - 0.5), atol=1e-5, rtol=0)
        assert 0 < abs(float(gain.log())) <= 0.7


def test_amplitudes_pass_from_image_to_image_and_phases_stay(x):
    out = torch.cat([random_amplitudes(0.4 + 0.2 * x, generator(seed)) for seed in range(8)])
    assert (out.mean((1, 2, 3)) - (0.4 + 0.2 * x).mean((1, 2, 3)).repeat(8)).abs().max() > 1e-3
    before, after = (torch.fft.rfft2(0.4 + 0.2 * x).repeat(8, 1, 1, 1), torch.fft.rfft2(out))
    turned = (after * before.conj()).imag.abs() / (after * before).abs().clamp(min=1e-3)
    assert turned.max() < 0.05  # no pixel was clipped, so phases are what they were
    flat = torch.full((1, 1, 8, 8), 0.5)
    torch.testing.assert_close(random_amplitudes(flat, generator()), flat)  # nobody to take from


def test_a_border_covers_the_edges_alone():
    out = torch.cat([random_border(torch.full((40, 1, 40, 40), 2.0), generator(seed)) for seed in range(5)])[:, 0]
    covered = out != 2.0
    chosen = covered.any((1, 2))
    assert 0.35 < chosen.float().mean() < 0.65
    assert not covered[:, 6:34, 6:34].any()  # 15% of 40 pixels at most
    assert covered[chosen][:, 0].all(1).float().mean() > 0.5
    greys = torch.stack([one[one != 2.0].max() for one in out[chosen]])
    assert all(len(one[one != 2.0].unique()) == 1 for one in out[chosen])
    assert 0.3 < (greys == 0).float().mean() < 0.7


def test_a_crop_of_a_ramp_is_a_part_of_it():
    ramp = torch.linspace(0, 1, 64).expand(20, 1, 64, 64)
    span = (lambda out: out.amax((1, 2, 3)) - out.amin((1, 2, 3)))(random_crop(ramp, generator()))
    assert span.min() > 0.6
    assert span.max() <= 1
    assert span.std() > 0.05


def test_chain_is_in_order(x):
    one = generator(5)
    by_hand = random_bands(random_curve(x, one), one)
    assert torch.equal(chain("curve+bands")(x, generator(5)), by_hand)
    assert torch.equal(chain("none")(x, generator(5)), x)
    with pytest.raises(KeyError, match="fog"):
        chain("light+fog")


def test_augmented_copies_stand_behind_the_images():
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16), dtype=np.uint8)
    out = augmented(images, "curve", 2, seed=0)
    assert out.dtype == np.uint8
    np.testing.assert_array_equal(out[:3], images)
    first, second = out[3:6], out[6:]
    assert (first != second).any(axis=(1, 2)).all()
    for image, copy in zip(images, first, strict=True):
        assert (np.diff(copy.flatten()[np.argsort(image, axis=None)].astype(int)) >= 0).all(), "a rising curve of it"
    np.testing.assert_array_equal(augmented(images, "none", 1, seed=0), np.concatenate([images, images]))


def test_ranks_against_scipy():
    x = torch.from_numpy(np.random.default_rng(0).integers(0, 9, (3, 1, 8, 8)) / 8).float()
    for image, out in zip(x, ranks(x), strict=True):
        np.testing.assert_allclose(out.flatten(), (rankdata(image.flatten()) - 0.5) / 64, atol=1e-6)
    assert torch.equal(ranks(x**3), ranks(x)), "any rising curve"


def test_z_scores_and_local_contrast(x):
    out = z_scores(x)
    torch.testing.assert_close(out.mean((1, 2, 3)), torch.full((4,), 0.5))
    torch.testing.assert_close(out.std((1, 2, 3)), torch.full((4,), 0.25))
    torch.testing.assert_close(z_scores(0.3 * x + 0.2), out, atol=1e-4, rtol=0)
    torch.testing.assert_close(local_contrast(x + 0.5), local_contrast(x), atol=1e-5, rtol=0)
    flat = torch.full((1, 1, 24, 24), 0.8)
    for standard in STANDARDS.values():
        assert torch.isfinite(standard(flat)).all()


def test_mixup_is_the_loss_of_soft_labels(x):
    mixing = Mixup(chain("none"), 0.3)
    blended = mixing(x, generator(2))
    target, logits = torch.tensor([0, 1, 1, 0]), torch.tensor([[0.3], [-1.0], [2.0], [0.5]])
    share, other = mixing._share, mixing._other
    torch.testing.assert_close(blended[0], share[0] * x[0] + (1 - share[0]) * x[other[0]])
    soft = share * target + (1 - share) * target[other]
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits[:, 0], soft, reduction="none")
    torch.testing.assert_close(mixing.loss(logits, target), expected)


def test_levers_are_put_back(x):
    plain = inference.normalise, training.normalise, training.classification_loss, dict(AUGMENTATIONS)
    preprocessing = Preprocessing(24)
    with pulled("light+curve", 0.2, "z_scores") as name:
        assert AUGMENTATIONS[name](x, generator()).shape == x.shape
        for module in (inference, training):
            assert torch.equal(module.normalise(x, preprocessing), plain[0](z_scores(x), preprocessing))
        assert training.classification_loss is not plain[2]
    assert (inference.normalise, training.normalise, training.classification_loss, dict(AUGMENTATIONS)) == plain
