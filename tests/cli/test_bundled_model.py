"""Commands without `--model`."""

from __future__ import annotations

import csv
import io

import pytest

from cxr_estimator import CXRClassifier, pretrained
from tests.cli.test_cli import cxr, folder  # noqa: F401 - a fixture
from tests.model_folders import contents

SAID = "model: the one that comes with cxr_estimator "


@pytest.fixture
def bundled(fitted, tmp_path, monkeypatch):
    place = fitted.save(tmp_path / "bundled")
    monkeypatch.setattr(pretrained, "FOLDER", place)
    return place


def test_predict_says_once_and_beside_the_table_which_model_decides(bundled, fitted, folder):  # noqa: F811
    images = folder / "test" / "NORMAL"
    done = cxr("predict", images)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(SAID) == 1
    assert "(NORMAL, PNEUMONIA); --model names another" in done.stderr
    assert SAID not in done.stdout
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    proba = fitted.predict_proba([row["image"] for row in rows])
    assert [float(row["p_PNEUMONIA"]) for row in rows] == pytest.approx(proba[:, 1], abs=1e-6)
    quiet = cxr("predict", images, "--quiet")
    assert "model:" not in quiet.stderr
    assert quiet.stdout == done.stdout


def test_a_named_model_is_told_as_well(bundled, folder):  # noqa: F811
    done = cxr("predict", folder / "test" / "NORMAL", "--model", bundled)
    assert f"model: {bundled}\n" in done.stderr
    assert SAID not in done.stderr


@pytest.mark.parametrize("command", ["evaluate", "explain", "benchmark", "similar"])
def test_every_command_that_reads_a_model(bundled, folder, tmp_path, command):  # noqa: F811
    image = sorted((folder / "test" / "PNEUMONIA").iterdir())[0]
    arguments = {
        "evaluate": ("--data", folder),
        "explain": (image, "--output", tmp_path / "figures"),
        "benchmark": (image, "--methods", "grad_cam", "--metrics", "sparsity_90", "--output", tmp_path / "table"),
        "similar": (image, "--data", folder, "--split", "train"),
    }[command]
    done = cxr(command, *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(SAID) == 1
    assert SAID not in done.stdout


@pytest.mark.parametrize("command", [("calibrate", "--method", "platt"), ("threshold", "--rule", "youden")])
def test_a_changed_model_needs_a_place_of_its_own(bundled, folder, tmp_path, command):  # noqa: F811
    before = contents(bundled)
    done = cxr(*command, "--data", folder, "--split", "train")
    assert done.returncode == 2
    assert "comes with the package stays as it is; name a folder for a new one by --output" in done.stderr
    done = cxr(*command, "--data", folder, "--split", "train", "--output", tmp_path / "new")
    assert done.returncode == 0, done.stderr
    new = CXRClassifier.load(tmp_path / "new")
    assert new.calibration_ is not None or new.operating_points_["default"].rule == "youden"
    assert contents(bundled) == before


@pytest.mark.parametrize("command", [("push", "alice/model"), ("hub-diff", "alice/model"), ("card",)])
def test_what_is_about_a_model_of_ones_own_asks_which(bundled, command):
    done = cxr(*command)
    assert done.returncode == 2
    assert "Missing option '--model'" in done.stderr


def test_train_begins_with_it(bundled, folder, tmp_path):  # noqa: F811
    small = ("--image-size", 32, "--epochs", 1, "--quiet")
    done = cxr("train", "--data", folder, "--model", tmp_path / "m", "--pretrained", "bundled", *small)
    assert done.returncode == 2
    assert "those of 'plain_cnn' at 32 pixels" in done.stderr
    small = (*small, "--backbone", "plain_cnn", "--validation-fraction", 0.2)
    done = cxr("train", "--data", folder, "--model", tmp_path / "m", "--pretrained", "bundled", *small)
    assert done.returncode == 0, done.stderr
    assert CXRClassifier.load(tmp_path / "m").pretrained == "bundled"
