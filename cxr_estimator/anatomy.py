"""Regions of a frontal chest radiograph, found by classical image processing: fast, without training, not exact."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage, spatial
from skimage import measure

from cxr_estimator._lungs import lung_outlines
from cxr_estimator.errors import ImageError

_SIDE = 320  # of the longer side, in pixels, at which regions are looked for; all lengths below are shares of it
_STROKE = 0.025  # widest line of a letter
_CONTRAST = 0.2  # of [0, 1], by which every pixel of a letter is brighter than what surrounds it
_TYPICAL = 0.32  # and half of them
_LENGTH = 0.01, 0.12  # least and largest height of a letter
_SHARP = 1.0  # times its contrast: what a letter's outline spans within three pixels
_MARGIN = 0.27, 0.14  # widths of the frame outside the thorax: at the sides, above and below
_HALO = 0.006  # letters are blurred at their outline

_BLOCKS = 128  # least number of block means along a side at which lungs are looked for, where the image has as many
_LEAST = 32  # pixels a side below which no lung is looked for
_WALL = 1.15  # how much larger than the lungs' convex hull the thorax is
# How far the base of a lung rises above its lowest point, as a share of the lung's height, and how steeply, in pixels
# per pixel: what rises more is the border of the heart.
_DOME, _STEEP = 0.2, 2


def block_mean(pixels: np.ndarray, factor: int) -> np.ndarray:
    """Return (H // factor, W // factor[, 3]) float32 means of blocks, in little memory; the rest is cut off."""
    height, width = pixels.shape[0] // factor, pixels.shape[1] // factor
    rows = np.zeros((height, width * factor, *pixels.shape[2:]), np.float32)
    for row in range(factor):
        rows += pixels[row : height * factor : factor, : width * factor]
    total = np.zeros((height, width, *pixels.shape[2:]), np.float32)
    for column in range(factor):
        total += rows[:, column::factor]
    return total / (factor * factor)


def marker_mask(image: np.ndarray) -> np.ndarray:
    """Find side markers and other letters burnt into a radiograph.

    Letters are thin, brighter than what surrounds them, sharp at their outline, and lie outside the thorax: in
    the outer quarter of the width, or near the upper or lower border.

    Parameters
    ----------
    image : ndarray, (H, W) grey or (H, W, 3) RGB
        As `images.DecodedImage.pixels`: any integer type or finite float32. Grey values are taken relative to the
        image's own range.

    Returns
    -------
    ndarray of bool, (H, W)
        True on letters and their immediate surroundings.

    Notes
    -----
    It looks at block means of about 320 pixels a side, so print smaller than about 1 % of the side is missed; so are
    markers of metal as grey as the tissue around them, and dark letters. Bright metal near the border (leads, clips)
    is found, too, where it is as thin and sharp as print. Of phantoms' markers that stand out by a quarter of the
    range it covers 91 % (128 and 224 pixels) and 83 % (512), and marks nothing else in them. On 80 radiographs of
    Kermany et al. (224 pixels), counted by eye by the one who chose the thresholds on them: about nine of ten visible
    letters; in every ninth image some metal, no rib; never more than 0.7 % of an image.
    """
    _check(image)
    factor = max(1, round(max(image.shape[:2]) / _SIDE))
    factor = min(factor, *image.shape[:2])
    grey = _grey(block_mean(image, factor))
    letters = _letters(grey)
    found = np.zeros(image.shape[:2], bool)
    part = letters.repeat(factor, axis=0).repeat(factor, axis=1)
    found[: part.shape[0], : part.shape[1]] = part
    return found


def lung_mask(image: np.ndarray) -> np.ndarray | None:
    """Find the lungs that heart and diaphragm leave free, in a frontal chest radiograph.

    A shape of fourteen numbers, two lungs at the sides of a midline, is moved and bent to where its outline lies on
    edges from dark inside to bright outside (`_lungs`). What is white within a lung, such as a pneumonia, therefore
    stays in the mask as long as enough of the outline shows.

    Parameters
    ----------
    image : ndarray, (H, W) grey or (H, W, 3) RGB
        As `images.DecodedImage.pixels`: any integer type or finite float32, upright, air dark, and with the heart on
        the right of the image. Neither the grey scale nor the aspect ratio matters much.

    Returns
    -------
    ndarray of bool, (H, W), or None
        None where no two plausible lungs are found: where edges agree too little with any likely shape, and in images
        of less than 32 pixels a side. The same image always gives the same mask.

    Notes
    -----
    Of 100 phantoms each at 64, 96, 128 and 224 pixels none is None; against their `lung_masks` the mean IoU is 0.91
    (least 0.86) and the mean Dice coefficient 0.95. On radiographs of children by Kermany et al. (224 pixels): None
    for 1 of 300 normal ones and for 12 % of 400 with pneumonia, mostly a white hemithorax or a tight crop. Of 96
    drawn anew (24 normal), counted by eye by the one who chose the numbers on other draws from the same set: 9 None,
    77 good, 10 partly (one border off by a tenth of the lung or more, mostly the base above the diaphragm), none
    wrong. Inverted, or turned by 90, 180 or 270 degrees, 300 radiographs gave None each time; so did 80 crops of
    photographs and 220 images of noise, on which the least agreement was chosen, too.

    The outline is smooth: hila, a small effusion and the recess behind the heart are not traced. The typical shape
    was chosen on children and phantoms; on adults it has not been measured. An image reversed left to right mostly
    gets a mask, too, with the space for the heart on the wrong side. It takes about 20 ms on one core.
    """
    outlines = _outlines_in_pixels(image)
    return None if outlines is None else _filled(outlines, image.shape[:2])


def thorax_mask(image: np.ndarray) -> np.ndarray | None:
    """Find the region of the thorax in a frontal chest radiograph: the lungs, what lies between, and the wall around.

    It is the convex hull of both lungs (`lung_mask`), enlarged by 15 % about its centre. So it reaches from just above
    the apices to just below the costophrenic angles, the domes of the diaphragm included, and at the sides about to
    the skin; neck, arms and most of the abdomen are outside.

    Parameters
    ----------
    image : ndarray, (H, W) grey or (H, W, 3) RGB
        As for `lung_mask`.

    Returns
    -------
    ndarray of bool, (H, W), or None
        None where `lung_mask` gives None. It contains all of `lung_mask`.

    Notes
    -----
    On phantoms it covers every pixel of the true lungs and half of the image. Where the wall is thin, it may reach a
    little into the air beside the body, where it is thick (adults, above all), the wall's outer part is left out.
    """
    lungs = lung_mask(image)
    return None if lungs is None else thorax_of(lungs)


def thorax_of(lungs: np.ndarray) -> np.ndarray:
    """Return the region of the thorax, as `thorax_mask` has it, around the mask (H, W) of both lungs; not empty."""
    rows, columns = np.nonzero(lungs)
    # the corners of the pixels, so that a single one has a hull, too
    points = np.concatenate([np.column_stack([columns + dx, rows + dy]) for dx in (-0.5, 0.5) for dy in (-0.5, 0.5)])
    hull = points[spatial.ConvexHull(points).vertices]
    centre = (hull.min(axis=0) + hull.max(axis=0)) / 2
    return _filled((centre + _WALL * (hull - centre))[None], lungs.shape)


def midline_of(lungs: np.ndarray) -> float:
    """Return the column, maybe between two pixels, half-way between the outermost pixels of the lungs (H, W)."""
    columns = np.flatnonzero(lungs.any(axis=0))
    return float(columns[0] + columns[-1]) / 2


def below_lungs(lungs: np.ndarray) -> np.ndarray:
    """Return what lies below the lower edge of both lungs, as `lung_mask` has them, (H, W) bool: below the diaphragm.

    On either side of the midline the edge runs along each column's lowest pixel of lung, from the lung's lowest one
    inwards, while that does not rise steeply, nor by more than a fifth of the lung's height. There the heart begins,
    and the edge runs straight on to that of the other lung. From the lowest pixel outwards the edge is level.

    Parameters
    ----------
    lungs : ndarray of bool, (H, W)
        Not empty.

    Examples
    --------
    >>> lungs = np.zeros((4, 7), bool)
    >>> lungs[:3, :2] = lungs[:3, 5:] = lungs[0, 2] = True
    >>> below_lungs(lungs).astype(int)
    array([[0, 0, 0, 0, 0, 0, 0],
           [0, 0, 0, 0, 0, 0, 0],
           [0, 0, 0, 0, 0, 0, 0],
           [1, 1, 1, 1, 1, 1, 1]])
    """
    columns, middle = np.flatnonzero(lungs.any(axis=0)), midline_of(lungs)
    lowest = len(lungs) - 1 - lungs[::-1].argmax(axis=0)
    edge = np.full(lungs.shape[1], np.nan)
    for own in (columns[columns <= middle][::-1], columns[columns >= middle]):  # from the midline outwards
        height = lowest[own].max() + 1 - lungs[:, own].any(axis=1).argmax()
        deepest = np.flatnonzero(lowest[own] == lowest[own].max())[-1]
        rise = lowest[own].max() - lowest[own]
        is_heart = rise > _DOME * height
        is_heart[:-1] |= np.diff(lowest[own]) > _STEEP
        inner = np.flatnonzero(is_heart[: deepest + 1])
        base = slice(inner[-1] + 1 if len(inner) else 0, deepest + 1)
        edge[own[base]], edge[own[deepest:]] = lowest[own[base]], lowest[own].max()
    known = np.flatnonzero(~np.isnan(edge))
    level = np.interp(np.arange(lungs.shape[1]), known, edge[known])
    return np.arange(len(lungs))[:, None] > level


def _outlines_in_pixels(image: np.ndarray) -> np.ndarray | None:
    """Return both lungs' outlines, (2, points, 2) x and y in pixels, or None."""
    _check(image)
    shape = np.array(image.shape[:2])
    if shape.min() < _LEAST:
        return None
    factor = max(1, shape.min() // _BLOCKS)
    outlines = lung_outlines(_grey(block_mean(image, factor)))
    covered = shape // factor * factor  # what block means cut off, no outline is a share of
    return None if outlines is None else outlines * covered[::-1] - 0.5


def _filled(outlines: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the pixels whose centres lie in an odd number of (n, points, 2) closed outlines."""
    height, width = shape
    (x, y), (dx, dy) = outlines.transpose(2, 0, 1), (np.roll(outlines, -1, axis=1) - outlines).transpose(2, 0, 1)
    rows = np.arange(height)[:, None, None]
    row, *place = np.nonzero((y <= rows) != (y + dy <= rows))
    edge = place[0], place[1]
    crossing = x[edge] + (row - y[edge]) * dx[edge] / dy[edge]
    crossings = np.zeros((height, width + 1), np.int8)
    np.add.at(crossings, (row, np.ceil(crossing).clip(0, width).astype(int)), 1)
    return np.cumsum(crossings[:, :width], axis=1, dtype=np.int8) % 2 == 1


def _check(image: np.ndarray) -> None:
    if image.ndim not in (2, 3) or 0 in image.shape:
        raise ImageError("the image", f"it must have shape (H, W) or (H, W, 3). Got {image.shape}.")


def _grey(image: np.ndarray) -> np.ndarray:
    """Return (H, W) values in [0, 1], from the least to the largest of the image."""
    if image.ndim == 3:
        image = image.mean(axis=2)
    low, high = float(image.min()), float(image.max())
    return (image - low) / (high - low) if high > low else np.zeros_like(image)


def _letters(grey: np.ndarray) -> np.ndarray:
    side = max(grey.shape)
    window = 2 * round(_STROKE * side / 2) + 1
    surroundings = ndimage.grey_opening(grey, (window, window))
    above = grey - surroundings  # the white top-hat: what is brighter, and thinner than the window
    steps = ndimage.grey_dilation(grey, (3, 3)) - ndimage.grey_erosion(grey, (3, 3))
    labels = measure.label(above > _CONTRAST, connectivity=2)
    mask = np.zeros(grey.shape, bool)
    for region in measure.regionprops(labels):
        if _is_letter(region, above, steps):
            mask[region.slice] |= region.image
    halo = max(1, round(_HALO * side))
    return ndimage.binary_dilation(mask, np.ones((3, 3), bool), iterations=halo)


def _is_letter(region: Any, above: np.ndarray, steps: np.ndarray) -> bool:
    shape, side = above.shape, max(above.shape)
    top, left, bottom, right = region.bbox
    height, width = bottom - top, right - left
    if not (_LENGTH[0] * side <= height <= _LENGTH[1] * side and width <= _LENGTH[1] * side):
        return False
    y, x = region.centroid[0] / shape[0], region.centroid[1] / shape[1]
    if min(x, 1 - x) > _MARGIN[0] and min(y, 1 - y) > _MARGIN[1]:
        return False
    contrast = above[region.slice][region.image]
    outline = region.image & ~ndimage.binary_erosion(region.image)
    typical = np.median(contrast)
    return bool(typical >= _TYPICAL and np.median(steps[region.slice][outline]) >= _SHARP * typical)
