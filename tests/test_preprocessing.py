"""Preprocessing: boxes by hand, a slow resize to compare with, and that no image depends on its neighbours."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from cxr_estimator.errors import ImageError, InvalidParameterError, InvalidTypeError
from cxr_estimator.images import as_images
from cxr_estimator.preprocessing import Preprocessing
from cxr_estimator.reading import prepare

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (13, 17), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (13, 17, 3), dtype=np.uint8)
RAMP = np.arange(64).reshape(8, 8)
MODES = ("stretch", "pad", "crop")
SHAPES = st.tuples(st.integers(1, 60), st.integers(1, 60))


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
