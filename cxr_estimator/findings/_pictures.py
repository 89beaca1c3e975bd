"""Pictures of findings: the radiograph beside the overlay, with the lines that places are told by."""

from __future__ import annotations

import numpy as np
from PIL import Image

from cxr_estimator.anatomy import below_lungs
from cxr_estimator.explanation import Explanation
from cxr_estimator.figures import overlay, rgb

_SIDE = 256  # pixels a side that a picture has at least, so that lines are thin
_GAP = 4  # pixels between radiograph and overlay
_LUNGS, _DIAPHRAGM = (120, 220, 255), (140, 255, 140)


def picture(explanation: Explanation, number: int, lungs: np.ndarray | None) -> np.ndarray:
    """Return an image (h, w, 3), uint8: the radiograph, and its overlay with the lungs' outline and lower edge."""
    image = rgb(np.asarray(explanation.images)[number])
    factor = max(1, -(-_SIDE // max(image.shape[:2])))
    large, shown = (_enlarged(one, factor) for one in (image, overlay(explanation, number)))
    if lungs is not None:
        mask = np.kron(lungs, np.ones((factor, factor), bool))
        shown[_outline(below_lungs(mask))] = _DIAPHRAGM
        shown[_outline(mask)] = _LUNGS
    return np.concatenate([large, np.full((len(large), _GAP, 3), 255, np.uint8), shown], axis=1)


def _enlarged(image: np.ndarray, factor: int) -> np.ndarray:
    height, width = image.shape[:2]
    size = width * factor, height * factor
    return np.array(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def _outline(mask: np.ndarray) -> np.ndarray:
    """Return the pixels of a mask (H, W) that touch what is above or beside it."""
    line = np.zeros_like(mask)
    for axis in (0, 1):
        changes = np.diff(mask, axis=axis)
        for part in (slice(1, None), slice(None, -1)):
            line[(slice(None),) * axis + (part,)] |= changes
    return line & mask
