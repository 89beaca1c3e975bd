"""Regions of a frontal chest radiograph, found by classical image processing: fast, without training, not exact."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage
from skimage import measure

from cxr_estimator.errors import ImageError

_SIDE = 320  # of the longer side, in pixels, at which regions are looked for; all lengths below are shares of it
_STROKE = 0.025  # widest line of a letter
_CONTRAST = 0.2  # of [0, 1], by which every pixel of a letter is brighter than what surrounds it
_TYPICAL = 0.32  # and half of them
_LENGTH = 0.01, 0.12  # least and largest height of a letter
_SHARP = 1.0  # times its contrast: what a letter's outline spans within three pixels
_MARGIN = 0.27, 0.14  # widths of the frame outside the thorax: at the sides, above and below
_HALO = 0.006  # letters are blurred at their outline


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
    if image.ndim not in (2, 3) or 0 in image.shape:
        raise ImageError("the image", f"it must have shape (H, W) or (H, W, 3). Got {image.shape}.")
    factor = max(1, round(max(image.shape[:2]) / _SIDE))
    factor = min(factor, *image.shape[:2])
    grey = _grey(block_mean(image, factor))
    letters = _letters(grey)
    found = np.zeros(image.shape[:2], bool)
    part = letters.repeat(factor, axis=0).repeat(factor, axis=1)
    found[: part.shape[0], : part.shape[1]] = part
    return found


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
