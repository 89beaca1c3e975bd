"""Changes of training and input that the package does not offer (yet), tried out in the study.

Augmentations map pixels x (N, C, H, W) in [0, 1] and a generator to changed pixels, like those of the package.
Standardisations map x to x image by image, after any augmentation, in training and in use.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cxr_estimator import inference, training
from cxr_estimator.augmentation import AUGMENTATIONS
from cxr_estimator.optimisation import classification_loss

Augment = Callable[[Tensor, torch.Generator], Tensor]
_KNOTS = 6
_BANDS = 5


def random_curve(x: Tensor, generator: torch.Generator, strength: float = 1.2) -> Tensor:
    """Map grey values through a random rising curve: 0 and 1 stay, the steps between six knots differ by up to e**2.4.

    In the way of Zhou et al. (2019), Models Genesis, MICCAI, doi:10.1007/978-3-030-32251-9_42, whose curves are Bezier.
    """
    steps = torch.exp(strength * (2.0 * torch.rand(len(x), _KNOTS, generator=generator) - 1.0))
    heights = F.pad(steps.cumsum(1) / steps.sum(1, keepdim=True), (1, 0))
    place = x.flatten(1).clamp(0.0, 1.0) * _KNOTS
    left = place.long().clamp(max=_KNOTS - 1)
    low, high = heights.gather(1, left), heights.gather(1, left + 1)
    return (low + (place - left) * (high - low)).view_as(x)


def random_bands(x: Tensor, generator: torch.Generator, strength: float = 0.7) -> Tensor:
    """Multiply each octave of spatial frequencies by its own random gain of up to e**0.7; the mean stays.

    Low frequencies are shading and exposure of regions, high ones sharpness: what scanners and their filters differ in.
    """
    height, width = x.shape[2:]
    rows = torch.fft.fftfreq(height)[:, None] * height
    columns = torch.fft.rfftfreq(width)[None, :] * width
    octave = torch.log2((rows**2 + columns**2).sqrt().clamp(min=1.0)).clamp(max=_BANDS - 1.0)
    gains = strength * (2.0 * torch.rand(len(x), _BANDS, generator=generator) - 1.0)
    left = octave.long().clamp(max=_BANDS - 2)
    share = octave - left
    log_gain = gains[:, left] * (1.0 - share) + gains[:, left + 1] * share
    log_gain[:, 0, 0] = 0.0
    spectrum = torch.fft.rfft2(x) * torch.exp(log_gain)[:, None]
    return torch.fft.irfft2(spectrum, s=(height, width)).clamp(0.0, 1.0)


def random_crop(x: Tensor, generator: torch.Generator, least: float = 0.65) -> Tensor:
    """Enlarge a random rectangle whose sides are, each by itself, 65-105% of the image's; edges repeat outside."""
    share = least + (1.05 - least) * torch.rand(len(x), 2, generator=generator)
    centre = (2.0 * torch.rand(len(x), 2, generator=generator) - 1.0) * (1.0 - share).abs()
    theta = torch.zeros(len(x), 2, 3)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = share[:, 0], share[:, 1], centre
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


def random_resolution(x: Tensor, generator: torch.Generator) -> Tensor:
    """Shrink half of the images to 30-80% of the side, the same share for all of a batch, and enlarge them again."""
    share = 0.3 + 0.5 * float(torch.rand(1, generator=generator))
    small = F.interpolate(x, scale_factor=share, mode="bilinear", antialias=True)
    coarse = F.interpolate(small, size=x.shape[2:], mode="bilinear")
    chosen = torch.rand(len(x), 1, 1, 1, generator=generator) < 0.5
    return torch.where(chosen, coarse, x)


def random_zoom(x: Tensor, generator: torch.Generator) -> Tensor:
    """Enlarge a random rectangle whose sides are, each by itself, 80-105% of the image's: a mild `random_crop`."""
    return random_crop(x, generator, least=0.8)


def random_gain(x: Tensor, generator: torch.Generator) -> Tensor:
    """Multiply all grey values by up to 2 ** 0.6, or divide them; what passes white is lost, as by overexposure."""
    return (x * 2.0 ** (1.2 * torch.rand(len(x), 1, 1, 1, generator=generator) - 0.6)).clamp(0.0, 1.0)


def random_amplitudes(x: Tensor, generator: torch.Generator) -> Tensor:
    """Blend, for half of the images, the strengths of spatial frequencies with those of another image of the batch.

    Phases, and so the anatomy, stay; grey values, contrast and sharpness pass from image to image and so from class to
    class. Xu et al. (2021), A Fourier-based framework for domain generalization, CVPR,
    doi:10.1109/CVPR46437.2021.01415.
    """
    spectrum = torch.fft.rfft2(x)
    strength = spectrum.abs()
    other = strength[torch.randperm(len(x), generator=generator)]
    share = torch.rand(len(x), 1, 1, 1, generator=generator)
    share = share * (torch.rand(len(x), 1, 1, 1, generator=generator) < 0.5)
    blended = (1.0 - share) * strength + share * other
    return torch.fft.irfft2(spectrum * (blended / strength.clamp(min=1e-6)), s=x.shape[2:]).clamp(0.0, 1.0)


