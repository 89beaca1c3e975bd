"""Synthetic radiographs: what their masks, labels and seeds promise, and that no shortcut gives the label away."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage, stats

from cxr_estimator.datasets.phantom import Phantoms, make_phantoms
from cxr_estimator.errors import InvalidParameterError, InvalidTypeError


@pytest.fixture(scope="module")
def phantoms():
    return make_phantoms(240, 64, random_state=3)


@pytest.fixture(scope="module")
def twins():
    """The same patients without and with pneumonia."""
    return tuple(make_phantoms(24, 96, prevalence=p, random_state=5) for p in (0.0, 1.0))


def auroc(score, y):
    sick, healthy = score[y == "PNEUMONIA"], score[y == "NORMAL"]
    return stats.mannwhitneyu(sick, healthy).statistic / (sick.size * healthy.size)


def marker(image):
    """Return whether a bright letter stands beside the body (0 none, -1 left, 1 right) in an image of 64 pixels."""
    bright = image[2:40] > 165
    left, right = bright[:, :6].sum(), bright[:, -6:].sum()
    return int(np.sign(right - left)) if max(left, right) >= 4 else 0


@pytest.mark.parametrize("size", [16, 28, 64, 128, 224])
def test_shapes_and_dtypes(size):
    result = make_phantoms(5, size)
    assert isinstance(result, Phantoms)
    assert result.X.shape == result.lesion_masks.shape == result.lung_masks.shape == (5, size, size)
    assert (result.X.dtype, result.lesion_masks.dtype, result.lung_masks.dtype) == (np.uint8, bool, bool)
    assert result.y.shape == result.groups.shape == (5,)
    assert result.groups.tolist() == ["P0000", "P0000", "P0001", "P0001", "P0002"]
    assert result.X.std() > 40
    assert set(result.y) == {"NORMAL", "PNEUMONIA"}
    np.testing.assert_array_equal(result.lesion_masks.any((1, 2)), result.y == "PNEUMONIA")


def test_drawing_is_of_the_same_anatomy_at_every_size():
    small, large = (make_phantoms(4, size, random_state=1) for size in (64, 128))
    for a, b in zip(small.lung_masks, large.lung_masks[:, ::2, ::2], strict=True):
        assert (a & b).sum() > 0.85 * (a | b).sum()


def test_same_arguments_same_bytes():
    for first, second in zip(make_phantoms(12, 48, random_state=9), make_phantoms(12, 48, random_state=9), strict=True):
        np.testing.assert_array_equal(first, second)


def test_another_seed_gives_other_images():
    first, second = (make_phantoms(6, 48, random_state=seed) for seed in (0, 1))
    assert all((a != b).mean() > 0.5 for a, b in zip(first.X, second.X, strict=True))


@pytest.mark.parametrize(("images_per_patient", "prevalence"), [(1, 0.5), (2, 0.1), (3, 0.5)])
def test_a_larger_call_begins_with_the_smaller_one(images_per_patient, prevalence):
    options = {"images_per_patient": images_per_patient, "prevalence": prevalence, "random_state": 2}
    for short, long in zip(make_phantoms(7, 32, **options), make_phantoms(25, 32, **options), strict=True):
        np.testing.assert_array_equal(short, long[:7])


def test_views_of_a_patient_share_label_and_anatomy_but_differ(phantoms):
    first, second = slice(0, None, 2), slice(1, None, 2)
    np.testing.assert_array_equal(phantoms.groups[first], phantoms.groups[second])
    np.testing.assert_array_equal(phantoms.y[first], phantoms.y[second])
    assert np.unique(phantoms.groups).size == 120
    lungs = phantoms.lung_masks

    def overlap(a, b):
        return ((a & b).sum((1, 2)) / (a | b).sum((1, 2))).mean()

    assert overlap(lungs[first], lungs[second]) > overlap(lungs[first], np.roll(lungs[second], 1, axis=0)) + 0.05
    assert ((phantoms.X[first] != phantoms.X[second]).mean((1, 2)) > 0.5).all()


@pytest.mark.parametrize(("prevalence", "seed"), [(0.01, 0), (0.01, 1), (0.3, 2), (0.5, 3), (0.99, 4), (0.99, 5)])
def test_both_classes_in_any_two_patients_and_prevalence_in_many(prevalence, seed):
    y = make_phantoms(40, 16, prevalence=prevalence, images_per_patient=1, random_state=seed).y
    assert set(y[:2]) == {"NORMAL", "PNEUMONIA"}
    assert (y == "PNEUMONIA").mean() == pytest.approx(prevalence, abs=0.06)


def test_order_of_labels_carries_no_pattern(phantoms):
    sick = (phantoms.y[::2] == "PNEUMONIA").astype(float)
    for lag in (1, 2, 3):
        assert abs(np.corrcoef(sick[lag:], sick[:-lag])[0, 1]) < 0.3


def test_prevalence_may_be_none_or_all(twins):
    healthy, sick = twins
    assert set(healthy.y) == {"NORMAL"}
    assert set(sick.y) == {"PNEUMONIA"}


def test_lesions_have_the_stated_area_and_only_the_sick_have_them(phantoms):
    area = phantoms.lesion_masks.mean((1, 2))
    sick = phantoms.y == "PNEUMONIA"
    assert not area[~sick].any()
    assert area[sick].min() > 0.015
    assert area[sick].max() < 0.065
    assert 0.02 < area[sick].mean() < 0.06


def test_lesions_lie_in_the_lungs_and_are_not_discs(phantoms):
    assert not (phantoms.lesion_masks & ~phantoms.lung_masks).any()
    # A filled ellipse of any shape has an area of 4 pi sqrt(det(covariance)); frayed or several foci have less.
    lesions = [mask for mask in phantoms.lesion_masks if mask.any()]
    fill = [mask.sum() / (4 * np.pi * np.sqrt(np.linalg.det(np.cov(np.nonzero(mask))))) for mask in lesions]
    assert np.median(fill) < 0.97


def test_lungs_are_dark_two_sided_and_lower_on_the_image_right(phantoms):
    lungs, healthy = phantoms.lung_masks, phantoms.y == "NORMAL"
    assert ((lungs.mean((1, 2)) > 0.1) & (lungs.mean((1, 2)) < 0.35)).all()
    assert (lungs[:, :, :32].any((1, 2)) & lungs[:, :, 32:].any((1, 2))).all()
    centre = phantoms.X[:, 24:36, 28:36].mean((1, 2))
    air = (phantoms.X * lungs).sum((1, 2)) / lungs.sum((1, 2))
    assert (air[healthy] < centre[healthy] - 20).all()
    # The heart takes room from the patient's left lung.
    assert (lungs[:, :, :32].sum((1, 2)) > lungs[:, :, 32:].sum((1, 2))).mean() > 0.7


@pytest.mark.parametrize("name", ["brightness", "contrast", "border", "corners", "noise"])
def test_no_shortcut_to_the_label(phantoms, name):
    X = phantoms.X.astype(float)
    frame = np.ones((64, 64), bool)
    frame[3:-3, 3:-3] = False
    score = {
        "brightness": X.mean((1, 2)),
        "contrast": X.std((1, 2)),
        "border": X[:, frame].mean(1),
        "corners": X[:, :8, :8].mean((1, 2)),
        "noise": np.abs(np.diff(X[:, -8:], axis=2)).mean((1, 2)),
    }[name]
    assert 0.35 < auroc(score, phantoms.y) < 0.65


def test_marker_does_not_tell_the_label(phantoms):
    side = np.array([marker(image) for image in phantoms.X])
    assert {-1, 0, 1} == set(side)
    table = [[np.sum((side == s) & (phantoms.y == label)) for s in (-1, 0, 1)] for label in ("NORMAL", "PNEUMONIA")]
    assert stats.chi2_contingency(table).pvalue > 0.01


def test_a_lesion_is_all_that_pneumonia_changes(twins):
    healthy, sick = twins
    np.testing.assert_array_equal(healthy.lung_masks, sick.lung_masks)
    change = sick.X.astype(int) - healthy.X
    for mask, lungs, difference in zip(sick.lesion_masks, sick.lung_masks, change, strict=True):
        far = ~ndimage.binary_dilation(mask, iterations=12)
        assert difference[mask].mean() > 10
        assert np.abs(difference[far]).mean() < 0.1 * difference[mask].mean()
        assert np.abs(difference[~ndimage.binary_dilation(lungs, iterations=8)]).max() <= 12


def test_difficulty_makes_lesions_fainter(twins):
    healthy, _ = twins
    contrast = []
    for difficulty in (0.0, 0.5, 1.0):
        sick = make_phantoms(24, 96, prevalence=1.0, difficulty=difficulty, random_state=5)
        contrast.append((sick.X.astype(int) - healthy.X)[sick.lesion_masks].mean())
    assert contrast[0] > 1.2 * contrast[1]
    assert contrast[1] > 1.2 * contrast[2]
    assert contrast[2] > 10


@pytest.mark.parametrize(
    ("options", "error", "name"),
    [
        ({"n": 0}, InvalidParameterError, "n"),
        ({"n": 2.5}, InvalidTypeError, "n"),
        ({"size": 15}, InvalidParameterError, "size"),
        ({"size": 1025}, InvalidParameterError, "size"),
        ({"size": "64"}, InvalidTypeError, "size"),
        ({"prevalence": 1.1}, InvalidParameterError, "prevalence"),
        ({"prevalence": float("nan")}, InvalidParameterError, "prevalence"),
        ({"images_per_patient": 0}, InvalidParameterError, "images_per_patient"),
        ({"difficulty": -0.1}, InvalidParameterError, "difficulty"),
        ({"difficulty": None}, InvalidTypeError, "difficulty"),
        ({"random_state": -1}, InvalidParameterError, "random_state"),
        ({"random_state": "0"}, InvalidTypeError, "random_state"),
    ],
)
def test_bad_arguments_are_named(options, error, name):
    with pytest.raises(error, match=f"The '{name}' parameter of make_phantoms must be .* Got "):
        make_phantoms(**{"n": 4, "size": 32, **options})
