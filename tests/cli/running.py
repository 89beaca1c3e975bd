"""Commands run in the process of the tests."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from typer.testing import CliRunner

from cxr_estimator import make_phantoms
from cxr_estimator.cli import app
from cxr_estimator.errors import CXRError


def cxr(*arguments) -> str:
    """What a command says; the error of one that fails."""
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    if isinstance(done.exception, CXRError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def phantom_folder(root: Path, n_images: int) -> Path:
    """Phantoms as files, in a folder for each class, named by patient."""
    data = make_phantoms(n_images, 32, difficulty=0.0, random_state=9)
    for number, (pixels, label, patient) in enumerate(zip(data.X, data.y, data.groups, strict=True)):
        (root / label).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(root / label / f"person{patient[1:]}_{number}.png")
    return root
