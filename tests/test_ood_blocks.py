"""The features that images are compared by, and the corrections."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cxr_estimator._ood_blocks import (
    BLOCKS,
    CORRECTIONS,
    PIXEL_BLOCKS,
    REASONS,
    brightness,
    features,
    layout,
    texture,
    widths,
)
from cxr_estimator.backbones import build_backbone, embed
from cxr_estimator.inference import denormalise, normalise
from cxr_estimator.preprocessing import Preprocessing


def test_layout_by_hand():
    """16 x 16 pixels: each cell is the mean of 2 x 2."""
    unit = torch.zeros(1, 1, 16, 16)
    unit[0, 0, 0, 0] = 1.0
    unit[0, 0, 14:, 14:] = 0.5
    found = layout(unit)[0]
    assert found.shape == (64,)
    assert found[0] == 0.25
    assert found[-1] == 0.5
    assert found.sum() == 0.75


def test_brightness_by_hand():
    """Half of the pixels black, a quarter white, a quarter halfway between the first two of 16 levels."""
    unit = torch.tensor([0.0, 0.0, 1.0, 0.5 / 15]).view(1, 1, 2, 2)
    shares = brightness(unit)[0] ** 2
    expected = torch.zeros(16)
    expected[0], expected[1], expected[15] = 0.5 + 0.125, 0.125, 0.25
    torch.testing.assert_close(shares, expected)


def test_texture_by_hand():
    """Columns of 0 and 1 in turn: horizontal edges of strength 1 at the finest scale, and none anywhere else."""
    unit = (torch.arange(32) % 2).float().expand(1, 1, 32, 32)
    found = texture(unit)[0].view(3, 2, 16).exp() - 1e-3  # at 32, 16 and 8 pixels
    torch.testing.assert_close(found[0, 0], torch.ones(16))
    torch.testing.assert_close(found[0, 1], torch.zeros(16), atol=1e-6, rtol=0)
    torch.testing.assert_close(found[1:], torch.zeros(2, 2, 16), atol=1e-6, rtol=0)


def test_texture_tells_turned_images_and_cannot_see_inversion():
    unit = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0)).cumsum(dim=3) / 64
    torch.testing.assert_close(texture(1 - unit), texture(unit), atol=1e-4, rtol=1e-4)
    assert (texture(torch.rot90(unit, 1, (2, 3))) - texture(unit)).abs().max() > 1


@pytest.mark.parametrize("size", [8, 28, 65])
@pytest.mark.parametrize("channels", [1, 3])
def test_widths_are_those_of_the_features(size, channels):
    torch.manual_seed(0)
    model = build_backbone("plain_cnn", num_outputs=1, channels=channels, image_size=size).eval()
    preprocessing = Preprocessing(size, channels)
    x = normalise(torch.rand(2, channels, size, size), preprocessing)
    with torch.no_grad():
        found = features(model, x, preprocessing)
        embedding = embed(model, x)
    found_widths = widths(model, preprocessing)
    assert list(found_widths) == list(BLOCKS) == [*PIXEL_BLOCKS, "network"]
    assert list(REASONS) == [*BLOCKS, "orientation"]
    n_pixel = sum(found_widths[name] for name in PIXEL_BLOCKS)
    assert (found[:, n_pixel : n_pixel + model.head_hidden_size] == embedding).all()
    assert found.shape == (2, sum(found_widths.values()) + len(CORRECTIONS) * n_pixel)
    assert np.isfinite(found.numpy()).all()


def test_each_correction_is_seen_as_the_corrected_image_would_be():
    torch.manual_seed(0)
    model = build_backbone("plain_cnn", num_outputs=1, channels=1, image_size=32).eval()
    preprocessing = Preprocessing(32, mean=(0.4,), std=(0.2,))
    unit = torch.rand(2, 1, 32, 32)
    own = sum(widths(model, preprocessing).values())
    n_pixel = own - model.head_hidden_size
    with torch.no_grad():
        found = features(model, normalise(unit, preprocessing), preprocessing)
        for number, one in enumerate(CORRECTIONS.values()):
            corrected = features(model, normalise(one.function(unit), preprocessing), preprocessing)[:, :n_pixel]
            start = own + number * n_pixel
            torch.testing.assert_close(found[:, start : start + n_pixel], corrected, atol=1e-4, rtol=1e-4)


def test_an_image_has_the_features_it_has_alone():
    torch.manual_seed(0)
    model = build_backbone("plain_cnn", num_outputs=1, channels=1, image_size=32).eval()
    x = torch.rand(5, 1, 32, 32)
    with torch.no_grad():
        together = features(model, x, Preprocessing(32))
        torch.testing.assert_close(features(model, x[2:3], Preprocessing(32)), together[2:3], atol=1e-5, rtol=1e-5)


def test_colour_has_a_layout_of_its_own():
    red, blue = torch.zeros(2, 1, 3, 16, 16)
    red[:, 0], blue[:, 2] = 1.0, 1.0
    assert layout(red).shape == (1, 192)
    assert (layout(red) != layout(blue)).any()
    assert (brightness(red) == brightness(blue)).all()


def test_denormalise_undoes_normalise():
    preprocessing = Preprocessing(8, 3, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    unit = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(denormalise(normalise(unit, preprocessing), preprocessing), unit)


@pytest.mark.parametrize(
    ("accident", "remedy"),
    [
        (lambda a: 1 - a, "inverted"),
        (lambda a: np.rot90(a, 1, (2, 3)), "rotated_270"),
        (lambda a: np.rot90(a, 2, (2, 3)), "rotated_180"),
        (lambda a: np.rot90(a, 3, (2, 3)), "rotated_90"),
        (lambda a: a[:, :, ::-1], "flipped"),
    ],
)
def test_each_correction_undoes_its_accident(accident, remedy):
    image = np.random.default_rng(0).random((1, 1, 6, 6))
    spoiled = torch.from_numpy(accident(image).copy())
    undone = [name for name, one in CORRECTIONS.items() if np.allclose(one.function(spoiled).numpy(), image)]
    assert undone == [remedy]
