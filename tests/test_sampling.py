"""Logits of images and of their changed copies, and what is chosen on them, against slower ways."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cxr_estimator import CXRClassifier
from cxr_estimator._calibration_maps import Affine
from cxr_estimator._operating import judged
from cxr_estimator._outputs import Task
from cxr_estimator._sampling import Copies, with_copies
from cxr_estimator.augmentation import AUGMENTATIONS
from cxr_estimator.calibration import Calibration, fit_calibration
from cxr_estimator.errors import (
    DataError,
    InvalidParameterError,
    InvalidTypeError,
    ModelFolderError,
    SkippedImagesWarning,
)
from cxr_estimator.thresholds import OperatingPoint, choose_point
from tests.model_folders import edit_config

ROBUST = Copies("robust", 2, 0)


@pytest.fixture
def own(fitted):
    return copy.deepcopy(fitted).set_params(precision="float32", batch_size=7)


@pytest.fixture(scope="module")
def logits(fitted, phantoms):
    """Of all phantoms and two copies of each, (3, 80, 1)."""
    return with_copies(copy.deepcopy(fitted).set_params(precision="float32"), phantoms.X, ROBUST)[0]


def slowly(clf, image, content_id, number):
    """The logit of one copy of one image, step by step."""
    seed = np.random.SeedSequence([0, int(content_id, 16), number]).generate_state(1, np.uint64)[0]
    x = torch.from_numpy(image)[None, None].float() / 255.0
    x = AUGMENTATIONS["robust"](x, torch.Generator().manual_seed(int(seed)))
    mean, std = clf.preprocessing_.mean[0], clf.preprocessing_.std[0]
    with torch.no_grad():
        return float(clf.model_.eval()((x - mean) / std))


def test_each_image_and_its_copies_by_hand(own, phantoms):
    found, ids = with_copies(own, phantoms.X[:4], ROBUST)
    np.testing.assert_allclose(found[0, :, 0], own.decision_function(phantoms.X[:4]), atol=1e-5)
    for row, content_id in enumerate(ids):
        for number in (1, 2):
            by_hand = slowly(own, phantoms.X[row], content_id, number)
            assert found[number, row, 0] == pytest.approx(by_hand, abs=1e-4)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_what_is_changed_is_not_rounded(own, phantoms, precision, monkeypatch):
    seen = []
    original = torch.nn.functional.grid_sample
    monkeypatch.setattr(
        torch.nn.functional, "grid_sample", lambda x, grid, **how: seen.append(grid) or original(x, grid, **how)
    )
    with_copies(own.set_params(precision=precision), phantoms.X[:3], ROBUST)
    assert len(seen) == 6
    for grid in seen:
        assert not torch.equal(grid, grid.bfloat16().float())
        steps = grid.double().diff(dim=2)  # a change of geometry is linear
        torch.testing.assert_close(steps, steps[:, :, :1].expand_as(steps), atol=1e-5, rtol=0)


@settings(max_examples=8, deadline=None)
@given(st.permutations(range(12)))
def test_copies_do_not_depend_on_order_or_batch(fitted, phantoms, logits, order):
    clf = copy.copy(fitted).set_params(precision="float32", batch_size=5)
    found, _ = with_copies(clf, phantoms.X[order], ROBUST)
    np.testing.assert_allclose(found, logits[:, order], atol=1e-4)


def test_an_ensemble_gives_the_mean_of_what_its_members_give(ensemble, phantoms):
    found, _ = with_copies(ensemble, phantoms.X[:5], ROBUST)
    members = [with_copies(one, phantoms.X[:5], ROBUST)[0] for one in ensemble._members()]
    np.testing.assert_allclose(found, np.mean(members, axis=0), atol=1e-6)
    calibrated = copy.copy(ensemble).calibrate(phantoms.X, phantoms.y, augment="light", copies=1)
    assert (calibrated.calibration_.augment, calibrated.calibration_.copies) == ("light", 1)


def test_ids_of_images_are_kept_once(own, phantoms):
    data = judged(own, phantoms.X[:4], phantoms.y[:4], None, caller="test", copies=Copies("light", 3, 0))
    assert data.content_ids.shape == (16,)
    assert len({id(one) for one in data.content_ids}) == 4


def test_an_unreadable_image_has_no_copies(own, phantoms, tmp_path):
    paths = [tmp_path / f"{row}.png" for row in range(40)]
    for path, image in zip(paths, phantoms.X, strict=False):
        Image.fromarray(image).save(path)
    paths[3].write_bytes(b"no picture")
    own.set_params(on_error="skip")
    with pytest.warns(SkippedImagesWarning):
        found, ids = with_copies(own, paths, ROBUST)
    assert np.isnan(found[:, 3]).all()
    assert np.isfinite(np.delete(found, 3, axis=1)).all()
    assert len(ids) == 39
    with pytest.warns(SkippedImagesWarning):
        own.calibrate(paths, phantoms.y[:40], augment="robust", copies=2)
    assert own.calibration_.n_images == 39


# -- what is chosen on them


@pytest.mark.parametrize("groups", [True, False])
def test_a_point_is_chosen_on_images_and_copies_together(own, phantoms, logits, groups):
    patients = phantoms.groups if groups else None
    positive = np.tile(phantoms.y == "PNEUMONIA", 3)
    owner = np.tile(phantoms.groups if groups else np.arange(80), 3)
    expected = choose_point(logits.reshape(-1), positive, "sensitivity", {"at_least": 0.8}, groups=owner)
    chosen = {"X": phantoms.X, "y": phantoms.y, "groups": patients, "augment": "robust", "copies": 2}
    point = own.set_threshold("sensitivity>=0.8", **chosen).operating_points_["default"]
    assert point.score == pytest.approx(expected.score, abs=1e-4)
    assert point.interval == pytest.approx(expected.interval, abs=1e-4)
    assert point.sensitivity == pytest.approx(expected.sensitivity)
    assert point.specificity == pytest.approx(expected.specificity)
    assert (point.augment, point.copies) == ("robust", 2)
    assert point.n_images == 80  # copies are no images
    assert point.n_patients == (40 if groups else 80)


@pytest.mark.parametrize("method", ["temperature", "platt"])
def test_a_calibration_is_fitted_to_images_and_copies_together(own, phantoms, logits, method):
    own.calibrate(phantoms.X, phantoms.y, groups=phantoms.groups, method=method, augment="robust", copies=2)
    target = np.tile(np.searchsorted(own.classes_, phantoms.y), 3)
    expected = fit_calibration(
        logits.reshape(-1, 1), target, task=own.task_, method=method, labels=[0, 1], class_weights=np.ones(2)
    )
    np.testing.assert_allclose(own.calibration_(logits[0]), expected(logits[0]), atol=1e-3)
    assert (own.calibration_.augment, own.calibration_.copies) == ("robust", 2)
    assert (own.calibration_.n_images, own.calibration_.n_patients) == (80, 40)


def test_the_order_of_images_chooses_nothing(own, phantoms):
    rows = np.random.default_rng(1).permutation(80)
    other = copy.deepcopy(own)
    for clf, order in ((own, np.arange(80)), (other, rows)):
        held_out = {"X": phantoms.X[order], "y": phantoms.y[order], "groups": phantoms.groups[order]}
        clf.set_threshold("youden", **held_out, augment="light", copies=3, n_resamples=50)
        clf.calibrate(**held_out, method="platt", augment="light", copies=3)
    one, two = own.operating_points_["default"], other.operating_points_["default"]
    assert one.score == pytest.approx(two.score, abs=1e-4)
    assert one.fingerprint == two.fingerprint
    assert own.calibration_.maps[0].slope == pytest.approx(other.calibration_.maps[0].slope, rel=1e-3)


def test_copies_make_no_image_of_a_class(own, phantoms):
    few = np.concatenate([np.flatnonzero(phantoms.y == label)[:15] for label in ("NORMAL", "PNEUMONIA")])
    with pytest.raises(DataError, match=r"at least 20 images of each label\. Got 15"):
        own.calibrate(phantoms.X[few], phantoms.y[few], method="platt", augment="light", copies=3)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"augment": "wild"}, InvalidParameterError, "'light', 'strong', 'robust'"),
        ({"augment": "none"}, InvalidParameterError, "'augment' parameter"),
        ({"augment": 3}, InvalidParameterError, "'augment' parameter"),
        ({"copies": 0}, InvalidParameterError, "'copies' parameter"),
        ({"copies": 1001}, InvalidParameterError, "'copies' parameter"),
        ({"copies": 1.5}, InvalidTypeError, "'copies' parameter"),
    ],
)
def test_bad_input(own, phantoms, change, error, message):
    given = {"X": phantoms.X, "y": phantoms.y, "augment": "light", **change}
    with pytest.raises(error, match=message):
        own.set_threshold("youden", **given)
    with pytest.raises(error, match=message):
        own.calibrate(**given)
    assert own.calibration_ is None


def test_a_number_needs_no_copies(own, phantoms):
    with pytest.raises(InvalidParameterError, match="'augment' parameter of set_threshold must be left out for a num"):
        own.set_threshold(0.3, X=phantoms.X, y=phantoms.y, augment="light")
    point = replace(own.operating_points_["default"], name="ready")
    with pytest.raises(InvalidParameterError, match="left out where an OperatingPoint is given"):
        own.set_threshold(point, augment="light")


# -- and kept


def test_copies_are_saved(own, phantoms, tmp_path):
    chosen = {"X": phantoms.X, "y": phantoms.y, "augment": "light", "copies": 1}
    own.set_threshold("youden", **chosen, n_resamples=10).calibrate(**chosen)
    folder = own.save(tmp_path / "model")
    again = CXRClassifier.load(folder)
    assert again.operating_points_ == own.operating_points_
    assert again.calibration_ == own.calibration_
    text = (folder / "README.md").read_text()
    assert text.count("80 images of 80 patients, and of each 1 randomly changed copy (light)") == 2

    def without(config):
        for kept in (config["calibration"], *config["operating_points"]):
            del kept["augment"], kept["copies"]

    edit_config(folder, without)  # as older versions wrote it
    older = CXRClassifier.load(folder)
    assert (older.calibration_.augment, older.calibration_.copies) == (None, 0)
    assert older.operating_points_["default"].copies == 0


@pytest.mark.parametrize(
    "change",
    [
        {"copies": -1},
        {"copies": 0},
        {"copies": 1001},
        {"copies": "many"},
        {"augment": None},
        {"augment": 3},
        {"copies": True},
    ],
)
@pytest.mark.parametrize("kind", ["point", "calibration"])
def test_wrong_copies_are_refused(own, phantoms, tmp_path, kind, change):
    own.calibration_ = Calibration(
        "platt", Task.BINARY, (0.0,), (Affine(1.0),), (0.0,), 10, 10, augment="light", copies=2
    )
    point = OperatingPoint("default", "youden", 0.5, "PNEUMONIA", augment="light", copies=2)
    own.operating_points_ = {"default": point}
    folder = own.save(tmp_path / "model")

    def broken(config):
        (config["operating_points"][0] if kind == "point" else config["calibration"]).update(change)

    edit_config(folder, broken)
    with pytest.raises(ModelFolderError, match=r"'(copies|augment)' parameter"):
        CXRClassifier.load(folder)
    assert json.loads((folder / "config.json").read_text())["format"] == "cxr_estimator"
