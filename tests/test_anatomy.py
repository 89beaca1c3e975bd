"""Markers, lungs and thorax are found at every size, and nothing is where there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cxr_estimator import make_phantoms
from cxr_estimator._lungs import lung_outlines
from cxr_estimator.anatomy import _filled, below_lungs, block_mean, lung_mask, marker_mask, midline_of, thorax_mask
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


@pytest.mark.parametrize("find", [marker_mask, lung_mask, thorax_mask])
def test_what_is_no_image_is_refused(find):
    with pytest.raises(ImageError, match=r"\(2, 3, 4, 5\)"):
        find(np.zeros((2, 3, 4, 5), np.uint8))


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


@pytest.fixture(scope="module")
def chests():
    return make_phantoms(12, 128, random_state=11).X


@pytest.mark.parametrize("size", [64, 96, 128, 224])
def test_lungs_of_phantoms_are_found(size):
    phantoms = make_phantoms(24, size, random_state=8)
    overlap = [iou(lung_mask(image), lungs) for image, lungs in zip(phantoms.X, phantoms.lung_masks, strict=True)]
    assert np.mean(overlap) > 0.88
    assert min(overlap) > 0.75


def test_thorax_contains_the_lungs_and_leaves_the_borders_out():
    phantoms = make_phantoms(12, 128, random_state=9)
    for image, lungs in zip(phantoms.X, phantoms.lung_masks, strict=True):
        thorax, found = thorax_mask(image), lung_mask(image)
        assert thorax.shape == image.shape
        assert thorax.dtype == bool
        assert not (found & ~thorax).any()
        assert (lungs & thorax).sum() > 0.99 * lungs.sum()
        assert 0.3 < thorax.mean() < 0.7
        assert not thorax[0].any()
        assert not thorax[-1].any()


@pytest.mark.parametrize("change", [
    lambda image: image.astype(np.uint16) * 257,
    lambda image: image.astype(np.int32) * 16 - 2048,
    lambda image: (image / 255).astype(np.float32),
    lambda image: np.repeat(image[..., None], 3, axis=2),
    lambda image: (255 * (image / 255) ** 1.3).astype(np.uint8),
])  # fmt: skip
def test_lungs_do_not_depend_on_how_grey_is_written(chests, change):
    for image in chests[:4]:
        found = lung_mask(change(image))
        assert found.shape == image.shape
        assert found.dtype == bool
        assert iou(found, lung_mask(image)) > 0.95


@pytest.mark.parametrize(("tall", "wide"), [(4, 4), (3, 2), (1, 2), (7, 8)])
def test_lungs_do_not_depend_on_the_size(chests, tall, wide):
    for image in chests[:4]:
        found = lung_mask(image.repeat(tall, axis=0).repeat(wide, axis=1))
        assert found.shape == (128 * tall, 128 * wide)
        assert iou(found, lung_mask(image).repeat(tall, axis=0).repeat(wide, axis=1)) > 0.95


def test_the_same_image_gives_the_same_lungs(chests):
    first = lung_mask(chests[0])
    np.random.default_rng().random(7)
    lung_mask(chests[1])
    assert (lung_mask(chests[0]) == first).all()


@pytest.mark.parametrize("find", [lung_mask, thorax_mask])
@pytest.mark.parametrize("change", [
    lambda image: 255 - image,
    np.rot90,
    lambda image: np.rot90(image, 2),
    lambda image: np.rot90(image, 3),
    np.flipud,
])  # fmt: skip
def test_inverted_and_turned_images_have_no_lungs(chests, change, find):
    assert all(find(change(image)) is None for image in chests)


@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (31, 500), (32, 32), (300, 200)])
def test_even_images_have_no_lungs(shape):
    assert lung_mask(np.full(shape, 7, np.uint8)) is None
    assert thorax_mask(np.full(shape, 0.5, np.float32)) is None


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(32, 260), st.integers(32, 260))
def test_noise_has_no_lungs(seed, height, width):
    assert lung_mask(np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)) is None


def disc(radius, n=200):
    y, x = np.mgrid[:n, :n]
    return np.where((x - n / 2) ** 2 + (y - n / 2) ** 2 < radius**2, 40, 180).astype(np.uint8)


@pytest.mark.parametrize("radius", [30, 60, 70, 80, 95])
def test_one_dark_disc_is_no_pair_of_lungs(radius):
    assert lung_mask(disc(radius)) is None


def test_filled_outlines_are_the_pixels_whose_centres_they_enclose():
    angle = np.linspace(0, 2 * math.pi, 400, endpoint=False)
    circle = np.stack([50.2 + 30.5 * np.cos(angle), 40.7 + 30.5 * np.sin(angle)], axis=-1)
    y, x = np.mgrid[:80, :90]
    expected = (x - 50.2) ** 2 + (y - 40.7) ** 2 < 30.5**2
    assert (_filled(circle[None], (80, 90)) != expected).mean() < 0.001
    square = np.array([[-5.0, -5], [2.5, -5], [2.5, 1.5], [-5, 1.5]])
    assert np.argwhere(_filled(square[None], (4, 4))).tolist() == [[r, c] for r in range(2) for c in range(3)]


def test_outlines_are_shares_of_width_and_height(chests):
    outlines = lung_outlines(chests[0].astype(np.float32))
    assert outlines.shape[::2] == (2, 2)
    right, left = outlines
    assert right[:, 0].max() < left[:, 0].min()
    assert 0 < outlines.min() < outlines.max() < 1


# --- below the lungs


def heart_beside(lungs):
    """Two lungs whose bases rise by one pixel, and the left one with a heart: its inner columns end high."""
    lungs[2:20, 2:10] = lungs[2:19, 10:13] = True  # the base rises inwards
    lungs[2:20, 24:30] = lungs[2:8, 19:24] = True  # columns 19 to 23 end at the heart
    return lungs


def test_the_edge_below_the_lungs_by_hand():
    lungs = heart_beside(np.zeros((26, 32), bool))
    below = below_lungs(lungs)
    first = below.argmax(axis=0)
    assert first[:10].tolist() == [20] * 10  # level beside the lung, too
    assert first[10:13].tolist() == [19] * 3
    assert first[13:24].tolist() == [19] * 11  # from 18 to 19, on the way across the heart: the first row below that
    assert first[24:].tolist() == [20] * 8
    assert (np.diff(below.astype(int), axis=0) >= 0).all()
    assert not (below & lungs).any()
    assert midline_of(lungs) == 15.5


def test_the_edge_turns_with_the_image():
    lungs = heart_beside(np.zeros((26, 32), bool))
    assert (below_lungs(lungs[:, ::-1]) == below_lungs(lungs)[:, ::-1]).all()
    assert midline_of(lungs[:, ::-1]) == 31 - midline_of(lungs)


def test_a_single_pixel_of_lung_has_an_edge():
    lungs = np.zeros((4, 5), bool)
    lungs[1, 2] = True
    assert (below_lungs(lungs) == (np.arange(4) > 1)[:, None]).all()


@pytest.mark.parametrize("size", [64, 224])
def test_below_the_lungs_of_phantoms_there_is_no_lung_but_much_of_the_image(size):
    data = make_phantoms(12, size, random_state=4)
    for pixels, true in zip(data.X, data.lung_masks, strict=True):
        below, found = below_lungs(true), below_lungs(lung_mask(pixels))
        assert not (below & true).any()
        assert 0.1 < below.mean() < 0.4
        assert (below & found).sum() / (below | found).sum() > 0.75
        assert abs(midline_of(true) - midline_of(lung_mask(pixels))) < 0.05 * size
