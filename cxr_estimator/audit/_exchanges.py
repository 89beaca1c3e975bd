"""Parts of a radiograph that tell nothing of the disease, put in the place of another's.

`EXCHANGES` is the one table. If decisions follow the part rather than the rest of the image, the model looks at it.
What the seams of such a change do by themselves shows where the part comes from an image of the same class.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cxr_estimator._filling import filled
from cxr_estimator.anatomy import marker_mask
from cxr_estimator.metrics.localisation import corners, frame

_FINEST = 0.25  # cycles per pixel, half of what there can be: what is finer is lost when an image is halved
_BANDS = 8
_STRONGEST = 4.0  # by which noise is not raised further

Exchange = Callable[[np.ndarray, np.ndarray], "np.ndarray | None"]


def _border(image: np.ndarray, donor: np.ndarray) -> np.ndarray:
    return np.where(frame(image.shape[1:]), donor, image)


def _corners(image: np.ndarray, donor: np.ndarray) -> np.ndarray:
    return np.where(corners(image.shape[1:]), donor, image)


def _markers(image: np.ndarray, donor: np.ndarray) -> np.ndarray | None:
    """Paint over the markers of the image, and put those of the donor where they stand there."""
    own, theirs = (marker_mask(one.mean(axis=0)) for one in (image, donor))
    if not own.any() and not theirs.any():
        return None
    painted = np.moveaxis(filled(np.moveaxis(image, 0, 2), own), 2, 0)
    return np.where(theirs, donor, painted)


def _brightness(image: np.ndarray, donor: np.ndarray) -> np.ndarray:
    """Bring mean and contrast to those of the donor."""
    spread = max(float(image.std()), 1e-6)
    return np.clip((image - image.mean()) * (donor.std() / spread) + donor.mean(), 0.0, 1.0).astype(np.float32)


def _sharpness(image: np.ndarray, donor: np.ndarray) -> np.ndarray:
    """Bring the strength of fine detail, by bands of frequency, to that of the donor."""
    height, width = image.shape[1:]
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    edges = np.linspace(_FINEST, frequency.max(), _BANDS + 1)
    band = np.clip(np.searchsorted(edges, frequency, side="right"), 0, _BANDS)  # 0: coarser, which stays
    own, theirs = (np.fft.rfft2(one) for one in (image, donor))
    strength = [np.bincount(band.ravel(), np.abs(one).mean(axis=0).ravel(), _BANDS + 1) for one in (own, theirs)]
    gain = np.clip(strength[1] / np.maximum(strength[0], 1e-9), 0.0, _STRONGEST)
    gain[0] = 1.0
    return np.clip(np.fft.irfft2(own * gain[band], (height, width)), 0.0, 1.0).astype(np.float32)


# function(image, donor) of (C, H, W) float32 in [0, 1] each; None where neither has such a part
EXCHANGES: dict[str, Exchange] = {
    "border": _border,
    "corners": _corners,
    "markers": _markers,
    "brightness": _brightness,
    "sharpness": _sharpness,
}
