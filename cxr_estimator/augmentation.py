"""Random changes of a training batch, on tensors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """Ranges of the random changes. Each image draws its own; 0 switches a change off.

    Parameters
    ----------
    rotation : float
        Largest angle, in degrees, either way.
    scale, shift : float
        Largest relative change of size, and largest shift as a share of the side.
    stretch : float
        Each axis by itself shows a share of the side from [1 - stretch, 1 + stretch / 4], at a random place: other
        fields of view, cut edges, other aspect ratios. Beyond the image its edge repeats.
    brightness, contrast, gamma : float
        Largest additive change of [0, 1] pixels; largest change of the log contrast and of the log exponent.
    flip, blur, erase : float
        Probability of a left-right flip, of a 3 x 3 binomial blur, and of blanking a rectangle.
    noise : float
        Largest standard deviation of added Gaussian noise.
    border : float
        Probability of a frame that covers 0-15% of the side at each edge by itself: black for half of them, else one
        other grey. Collimators, marks of the edge and screenshots look so.
    gain : float
        Largest change of exposure, in powers of two: grey values are multiplied, and what passes white is lost.
    """

    rotation: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    gamma: float = 0.0
    flip: float = 0.0
    blur: float = 0.0
    erase: float = 0.0
    noise: float = 0.0
    stretch: float = 0.0
    border: float = 0.0
    gain: float = 0.0

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return a changed copy of `x` (N, C, H, W), pixels in [0, 1]; random numbers come from `generator` (CPU)."""
        x = _geometry(x, self, generator)
        x = _intensity(x, self, generator)
        if self.blur:
            x = torch.where(_chosen(x, self.blur, generator), _binomial_blur(x), x)
        if self.noise:
            noise = torch.randn(x.shape, generator=generator).to(x)
            x = x + noise * _uniform(x, 0.0, self.noise, generator)
        if self.erase:
            x = _erase(x, self.erase, generator)
        x = x.clamp(0.0, 1.0)
        return _frame(x, self.border, generator) if self.border else x


_STRONG = Augmentation(
    rotation=12.0, scale=0.15, shift=0.08, brightness=0.12, contrast=0.4, gamma=0.5,
    flip=0.5, blur=0.3, erase=0.25, noise=0.05,
)  # fmt: skip

AUGMENTATIONS: dict[str, Callable[[Tensor, torch.Generator], Tensor] | None] = {
    "none": None,
    "light": Augmentation(rotation=7.0, scale=0.08, shift=0.05, brightness=0.08, contrast=0.2, gamma=0.2),
    "strong": _STRONG,
    "robust": replace(_STRONG, stretch=0.2, border=0.5, gain=0.6),
}


def _uniform(x: Tensor, low: float, high: float, generator: torch.Generator) -> Tensor:
    """One number per image, shaped to multiply (N, C, H, W)."""
    return (torch.rand(len(x), 1, 1, 1, generator=generator) * (high - low) + low).to(x)


def _chosen(x: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    return _uniform(x, 0.0, 1.0, generator) < probability


def _geometry(x: Tensor, ranges: Augmentation, generator: torch.Generator) -> Tensor:
    """Turn, scale, shift and mirror, then enlarge a rectangle of that; both in one interpolation.

    A point q of the result shows the point A (S q + c) + t of the image.
    """
    theta = torch.eye(2, 3).expand(len(x), 2, 3).to(x)
    if ranges.rotation or ranges.scale or ranges.shift or ranges.flip:
        theta = _affine(x, ranges, generator)
    elif not ranges.stretch:
        return x
    if ranges.stretch:
        share, centre = _rectangle(x, ranges.stretch, generator)
        matrix, offset = theta[:, :, :2], theta[:, :, 2:]
        theta = torch.cat([matrix * share.mT, matrix @ centre + offset], 2)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _affine(x: Tensor, ranges: Augmentation, generator: torch.Generator) -> Tensor:
    """Return [A t] (N, 2, 3), in coordinates from -1 to 1."""
    angle = _uniform(x, -ranges.rotation, ranges.rotation, generator).flatten() * (math.pi / 180.0)
    scale = torch.exp(_uniform(x, -ranges.scale, ranges.scale, generator).flatten())
    mirror = torch.where(_chosen(x, ranges.flip, generator).flatten(), -1.0, 1.0).to(x)
    shift_x, shift_y = (2.0 * _uniform(x, -ranges.shift, ranges.shift, generator).flatten() for _ in range(2))
    cosine, sine = torch.cos(angle) / scale, torch.sin(angle) / scale
    rows = (torch.stack([cosine * mirror, -sine, shift_x], 1), torch.stack([sine * mirror, cosine, shift_y], 1))
    return torch.stack(rows, 1)


def _rectangle(x: Tensor, stretch: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return the sides and the centre (N, 2, 1) of the part to show, x before y, as shares and from -1 to 1.

    It lies inside the image, or around it where it is larger.
    """
    sides = [_uniform(x, 1.0 - stretch, 1.0 + stretch / 4.0, generator) for _ in range(2)]
    share = torch.cat(sides, 1).flatten(2)
    place = torch.cat([_uniform(x, -1.0, 1.0, generator) for _ in range(2)], 1).flatten(2)
    return share, place * (1.0 - share).abs()


def _intensity(x: Tensor, ranges: Augmentation, generator: torch.Generator) -> Tensor:
    if ranges.gain:
        x = (x * 2.0 ** _uniform(x, -ranges.gain, ranges.gain, generator)).clamp(max=1.0)
    if ranges.gamma:
        x = x.clamp(1e-4, 1.0) ** torch.exp(_uniform(x, -ranges.gamma, ranges.gamma, generator))
    if ranges.contrast or ranges.brightness:
        centre = x.mean(dim=(2, 3), keepdim=True)
        contrast = torch.exp(_uniform(x, -ranges.contrast, ranges.contrast, generator))
        x = (x - centre) * contrast + centre + _uniform(x, -ranges.brightness, ranges.brightness, generator)
    return x


def _binomial_blur(x: Tensor) -> Tensor:
    weights = torch.tensor([0.25, 0.5, 0.25], device=x.device, dtype=x.dtype)
    kernel = (weights[:, None] * weights[None, :]).expand(x.shape[1], 1, 3, 3)
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), kernel, groups=x.shape[1])


def _erase(x: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Fill a rectangle of 10-35% of each side with the image's mean."""
    rows, columns = _places(x)
    height, width = (_uniform(x, 0.10, 0.35, generator) for _ in range(2))
    top, left = (_uniform(x, 0.0, 1.0, generator) * (1 - side) for side in (height, width))
    inside = (rows >= top) & (rows < top + height) & (columns >= left) & (columns < left + width)
    return torch.where(inside & _chosen(x, probability, generator), x.mean(dim=(1, 2, 3), keepdim=True), x)


def _frame(x: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Cover 0-15% of the side at each edge with black, or in every other image with one grey."""
    rows, columns = _places(x)
    top, bottom, left, right = (_uniform(x, 0.0, 0.15, generator) for _ in range(4))
    outside = (rows < top) | (rows >= 1.0 - bottom) | (columns < left) | (columns >= 1.0 - right)
    grey = _uniform(x, -1.0, 1.0, generator).clamp(min=0.0)
    return torch.where(outside & _chosen(x, probability, generator), grey, x)


def _places(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return where rows and columns begin, from 0 to 1, shaped to compare with (N, 1, 1, 1)."""
    rows, columns = (torch.arange(side, device=x.device) / side for side in x.shape[2:])
    return rows.view(1, 1, -1, 1), columns.view(1, 1, 1, -1)
