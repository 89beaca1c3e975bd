"""The numbered examples run as scripts and find what they must. The studies have a test file of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from cxr_estimator.datasets import Phantoms, make_phantoms

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("[0-9]*.py"))
FEWER = {  # epochs than a user has, where the script has an option for it
    "02_operating_points": ("--epochs", "4"),
    "10_uncertainty": ("--epochs", "4"),
    "14_pneumonia_mnist": ("--epochs", "3"),
}
MOST = 800  # phantoms that an example asks for
INTERVAL = r"(\d\.\d{3}) \[(\d\.\d{3}), (\d\.\d{3})\]"


@lru_cache(maxsize=4)
def drawn(size, difficulty):
    return make_phantoms(MOST, size, difficulty=difficulty, random_state=0)


@pytest.fixture
def phantoms_drawn_once(monkeypatch):
    """An image of `make_phantoms` depends on its place alone: all examples ask for the beginning of one long draw."""

    def first(n, size, *, difficulty, random_state):
        assert n <= MOST
        assert random_state == 0
        return Phantoms(*(one[:n].copy() for one in drawn(size, difficulty)))

    monkeypatch.setattr("cxr_estimator.datasets.make_phantoms", first)


def value(said: str, before: str) -> float:
    """Return the figure after some words; it must have an interval that holds it."""
    found = re.search(f"{re.escape(before)}{INTERVAL}", said)
    assert found, f"{before!r} and an interval in\n{said}"
    at, low, high = map(float, found.groups())
    assert low <= at <= high
    return at


def counts(said: str, pattern: str) -> tuple[int, ...]:
    found = re.search(pattern, said)
    assert found, f"{pattern!r} in\n{said}"
    return tuple(map(int, found.groups()))


def trains(said: str, output: Path) -> None:
    assert "classes in order: NORMAL 50.0% (70), PNEUMONIA 50.0% (70); positive label: PNEUMONIA" in said
    assert value(said, "auroc: ") > 0.85
    assert value(said, "sensitivity: ") > 0.7
    assert "same probabilities after loading: True" in said


def keeps_promises(said: str, output: Path) -> None:
    for what in ("Promised where a point was chosen, and observed here", "sensitivity>=0.95", "specificity>=0.95"):
        assert what in said
    assert {"roc.png", "scores.png", "report.html"} <= {path.name for path in (output / "report").iterdir()}


def explains(said: str, output: Path) -> None:
    lesions = float(re.search(r"lesions cover (\d\.\d)%", said)[1]) / 100
    for method in ("grad_cam", "integrated_gradients", "occlusion"):
        assert value(said, f"{method}, inside the lesions: ") > 1.5 * lesions
        assert value(said, f"{method}, gain over moved copies, deletion: ") > 0.02


def sets_methods_side_by_side(said: str, output: Path) -> None:
    for pair in ("deep_shap and lime", "deep_shap and grad_cam", "lime and grad_cam"):
        assert re.search(rf"{pair} share \d+% of their strongest tenth of the pixels", said)
    for method in ("deep_shap", "lime", "grad_cam"):
        for metric in ("deletion", "insertion"):
            assert re.search(rf"{metric}_auc gain of {method}: [+-]\d\.\d+ \[[+-]\d\.\d+, [+-]\d\.\d+\]", said)
        assert re.search(rf"{method}: \d+\.\d+ seconds per image", said)


def cross_validates(said: str, output: Path) -> None:
    for name, chance in (("AUROC", 0.5), ("deletion gain of Grad-CAM", 0.0)):
        mean, least, most = map(
            float, re.search(rf"{name}: (\S+) on average, folds from (\S+) to (\S+)", said).groups()
        )
        assert chance < least <= mean <= most


def chooses(said: str, output: Path) -> None:
    rows = re.findall(r"learning rate \S+: AUROC (\S+), gain (\S+), means of 3 folds(, chosen)?", said)
    assert len(rows) == 3
    best = max(float(auroc) for auroc, _, _ in rows)
    near = [(float(gain), chosen) for auroc, gain, chosen in rows if float(auroc) >= best - 0.03]
    assert max(near)[1], "the most faithful of the candidates near the best is chosen"
    assert sum(bool(chosen) for *_, chosen in rows) == 1
    judged = said.partition("that chose nothing:")[2]
    assert value(judged, "AUROC ") > 0.75
    assert value(judged, "of them ") > 0.02


def catches_the_shortcut(said: str, output: Path) -> None:
    clean, marked = said.split("marked: AUROC ")
    assert "exchange" not in clean.partition("failed: ")[2].splitlines()[0]
    assert "corner exchange" in marked.partition("failed: ")[2].splitlines()[0]
    assert float(marked[:4]) > 0.95
    assert "heat maps: show." not in marked
    assert (output / "marked" / "audit.html").is_file()


def tells_several_classes(said: str, output: Path) -> None:
    radiographs, photographs = said.split("photographs, ")
    assert value(radiographs, "macro AUROC ") > 0.85
    assert value(photographs, "macro AUROC ") > 0.85
    for label in ("left lung", "normal", "right lung"):
        assert value(radiographs, f"{label} ") > 0.4
    for label in ("blue cross", "green square", "red disc"):
        assert value(photographs, f"{label} ") > 0.4


def tells_several_labels(said: str, output: Path) -> None:
    for label, least in (("Opacity", 0.75), ("Pacemaker", 0.9), ("Tube", 0.9)):
        assert value(said, f"{label}: AUROC ") > least
    unknown = 70 * 2 - sum(counts(said, r"Tube \S+ \((\d+)\)"))  # of 140 images
    assert unknown > 70, "some of the labels of tubes are unknown, and half of the others absent"


def knows_when_not_to_answer(said: str, output: Path) -> None:
    assert value(said, "Sets for 90% hold the truth of ") > 0.8
    share = float(re.search(r"those to the surest (\S+)%, ", said)[1])
    assert 50 < share < 100
    assert value(said, f"surest {share}%, ") <= value(said, "Of all answers ")


def compares(said: str, output: Path) -> None:
    assert re.search(r"AUROC of three epochs less that of ten epochs: \S+ \(\S+ to \S+\), p = \d\.\d+", said)
    flips = re.findall(r"(NORMAL|PNEUMONIA) +(NORMAL|PNEUMONIA) +(NORMAL|PNEUMONIA) +(\d+) +(three|ten) epochs", said)
    assert flips
    for truth, by_three, by_ten, n, right in flips:
        assert by_three != by_ten
        assert {"three": by_three, "ten": by_ten}[right] == truth
        assert int(n) > 0
    assert "models agree: " in said
    assert (output / "page" / "comparison.html").is_file()


def finds_what_was_planted(said: str, output: Path) -> None:
    assert counts(said, r"copies found: (\d) of 8 equal, (\d) of 8 changed") >= (8, 5)
    assert counts(said, r"patients in both splits found: (\d) of (\d)") == (6, 6)
    found, planted, suspects = counts(said, r"wrong labels found: (\d+) of (\d+), among (\d+) suspects")
    assert found >= 0.5 * planted
    assert found / suspects > 3 * planted / 656, "far more often than by chance"


def gets_the_same_from_the_hub(said: str, output: Path) -> None:
    assert "pushed to alice/phantoms: README.md, SHA256SUMS, calibration.png, config.json, model.safetensors" in said
    assert "a second push sends: nothing" in said
    assert "same probabilities after pulling: True" in said
    assert "same maps after pulling: True" in said


def compares_with_nothing_published(said: str, output: Path) -> None:
    assert "compare them with no published figures" in said
    assert value(said, "plain_cnn, test: AUROC ") > 0.5


FINDS = {
    "01_train": trains,
    "02_operating_points": keeps_promises,
    "03_explain": explains,
    "04_shap_lime_grad_cam": sets_methods_side_by_side,
    "05_cross_validate_explanations": cross_validates,
    "06_choose_a_model": chooses,
    "07_audit_a_shortcut": catches_the_shortcut,
    "08_several_classes": tells_several_classes,
    "09_several_labels": tells_several_labels,
    "10_uncertainty": knows_when_not_to_answer,
    "11_compare_models": compares,
    "12_curate": finds_what_was_planted,
    "13_push_and_pull": gets_the_same_from_the_hub,
    "14_pneumonia_mnist": compares_with_nothing_published,
}


def test_there_are_fourteen():
    assert [path.stem for path in EXAMPLES] == list(FINDS)
    assert [int(path.name[:2]) for path in EXAMPLES] == list(range(1, 15))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_examples_run(example, tmp_path, run_script, capsys, hub, phantoms_drawn_once):
    """In this process, where every warning is an error."""
    run_script(example, tmp_path, *FEWER.get(example.stem, ()))
    plt.close("all")
    assert [path for path in tmp_path.rglob("*.png") if path.parent.name != "model"], "no picture"
    FINDS[example.stem](capsys.readouterr().out, tmp_path)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_short_and_say_how_to_run_them(example):
    text = example.read_text()
    assert len(text.splitlines()) < 60
    assert f"python examples/{example.name} [OUTPUT_FOLDER]" in text.split('"""')[1]


def test_an_example_runs_from_the_shell(tmp_path):
    """The one that starts a Hub of its own where the environment names none."""
    (example,) = (path for path in EXAMPLES if path.stem == "13_push_and_pull")
    others = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    done = subprocess.run(
        [sys.executable, str(example), str(tmp_path / "output")], cwd=tmp_path, capture_output=True, text=True,
        timeout=300, env={**others, "HF_HOME": str(tmp_path / "home"), "PYTHONWARNINGS": "error::UserWarning"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    gets_the_same_from_the_hub(done.stdout, tmp_path / "output")
    assert (tmp_path / "output" / "same.png").is_file()
    assert (tmp_path / "output" / "cache").is_dir()
    assert not (tmp_path / "home").exists(), "no cache and no token but its own"
