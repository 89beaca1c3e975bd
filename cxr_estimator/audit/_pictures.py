"""Pictures that show what a check found."""

from __future__ import annotations

import numpy as np

_GAP = 4  # pixels between two images


def pair(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return two images (C, H, W) in [0, 1] side by side, as (H, 2 W + gap[, 3]) uint8."""
    gap = np.ones((*before.shape[:2], _GAP), before.dtype)
    joined = np.concatenate([before, gap, after], axis=2)
    pixels = np.rint(joined * 255).astype(np.uint8)
    return pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, 2)
