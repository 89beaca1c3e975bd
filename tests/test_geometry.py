"""Geometry: boxes by hand, timm as an oracle, and maps and masks that return to their place."""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from timm.data import create_transform

from cxr_estimator.errors import InvalidParameterError
from cxr_estimator.images import as_images
from cxr_estimator.preprocessing import Box, Geometry, Preprocessing
from tests.test_preprocessing import GREY, MODES, SHAPES, pixels_of, unit


@pytest.mark.parametrize(
    ("resize", "shape", "size", "source", "target"),
    [
        ("stretch", (3, 5), 8, (0, 0, 3, 5), (0, 0, 8, 8)),
        ("stretch", (8, 8), 8, (0, 0, 8, 8), (0, 0, 8, 8)),
        ("pad", (3, 5), 10, (0, 0, 3, 5), (2, 0, 6, 10)),  # scale 2
        ("pad", (5, 3), 10, (0, 0, 5, 3), (0, 2, 10, 6)),
        ("pad", (7, 10), 9, (0, 0, 7, 10), (1, 0, 6, 9)),  # 6.3 -> 6 rows, 3 left over, 1 above
        ("pad", (10, 7), 9, (0, 0, 10, 7), (0, 1, 9, 6)),
        ("pad", (1, 100), 8, (0, 0, 1, 100), (3, 0, 1, 8)),  # 0.08 of a row is one row
        ("pad", (6, 6), 11, (0, 0, 6, 6), (0, 0, 11, 11)),
        ("crop", (3, 5), 8, (0, 1, 3, 3), (0, 0, 8, 8)),
        ("crop", (7, 4), 8, (1, 0, 4, 4), (0, 0, 8, 8)),
        ("crop", (6, 9), 8, (0, 1, 6, 6), (0, 0, 8, 8)),
        ("crop", (1, 1), 8, (0, 0, 1, 1), (0, 0, 8, 8)),
    ],
)
def test_boxes(resize, shape, size, source, target):
    geometry = Preprocessing(size, resize=resize).geometry(shape)
    assert (geometry.source, geometry.target) == (source, target)
    assert (geometry.original_shape, geometry.model_shape) == (shape, (size, size))


@pytest.mark.parametrize(
    ("resize", "shape", "source", "target"),
    [
        ("stretch", (8, 16), (2, 4, 4, 8), (0, 0, 8, 8)),
        ("stretch", (5, 5), (1, 1, 3, 3), (0, 0, 8, 8)),  # rows 1.25 to 3.75
        ("crop", (8, 16), (2, 6, 4, 4), (0, 0, 8, 8)),
        ("pad", (8, 16), (0, 4, 8, 8), (0, 0, 8, 8)),  # half of the padded 16 x 16 holds no bars
        ("pad", (4, 16), (0, 4, 4, 8), (2, 0, 4, 8)),  # 4 of 8 rows are bars
        ("pad", (1, 1), (0, 0, 1, 1), (0, 0, 8, 8)),
    ],
)
def test_boxes_of_half_the_image(resize, shape, source, target):
    geometry = Preprocessing(8, resize=resize, crop_pct=0.5).geometry(shape)
    assert (geometry.source, geometry.target) == (source, target)


@given(resize=st.sampled_from(MODES), shape=st.tuples(*[st.integers(1, 5000)] * 2), crop_pct=st.floats(0.01, 1))
def test_boxes_lie_in_the_middle_of_their_images(resize, shape, crop_pct):
    geometry = Preprocessing(32, resize=resize, crop_pct=crop_pct).geometry(shape)
    for box, sides in ((geometry.source, shape), (geometry.target, (32, 32))):
        for start, length, side in zip(box[:2], box[2:], sides, strict=True):
            assert 1 <= length <= side - start
            assert abs(side - length - 2 * start) <= 1 + side / 32


def test_the_middle_is_seen_and_a_map_returns_to_it():
    array = np.zeros((16, 16), dtype=np.uint8)
    array[4:12, 4:12] = 200
    cut = Preprocessing(8, crop_pct=0.5)
    assert (cut.pixels(as_images([array])[0]) == 200).all()
    np.testing.assert_array_equal(cut.geometry((16, 16)).to_original(np.ones((8, 8))), array / 200)


