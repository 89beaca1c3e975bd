"""Batch augmentation."""

from __future__ import annotations

import pytest
import torch

from cxr_estimator.augmentation import AUGMENTATIONS, Augmentation


@pytest.fixture
def x():
    return torch.rand(6, 1, 24, 24, generator=torch.Generator().manual_seed(0))


def seeded(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


@pytest.mark.parametrize("name", [name for name, augment in AUGMENTATIONS.items() if augment])
def test_contract(name, x):
    before = x.clone()
    changed = AUGMENTATIONS[name](x, seeded())
    assert changed.shape == x.shape
    assert changed.dtype == torch.float32
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert torch.equal(x, before)
    assert not torch.equal(changed, x)
    assert torch.equal(changed, AUGMENTATIONS[name](x, seeded()))
    assert not torch.equal(changed, AUGMENTATIONS[name](x, seeded(1)))


@pytest.mark.parametrize("name", [name for name, augment in AUGMENTATIONS.items() if augment])
def test_images_draw_their_own_numbers(name):
    same = torch.rand(1, 1, 24, 24, generator=seeded()).expand(4, -1, -1, -1)
    changed = AUGMENTATIONS[name](same, seeded())
    assert not torch.allclose(changed[0], changed[1])


def test_no_change_is_the_identity(x):
    assert torch.equal(Augmentation()(x, seeded()), x)


def test_certain_flip_mirrors_the_image(x):
    assert torch.allclose(Augmentation(flip=1.0)(x, seeded()), x.flip(3), atol=1e-5)


def test_blur_by_hand():
    point = torch.zeros(1, 1, 5, 5)
    point[0, 0, 2, 2] = 1.0
    blurred = Augmentation(blur=1.0)(point, seeded())
    weights = torch.tensor([0.25, 0.5, 0.25])
    assert torch.allclose(blurred[0, 0, 1:4, 1:4], weights[:, None] * weights[None, :])
    assert blurred.sum() == pytest.approx(1.0)


def test_brightness_shifts_every_pixel_alike():
    x = torch.full((3, 1, 8, 8), 0.5)
    shift = Augmentation(brightness=0.2)(x, seeded()) - x
    assert (shift.flatten(1).std(dim=1) < 1e-6).all()
    assert shift.abs().max() <= 0.2
    assert shift.abs().max() > 0.01


def test_erasing_blanks_one_rectangle(x):
    changed = Augmentation(erase=1.0)(x, seeded()) != x
    for image in changed[:, 0]:
        rows, columns = image.any(dim=1).nonzero(), image.any(dim=0).nonzero()
        height, width = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
        assert image.sum() == height * width
        assert 1 <= height <= 0.35 * 24 + 1
