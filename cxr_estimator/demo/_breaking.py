"""Small changes that a radiologist would see through, to see whether the model does."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from cxr_estimator._filling import as_before, by_channel, filled
from cxr_estimator._validation import check_number, wrong_type
from cxr_estimator.anatomy import block_mean, marker_mask

MOST_DEGREES, MOST_CROP = 20.0, 0.3
_CALLER = "broken"
_MOST_PIXELS = 16_000_000  # to be worked on; no network sees as many


def broken(
    pixels: np.ndarray,
    *,
    rotate: float = 0.0,
    exposure: float = 0.0,
    crop: float = 0.0,
    remove_marker: bool = False,
) -> np.ndarray:
    """Return a radiograph without its markers, cropped, exposed anew and rotated, in this order.

    Parameters
    ----------
    pixels : ndarray, (H, W) grey or (H, W, 3) RGB
        As `images.DecodedImage.pixels`; not changed.
    rotate : float in [-20, 20], default=0.0
        Degrees, anticlockwise, about the centre; what comes into view is as dark as the darker border.
    exposure : float in [-1, 1], default=0.0
        Grey values in [0, 1] are raised to the power 2^-exposure: above 0 is brighter, and black and white remain.
        Floats beyond [0, 1], and integers of more than 16 bits, are scaled by their own range.
    crop : float in [0, 0.3], default=0.0
        Share of the image that is cut away at each of the four sides.
    remove_marker : bool, default=False
        Whether letters are painted over from their surroundings, where `anatomy.marker_mask` finds them.

    Returns
    -------
    ndarray
        Of the type of `pixels`, within its range. `pixels` itself if nothing is changed; else an image of more than
        16 megapixels is first reduced to fewer, by the mean of blocks.

    Raises
    ------
    InvalidParameterError, InvalidTypeError
        A parameter is out of range, or no number.
    """
    check_number("rotate", rotate, caller=_CALLER, low=-MOST_DEGREES, high=MOST_DEGREES)
    check_number("exposure", exposure, caller=_CALLER, low=-1, high=1)
    check_number("crop", crop, caller=_CALLER, low=0, high=MOST_CROP)
    if not isinstance(remove_marker, bool):
        raise wrong_type("remove_marker", _CALLER, "True or False", remove_marker)
    if not (rotate or exposure or crop or remove_marker):
        return pixels
    start = changed = _reduced(pixels)
    if remove_marker:
        changed = filled(changed, marker_mask(changed))
    if crop:
        rows, columns = (int(crop * side) for side in changed.shape[:2])
        changed = changed[rows : changed.shape[0] - rows, columns : changed.shape[1] - columns]
    if exposure:
        changed = _exposed(changed, 2.0**-exposure)
    if rotate:
        changed = _rotated(np.ascontiguousarray(changed), float(rotate))
    return pixels if changed is start else np.ascontiguousarray(changed)


def _reduced(pixels: np.ndarray) -> np.ndarray:
    factor = math.ceil(math.sqrt(pixels.shape[0] * pixels.shape[1] / _MOST_PIXELS))
    factor = max(1, min(factor, *pixels.shape[:2]))
    return pixels if factor == 1 else as_before(block_mean(pixels, factor), pixels)


def _rotated(pixels: np.ndarray, degrees: float) -> np.ndarray:
    # Pillow is several times as fast as SciPy here, but right for 8 bits and for floats only
    if pixels.dtype != np.uint8:
        return by_channel(_rotated_float, pixels, degrees)
    fill = tuple(int(dark) for dark in np.atleast_1d(_dark(pixels)))
    turned = Image.fromarray(pixels).rotate(degrees, Image.Resampling.BILINEAR, fillcolor=fill if fill[1:] else fill[0])
    return np.asarray(turned)


def _rotated_float(grey: np.ndarray, degrees: float) -> np.ndarray:
    source = Image.fromarray(grey.astype(np.float32))
    turned = source.rotate(degrees, Image.Resampling.BILINEAR, fillcolor=float(_dark(grey)))
    return as_before(np.asarray(turned), grey)


def _dark(pixels: np.ndarray) -> np.ndarray:
    """Return the tenth percentile along the border, of each channel."""
    return np.percentile(np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]), 10, axis=0)


def _exposed(pixels: np.ndarray, power: float) -> np.ndarray:
    if pixels.dtype in (np.uint8, np.uint16):
        most = np.iinfo(pixels.dtype).max
        table = np.rint((np.arange(most + 1) / most) ** power * most).astype(pixels.dtype)
        return table[pixels]
    low, high = float(pixels.min()), float(pixels.max())
    if pixels.dtype.kind == "f" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    if low == high:
        return pixels
    values = ((pixels.astype(np.float64) - low) / (high - low)) ** power * (high - low) + low
    return values.astype(pixels.dtype) if pixels.dtype.kind == "f" else as_before(values, pixels)
