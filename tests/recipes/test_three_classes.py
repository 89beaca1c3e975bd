"""The three-class recipe from end to end, on pictures that are no radiographs."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from cxr_estimator import CXRClassifier, evaluate, load_image_folder
from cxr_estimator.errors import DataError

FOLDER = Path(__file__).parents[2] / "recipes" / "three_classes"
CLASSES = ["NORMAL", "bacteria", "virus"]
NAMES = {
    "NORMAL": ("NORMAL", "IM-{:04d}-0001"),
    "bacteria": ("PNEUMONIA", "person{}_bacteria_1"),
    "virus": ("PNEUMONIA", "person{}_virus_2"),
}
N = 70  # of each class


@pytest.fixture(scope="module")
def recipe():
    spec = importlib.util.spec_from_file_location("three_classes_train", FOLDER / "train.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Pictures of three kinds: dark, bright above, bright below. Half of the ill patients of each kind are of both."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for number, (folder, name) in enumerate(NAMES.values()):
        (root / folder).mkdir(exist_ok=True)
        for patient in range(N):
            pixels = rng.normal(90, 15, (32, 32))
            if number:
                pixels[16 * (number - 1) : 16 * number] += 90
            path = root / folder / f"{name.format(patient + (N // 2) * (number == 2))}.jpeg"
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    return root


@pytest.fixture(scope="module")
def written(recipe, data, tmp_path_factory):
    """What two seeds wrote, of settings that take seconds."""
    output = tmp_path_factory.mktemp("output") / "new"
    small = ["--data", str(data), "--output", str(output), "--image-size", "32", "--epochs", "3"]
    recipe.main([*small, "--seed", "1"])
    recipe.main([*small, "--seed", "0", "--checkpoints", str(output.parent / "checkpoints")])
    assert list((output.parent / "checkpoints").iterdir())
    return output


def test_what_is_written_tells_no_path_and_no_patient(written, data):
    assert {path.name for path in written.iterdir()} == {"seed-0.json", "seed-1.json", "README.md"}
    for path in written.iterdir():
        text = path.read_text()
        assert not any(word in text for word in ("person", "IM-", ".jpeg", str(data), str(written)))


def test_a_run(recipe, written):
    run, other = recipe.read(written)
    assert (run["seed"], other["seed"]) == (0, 1)
    assert run["settings"]["augment"] == "strong"
    assert run["classes"] == CLASSES
    assert run["parts"] == other["parts"], "every seed is judged on the same patients"
    assert run["figures"] != other["figures"]
    counts = {label: sum(part[label] for part in run["parts"].values()) for label in CLASSES}
    assert counts == dict.fromkeys(CLASSES, N)
    images = {name: sum(part[label] for label in CLASSES) / (3 * N) for name, part in run["parts"].items()}
    assert images == pytest.approx({"train": 0.6, "calibrate": 0.15, "test": 0.25}, abs=0.02)
    n_patients = sum(part["patients"] for part in run["parts"].values())
    assert n_patients == N + N + N // 2, "no patient is in two parts, also with pneumonia of both kinds"
    confusion = np.array(run["confusion"])
    assert confusion.sum(axis=1).tolist() == [run["parts"]["test"][label] for label in CLASSES]
    assert run["figures"]["accuracy"]["value"] == pytest.approx(np.trace(confusion) / confusion.sum())
    recalls = np.diagonal(confusion) / confusion.sum(axis=1)
    assert run["figures"]["balanced_accuracy"]["value"] == pytest.approx(recalls.mean())
    areas = [run["figures"][f"auroc_{label}"]["value"] for label in CLASSES]
    assert run["figures"]["macro_auroc"]["value"] == pytest.approx(np.mean(areas))
    assert min(areas) > 0.8, "the pictures are easy"
    for name in recipe.ROWS:
        found = run["figures"][name]
        if name == "calibration_error":
            assert found["low"] is None
        elif name == "calibration_error_by_chance":
            assert found["low"] < found["high"]
        else:
            assert found["low"] - 1e-9 <= found["value"] <= found["high"] + 1e-9


def test_the_page_says_what_the_runs_say(recipe, written):
    runs = recipe.read(written)
    said = (written / "README.md").read_text()
    assert said == recipe.page(runs)
    for name, title in recipe.ROWS.items():
        values = [run["figures"][name]["value"] for run in runs]
        line = next(line for line in said.splitlines() if line.startswith(f"| {title} |"))
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[1] == f"{np.mean(values):.3f}"
        assert [float(cell.split(" ")[0]) for cell in cells[2:]] == pytest.approx(values, abs=5e-4)
    for run in runs:
        section = said.split(f"## Seed {run['seed']}\n")[1]
        for label, counts in zip(CLASSES, run["confusion"], strict=True):
            assert f"| {label} | {' | '.join(map(str, counts))} |" in section
        assert all(f"- {note}\n" in section for note in run["notes"])
    parts = runs[0]["parts"]["test"]
    assert f"| test | {parts['patients']} | {' | '.join(str(parts[label]) for label in CLASSES)} |" in said


def test_viral_against_bacterial(recipe, data):
    X, y, patients = load_image_folder(data, label_pattern="_(bacteria|virus)_")
    clf = CXRClassifier("plain_cnn", image_size=32, max_epochs=1, validation_fraction=0, random_state=0)
    report = evaluate(clf.fit(X[::2], y[::2]), X[1::2], y[1::2], patients[1::2], n_resamples=20)
    rng = np.random.default_rng(0)
    proba = rng.dirichlet([1, 1, 1], len(report.judged.target))
    found = recipe.cause(replace(report, judged=replace(report.judged, proba=proba)))
    truth = y[1::2]
    ill = truth != "NORMAL"
    odds = proba[ill, 2] / proba[ill, 1]
    assert found["value"] == pytest.approx(roc_auc_score(truth[ill] == "virus", odds))
    assert found["low"] < found["value"] < found["high"]


def test_a_folder_with_other_names(recipe, tmp_path):
    for folder in ("NORMAL", "PNEUMONIA"):
        (tmp_path / folder).mkdir()
        Image.new("L", (32, 32)).save(tmp_path / folder / "a.png")
    with pytest.raises(DataError, match="label pattern"):
        recipe.main(["--data", str(tmp_path), "--output", str(tmp_path / "output")])


def test_another_number_of_classes_is_noticed_before_training(recipe, tmp_path, monkeypatch):
    names = (
        "NORMAL/IM-0001-0001",
        "PNEUMONIA/person1_bacteria_1",
        "PNEUMONIA/person2_virus_2",
        "PNEUMONIA/IM-0002-0001",
    )
    for name in names:
        path = tmp_path / f"{name}.jpeg"
        path.parent.mkdir(exist_ok=True)
        Image.new("L", (32, 32)).save(path)
    monkeypatch.setattr(recipe.CXRClassifier, "fit", lambda *_, **__: pytest.fail("too late"))
    with pytest.raises(DataError, match=r"holds the classes \['NORMAL', 'PNEUMONIA', 'bacteria', 'virus'\], not"):
        recipe.run(recipe.CXRClassifier(), tmp_path)


def test_the_page_of_results_is_up_to_date(recipe):
    runs = recipe.read(recipe.RESULTS)
    assert runs
    assert (recipe.RESULTS / "README.md").read_text() == recipe.page(runs)
    for run in runs:
        assert run["classes"] == CLASSES
        assert run["parts"] == runs[0]["parts"]
        assert set(recipe.ROWS) <= set(run["figures"])
