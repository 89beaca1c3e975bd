"""Side markers are found, and ribs are not, at every size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cxr_estimator import make_phantoms
from cxr_estimator.anatomy import block_mean, marker_mask
from cxr_estimator.datasets import phantom
from cxr_estimator.errors import ImageError


@pytest.fixture(scope="module", params=[128, 224, 500])
def marked(request):
    """24 phantoms and by how much their marker brightens each pixel, as the phantom draws it."""
    drawn, draw = [], phantom._mark

    def record(grey, rng):
        before = grey.copy()
        draw(grey, rng)
        drawn.append(grey - before)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phantom, "_mark", record)
        X = make_phantoms(24, request.param, random_state=7).X
    return X, drawn


def test_most_visible_markers_are_covered_and_nothing_far_from_them(marked):
    visible, covered = 0, 0
    for image, brighter in zip(*marked, strict=True):
        letter, found = brighter > 0.02, marker_mask(image)
        if letter.any() and np.median(brighter[letter]) > 0.25:
            visible += 1
            covered += (found & letter).sum() > 0.8 * letter.sum()
        if found.any():
            assert letter.any()
            near = np.zeros_like(letter)
            (rows, columns), far = np.nonzero(letter), len(image) // 20
            near[max(rows.min() - far, 0) : rows.max() + far, max(columns.min() - far, 0) : columns.max() + far] = True
            assert not (found & ~near).any()
    assert visible >= 10
    assert covered >= 0.75 * visible


def letter_at(top, left, shape=(200, 160), dtype=np.uint8, most=255):
    """A dim gradient with a bright L of 14 x 9 pixels."""
    image = np.linspace(0.1, 0.4, shape[0])[:, None] * np.ones(shape)
    image[top : top + 14, left : left + 2] = 0.95
    image[top + 12 : top + 14, left : left + 9] = 0.95
    image[0, 0], image[-1, -1] = 0, 1
    return (image * most).astype(dtype)


def test_a_letter_at_the_side_is_covered_and_one_in_the_thorax_is_not():
    found = marker_mask(letter_at(20, 8))
    assert found[20:34, 8:10].all()
    assert found.sum() < 20 * 15
    assert not marker_mask(letter_at(90, 75)).any()


@pytest.mark.parametrize(("dtype", "most"), [(np.uint16, 65535), (np.int32, 4095), (np.float32, 1.0)])
def test_types_and_colour_find_the_same(dtype, most):
    expected = marker_mask(letter_at(20, 8))
    assert (marker_mask(letter_at(20, 8, dtype=dtype, most=most)) == expected).mean() > 0.999
    colour = np.repeat(letter_at(20, 8, dtype=dtype, most=most)[..., None], 3, axis=2)
    assert (marker_mask(colour) == expected).mean() > 0.999


@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (700, 1), (3, 2)])
def test_tiny_and_even_images_have_none(shape):
    assert marker_mask(np.full(shape, 7, np.uint8)).shape == shape
    assert not marker_mask(np.full(shape, 7, np.uint8)).any()


@settings(max_examples=25, deadline=None)
@given(arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40))))
def test_noise_gives_a_mask_of_its_own_shape(image):
    found = marker_mask(image)
    assert found.shape == image.shape
    assert found.dtype == bool


def test_block_mean_by_hand():
    image = np.array([[0, 2, 9], [4, 6, 9], [9, 9, 9]], np.uint8)
    assert block_mean(image, 2).tolist() == [[3.0]]
    assert np.array_equal(block_mean(image, 1), image)
    assert block_mean(np.full((4, 4, 3), 65535, np.uint16), 4).tolist() == [[[65535.0] * 3]]


def test_what_is_no_image_is_refused():
    with pytest.raises(ImageError, match=r"\(2, 3, 4, 5\)"):
        marker_mask(np.zeros((2, 3, 4, 5), np.uint8))
