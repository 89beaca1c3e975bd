"""Synthetic radiographs as files, to try pages that take several."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from cxr_estimator.datasets.phantom import make_phantoms

_SIZE, _SEED = 384, 4


def write_phantoms(folder: str | Path, n: int) -> list[str]:
    """Write so many phantoms, of which every other has an opacity, as PNG files; return their paths."""
    paths = []
    for number, pixels in enumerate(make_phantoms(n, _SIZE, images_per_patient=1, random_state=_SEED).X, start=1):
        path = Path(folder) / f"synthetic_{number}.png"
        Image.fromarray(pixels).save(path)
        paths.append(str(path))
    return paths
