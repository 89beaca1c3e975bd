"""The numbered examples run as scripts. The studies have a test file of their own, test_examples.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("[0-9]*.py"))
FEWER = {  # epochs than a user has, where the script has an option for it
    "02_operating_points.py": ("--epochs", "3"),
    "03_when_not_to_answer.py": ("--epochs", "3"),
    "04_pneumonia_mnist.py": ("--epochs", "3"),
}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_examples_run(example, tmp_path, run_script, short_training):
    """In this process, where every warning is an error."""
    run_script(example, tmp_path, *FEWER.get(example.name, ()))
    assert list(tmp_path.iterdir())
    assert len(example.read_text().splitlines()) <= 60


def test_an_example_runs_from_the_shell(tmp_path):
    (example,) = (path for path in EXAMPLES if path.name.startswith("04"))
    done = subprocess.run(
        [sys.executable, str(example), str(tmp_path), "--epochs", "1"],
        capture_output=True, text=True, timeout=300, env={**os.environ, "PYTHONWARNINGS": "error::UserWarning"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Synthetic radiographs" in done.stdout
    assert list(tmp_path.iterdir())


def test_there_are_examples():
    assert {path.name for path in EXAMPLES} > set(FEWER)
