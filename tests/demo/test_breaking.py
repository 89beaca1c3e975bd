"""Rotated, exposed, cropped, without markers: what changes, and what does not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_estimator.anatomy import marker_mask
from cxr_estimator.demo import _breaking
from cxr_estimator.demo._breaking import broken
from cxr_estimator.errors import InvalidParameterError, InvalidTypeError
from cxr_estimator.images import DecodedImage
from tests.test_anatomy import letter_at

TYPES = [(np.uint8, 255), (np.uint16, 65535), (np.int32, 3000), (np.float32, 1.0)]


def grey(dtype, most, shape=(60, 50)):
    return (np.random.default_rng(0).random(shape) * most).astype(dtype)


@pytest.mark.parametrize(("dtype", "most"), TYPES)
@pytest.mark.parametrize("shape", [(60, 50), (60, 50, 3)])
def test_all_at_rest_is_the_very_same_image(dtype, most, shape):
    pixels = grey(dtype, most, shape)
    assert broken(pixels) is pixels
    assert broken(pixels, rotate=0, exposure=-0.0, crop=0.0) is pixels


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(TYPES),
    st.booleans(),
    st.floats(-20, 20),
    st.floats(-1, 1),
    st.floats(0, 0.3),
    st.booleans(),
)
def test_type_range_and_input_are_kept(kind, is_colour, rotate, exposure, crop, remove_marker):
    dtype, most = kind
    pixels = grey(dtype, most, (23, 31, 3) if is_colour else (23, 31))
    before = pixels.copy()
    changed = broken(pixels, rotate=rotate, exposure=exposure, crop=crop, remove_marker=remove_marker)
    assert changed.dtype == dtype
    assert changed.ndim == pixels.ndim
    assert changed.shape[:2] == (23 - 2 * int(crop * 23), 31 - 2 * int(crop * 31))
    assert changed.min() >= 0
    assert changed.max() <= most
    assert np.array_equal(pixels, before)


def test_rotation_is_anticlockwise_and_fills_with_the_dark_border():
    pixels = np.full((101, 101), 90, np.uint8)
    pixels[:, :15] = 20  # the darker part of the border
    pixels[48:53, 80:85] = 250
    turned = broken(pixels, rotate=20)
    row, column = np.argwhere(turned == 250).mean(axis=0)
    angle = np.radians(20)
    assert row == pytest.approx(50 - 32 * np.sin(angle), abs=1)  # the spot on the right goes up
    assert column == pytest.approx(50 + 32 * np.cos(angle), abs=1)
    assert turned[0, -1] == 20
    assert np.abs(broken(pixels.astype(np.uint16) * 257, rotate=20) / 257.0 - turned).max() <= 1


def test_a_coloured_border_fills_each_channel_with_its_own():
    pixels = np.full((40, 40, 3), (10, 60, 200), np.uint8)
    assert np.array_equal(broken(pixels, rotate=7), pixels)
    pixels = np.full((40, 40, 3), (0.1, 0.5, 0.9), np.float32)
    assert np.array_equal(broken(pixels, rotate=7), pixels)


def test_exposure_by_hand():
    pixels = np.array([[0, 64, 255]], np.uint8)
    assert broken(pixels, exposure=1).tolist() == [[0, 128, 255]]  # 255 (64 / 255)^(1/2) = 127.7
    assert broken(pixels, exposure=-1).tolist() == [[0, 16, 255]]
    assert broken(np.array([[0.0, 0.25, 0.5]], np.float32), exposure=1)[0] == pytest.approx([0, 0.5, 0.5**0.5])
    assert broken(np.array([[-1000, 0, 3000]], np.int32), exposure=1).tolist() == [[-1000, 1000, 3000]]
    assert broken(np.full((2, 2), 7, np.int32), exposure=1).tolist() == [[7, 7], [7, 7]]


@given(st.floats(-1, 1))
def test_exposure_keeps_the_order_of_grey_values(exposure):
    ramp = np.arange(65536, dtype=np.uint16)[None]
    assert (np.diff(broken(ramp, exposure=exposure).astype(int)) >= 0).all()


def test_crop_takes_the_same_share_from_each_side():
    pixels = np.arange(200, dtype=np.uint8).reshape(10, 20)
    assert np.array_equal(broken(pixels, crop=0.1), pixels[1:9, 2:18])
    assert broken(np.zeros((1, 1), np.uint8), crop=0.3).shape == (1, 1)


@pytest.mark.parametrize(("dtype", "most"), TYPES)
def test_a_marker_is_filled_from_its_surroundings(dtype, most):
    pixels, clean = letter_at(20, 8, dtype=dtype, most=most), letter_at(20, 8, dtype=dtype, most=most)
    assert marker_mask(pixels).any()
    changed = broken(pixels, remove_marker=True)
    clean[20:34, 8:17] = (np.linspace(0.1, 0.4, 200)[20:34, None] * most).astype(dtype)
    assert np.abs(changed.astype(float) - clean).max() <= 0.01 * most  # a gradient is bridged as it was
    assert np.array_equal(changed[50:], pixels[50:])
    assert not marker_mask(changed).any()


def test_without_a_marker_nothing_changes():
    pixels = np.add.outer(np.arange(60), np.arange(50)).astype(np.uint8)
    assert broken(pixels, remove_marker=True) is pixels
    assert DecodedImage(broken(pixels, remove_marker=True), "").content_id == DecodedImage(pixels, "").content_id


def test_large_images_are_reduced_before_they_are_changed(monkeypatch):
    monkeypatch.setattr(_breaking, "_MOST_PIXELS", 100)
    pixels = np.arange(20 * 20, dtype=np.uint16).reshape(20, 20)
    assert broken(pixels) is pixels
    assert broken(pixels, remove_marker=True) is pixels
    changed = broken(pixels, crop=0.1)
    assert changed.shape == (8, 8)
    assert changed[0, 0] == round(pixels[2:4, 2:4].mean())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rotate": 20.1}, "'rotate' .* >= -20.0 and <= 20.0"),
        ({"rotate": float("nan")}, "'rotate'"),
        ({"exposure": -1.5}, "'exposure' .* >= -1 and <= 1"),
        ({"crop": 0.31}, "'crop' .* >= 0 and <= 0.3"),
        ({"crop": -0.01}, "'crop'"),
    ],
)
def test_what_is_out_of_range_is_refused(options, message):
    with pytest.raises(InvalidParameterError, match=message):
        broken(np.zeros((4, 4), np.uint8), **options)


@pytest.mark.parametrize("options", [{"rotate": "5"}, {"exposure": None}, {"crop": True}, {"remove_marker": 1}])
def test_what_is_of_the_wrong_type_is_refused(options):
    with pytest.raises(InvalidTypeError, match=next(iter(options))):
        broken(np.zeros((4, 4), np.uint8), **options)
