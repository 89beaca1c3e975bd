"""Operating points and calibrations from out-of-fold predictions."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import StratifiedGroupKFold

from cxr_estimator import CXRClassifier, cross_val_calibration, cross_val_threshold
from cxr_estimator._calibration_maps import Affine, Steps
from cxr_estimator._outputs import Task
from cxr_estimator._sampling import Copies, with_copies
from cxr_estimator.calibration import Calibration, fit_calibration
from cxr_estimator.errors import DataError, InvalidParameterError, InvalidTypeError, PatientLeakWarning
from cxr_estimator.fingerprints import share_seen
from cxr_estimator.thresholds import OperatingPoint, choose_point
from tests.conftest import small_classifier

CV = StratifiedGroupKFold(2, shuffle=True, random_state=0)
EVEN, ODD = np.arange(0, 80, 2), np.arange(1, 80, 2)  # two images of a patient stand side by side


@pytest.fixture(scope="module")
def chosen(phantoms):
    clf = small_classifier(max_epochs=1)
    return cross_val_threshold(
        clf, phantoms.X, phantoms.y, "sensitivity", at_least=0.8, groups=phantoms.groups, cv=CV, name="screening"
    )


def test_every_image_is_judged_by_a_network_that_did_not_see_its_patient(chosen, phantoms):
    scores = np.empty(len(phantoms.y))
    for train, test in CV.split(phantoms.X, phantoms.y, phantoms.groups):
        one = small_classifier(max_epochs=1)
        one.fit(phantoms.X[train], phantoms.y[train], groups=phantoms.groups[train])
        scores[test] = one.decision_function(phantoms.X[test])
    expected = choose_point(scores, phantoms.y == "PNEUMONIA", "sensitivity", {"at_least": 0.8})
    assert chosen.score == pytest.approx(expected.score, abs=1e-5)
    assert chosen.n_images == len(phantoms.y)
    assert chosen.n_patients == len(np.unique(phantoms.groups))
    assert (chosen.name, chosen.label) == ("screening", "PNEUMONIA")


def test_the_point_is_taken_over(chosen, phantoms, fitted):
    clf = clone(fitted).set_params(max_epochs=1).fit(phantoms.X, phantoms.y, groups=phantoms.groups)
    clf.set_threshold(chosen)
    assert clf.operating_points_["screening"] == chosen
    ids = clf.explain(phantoms.X, method="saliency").image_ids
    assert share_seen(chosen.fingerprint, ids) == 1.0


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"rule": "magic"}, InvalidParameterError, "'youden'"),
        ({"beta": 2.0}, InvalidParameterError, "left out for the rule"),
        ({"cv": 1}, InvalidParameterError, "'cv' parameter"),
        ({"cv": [(np.arange(40), np.arange(40, 79))]}, DataError, "every image into one fold"),
        (
            {"cv": [(ODD, EVEN), (EVEN, ODD)]},
            DataError,
            "patients on both sides",
        ),
        ({"groups": [1, 2]}, DataError, "groups"),
        ({"y": None}, InvalidParameterError, "'y' parameter"),
        ({"y": ["NORMAL"] * 70}, DataError, "X has 80 images but y has 70"),
        ({"clf": "resnet18"}, InvalidTypeError, "a CXRClassifier"),
        ({"augment": "wild"}, InvalidParameterError, "'augment' parameter of cross_val_threshold"),
        ({"augment": "light", "copies": 0}, InvalidParameterError, "'copies' parameter of cross_val_threshold"),
    ],
)
def test_bad_input(phantoms, change, error, message):
    given = {"clf": small_classifier(), "X": phantoms.X, "y": phantoms.y, "rule": "youden", "groups": phantoms.groups}
    with pytest.raises(error, match=message):
        cross_val_threshold(**{**given, **change})


def test_unknown_patients_are_warned_of_once(phantoms):
    clf = small_classifier(max_epochs=1, validation_fraction=0.0)
    with pytest.warns(PatientLeakWarning, match="Pass groups=") as caught:
        cross_val_threshold(clf, phantoms.X, phantoms.y, "f_beta", cv=2, n_resamples=5)
    assert len([one for one in caught if one.category is PatientLeakWarning]) == 1


# -- calibration


def out_of_fold(clf, X, y, groups, augment=None):
    """Logits without weights of the loss, labels and patients of all images, and of two copies, slowly."""
    logits, labels, owners = [], [], []
    for train, test in CV.split(X, y, groups):
        one = clone(clf).fit(X[train], y[train], groups=groups[train])
        found = one._logits(X[test])[None] if augment is None else with_copies(one, X[test], Copies(augment, 2, 0))[0]
        weights = np.log(one.class_weights_)
        for values in found:
            logits.append(values - (np.diff(weights) if values.shape[1] == 1 else weights))
            labels.append(y[test])
            owners.append(groups[test])
    return np.concatenate(logits), np.concatenate(labels), np.concatenate(owners)


@pytest.mark.parametrize(
    ("augment", "class_weight"), [(None, {"NORMAL": 1.0, "PNEUMONIA": 3.0}), ("robust", "balanced")]
)
def test_a_calibration_is_fitted_to_what_networks_say_that_did_not_see_the_image(phantoms, augment, class_weight):
    rows = np.concatenate([np.flatnonzero(phantoms.y == "NORMAL"), np.flatnonzero(phantoms.y == "PNEUMONIA")[:25]])
    X, y, groups = phantoms.X[rows], phantoms.y[rows], phantoms.groups[rows]
    clf = small_classifier(max_epochs=1, class_weight=class_weight, precision="float32")
    found = cross_val_calibration(clf, X, y, groups=groups, cv=CV, prevalence=0.1, augment=augment, copies=2)
    logits, labels, owners = out_of_fold(clf, X, y, groups, augment)
    weights = {"NORMAL": 1.0, "PNEUMONIA": 3.0}
    if class_weight == "balanced":  # over all images, as a network will have them that is fitted on all
        weights = {label: len(y) / (2 * (y == label).sum()) for label in ("NORMAL", "PNEUMONIA")}
    weights = np.array(list(weights.values()))
    expected = fit_calibration(
        logits + np.diff(np.log(weights)), np.searchsorted(["NORMAL", "PNEUMONIA"], labels), task=Task.BINARY,
        method="platt", labels=["NORMAL", "PNEUMONIA"], class_weights=weights, prevalence=np.array([0.9, 0.1]),
        groups=owners,
    )  # fmt: skip
    assert found.maps[0].slope == pytest.approx(expected.maps[0].slope, rel=1e-3)
    assert found.maps[0].intercept == pytest.approx(expected.maps[0].intercept, rel=1e-3, abs=1e-3)
    assert found.log_weights == pytest.approx(expected.log_weights)
    assert found.prior_shift == pytest.approx(expected.prior_shift)
    assert (found.n_images, found.n_patients) == (len(y), len(np.unique(groups)))
    assert (found.augment, found.copies) == ((None, 0) if augment is None else ("robust", 2))


def test_folds_under_augmentation_choose_a_point(phantoms):
    clf = small_classifier(max_epochs=1, precision="float32")
    data = phantoms.X, phantoms.y
    point = cross_val_threshold(clf, *data, "youden", groups=phantoms.groups, cv=CV, augment="light", copies=2)
    logits, labels, owners = out_of_fold(clf, *data, phantoms.groups, "light")
    expected = choose_point(logits[:, 0], labels == "PNEUMONIA", "youden", groups=owners)
    assert point.score == pytest.approx(expected.score, abs=1e-4)
    assert point.interval == pytest.approx(expected.interval, abs=1e-4)
    assert point.sensitivity == pytest.approx(expected.sensitivity)
    assert (point.n_images, point.n_patients, point.augment, point.copies) == (80, 40, "light", 2)


def test_finished_folds_are_not_fitted_again(phantoms, tmp_path):
    clf = small_classifier(max_epochs=1, checkpoint_dir=tmp_path)
    data = {"X": phantoms.X, "y": phantoms.y, "groups": phantoms.groups}
    cross_val_calibration(clf, **data, cv=2)
    first = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    cross_val_threshold(clf, **data, rule="f_beta", cv=2, n_resamples=5)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == first
    assert len(first) == 2


def test_several_classes_and_several_labels(three_classes):
    X, y, clf = three_classes
    groups = np.arange(60) // 2
    template = clone(clf).set_params(max_epochs=1, precision="float32", validation_fraction=0.0)
    found = cross_val_calibration(template, X, y, groups=groups, cv=CV, method="temperature")
    logits, labels, _ = out_of_fold(template, X, y, groups)
    expected = fit_calibration(
        logits, np.searchsorted(clf.classes_, labels), task=Task.MULTICLASS, method="temperature",
        labels=clf.classes_.tolist(), class_weights=np.ones(3),
    )  # fmt: skip
    assert found.maps[0].slope == pytest.approx(expected.maps[0].slope, rel=1e-3)
    assert copy.copy(clf).calibrate(found).calibration_ == found

    several = np.stack([y == "red", y != "blue"], axis=1).astype(float)
    several[0, 1] = np.nan
    found = cross_val_calibration(template, X, several, groups=groups, cv=2, method="temperature")
    assert (found.task, len(found.maps), found.n_images) == (Task.MULTILABEL, 2, 60)


def test_the_calibration_is_taken_over(fitted, phantoms):
    clf = copy.deepcopy(fitted).set_threshold("youden", X=phantoms.X, y=phantoms.y, name="chosen")
    clf.set_threshold(0.3, name="number").set_abstention(phantoms.X, phantoms.y, coverage=0.8)
    clf.class_weights_ = np.array([1.0, 2.0])
    before = clf.flag(phantoms.X, "chosen")
    raw = clf._logits(phantoms.X)[:, 0].astype(float)
    ready = Calibration("platt", Task.BINARY, (np.log(5.0),), (Affine(0.5, -1.0),), (0.25,), 100, 50, ("00" * 8,))
    clf.calibrate(ready)
    np.testing.assert_allclose(clf.decision_function(phantoms.X), 0.5 * (raw - np.log(2.0)) - 1.0 + 0.25, rtol=1e-6)
    assert clf.calibration_ == replace(ready, log_weights=(np.log(2.0),))  # those of this network's loss
    assert clf.abstention_ is None
    np.testing.assert_array_equal(clf.flag(phantoms.X, "chosen"), before)
    assert clf.thresholds_["number"] == 0.3
    np.testing.assert_array_equal(clf.flag(phantoms.X, "number"), clf.predict_proba(phantoms.X)[:, 1] >= 0.3)


def test_a_calibration_that_does_not_fit(fitted, three_classes, phantoms):
    ready = Calibration("platt", Task.BINARY, (0.0,), (Affine(1.0),), (0.0,), 100, 50)
    own = copy.copy(fitted)
    for given in ({"y": phantoms.y}, {"groups": phantoms.groups}, {"prevalence": 0.1}, {"augment": "light"}):
        with pytest.raises(
            InvalidParameterError, match=f"{next(iter(given))!r}.*left out where a Calibration is given"
        ):
            own.calibrate(ready, **given)
    with pytest.raises(InvalidParameterError, match="'method' parameter"):
        own.calibrate(ready, method="isotonic")
    with pytest.raises(InvalidParameterError, match="a Calibration of 3 logits for the task 'multiclass'"):
        three_classes[2].calibrate(ready)
    own.class_weights_ = np.array([0.0, 1.0])
    with pytest.raises(DataError, match="weight 0"):
        own.calibrate(ready)
    with pytest.raises(InvalidParameterError, match="'y' parameter of calibrate must be given"):
        copy.copy(fitted).calibrate(phantoms.X)
    steps = Calibration("isotonic", Task.BINARY, (0.0,), (Steps((0.0,), (0.5,)),), (0.0,), 100, 50)
    merged = copy.copy(fitted)
    merged.operating_points_ = {"flat": OperatingPoint("flat", "youden", 0.0, "PNEUMONIA")}
    merged.active_points_ = ("flat",)
    with pytest.raises(DataError, match="operating point 'flat' the same"):
        merged.calibrate(steps)
    assert own.calibration_ is None


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"method": "magic"}, InvalidParameterError, "one of 'temperature'"),
        ({"cv": 1}, InvalidParameterError, "'cv' parameter"),
        ({"y": None}, InvalidParameterError, "'y' parameter of cross_val_calibration"),
        ({"y": ["NORMAL"] * 80}, DataError, "only one class"),
        ({"prevalence": 1.5}, InvalidParameterError, "'prevalence' parameter of cross_val_calibration"),
        ({"augment": "wild"}, InvalidParameterError, "'augment' parameter of cross_val_calibration"),
        ({"augment": "light", "copies": 0}, InvalidParameterError, "'copies' parameter of cross_val_calibration"),
        ({"clf": "resnet18"}, InvalidTypeError, "a CXRClassifier"),
        ({"method": "isotonic"}, DataError, "cross_val_calibration: 'isotonic' needs at least 50 images of each label"),
        ({"clf": small_classifier(class_weight={"NORMAL": 0.0})}, DataError, r"\['NORMAL'\] had weight 0"),
    ],
)
def test_bad_input_to_calibration(monkeypatch, phantoms, change, error, message):
    given = {"clf": small_classifier(), "X": phantoms.X, "y": phantoms.y, "groups": phantoms.groups}
    monkeypatch.setattr(
        CXRClassifier, "fit", lambda *_, **__: pytest.fail("all this is known before any fold is fitted")
    )
    with pytest.raises(error, match=message):
        cross_val_calibration(**{**given, **change})
