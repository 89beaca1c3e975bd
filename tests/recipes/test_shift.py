"""Simulated shifts: what each must leave alone, by hand and for any image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shift import SHIFTS, shifted


@pytest.fixture
def images():
    """Smooth images with some texture, far from black and white."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(60, 180, 112)
    return np.rint(ramp[None, :, None] + 0.3 * ramp[None, None, :] - 30 + rng.normal(0, 4, (3, 112, 112))).astype(
        np.uint8
    )


@pytest.mark.parametrize("name", SHIFTS)
def test_each_shift(name, images):
    before = images.copy()
    full = shifted(images, name, 1.0)
    assert full.shape == images.shape
    assert full.dtype == np.uint8
    np.testing.assert_array_equal(images, before)
    assert (full != images).any(axis=(1, 2)).all(), "it must change every image"
    np.testing.assert_array_equal(shifted(images, name, 0.0), images)
    np.testing.assert_array_equal(shifted(images[::-1], name, 1.0), full[::-1])
    np.testing.assert_array_equal(shifted(images[1:2], name, 1.0), full[1:2])
    assert name in SHIFTS[name].__name__
    assert SHIFTS[name].__doc__


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(sorted(SHIFTS)), st.floats(0.0, 1.0), st.integers(8, 24), st.integers(8, 24), st.integers(0, 2**32)
)
def test_any_image_at_any_strength(name, strength, height, width, seed):
    image = np.random.default_rng(seed).integers(0, 256, (1, height, width), dtype=np.uint8)
    assert shifted(image, name, strength).shape == image.shape
    assert shifted(np.zeros_like(image), name, strength).max() <= (2 if name != "noise" else 255)


@pytest.mark.parametrize("name", ["contrast", "blur", "sharpening", "resolution", "crop", "aspect", "markers"])
def test_a_flat_image_stays_as_it_is(name):
    flat = np.full((1, 30, 30), 100, dtype=np.uint8)
    np.testing.assert_array_equal(shifted(flat, name, 1.0), flat)


def test_grey_values_by_hand():
    flat = np.full((1, 16, 16), 64, dtype=np.uint8)
    values = [int(shifted(flat + shade, "exposure", 1.0)[0, 0, 0]) / (64 + shade) for shade in range(40)]
    assert all(2**-0.7 - 0.01 <= value <= 2**0.7 + 0.01 for value in values)
    assert all(abs(np.log2(value)) > 0.34 for value in values), "half the size at least"
    assert min(values) < 1 < max(values)
    power = np.log(shifted(flat, "gamma", 1.0)[0, 0, 0] / 255) / np.log(64 / 255)
    assert 0.34 < abs(np.log(power)) < 0.71
    shade = shifted(flat, "shading", 1.0)[0]
    assert shade.min() == 32
    assert shade.max() == 64


def test_places_by_hand():
    image = np.random.default_rng(0).integers(1, 256, (1, 40, 40), dtype=np.uint8)
    framed = shifted(image, "border", 1.0)[0]
    assert not any(edge.any() for edge in (framed[0], framed[-1], framed[:, 0], framed[:, -1]))
    np.testing.assert_array_equal(framed[5:-5, 5:-5], image[0, 5:-5, 5:-5])
    blanked = shifted(image, "markers", 1.0)[0]
    assert np.unique(blanked[:10, -10:]).tolist() == [round(np.median(image[0, :10, -10:] / 255) * 255)]
    np.testing.assert_array_equal(blanked[10:-10], image[0, 10:-10])
    np.testing.assert_array_equal(blanked[:, 10:-10], image[0, :, 10:-10])


def test_sharpness_goes_where_it_should(images):
    def sharpness(changed):
        return np.abs(np.diff(changed.astype(float), axis=2)).mean()

    own = sharpness(images)
    for name, is_sharper in (("blur", False), ("resolution", False), ("sharpening", True), ("noise", True)):
        assert (sharpness(shifted(images, name, 1.0)) > own) == is_sharper, name


def test_bad_input(images):
    with pytest.raises(ValueError, match=r"within \[0, 1\]. Got 1.5"):
        shifted(images, "blur", 1.5)
    with pytest.raises(KeyError, match="fog"):
        shifted(images, "fog", 0.5)
