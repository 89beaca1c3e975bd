"""`cxr threshold` and `cxr calibrate`."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from cxr_estimator import CXRClassifier
from tests.cli.test_cli import cxr, folder  # noqa: F401 - a fixture


@pytest.fixture
def model(fitted, tmp_path):
    return fitted.save(tmp_path / "model")


def test_a_point_is_chosen_and_kept(model, folder):  # noqa: F811
    done = cxr(
        "threshold", "--model", model, "--data", folder, "--rule", "sensitivity>=0.9", "--name", "screening", "-q"
    )
    assert done.returncode == 0, done.stderr
    assert "operating point 'screening': PNEUMONIA from a probability of" in done.stdout
    clf = CXRClassifier.load(model)
    assert clf.active_point_ == "screening"
    assert clf.operating_points_["screening"].sensitivity.value >= 0.9
    assert clf.operating_points_["screening"].n_images == 80  # there is no val folder
    assert clf.on_error == "raise"


def test_a_number_needs_no_rule(model, folder):  # noqa: F811
    done = cxr("threshold", "--model", model, "--data", folder, "--rule", 0.2, "-q")
    assert done.returncode == 0, done.stderr
    assert CXRClassifier.load(model).threshold_ == 0.2


def test_predictions_by_name(model, folder, tmp_path):  # noqa: F811
    for name, number in (("low", 0.001), ("high", 0.999)):
        done = cxr("threshold", "--model", model, "--data", folder, "--rule", number, "--name", name, "-q")
        assert done.returncode == 0, done.stderr
    images = folder / "test" / "NORMAL"
    decided = {
        name: cxr("predict", images, "--model", model, "--operating-point", name, "-q").stdout.count("NORMAL,")
        for name in ("low", "high")
    }
    assert decided["low"] < decided["high"]
    bad = cxr("predict", images, "--model", model, "--operating-point", "middle", "-q")
    assert bad.returncode == 2
    assert "'default', 'low', 'high'" in bad.stderr
    both = cxr("predict", images, "--model", model, "--operating-point", "low", "--threshold", 0.5, "-q")
    assert both.returncode == 2
    assert "exclude each other" in both.stderr


def test_costs(model, folder, tmp_path):  # noqa: F811
    costs = ("--false-negative-cost", 5, "--false-positive-cost", 1, "--prevalence", 0.1)
    new = tmp_path / "new"
    done = cxr("threshold", "--model", model, "--data", folder, "--rule", "cost", *costs, "-q", "--output", new)
    assert done.returncode == 0, done.stderr
    assert CXRClassifier.load(new).operating_points_["default"].options["prevalence"] == 0.1
    assert CXRClassifier.load(model).operating_points_["default"].rule == "number"


def test_changed_copies(model, folder):  # noqa: F811
    changed = ("--data", folder, "--augment", "robust", "--copies", 2, "-q")
    done = cxr("threshold", "--model", model, "--rule", "sensitivity>=0.8", *changed)
    assert done.returncode == 0, done.stderr
    assert "on the 80 images of 40 patients that chose it, with 2 randomly changed copies of each" in done.stdout
    done = cxr("calibrate", "--model", model, *changed)
    assert done.returncode == 0, done.stderr
    clf = CXRClassifier.load(model)
    for one in (clf.operating_points_["default"], clf.calibration_):
        assert (one.augment, one.copies, one.n_images) == ("robust", 2, 80)


def test_calibration_is_kept(model, folder):  # noqa: F811
    done = cxr("calibrate", "--model", model, "--data", folder, "--split", "train", "--method", "platt", "-q")
    assert done.returncode == 0, done.stderr
    assert "operating point 'default': from a probability of 0.500 on" in done.stdout
    assert CXRClassifier.load(model).calibration_.n_images == 60


def test_an_unreadable_image_is_named_and_left_out(model, folder, tmp_path):  # noqa: F811
    copy = shutil.copytree(folder, tmp_path / "data")
    (copy / "train" / "NORMAL" / "IM-9999-0001.png").write_bytes(b"no picture")
    done = cxr("calibrate", "--model", model, "--data", copy, "--split", "train", "--method", "platt", "-q")
    assert done.returncode == 3
    assert "IM-9999-0001.png" in done.stderr
    assert CXRClassifier.load(model).calibration_.n_images == 60


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["threshold", "--rule", "magic"], "one of 'youden'"),
        (["threshold", "--rule", "sensitivity>=2"], "at_least"),
        (["threshold", "--rule", "cost", "--false-negative-cost", "-1", "--false-positive-cost", "1"], "cost"),
        (["calibrate", "--method", "magic"], "one of 'temperature'"),
        (["calibrate", "--method", "isotonic", "--split", "test"], "at least 50 images of each label"),
        (["calibrate", "--prevalence", "2"], "prevalence"),
        (["calibrate", "--split", "val"], "has no 'val' folder"),
        (["calibrate", "--augment", "wild"], "one of 'light', 'strong', 'robust'"),
        (["threshold", "--rule", "youden", "--augment", "light", "--copies", "0"], "'copies' parameter"),
        (["threshold", "--rule", "0.5", "--augment", "light"], "left out for a number"),
    ],
)
def test_bad_input_leaves_the_model_as_it_was(model, folder, arguments, message):  # noqa: F811
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    done = cxr(*arguments, "--model", model, "--data", folder, "-q")
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert {path.name: path.read_bytes() for path in model.iterdir()} == before


def test_several_classes(fitted, folder, tmp_path):  # noqa: F811
    pattern = ("--label-pattern", "(virus)", "--split", "train", "-q")
    done = cxr("threshold", "--model", fitted.save(tmp_path / "m"), "--data", folder, "--rule", "youden", *pattern)
    assert done.returncode == 2
    assert "labels the model does not know: ['virus']" in done.stderr
    assert json.loads((tmp_path / "m" / "config.json").read_text())["calibration"] is None
    assert np.isfinite(fitted.threshold_)
