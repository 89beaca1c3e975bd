"""Make the pictures of the README: python docs/make_pictures.py (two minutes; synthetic radiographs only)."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from cxr_estimator.quickstart import run

with tempfile.TemporaryDirectory() as folder:
    run(None, Path(folder))
    figure = Path(folder) / "figures" / "true_PNEUMONIA_decided_PNEUMONIA_1.png"
    shutil.copy(figure, Path(__file__).with_name("quickstart.png"))
