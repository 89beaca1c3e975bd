"""Synthetic radiographs to try the app with, as files."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image

from cxr_estimator.datasets.phantom import make_phantoms
from cxr_estimator.demo._folder import new_file

_SIZE, _DIFFICULTY, _SEED = 512, 0.1, 8
_SEVERAL_SIZE, _SEVERAL_SEED = 384, 4
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


def example_file(title: str) -> str:
    """Write an example as a PNG file, and return its path."""
    return _written(title.lower().replace(" ", "_"), example(title))


def phantom_files(n: int) -> list[str]:
    """Write so many phantoms, of which every other has an opacity, as PNG files; return their paths."""
    found = make_phantoms(n, _SEVERAL_SIZE, images_per_patient=1, random_state=_SEVERAL_SEED).X
    return [_written(str(number), pixels) for number, pixels in enumerate(found, start=1)]


def _written(name: str, pixels: np.ndarray) -> str:
    path = new_file(f"synthetic_{name}.png")
    Image.fromarray(pixels).save(path)
    return str(path)
