"""Shortcuts and opacities: each is where it should be, on whom it should be, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from cxr_estimator.datasets.phantom import make_phantoms
from cxr_estimator.datasets.shortcuts import SHORTCUTS, Pasted, paste_opacities, plant_shortcut, shortcut_carriers
from cxr_estimator.errors import DataError, InvalidParameterError, InvalidTypeError

P = """\
####.
#...#
#...#
####.
#....
#....
#...."""


@pytest.fixture(scope="module")
def data():
    return make_phantoms(40, 64, random_state=4)


@pytest.fixture(scope="module")
def healthy():
    return make_phantoms(40, 64, prevalence=0, random_state=5)


def on_all(X, kind, seed=0):
    return plant_shortcut(X, ["PNEUMONIA"] * len(X), kind, random_state=seed)


# -- who carries it ---------------------------------------------------------------------------------------------------


def test_a_perfect_shortcut_is_the_label():
    y = np.array(["NORMAL", "PNEUMONIA", "PNEUMONIA", "NORMAL"])
    assert shortcut_carriers(y).tolist() == [False, True, True, False]
    assert shortcut_carriers(y, pos_label="NORMAL").tolist() == [True, False, False, True]
    assert shortcut_carriers(np.array([0, 1]), pos_label=1).tolist() == [False, True]


@pytest.mark.parametrize("strength", [0.0, 0.5, 0.8])
def test_how_often_each_class_carries_it(strength):
    y = np.repeat(["NORMAL", "PNEUMONIA"], 4000)
    carried = shortcut_carriers(y, strength=strength, random_state=3)
    # four standard errors of a share of 4000 are at most 0.032
    assert carried[y == "PNEUMONIA"].mean() == pytest.approx(0.5 + strength / 2, abs=0.032)
    assert carried[y == "NORMAL"].mean() == pytest.approx(0.5 - strength / 2, abs=0.032)


def test_a_stronger_shortcut_keeps_its_sick_carriers_and_loses_healthy_ones():
    y = np.repeat(["NORMAL", "PNEUMONIA"], 200)
    weak, strong = (shortcut_carriers(y, strength=strength) for strength in (0.3, 0.7))
    sick = y == "PNEUMONIA"
    assert (weak <= strong)[sick].all()
    assert (weak >= strong)[~sick].all()
    assert (weak != strong).any()


def test_all_images_of_a_patient_or_none():
    groups = np.repeat([f"P{number}" for number in range(100)], 3)
    y = np.repeat(["NORMAL", "PNEUMONIA"], 150)
    carried = shortcut_carriers(y, strength=0.4, groups=groups).reshape(100, 3)
    assert (carried == carried[:, :1]).all()
    assert carried[:, 0].any()
    assert not carried[:, 0].all()


def test_the_name_of_the_patient_decides_and_no_neighbour():
    groups = np.array([f"P{number}" for number in range(60)])
    y = np.tile(["NORMAL", "PNEUMONIA"], 30)
    carried = shortcut_carriers(y, strength=0.2, groups=groups)
    order = np.random.default_rng(0).permutation(60)[:25]
    part = shortcut_carriers(y[order], strength=0.2, groups=groups[order].tolist())
    np.testing.assert_array_equal(part, carried[order])


# -- how it looks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SHORTCUTS)
def test_images_are_new_and_the_given_ones_as_before(data, kind):
    before = data.X.copy()
    planted = plant_shortcut(data.X, data.y, kind, groups=data.groups)
    np.testing.assert_array_equal(data.X, before)
    assert not np.shares_memory(planted, data.X)
    assert (planted.shape, planted.dtype) == (data.X.shape, np.uint8)
    np.testing.assert_array_equal((planted != data.X).any((1, 2)), data.y == "PNEUMONIA")


@pytest.mark.parametrize("kind", SHORTCUTS)
def test_seeds(data, kind):
    first = on_all(data.X, kind)
    np.testing.assert_array_equal(on_all(data.X, kind), first)
    np.testing.assert_array_equal(on_all(data.X[:7], kind), first[:7])
    assert (on_all(data.X, kind, seed=1) != first).any((1, 2)).mean() > 0.5


