"""The recipes are scripts that import their neighbours."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

FOLDER = Path(__file__).parents[2] / "recipes" / "pneumonia"
sys.path.insert(0, str(FOLDER))

NAMES = {
    "NORMAL": ("IM-{:04d}-0001", "NORMAL2-IM-{:04d}-0001"),
    "PNEUMONIA": ("person{}_bacteria_1", "person{}_virus_2"),
}


@pytest.fixture
def folder(tmp_path):
    """Sixty pictures of each source; pneumonia is brighter below."""
    rng = np.random.default_rng(0)
    for number, (label, names) in enumerate(NAMES.items()):
        (tmp_path / "data" / label).mkdir(parents=True)
        for second, name in enumerate(names):
            for patient in range(60):
                pixels = rng.normal(110, 20, (32, 32))
                pixels[16:] += 60 * number
                path = tmp_path / "data" / label / f"{name.format(patient + 100 * second)}.jpeg"
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    return tmp_path


@pytest.fixture
def found(folder, monkeypatch):
    import material

    monkeypatch.setattr(material, "SIDE", 32)
    return material.Material(folder / "data", folder / "cache")
