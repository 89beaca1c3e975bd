"""Preprocessing: boxes by hand, a slow resize to compare with, and that no image depends on its neighbours."""

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

from cxr_estimator.errors import ImageError, InvalidParameterError, InvalidTypeError
from cxr_estimator.images import as_images
from cxr_estimator.preprocessing import Box, Geometry, Preprocessing
from cxr_estimator.reading import prepare

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (13, 17), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (13, 17, 3), dtype=np.uint8)
RAMP = np.arange(64).reshape(8, 8)
MODES = ("stretch", "pad", "crop")


def pixels_of(array, size=8, **options):
    return Preprocessing(size, **options).pixels(as_images([array])[0])


def unit(pixels):
    return pixels / np.iinfo(pixels.dtype).max


def slow_resize(plane, height, width):
    """Resize with a triangle filter, one output pixel at a time, in float64."""
    for length in (height, width):
        scale = plane.shape[0] / length
        reach = max(scale, 1.0)
        rows = []
        for i in range(length):
            distance = (np.arange(plane.shape[0]) + 0.5 - (i + 0.5) * scale) / reach
            weight = np.clip(1 - np.abs(distance), 0, None)
            rows.append(weight @ plane / weight.sum())
        plane = np.array(rows).T
    return plane


# -- geometry ----------------------------------------------------------------------------------------------------------


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


SHAPES = st.tuples(st.integers(1, 60), st.integers(1, 60))


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


# -- parameters --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "preprocessing",
    [
        Preprocessing(224),
        Preprocessing(64, 3, "pad", (0, 4095), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        Preprocessing(8, resize="crop", intensity="minmax"),
        Preprocessing(8, intensity=(-1000.5, 400.0)),
        Preprocessing(8, crop_pct=0.875, interpolation="bicubic", fill=(0.5,)),
    ],
)
def test_preprocessing_survives_json(preprocessing):
    assert Preprocessing.from_dict(json.loads(json.dumps(preprocessing.to_dict()))) == preprocessing


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"image_size": 7}, InvalidParameterError, "'image_size' .* an integer >= 8 and <= 4096. Got 7"),
        ({"image_size": 4097}, InvalidParameterError, "image_size"),
        ({"image_size": 64.0}, InvalidTypeError, "image_size"),
        ({"image_size": True}, InvalidTypeError, "image_size"),
        ({"channels": 2}, InvalidParameterError, "'channels' .* one of 1, 3. Got 2"),
        ({"channels": True}, InvalidParameterError, "channels"),
        ({"resize": "streched"}, InvalidParameterError, "Did you mean 'stretch'?"),
        ({"crop_pct": 0.0}, InvalidParameterError, "'crop_pct' .* a number > 0 and <= 1. Got 0"),
        ({"crop_pct": 1.5}, InvalidParameterError, "crop_pct"),
        ({"interpolation": "cubic"}, InvalidParameterError, "Did you mean 'bicubic'?"),
        ({"fill": 0.5}, InvalidParameterError, "'fill' .* a tuple of one number for all channels"),
        ({"fill": (1.1,)}, InvalidParameterError, "fill"),
        *(
            ({"intensity": value}, InvalidParameterError, "'intensity' .* a pair")
            for value in (
                "max",
                5,
                (0,),
                (0, 1, 2),
                (1, 0),
                (1, 1),
                ("0", "1"),
                (0, float("inf")),
                (float("nan"), 1),
                (None, 1),
            )
        ),
    ],
    ids=str,
)
def test_bad_parameters(options, error, text):
    with pytest.raises(error, match=f"The .* parameter of Preprocessing must be .*{text}|{text}"):
        Preprocessing(**{"image_size": 64, **options})


# -- pixels ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("array", [GREY, COLOUR, GREY.astype(np.uint16), GREY / 255.0, GREY > 100])
def test_shape_and_depth(array, channels):
    pixels = pixels_of(array, size=11, channels=channels)
    assert pixels.shape == (channels, 11, 11)
    assert pixels.dtype == (np.uint8 if array.dtype in (np.uint8, bool) else np.uint16)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_integers_of_model_size_pass_unchanged(dtype):
    ramp = np.linspace(0, np.iinfo(dtype).max, 64).astype(dtype).reshape(8, 8)
    np.testing.assert_array_equal(pixels_of(ramp), [ramp])


def test_floats_from_zero_to_one():
    array = np.zeros((8, 8), dtype=np.float32)
    array[0, :4] = [0, 0.25, 0.5, 1.0]
    assert pixels_of(array)[0, 0, :4].tolist() == [0, 16384, 32768, 65535]  # 16383.75, 32767.5 to even


