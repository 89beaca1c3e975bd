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


@pytest.mark.parametrize(
    ("name", "pixels", "means", "next_number"),
    [
        ("light", [[0.34152809, 0.49801657], [0.47052151, 0.44913366]], [0.48678032, 0.50647670], 0.6977),
        ("strong", [[0.58425146, 0.38585867], [0.40404797, 0.62699312]], [0.50276500, 0.52180535], 0.9040),
    ],
)
def test_presets_stay_what_they_were(name, pixels, means, next_number, x):
    """The same numbers as in version 0.1: a network trained with a seed must come out the same later."""
    generator = seeded()
    changed = AUGMENTATIONS[name](x[:2], generator)
    assert torch.allclose(changed[:, 0, [5, 20], [7, 3]], torch.tensor(pixels), atol=1e-6)
    assert torch.allclose(changed.mean(dim=(1, 2, 3)), torch.tensor(means), atol=1e-6)
    assert float(torch.rand(1, generator=generator)) == pytest.approx(next_number, abs=1e-4)


def ramps(n_images: int = 200, side: int = 32) -> torch.Tensor:
    """Images (N, 2, S, S) whose channels are the place of the pixel's centre in x and y, from -1 to 1.

    Bilinear interpolation keeps them exactly, so that the result of any geometry tells what it shows where.
    """
    centres = (torch.arange(side) + 0.5) / side * 2.0 - 1.0
    return torch.stack([centres.expand(side, side), centres[:, None].expand(side, side)]).expand(n_images, -1, -1, -1)


def stretched(generator, stretch=0.4, **ranges):
    """Positions (N, 2, S, S) that a change of geometry shows."""
    return 2.0 * Augmentation(stretch=stretch, **ranges)((ramps() + 1.0) / 2.0, generator) - 1.0


def test_stretch_shows_a_share_of_each_axis_anywhere():
    shown = stretched(seeded())[:, :, 8:24, 8:24]  # away from the edges, which repeat
    steps = torch.stack([shown[:, 0].diff(dim=2).flatten(1), shown[:, 1].diff(dim=1).flatten(1)], 1)
    share = steps.mean(2) * 16.0  # one pixel is 1/16 of the two units of a side
    assert steps.std(2).max() < 1e-4
    assert share.min() >= 0.6 - 1e-4
    assert share.max() <= 1.1 + 1e-4
    assert share.min() < 0.62
    assert share.max() > 1.08
    assert abs(float(torch.corrcoef(share.T)[0, 1])) < 0.2  # each axis by itself
    centre = shown.mean(dim=(2, 3))
    assert (centre.abs() <= (1.0 - share).abs() + 1e-3).all()  # the part lies in the image
    assert centre.min() < -0.2
    assert centre.max() > 0.2


def test_geometry_is_one_change_after_the_other():
    """One interpolation gives what two do: first turned, scaled, shifted and mirrored, then the rectangle of that."""
    turned = {"rotation": 12.0, "scale": 0.15, "shift": 0.08, "flip": 0.5}
    grid = torch.linspace(0.0, 3.0, 96)
    x = (torch.sin(grid)[:, None] * torch.cos(2.0 * grid) * 0.4 + 0.5).expand(20, 1, 96, 96)
    generator = seeded(4)
    slow = Augmentation(**turned)(x, generator)
    slow = Augmentation(stretch=0.4)(slow, generator)  # draws what the combined change draws next
    quick = Augmentation(stretch=0.4, **turned)(x, seeded(4))
    assert (slow - quick)[:, :, 16:-16, 16:-16].abs().max() < 2e-3
    assert (slow - x)[:, :, 16:-16, 16:-16].abs().max() > 0.1


def test_border_covers_edges_with_one_grey():
    x = torch.full((400, 1, 100, 100), 0.5)
    changed = Augmentation(border=1.0)(x, seeded())[:, 0]
    greys = []
    for image in changed:
        covered = image != 0.5
        edges = [covered[:, 50].int().argmin(), covered[:, 50].flip(0).int().argmin()]
        edges += [covered[50].int().argmin(), covered[50].flip(0).int().argmin()]
        top, bottom, left, right = (int(edge) for edge in edges)
        assert max(top, bottom, left, right) <= 15
        assert not covered[top : 100 - bottom, left : 100 - right].any()
        assert covered.sum() == 100 * 100 - (100 - top - bottom) * (100 - left - right)
        assert len(image[covered].unique()) <= 1
        greys.append(float(image[covered][0]) if covered.any() else 0.0)
    black = [grey == 0 for grey in greys]
    assert 0.4 < sum(black) / len(black) < 0.6
    assert max(greys) > 0.9


def test_gain_multiplies_and_burns_out():
    x = torch.linspace(0.0, 1.0, 11).view(1, 1, 1, 11).repeat(200, 1, 1, 1)
    changed = Augmentation(gain=0.5)(x, seeded())
    factor = changed[:, 0, 0, 1] / 0.1
    assert torch.allclose(changed, (x * factor.view(-1, 1, 1, 1)).clamp(max=1.0), atol=1e-6)
    assert factor.log2().abs().max() <= 0.5
    assert factor.log2().std() > 0.2


def test_border_spares_some_images():
    changed = Augmentation(border=0.3)(torch.full((400, 1, 20, 20), 0.5), seeded())
    share = (changed != 0.5).flatten(1).any(dim=1).float().mean()
    assert 0.2 < share < 0.4


def test_changes_of_colour_images_are_the_same_in_each_channel(x):
    colour = x.expand(-1, 3, -1, -1)
    changed = Augmentation(stretch=0.3, border=0.5)(colour, seeded())
    assert torch.equal(changed[:, 0], changed[:, 1])