def random_border(x: Tensor, generator: torch.Generator) -> Tensor:
    """Cover a frame of 0-15% of each side, drawn for each edge, in half of the images: black, or one other grey."""
    edges = 0.15 * torch.rand(len(x), 4, generator=generator)
    rows = (torch.arange(x.shape[2]) / x.shape[2]).expand(len(x), -1)
    columns = (torch.arange(x.shape[3]) / x.shape[3]).expand(len(x), -1)
    outside_rows = (rows < edges[:, :1]) | (rows >= 1.0 - edges[:, 1:2])
    outside_columns = (columns < edges[:, 2:3]) | (columns >= 1.0 - edges[:, 3:])
    chosen = torch.rand(len(x), 1, 1, 1, generator=generator) < 0.5
    grey = F.relu(2.0 * torch.rand(len(x), 1, 1, 1, generator=generator) - 1.0)  # black for every other image
    outside = outside_rows[:, None, :, None] | outside_columns[:, None, None, :]
    return torch.where(chosen & outside, grey, x)


CHANGES: Mapping[str, Augment] = {
    "amplitudes": random_amplitudes,
    "gain": random_gain,
    "border": random_border,
    "curve": random_curve,
    "bands": random_bands,
    "crop": random_crop,
    "zoom": random_zoom,
    "resolution": random_resolution,
}


def chain(names: str) -> Augment:
    """Return the augmentation that applies several, "light+curve" say: of the package or of `CHANGES`, in order."""
    steps = [{**AUGMENTATIONS, **CHANGES}[name] for name in names.split("+")]

    def apply(x: Tensor, generator: torch.Generator) -> Tensor:
        for step in steps:
            x = x if step is None else step(x, generator)
        return x

    return apply


def augmented(images: np.ndarray, names: str, copies: int, *, seed: int) -> np.ndarray:
    """Return images (N, H, W), uint8, with so many augmented copies of all behind them: ((1 + copies) N, H, W)."""
    generator, apply = torch.Generator().manual_seed(seed), chain(names)
    parts = [images]
    for _ in range(copies):
        x = torch.from_numpy(images)[:, None].float() / 255.0
        parts.append((255.0 * apply(x, generator)).round().to(torch.uint8)[:, 0].numpy())
    return np.concatenate(parts)


def z_scores(x: Tensor) -> Tensor:
    """Give each image the mean 0.5 and the standard deviation 0.25: no linear change of grey values matters."""
    std, mean = torch.std_mean(x, dim=(1, 2, 3), keepdim=True)
    return (x - mean) / (4.0 * std + 1e-6) + 0.5


def ranks(x: Tensor) -> Tensor:
    """Replace grey values by their rank among those of the image, ties by their middle: no rising curve matters."""
    values = x.flatten(1)
    ordered = values.sort(dim=1).values
    below = torch.searchsorted(ordered, values)
    not_above = torch.searchsorted(ordered, values, right=True)
    return ((below + not_above).to(x) / (2.0 * values.shape[1])).view_as(x)


def local_contrast(x: Tensor) -> Tensor:
    """Subtract the mean of each pixel's surroundings and divide by their standard deviation, around 0.5."""
    side = 2 * (x.shape[-1] // 12) + 1

    def around(values: Tensor) -> Tensor:
        for _ in range(2):  # twice a box is nearly a Gaussian
            values = F.avg_pool2d(values, side, stride=1, padding=side // 2, count_include_pad=False)
        return values

    centred = x - around(x)
    return centred / (4.0 * (around(centred**2) + 1e-4).sqrt()) + 0.5


STANDARDS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "z_scores": z_scores,
    "ranks": ranks,
    "local_contrast": local_contrast,
}


class Mixup:
    """Blend each image with another of its batch, and its loss likewise.

    Zhang et al. (2018), mixup: beyond empirical risk minimization, ICLR, doi:10.48550/arXiv.1710.09412. The share is
    drawn from Beta(alpha, alpha) for each image; `loss` belongs to the images that came last.
    """

    def __init__(self, augment: Augment, alpha: float) -> None:
        self.augment, self.alpha = augment, alpha
        self._share, self._other = torch.ones(0), torch.zeros(0, dtype=torch.long)

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return augmented and blended images."""
        x = self.augment(x, generator)
        rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
        self._share = torch.from_numpy(rng.beta(self.alpha, self.alpha, len(x)).astype(np.float32))
        self._other = torch.randperm(len(x), generator=generator)
        share = self._share.view(-1, 1, 1, 1)
        return share * x + (1.0 - share) * x[self._other]

    def loss(self, logits: Tensor, target: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Return the loss of each image, of both labels it is made of."""
        own = classification_loss(logits, target, label_smoothing)
        other = classification_loss(logits, target[self._other], label_smoothing)
        return self._share * own + (1.0 - self._share) * other


@contextlib.contextmanager
def pulled(augment: str, mixup: float, standard: str) -> Iterator[str]:
    """Within the block the package trains and predicts with these levers; yields the name of the augmentation."""
    name = f"{augment}, mixup {mixup}, {standard}"  # tells the checkpoints of one from those of another
    combined = chain(augment)
    mixing = Mixup(combined, mixup) if mixup else None
    plain: Any = inference.normalise
    standardise = STANDARDS[standard]
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.dict(AUGMENTATIONS, {name: mixing or combined}))
        for module in (inference, training):
            changed = lambda unit, preprocessing: plain(standardise(unit), preprocessing)  # noqa: E731
            stack.enter_context(mock.patch.object(module, "normalise", changed))
        if mixing is not None:
            stack.enter_context(mock.patch.object(training, "classification_loss", mixing.loss))
        yield name