@pytest.mark.parametrize(("crop_pct", "resize"), [(0.875, "squash"), (0.9, "center"), (1.0, "center"), (0.9, "border")])
@pytest.mark.parametrize("name", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("shape", [(67, 91), (50, 33), (24, 24)])
def test_images_are_placed_and_cut_as_timm_does_it(crop_pct, resize, name, shape):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    array = (0.5 + 0.4 * np.sin(rows / 2) * np.cos(columns / 3)).astype(np.float32)
    own = {"squash": "stretch", "center": "crop", "border": "pad"}[resize]

    def both(array, mean):
        transform = create_transform(
            (1, 24, 24), mean=(mean,), std=(1.0,), crop_pct=crop_pct, crop_mode=resize, interpolation=name
        )
        found = pixels_of(array, 24, resize=own, crop_pct=crop_pct, interpolation=name, fill=(mean,))
        return unit(found)[0], transform(Image.fromarray(array)).numpy()[0] + mean

    np.testing.assert_allclose(*both(array, 0.0), atol=2e-5)
    # Pillow rounds bytes after each of two passes, whose order depends on the size
    np.testing.assert_allclose(*both((array * 255).astype(np.uint8), 0.4), atol=1.01 / 255)


@pytest.mark.parametrize("name", ["bilinear", "bicubic", "lanczos"])
def test_interpolation_is_pillows(name):
    expected = np.asarray(Image.fromarray(GREY).resize((8, 8), Image.Resampling[name.upper()]))
    np.testing.assert_array_equal(pixels_of(GREY, interpolation=name)[0], expected)
    from_floats = unit(pixels_of(GREY / 255, interpolation=name))[0]
    assert np.abs(from_floats - expected / 255).max() < 1.1 / 255


def test_what_bicubic_overshoots_is_clipped():
    array = np.zeros((24, 24), dtype=np.uint16)
    array[:, 12:] = 65535
    assert set(pixels_of(array, 9, interpolation="bicubic")[0][:, [0, 1, 7, 8]].ravel()) == {0, 65535}


def test_bars_have_the_colour_of_fill():
    array = np.full((4, 8), 7, dtype=np.uint8)
    padded = pixels_of(array, channels=3, resize="pad", fill=(0.0, 0.5, 1.0))
    assert padded[:, 0, 0].tolist() == [0, 128, 255]  # 127.5 to even
    assert (padded[:, 2:6] == 7).all()
    assert pixels_of(array.astype(np.uint16), resize="pad", fill=(0.5,))[0, 7, 7] == 32768


def test_slices():
    assert Box(1, 2, 3, 4).slices == (slice(1, 4), slice(2, 6))


def test_pixels_lie_where_the_boxes_say():
    wide = np.full((8, 16), 200, dtype=np.uint8)
    wide[:, [0, 1, 2, 3, 12, 13, 14, 15]] = 100
    padded, cropped = pixels_of(wide, 16, resize="pad")[0], pixels_of(wide, 8, resize="crop")[0]
    np.testing.assert_array_equal(padded, np.pad(wide, ((4, 4), (0, 0))))
    assert (cropped == 200).all()


@given(resize=st.sampled_from(MODES), shape=SHAPES, size=st.integers(8, 64), value=st.floats(-50, 50, width=32))
@settings(max_examples=60, deadline=None)
def test_a_constant_map_is_constant_where_the_model_saw_and_zero_elsewhere(resize, shape, size, value):
    geometry = Preprocessing(size, resize=resize).geometry(shape)
    original = geometry.to_original(np.full((size, size), value))
    expected = np.zeros(shape)
    expected[geometry.source.slices] = value
    assert (original.shape, original.dtype) == (shape, np.float32)
    np.testing.assert_allclose(original, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("resize", "shape"), [("stretch", (8, 8)), ("pad", (4, 8)), ("pad", (8, 5)), ("crop", (8, 11))]
)
@given(data=st.data(), factor=st.integers(2, 5))
@settings(max_examples=25, deadline=None)
def test_a_mask_survives_the_trip_to_a_larger_model_and_back(resize, shape, data, factor):
    mask = data.draw(hnp.arrays(bool, shape))
    geometry = Preprocessing(8 * factor, resize=resize).geometry(shape)
    there = geometry.mask_to_model(mask)
    np.testing.assert_array_equal(
        there[geometry.target.slices], np.kron(mask[geometry.source.slices], np.ones((factor, factor)))
    )
    seen = np.zeros(shape, dtype=bool)
    seen[geometry.source.slices] = True
    np.testing.assert_array_equal(geometry.to_original(there) > 0.5, mask & seen)


@given(
    resize=st.sampled_from(MODES),
    shape=st.tuples(st.integers(8, 60), st.integers(8, 60)),
    size=st.integers(8, 64),
    data=st.data(),
)
@settings(max_examples=150, deadline=None)
def test_a_rectangle_keeps_its_place_within_a_pixel(resize, shape, size, data):
    geometry = Preprocessing(size, resize=resize).geometry(shape)
    top, bottom = sorted(data.draw(st.lists(st.integers(0, shape[0]), min_size=2, max_size=2, unique=True)))
    left, right = sorted(data.draw(st.lists(st.integers(0, shape[1]), min_size=2, max_size=2, unique=True)))
    mask = np.zeros(shape, dtype=bool)
    mask[top:bottom, left:right] = True
    found = geometry.mask_to_model(mask)
    source, target = geometry.source, geometry.target
    for axis, edges in ((1, (top, bottom)), (0, (left, right))):
        scale = target[3 - axis] / source[3 - axis]
        start, length = target[1 - axis], target[3 - axis]
        expected = np.clip([start + (edge - source[1 - axis]) * scale for edge in edges], start, start + length)
        inside = np.flatnonzero(found.any(axis=axis))
        if len(inside):
            assert np.abs(expected - [inside[0], inside[-1] + 1]).max() <= 1
        else:
            assert found.sum() == 0
    if min(bottom - top, right - left) * min(target[2] / source[2], target[3] / source[3]) >= 1 and resize != "crop":
        assert found.any()


def test_a_mask_keeps_single_pixels_that_are_hit():
    mask = np.zeros((16, 16), dtype=bool)
    mask[1, 1] = mask[4, 4] = True  # every second pixel, from 1 on, is the nearest
    np.testing.assert_array_equal(np.argwhere(Preprocessing(8).geometry((16, 16)).mask_to_model(mask)), [[0, 0]])


def test_a_hot_spot_returns_to_its_place():
    geometry = Preprocessing(32, resize="crop").geometry((50, 80))  # as 32 x 51, from column 10 on
    heat = np.zeros((32, 32))
    heat[8, 24] = 1
    row, column = np.unravel_index(geometry.to_original(heat).argmax(), (50, 80))
    assert abs(row + 0.5 - 8.5 * 50 / 32) <= 1
    assert abs(column + 0.5 - (10 + 24.5) * 80 / 51) <= 1


def test_maps_of_another_size_are_refused():
    geometry = Preprocessing(8).geometry((5, 6))
    with pytest.raises(InvalidParameterError, match=re.escape("an array of shape (8, 8). Got 'shape (5, 6)'")):
        geometry.to_original(np.zeros((5, 6)))
    with pytest.raises(InvalidParameterError, match=re.escape("an array of shape (5, 6). Got 'shape (8, 8)'")):
        geometry.mask_to_model(np.zeros((8, 8)))


@pytest.mark.parametrize("resize", MODES)
def test_geometry_survives_json(resize):
    geometry = Preprocessing(9, resize=resize).geometry((7, 10))
    rebuilt = Geometry.from_dict(json.loads(json.dumps(dataclasses.asdict(geometry))))
    assert rebuilt == geometry
    assert isinstance(rebuilt.source, Box)
    assert rebuilt.to_original(np.ones((9, 9))).shape == (7, 10)
