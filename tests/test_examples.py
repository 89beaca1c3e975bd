"""The studies and the PneumoniaMNIST example run from end to end on phantoms, and say what they must."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr_estimator import CXRClassifier, load_medmnist, make_phantoms

FOLDER = Path(__file__).parents[1] / "examples"
SMALL = ["--backbone", "plain_cnn", "--image-size", "32", "--epochs", "1", "--seed", "1"]
COLUMNS = {"metric", "method", "quantity", "value", "low", "high", "n_images", "n_undefined", "n_patients"}


@pytest.fixture
def run(monkeypatch, tmp_path):
    """A function that runs a study in this process and returns its summary and its table."""
    monkeypatch.syspath_prepend(str(FOLDER))

    def call(name, *arguments):
        said = importlib.import_module(name).main([*arguments, "--out", str(tmp_path)])
        assert (tmp_path / "summary.md").read_text() == said
        table = pd.read_csv(tmp_path / "results.csv")
        assert set(table.columns) >= COLUMNS
        evaluation = json.loads((tmp_path / "evaluation.json").read_text())["evaluation"]
        assert re.search(r"AUROC \d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\]", said)
        assert f"AUROC {evaluation['metrics']['auroc']['value']:.3f}" in said
        written = {path.name for path in tmp_path.rglob("*") if path.is_file()}
        model = {"README.md", "SHA256SUMS", "calibration.png", "config.json", "model.safetensors"}
        assert written <= {"summary.md", "results.csv", "evaluation.json", *model}
        assert not re.search(r"\bP\d{4}\b", said), "a patient of the phantoms"
        return said, table

    return call


def test_shap_versus_grad_cam(run, tmp_path):
    said, table = run("shap_versus_grad_cam", *SMALL, "--images", "6")
    assert CXRClassifier.load(tmp_path / "model").backbone == "plain_cnn"
    whole = table[table["bucket"] == "all"].set_index(["metric", "method", "quantity"])
    assert len(whole) == 3 * (1 + 3 * 3 + 2)  # sparsity; three curves, raw, moved and gain; stability twice
    assert set(table["bucket"]) <= {"all", "TP", "FP", "FN", "TN"}
    sparsity = whole.xs(("sparsity_90", "raw"), level=("metric", "quantity"))["value"]
    assert sparsity.between(1 / 32**2, 0.9).all()
    for method in sparsity.index:
        aopc = whole.xs(("aopc", method), level=("metric", "method"))["value"]
        assert aopc["gain"] == pytest.approx(aopc["raw"] - aopc["moved map"], abs=1e-5)
        deletion = whole.xs(("deletion_auc", method), level=("metric", "method"))["value"]
        assert deletion["gain"] == pytest.approx(deletion["moved map"] - deletion["raw"], abs=1e-5)
    assert "1 / (H W): 9.77e-04 at 32 x 32" in said
    assert "1.00 pixels of 432 x 432" in said
    assert "It does not mean that the map is stable" in said
    assert said.count("the reference") >= 3 * 3
    assert f"max_sensitivity {whole.loc[('max_sensitivity', 'grad_cam', 'raw'), 'value']:.3f}" in said


def test_deletion_on_true_and_false_positives(run, tmp_path):
    said, table = run("deletion_on_true_and_false_positives", *SMALL, "--images", "6")
    again, same = run("deletion_on_true_and_false_positives", *SMALL, "--images", "6", "--model", f"{tmp_path}/model")
    assert again == said, "a model that is loaded is judged on the same patients"
    pd.testing.assert_frame_equal(same, table)
    cam = table[table["method"] == "grad_cam"].set_index(["group", "metric", "quantity"])
    assert set(cam.index.get_level_values("group")) == {"true positives", "false positives", "random cases"}
    metrics = ["top 10%", "top 25%", "top 50%", "top 25%, log-odds", "insertion_auc"]
    assert list(cam.index.get_level_values("metric").unique()) == metrics
    assert set(cam.index.get_level_values("quantity")) == {"raw", "moved map", "gain"}
    lime = table[table["method"].str.startswith("lime")].set_index(["method", "metric"])["value"]
    assert lime["lime, 100 samples", "spread"] < lime["lime, 20 samples", "spread"]
    for phrase in (
        "**True positives**",
        "**False against true positives**",
        "**LIME, 100 samples**",
        "with the map moved",
    ):
        assert phrase in said


def test_conclusions_follow_from_the_intervals(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    studies = importlib.import_module("_studies")
    assert studies.verdict(studies.Estimate(0.1, 0.05, 0.2)) == "better than the reference"
    assert studies.verdict(studies.Estimate(-0.1, -0.2, -0.05)) == "worse than the reference"
    assert studies.verdict(studies.Estimate(0.1, -0.05, 0.2)) == "no difference from the reference can be shown"
    assert studies.verdict(studies.Estimate(0.1, np.nan, np.nan)) == "too few patients to tell"


def test_means_and_differences(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    studies = importlib.import_module("_studies")
    study = studies.Study(None, None, None, np.array([*"aabcdefghij"]), None, "", {}, None)
    ours, theirs = pd.Series([1.0, 3.0, 2.0, 2.0, 2.0, np.nan, 2.0]), pd.Series([1.0, 1, 1, 1], index=[7, 8, 9, 10])
    assert studies.mean(study, ours) == pytest.approx((2.0, 2.0, 2.0))  # both images of a patient are drawn together
    found = studies.difference(study, ours, theirs)
    assert found.value == 1.0
    assert np.isnan(found.low), "four patients are too few"
    assert not studies.is_shown(found)
    assert studies.text(found) == "1.000"


@pytest.fixture
def mnist(monkeypatch):
    """The example, with few phantoms."""
    monkeypatch.syspath_prepend(str(FOLDER))
    example = importlib.import_module("14_pneumonia_mnist")
    monkeypatch.setattr(example, "PARTS", {"train": slice(0, 60), "val": slice(60, 80), "test": slice(80, 110)})
    return example


def test_pneumonia_mnist(mnist, tmp_path):
    said = mnist.main([str(tmp_path / "phantoms"), "--epochs", "1"])
    assert "no published figures" in said
    assert "0.944" not in said
    phantoms = make_phantoms(110, size=28, difficulty=0, random_state=0)
    path = tmp_path / "phantoms" / "phantoms.npz"
    for part, rows in mnist.PARTS.items():
        data = load_medmnist(path, split=part)
        np.testing.assert_array_equal(data.X, phantoms.X[rows])
        np.testing.assert_array_equal(data.y == 1, phantoms.y[rows] == "PNEUMONIA")
        others = np.delete(phantoms.groups, np.arange(110)[rows])
        assert not set(phantoms.groups[rows]) & set(others)
    for part in ("val", "test"):
        metrics = json.loads((tmp_path / "phantoms" / f"{part}.json").read_text())["metrics"]
        cells = ("{value:.3f} [{low:.3f}, {high:.3f}]".format(**metrics[name]) for name in ("auroc", "accuracy"))
        assert "plain_cnn, {}: AUROC {}, accuracy at 0.5 {};".format(part, *cells) in said
    beside = mnist.main([str(tmp_path / "given"), "--data", str(path), "--epochs", "1"])
    assert beside.splitlines()[0] == mnist.PUBLISHED
    assert beside.splitlines()[1:] == said.splitlines()[1:], "the same archive and seed"


def test_the_parts_of_the_synthetic_archive_share_no_patient(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    parts = importlib.import_module("14_pneumonia_mnist").PARTS
    patients = np.arange(parts["test"].stop) // 2  # `make_phantoms` draws two images of each
    owned = [set(patients[rows]) for rows in parts.values()]
    assert sum(map(len, owned)) == len(set.union(*owned)) == len(set(patients))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"val_labels": None}, "is no readable MedMNIST archive"),
        ({"test_labels": np.array([[0], [1], [2], [1]])}, "is not PneumoniaMNIST"),
        ({"test_labels": np.ones((4, 1), int)}, "is not PneumoniaMNIST"),
        ({"train_labels": np.eye(4, 2, dtype=int)}, "is not PneumoniaMNIST"),
        ({"train_images": np.zeros((4, 28, 28, 3), np.uint8)}, "is not PneumoniaMNIST"),
        ({"val_images": np.zeros((4, 64, 64), np.uint8)}, "is not PneumoniaMNIST at 28 px"),
        ({"test_images": np.zeros((4, 28, 28), np.int64)}, "is not PneumoniaMNIST"),
    ],
)
def test_another_archive_than_pneumonia_mnist(mnist, tmp_path, capsys, change, message):
    arrays = {}
    for part in mnist.PARTS:
        arrays[f"{part}_images"] = np.zeros((4, 28, 28), np.uint8)
        arrays[f"{part}_labels"] = np.array([[0], [1], [0], [1]])
    path = tmp_path / "archive.npz"
    np.savez(path, **{name: values for name, values in {**arrays, **change}.items() if values is not None})
    with pytest.raises(SystemExit) as ended:
        mnist.main([str(tmp_path), "--data", str(path)])
    assert ended.value.code == 2
    assert f"error: {path}: {message}" in capsys.readouterr().err


def test_no_archive(mnist, tmp_path, capsys):
    with pytest.raises(SystemExit):
        mnist.main([str(tmp_path), "--data", str(tmp_path / "pneumoniamnist.npz")])
    assert "pneumoniamnist.npz: there is no such file." in capsys.readouterr().err
