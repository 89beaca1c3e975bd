"""The numbered examples run from the shell. The studies have a test file of their own, test_examples.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("[0-9]*.py"))
FEWER = {  # epochs than a user has, where the script has an option for it
    "02_operating_points.py": ("--epochs", "4"),
    "03_when_not_to_answer.py": ("--epochs", "4"),
    "04_pneumonia_mnist.py": ("--epochs", "5"),
}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_examples_run(example, tmp_path):
    done = subprocess.run(
        [sys.executable, str(example), str(tmp_path), *FEWER.get(example.name, ())],
        capture_output=True, text=True, timeout=300, env={**os.environ, "PYTHONWARNINGS": "error::UserWarning"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir())
    assert len(example.read_text().splitlines()) <= 60


def test_there_are_examples():
    assert {path.name for path in EXAMPLES} > set(FEWER)