def test_generators_and_none_are_seeds(data):
    labels = data.y
    first, second = (plant_shortcut(data.X, labels, "border", random_state=np.random.default_rng(2)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert plant_shortcut(data.X, labels, "border", random_state=None).shape == data.X.shape


def test_a_list_of_images_of_any_size_gives_a_list():
    images = [np.full((40, 50), 100, np.uint8), np.full((90, 33), 100, np.uint8)]
    for kind in SHORTCUTS:
        planted = plant_shortcut(images, ["NORMAL", "PNEUMONIA"], kind)
        assert isinstance(planted, list)
        assert [image.shape for image in planted] == [(40, 50), (90, 33)]
        np.testing.assert_array_equal(planted[0], images[0])
        assert planted[0] is not images[0]


def test_the_marker_is_a_bright_p_in_the_upper_right_corner():
    (image,) = on_all(np.zeros((1, 56, 56), np.uint8), "corner_marker")  # a letter of 0.12 * 56, about 7 rows
    (rows,), (columns,) = image.any(1).nonzero(), image.any(0).nonzero()
    letter = image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    np.testing.assert_array_equal(letter > 0, [[dot == "#" for dot in line] for line in P.split()])
    assert np.unique(letter[letter > 0]).size == 1
    assert letter.max() >= 215
    assert rows.min() in (1, 2, 3)  # 2 to 6 % of 56
    assert 56 - 1 - columns.max() in (1, 2, 3)


@pytest.mark.parametrize("size", [32, 64, 224])
def test_the_marker_changes_no_other_part_and_darkens_nothing(size):
    X = make_phantoms(20, size, random_state=1).X
    planted = on_all(X, "corner_marker")
    side = int(np.ceil(0.3 * size if size == 32 else 0.2 * size))
    elsewhere = np.ones((size, size), bool)
    elsewhere[:side, -side:] = False
    np.testing.assert_array_equal(planted[:, elsewhere], X[:, elsewhere])
    assert (planted >= X).all()
    places = [tuple(np.argwhere(change)[0]) for change in planted > X]
    assert len(set(places)) > 1


def test_the_border_is_dark_thin_and_leaves_the_inside():
    X = np.full((30, 100, 200), 99, np.uint8)
    planted = on_all(X, "border")
    for image in planted:
        (rows,), (columns,) = (image == 99).any(1).nonzero(), (image == 99).any(0).nonzero()
        assert (image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] == 99).all()
        widths = np.array([rows[0], 99 - rows[-1], columns[0] / 2, (199 - columns[-1]) / 2])  # % of the side
        assert (widths >= 3).all()
        assert (widths <= 6).all()
        frame = image[image != 99]
        assert np.unique(frame).size == 1
        assert frame[0] <= 20


def test_brightness_raises_all_grey_values_by_the_same():
    X = np.zeros((30, 32, 32), np.uint8)
    X[:, 0, 0], X[:, 0, 1] = 100, 250
    planted = on_all(X, "brightness")
    by = planted[:, 1, 1].astype(int)
    assert ((by >= 20) & (by <= 32)).all()
    assert np.unique(by).size > 5
    np.testing.assert_array_equal(planted[:, 0, 0], 100 + by)
    assert (planted[:, 0, 1] == 255).all()
    assert (planted[:, 1:] == by[:, None, None]).all()


def test_resolution_takes_detail_and_nothing_else(data):
    flat = np.full((1, 64, 64), 77, np.uint8)
    np.testing.assert_array_equal(on_all(flat, "resolution"), flat)
    stripes = np.tile(np.array([0, 200], np.uint8), (1, 64, 32))  # as fine as they can be
    assert np.ptp(on_all(stripes, "resolution")[0, 8:-8, 8:-8].astype(int)) < 100
    planted = on_all(data.X, "resolution")
    assert np.abs(planted.mean((1, 2)) - data.X.mean((1, 2))).max() < 2  # edge pixels count a little more
    coarse = [ndimage.uniform_filter(images.astype(float), (0, 9, 9))[:, 9:-9, 9:-9] for images in (planted, data.X)]
    assert np.corrcoef(coarse[0].ravel(), coarse[1].ravel())[0, 1] > 0.995
    detail = [np.abs(np.diff(images.astype(int), 2, axis=2)).mean() for images in (planted, data.X)]
    assert detail[0] < detail[1] / 2


# -- opacities --------------------------------------------------------------------------------------------------------


def test_opacities_brighten_part_of_the_lungs(healthy):
    before = healthy.X.copy()
    pasted = paste_opacities(healthy.X)
    np.testing.assert_array_equal(healthy.X, before)
    assert isinstance(pasted, Pasted)
    assert (pasted.X.dtype, pasted.masks.dtype) == (np.uint8, bool)
    assert (pasted.X >= healthy.X).all()
    np.testing.assert_array_equal(pasted.masks, pasted.X.astype(int) - healthy.X >= 10)
    area = pasted.masks.mean((1, 2))
    assert area.min() > 0.005
    assert area.max() < 0.15
    in_lungs = (pasted.masks & healthy.lung_masks).sum() / pasted.masks.sum()
    assert in_lungs > 0.8  # lungs are a quarter of the image
    assert (pasted.X == healthy.X).mean() > 0.7


def test_opacities_have_one_to_three_foci_that_are_no_discs(healthy):
    masks = paste_opacities(healthy.X, random_state=2).masks
    parts = [sum(np.bincount(ndimage.label(ndimage.binary_opening(mask))[0].ravel())[1:] > 8) for mask in masks]
    assert set(parts) <= {0, 1, 2, 3, 4}  # ribs, which are bright, may part one
    assert {1, 2} <= set(parts)


def test_nothing_dark_nothing_to_fill():
    X = np.full((2, 48, 48), 120, np.uint8)
    pasted = paste_opacities(X)
    np.testing.assert_array_equal(pasted.X, X)
    assert not pasted.masks.any()


def test_opacities_depend_on_the_image_its_position_and_the_seed_alone(healthy):
    X = healthy.X
    first = paste_opacities(X, random_state=3).X
    np.testing.assert_array_equal(paste_opacities(X[:5], random_state=3).X, first[:5])
    assert (first != paste_opacities(X, random_state=4).X).any((1, 2)).all()
    listed = paste_opacities(list(X[:3]), random_state=3)
    assert isinstance(listed.X, list)
    assert isinstance(listed.masks, list)
    np.testing.assert_array_equal(np.stack(listed.X), first[:3])


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "name"),
    [
        ({"kind": "corner"}, InvalidParameterError, "kind"),
        ({"strength": 1.1}, InvalidParameterError, "strength"),
        ({"strength": float("nan")}, InvalidParameterError, "strength"),
        ({"strength": "1"}, InvalidTypeError, "strength"),
        ({"pos_label": "pneumonia"}, InvalidParameterError, "pos_label"),
        ({"random_state": "0"}, InvalidTypeError, "random_state"),
        ({"X": ["a.png"] * 40}, InvalidTypeError, "X"),
    ],
)
def test_bad_arguments_are_named(data, options, error, name):
    with pytest.raises(error, match=f"The '{name}' parameter of plant_shortcut must be .* Got "):
        plant_shortcut(**{"X": data.X, "y": data.y, "kind": "border", **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"X": np.zeros((40, 64, 64), np.float32)}, "image 0 must be grey.*Got float32, shape"),
        ({"X": np.zeros((40, 64, 64, 3), np.uint8)}, "image 0 must be grey"),
        ({"X": np.zeros((40, 64, 31), np.uint8)}, "at least 32 pixels a side"),
        ({"y": ["NORMAL", "PNEUMONIA"]}, "X has 40 images but y has 2 labels"),
        ({"groups": ["P1"]}, "groups must have one entry for each of the 40 images"),
    ],
)
def test_bad_data_is_told(data, options, message):
    with pytest.raises(DataError, match=f"plant_shortcut: .*{message}"):
        plant_shortcut(**{"X": data.X, "y": data.y, "kind": "border", **options})


def test_bad_images_for_opacities():
    with pytest.raises(DataError, match="paste_opacities: image 1 must be grey"):
        paste_opacities([np.zeros((64, 64), np.uint8), np.zeros((64, 64), np.int64)])