@pytest.mark.parametrize("shape", [(8, 8), (13, 17), (40, 31), (5, 100)])
@pytest.mark.parametrize("size", [8, 24, 33])
def test_resize_is_antialiased_bilinear(shape, size):
    array = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    expected = slow_resize(array.astype(np.float64), size, size)
    from_bytes, from_floats = pixels_of(array, size)[0], pixels_of(array / 255.0, size)[0]
    pillow = np.asarray(Image.fromarray(array).resize((size, size), Image.Resampling.BILINEAR))
    assert np.abs(from_bytes - expected).max() <= 1
    assert np.abs(from_floats / 257 - expected).max() < 0.005
    assert np.abs(from_bytes - pillow.astype(int)).max() <= 1


@given(
    array=hnp.arrays(np.uint8, st.one_of(SHAPES, SHAPES.map(lambda shape: (*shape, 3)))),
    resize=st.sampled_from(MODES),
    channels=st.sampled_from([1, 3]),
)
@settings(max_examples=60, deadline=None)
def test_the_same_picture_at_every_depth(array, resize, channels):
    eight = unit(pixels_of(array, 16, resize=resize, channels=channels))
    levels = 1.5 if array.ndim == 3 and channels == 1 else 1.0  # rows, columns and luma each round to half a level
    for other in (array.astype(np.uint16) * 257, array / np.float32(255), array / 255.0):
        difference = unit(pixels_of(other, 16, resize=resize, channels=channels)) - eight
        assert np.abs(difference).max() <= (levels + 0.05) / 255


def test_intensity_pair_clips():
    expected = np.rint(np.clip((RAMP - 10) / 40, 0, 1) * 65535)
    for dtype in (np.uint8, np.int16, np.int64, np.uint16, np.float32):
        np.testing.assert_array_equal(pixels_of(RAMP.astype(dtype), intensity=(10, 50))[0], expected)
    assert [expected[1, 2], expected[3, 6], expected[6, 2]] == [0, 32768, 65535]  # values 10, 30 and 50


def test_intensity_of_negative_numbers():
    array = np.full((8, 8), -300, dtype=np.int16)
    array[0, :3] = [-2000, -1000, 400]
    assert pixels_of(array, intensity=(-1000, 400))[0, 0, :4].tolist() == [0, 0, 65535, 32768]


@pytest.mark.parametrize("factor", [1, 0.5, -1000])
def test_minmax_stretches_each_image(factor):
    pixels = pixels_of(RAMP * float(factor), intensity="minmax")[0]
    np.testing.assert_allclose(pixels, (RAMP if factor > 0 else 63 - RAMP) / 63 * 65535, atol=0.6)


@pytest.mark.parametrize("value", [0, 7, -3.5, 60_000])
def test_minmax_of_a_constant_image_is_black(value):
    assert (pixels_of(np.full((9, 9), value), intensity="minmax") == 0).all()


def test_colour_becomes_grey_by_luma():
    colour = np.full((8, 8, 3), [200, 100, 50], dtype=np.uint8)  # 59.8 + 58.7 + 5.7 = 124.2
    assert (pixels_of(colour) == 124).all()
    assert (pixels_of(colour.astype(np.uint16) * 257) == round(124.2 * 257)).all()
    np.testing.assert_allclose(pixels_of(colour / 255.0), 124.2 * 257, atol=1)


def test_grey_is_repeated_and_colour_keeps_its_channels():
    pixels = pixels_of(GREY, 17, channels=3)
    assert (pixels == pixels[0]).all()
    np.testing.assert_array_equal(pixels[0], pixels_of(GREY, 17)[0])
    np.testing.assert_array_equal(pixels_of(COLOUR[:8, :8], channels=3), np.moveaxis(COLOUR[:8, :8], 2, 0))


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (RAMP.astype(np.int64), r"int64 pixels have no agreed range.*intensity="),
        (RAMP.astype(np.int32), "int32 pixels"),
        (RAMP.astype(np.int8), "int8 pixels"),
        (RAMP.astype(np.uint32), "uint32 pixels"),
        (RAMP.astype(np.float32), r"float pixels must lie in \[0, 1\] but span \[0, 63\].*intensity="),
        (RAMP / 63 - 0.001, r"span \[-0.001, 0.999\]"),
        (np.full((3, 3), 1.0001), r"\[0, 1\]"),
    ],
)
def test_pixels_without_a_known_range_are_named(array, reason):
    with pytest.raises(ImageError, match=rf"^X\[1\]: .*{reason}"):
        prepare(as_images([GREY, array]), Preprocessing(8))
