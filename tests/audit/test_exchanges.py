"""Each exchange changes what it says and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from cxr_estimator.audit._exchanges import EXCHANGES
from cxr_estimator.datasets.phantom import make_phantoms
from cxr_estimator.metrics.localisation import corners, frame


@pytest.fixture(scope="module")
def images():
    """Two phantoms of different patients, (2, 1, 96, 96) in [0, 1]."""
    return make_phantoms(2, 96, images_per_patient=1, random_state=3).X[:, None].astype(np.float32) / 255


def test_frame_and_corners_by_hand():
    assert frame((10, 20)).sum() == 200 - 8 * 16
    assert corners((10, 20)).sum() == 4 * 2 * 4
    assert frame((4, 4), 0.01).sum() == 12  # one pixel at least


@pytest.mark.parametrize(("kind", "mask"), [("border", frame), ("corners", corners)])
def test_a_place_is_taken_from_the_donor(images, kind, mask):
    image, donor = images
    changed, inside = EXCHANGES[kind](image, donor), mask(image.shape[1:])
    assert np.array_equal(changed[:, inside], donor[:, inside])
    assert np.array_equal(changed[:, ~inside], image[:, ~inside])


@pytest.mark.parametrize("kind", ["border", "corners", "brightness", "sharpness"])
def test_an_image_that_gives_to_itself_does_not_change(images, kind):
    np.testing.assert_allclose(EXCHANGES[kind](images[0], images[0]), images[0], atol=1e-5)


@pytest.mark.parametrize("kind", EXCHANGES)
def test_the_result_is_an_image(images, kind):
    before = images.copy()
    changed = EXCHANGES[kind](*images)
    assert changed.shape == images[0].shape
    assert changed.dtype == np.float32
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert np.array_equal(images, before)


def test_brightness_and_contrast_become_those_of_the_donor():
    rng = np.random.default_rng(0)
    image, donor = (rng.uniform(*ends, (1, 40, 40)).astype(np.float32) for ends in ((0.2, 0.4), (0.5, 0.9)))
    changed = EXCHANGES["brightness"](image, donor)
    assert (changed.mean(), changed.std()) == pytest.approx((donor.mean(), donor.std()), abs=1e-4)


def test_fine_detail_becomes_as_strong_as_that_of_the_donor(images):
    """A donor that was halved and enlarged has none of it."""
    image, donor = images
    coarse = donor[:, ::2, ::2].repeat(2, axis=1).repeat(2, axis=2)
    smooth = (coarse + np.roll(coarse, 1, 1) + np.roll(coarse, 1, 2) + np.roll(coarse, (1, 1), (1, 2))) / 4

    def fine(one):
        spectrum = np.abs(np.fft.fft2(one[0]))
        return spectrum[np.hypot(*np.meshgrid(np.fft.fftfreq(96), np.fft.fftfreq(96))) > 0.3].mean()

    changed = EXCHANGES["sharpness"](image, smooth)
    assert fine(changed) == pytest.approx(fine(smooth), rel=0.25)
    assert fine(changed) < 0.6 * fine(image)


def test_markers_move_and_nothing_else_does():
    image, donor = (np.full((1, 96, 96), grey, np.float32) for grey in (0.3, 0.5))
    image[0, 5:15, 6:8] = 1.0
    donor[0, 70:80, 88:90] = 1.0
    changed = EXCHANGES["markers"](image, donor)
    assert changed[0, 10, 7] == pytest.approx(0.3, abs=0.02)
    assert changed[0, 75, 89] == 1.0
    assert np.array_equal(changed[0, 30:60], image[0, 30:60])
    plain = np.full((1, 96, 96), 0.3, np.float32)
    assert EXCHANGES["markers"](plain, plain) is None
