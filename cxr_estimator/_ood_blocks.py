"""What an image is compared by: a table of feature blocks, and the image once more after each of a few corrections.

A network trained with augmentation, or on two classes of one kind of image, can be blind to what makes an image
unsuitable. On real radiographs its embedding hardly told inverted or turned films from others (AUROC 0.5 to 0.8), while
coarse views of the pixels did. So most blocks look at the pixels that enter the network.

A film that is upside down is not strange in itself, but more ordinary when put right, which ordinary films never are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from cxr_estimator.backbones import embed, embedding_size
from cxr_estimator.inference import denormalise
from cxr_estimator.preprocessing import Preprocessing

_LAYOUT_CELLS, _TEXTURE_CELLS, _BINS = 8, 4, 16  # a side, a side, and grey levels
_SCALES = 4  # of edges at most
_SMALLEST = 8  # pixels a side in which edges are looked for
_FAINT = 1e-3  # keeps the logarithm of no edges at all finite, at a quarter of a grey level


class Block(NamedTuple):
    """One line of the table `BLOCKS`.

    Attributes
    ----------
    function : callable
        Maps pixels (n, C, S, S) in [0, 1] to features (n, F); None for the embedding of the network.
    what : str
        What it looks at, for sentences.
    """

    function: Callable[[Tensor], Tensor] | None
    what: str


def layout(unit: Tensor) -> Tensor:
    """Return the mean of each of 8 x 8 cells, per channel."""
    return functional.adaptive_avg_pool2d(unit, _LAYOUT_CELLS).flatten(1)


def texture(unit: Tensor) -> Tensor:
    """Return the log-strength of horizontal and vertical edges at up to four scales, in each of 4 x 4 cells."""
    grey = unit.mean(dim=1, keepdim=True)
    strengths = []
    for _ in range(_SCALES):
        edges = torch.diff(grey, dim=3).abs(), torch.diff(grey, dim=2).abs()
        strengths += [functional.adaptive_avg_pool2d(edge, _TEXTURE_CELLS).flatten(1) for edge in edges]
        grey = functional.avg_pool2d(grey, 2)
        if grey.shape[-1] < _SMALLEST:
            break
    return torch.log(torch.cat(strengths, dim=1) + _FAINT)


def brightness(unit: Tensor) -> Tensor:
    """Return the roots of the shares of 16 grey levels; a pixel between two of them counts for both."""
    grey = unit.mean(dim=1).flatten(1)
    levels = torch.linspace(0, 1, _BINS).tolist()
    shares = [(1 - (grey - level).abs() * (_BINS - 1)).clamp(min=0).mean(dim=1) for level in levels]
    return torch.stack(shares, dim=1).sqrt()


BLOCKS: dict[str, Block] = {
    "layout": Block(layout, "where it is bright and dark"),
    "texture": Block(texture, "its edges and texture"),
    "brightness": Block(brightness, "its brightness and contrast"),
    "network": Block(None, "what the network sees"),
}
PIXEL_BLOCKS = tuple(name for name, block in BLOCKS.items() if block.function is not None)
# what may make an image strange: a block, or that it is more ordinary when corrected
REASONS = {**{name: block.what for name, block in BLOCKS.items()}, "orientation": "its orientation or polarity"}


def widths(model: nn.Module, preprocessing: Preprocessing) -> dict[str, int]:
    """Return the number of features of each block."""
    blank = torch.zeros(1, preprocessing.channels, preprocessing.image_size, preprocessing.image_size)
    return {
        name: embedding_size(model) if block.function is None else block.function(blank).shape[1]
        for name, block in BLOCKS.items()
    }


class Correction(NamedTuple):
    """One line of the table `CORRECTIONS`: what it does to pixels (n, C, S, S) in [0, 1], and what it tells."""

    function: Callable[[Tensor], Tensor]
    sentence: str


CORRECTIONS: dict[str, Correction] = {
    "inverted": Correction(lambda unit: 1 - unit, "It is more like them when inverted, so it may be a negative."),
    "rotated_90": Correction(
        lambda unit: torch.rot90(unit, 1, (2, 3)),
        "It is more like them when turned anticlockwise by 90 degrees, so it may lie on its side.",
    ),
    "rotated_180": Correction(
        lambda unit: torch.rot90(unit, 2, (2, 3)),
        "It is more like them when turned by 180 degrees, so it may stand on its head.",
    ),
    "rotated_270": Correction(
        lambda unit: torch.rot90(unit, 3, (2, 3)),
        "It is more like them when turned clockwise by 90 degrees, so it may lie on its side.",
    ),
    "flipped": Correction(
        lambda unit: unit.flip(2),
        "It is more like them when flipped upside down, so it may be mirrored top to bottom.",
    ),
}


def features(model: nn.Module, x: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Return what is compared of the network's input x (n, C, S, S), side by side: (n, F + 5 P), float32.

    First the F features of all blocks, then the P features of `PIXEL_BLOCKS` after each of the `CORRECTIONS`.
    """
    unit = denormalise(x, preprocessing)
    corrected = [_pixel_features(one.function(unit)) for one in CORRECTIONS.values()]
    return torch.cat([_pixel_features(unit), embed(model, x).float(), *corrected], dim=1)


def _pixel_features(unit: Tensor) -> Tensor:
    return torch.cat([block.function(unit).float() for block in BLOCKS.values() if block.function is not None], dim=1)
