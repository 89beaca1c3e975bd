"""The training of the bundled model from end to end, on pictures that are no radiographs."""

from __future__ import annotations

import json
import re
import sys

import judging
import numpy as np
import pytest
import train
import write_card

from cxr_estimator import CXRClassifier

SMALL = {**train.SETTINGS, "image_size": 32, "max_epochs": 4, "learning_rate": 3e-3}


@pytest.fixture
def call(folder, found, monkeypatch):
    """A function that runs the command with more arguments."""
    for name, value in {
        "SETTINGS": SMALL, "VALIDATION": 0.2, "EXPLAINED": 3, "METHODS": ("grad_cam",),
        "RULES": {"rule_in": "specificity>=0.7", "screening": "sensitivity>=0.7"}, "FOLDS": 2,
        "CONDITIONS": ("clean", "noise", "border"),
    }.items():  # fmt: skip
        monkeypatch.setattr(train, name, value)
    monkeypatch.setattr(judging, "N_RESAMPLES", 10)
    monkeypatch.setattr(write_card, "ROOT", folder)
    monkeypatch.setattr(write_card, "FOLDER", folder / "model")

    def run(*arguments):
        common = ["--data", str(folder / "data"), "--cache", str(folder / "cache"), "--jobs", "1"]
        monkeypatch.setattr(sys, "argv", ["train.py", *common, "--results", str(folder / "results"), *arguments])
        train.main()

    return run


def test_a_model_its_figures_and_its_card(call, folder, monkeypatch):
    output = folder / "model"
    call("--output", str(output))
    first = (folder / "results" / "0.json").read_text()
    with monkeypatch.context() as patch:
        patch.setattr("cxr_estimator.training._Loop._step", None)
        call("--output", str(output))  # nothing is trained again
    assert (folder / "results" / "0.json").read_text() == first
    call("--seed", "1")
    figures = {seed: json.loads((folder / "results" / f"{seed}.json").read_text()) for seed in (0, 1)}
    assert figures[0]["all patients"]["n_images"] == 240
    assert figures[0]["patients that chose nothing"]["n_images"] == 48
    assert figures[1]["seed"] == 1
    assert "points" not in figures[1]
    for name, found in figures[0]["all patients"]["conditions"].items():
        assert found["auroc"] > 0.6, name
    clf = CXRClassifier.load(output)
    assert list(clf.operating_points_) == ["default", "rule_in", "screening"]
    assert clf.active_point_ == "default"
    assert clf.threshold_ == 0.5
    screening = clf.operating_points_["screening"]
    assert (screening.n_images, screening.n_patients, screening.copies) == (240, 240, train.COPIES)
    assert screening.sensitivity.value >= 0.7
    assert clf.calibration_.n_patients == 240
    assert clf.provenance_.training.n_images == pytest.approx(192, abs=4)
    assert clf.ood_ is not None
    assert clf.background_ is not None
    assert clf.weights_dtype_ == "float16"

    write_card.save(clf, output, folder / "results")  # again, now that there are two seeds
    card = (output / "README.md").read_text()
    assert (folder / "MODEL_CARD.md").read_text() == card.replace("(calibration.png)", "(model/calibration.png)")
    assert not re.search(r"person\d|IM-\d", card)
    value, low, high = figures[0]["all patients"]["summary"]["shifted_auroc"]
    assert f"| {value:.3f} [{low:.3f}, {high:.3f}] |" in card
    error = figures[0]["all patients"]["summary"]["clean_calibration_error"][0]
    assert f"| expected calibration error | {error:.3f} |" in card, "of which no interval can be drawn"
    assert f"| border | {figures[0]['all patients']['conditions']['border']['auroc']:.3f} |" in card
    assert "| standard deviation |" in card
    assert "| long_zoom_calibrated |" in card
    assert "from_pretrained()" in card
    assert "Not audited yet" in card, "an audit would be of another model"


def test_each_fold_is_judged_with_what_the_others_chose(found, monkeypatch):
    cases = []
    monkeypatch.setattr(train, "figures", lambda case: cases.append(case) or {})
    rng = np.random.default_rng(0)
    folds = []
    for number, rows in enumerate(np.array_split(rng.permutation(240), 3)):
        raw = 2.0 * found.positive[rows] - 1.0 + rng.normal(size=80) + 100.0 * (number == 0)
        folds.append(train.Answers(rows, dict.fromkeys(train.CONDITIONS, raw), np.tile(raw, (train.COPIES, 1)), 1.0))
    train.judge(found, folds)
    everyone, final = cases
    assert len(everyone.positive) == 240
    assert set(final.patients) == set(found.patients[found.parts["final"]])
    called = everyone.scores["clean"] >= everyone.points["screening"]
    assert called[:80].all(), "the others know nothing of a network whose answers are 100 higher"
    assert len(set(everyone.points["screening"])) == 3
    chosen = train.choose(found, folds[1:], n_resamples=1)
    least = chosen.calibration(np.array([[chosen.points["screening"].score]]))
    assert everyone.points["screening"][0] == pytest.approx(least[0, 0])


def test_the_card_has_the_figures_of_the_seed_of_the_model(call, folder):
    call("--output", str(folder / "model"), "--seed", "3")
    card = (folder / "model" / "README.md").read_text()
    value, low, high = json.loads((folder / "results" / "3.json").read_text())["all patients"]["summary"]["clean_auroc"]
    assert f"| {value:.3f} [{low:.3f}, {high:.3f}] |" in card
    assert "All patients, seed 3." in card
