"""The README is true: its snippets run, its pictures exist, and its commands are commands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)
SNIPPETS = [code for language, code in BLOCKS if language == "python"]


@pytest.mark.filterwarnings("ignore::cxr_estimator.errors.PatientLeakWarning")
def test_snippets_run_one_after_another(hub, tmp_path, monkeypatch, short_training):
    monkeypatch.chdir(tmp_path)
    assert len(SNIPPETS) == 13
    names: dict = {}
    for snippet in SNIPPETS:
        exec(compile(snippet, "README.md", "exec"), names)
    assert (tmp_path / "explanation.png").stat().st_size > 10_000
    assert (tmp_path / "my-model" / "config.json").exists()
    assert hub.store.find("models", "alice/my-model").history()[0].sha == names["done"].oid


def test_links_and_pictures_exist():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_command_lines_use_real_commands_and_options():
    lines = [line for language, block in BLOCKS if language == "" for line in block.splitlines()]
    calls = [line.split()[1:] for line in lines if line.split(" ")[0].endswith("cxr")]
    assert len(calls) >= 5
    for command, *arguments in calls:
        said = subprocess.run(
            [sys.executable, "-c", "from cxr_estimator.cli import main; main()", command, "--help"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        for option in (argument for argument in arguments if argument.startswith("--")):
            assert option in said, f"cxr {command} has no {option}"


def test_both_commands_are_one_line_each():
    commands = [line for line in README.splitlines() if line.startswith("python3 -m venv")]
    assert len(commands) == 2
    assert commands[0].endswith("cxr quickstart")
    assert commands[1].endswith("pytest -n 2 --dist loadfile")


def test_measured_figures_are_those_of_the_raw_results(run_script):
    run_script(ROOT / "benchmarks" / "readme_table.py", "--check")


def test_contributing_is_short():
    assert len((ROOT / "CONTRIBUTING.md").read_text().splitlines()) <= 50
