"""Synthetic radiographs to try the app with, as files."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from cxr_estimator.datasets.phantom import make_phantoms

_SIZE, _DIFFICULTY, _SEED = 512, 0.1, 8
EXAMPLES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "Normal": lambda normal, opacity: normal,
    "With an opacity": lambda normal, opacity: opacity,
    "A negative": lambda normal, opacity: 255 - opacity,
    "On its side": lambda normal, opacity: np.rot90(opacity),
}


@cache
def example(title: str) -> np.ndarray:
    """Return the synthetic radiograph (512, 512) uint8 of a title in `EXAMPLES`."""
    healthy, sick = (
        make_phantoms(1, _SIZE, prevalence=share, difficulty=_DIFFICULTY, random_state=_SEED).X[0] for share in (0, 1)
    )
    return np.ascontiguousarray(EXAMPLES[title](healthy, sick))


def write_example(title: str, folder: str | Path) -> Path:
    """Write an example as a PNG file, and return its path."""
    path = Path(folder) / f"synthetic_{title.lower().replace(' ', '_')}.png"
    Image.fromarray(example(title)).save(path)
    return path
