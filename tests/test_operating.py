"""Operating points and calibration of a fitted classifier."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from scipy.special import expit

from cxr_estimator import CXRClassifier, make_phantoms
from cxr_estimator.errors import DataError, InvalidParameterError, InvalidTypeError, ThresholdWarning
from cxr_estimator.fingerprints import share_seen
from cxr_estimator.thresholds import OperatingPoint
from tests.conftest import small_classifier


@pytest.fixture(scope="module")
def others():
    """Phantoms that the classifier was not fitted on."""
    return make_phantoms(240, 32, difficulty=0.0, random_state=5)


@pytest.fixture
def own(fitted):
    return copy.deepcopy(fitted)


@pytest.fixture(scope="module")
def flipped(phantoms):
    return small_classifier(pos_label="NORMAL").fit(phantoms.X, phantoms.y, groups=phantoms.groups)


@pytest.fixture(scope="module")
def three(others):
    """A classifier of three classes: the lesions are split by where their patient stands in the list."""
    y = np.where((others.y == "PNEUMONIA") & (np.arange(len(others.y)) % 4 < 2), "OTHER", others.y)
    clf = small_classifier(pos_label=None, max_epochs=1).fit(others.X, y, groups=others.groups)
    return clf, y


def test_points_have_intervals_and_know_their_images(own, others):
    own.set_threshold("sensitivity", at_least=0.9, X=others.X, y=others.y, groups=others.groups, name="screening")
    own.set_threshold("specificity", at_least=0.9, X=others.X, y=others.y, groups=others.groups, name="rule_in")
    point = own.operating_points_["screening"]
    assert point.label == "PNEUMONIA"
    assert point.options == {"at_least": 0.9}
    assert point.n_patients == len(np.unique(others.groups))
    assert point.sensitivity.low <= point.sensitivity.value <= point.sensitivity.high
    assert point.interval[0] <= point.score <= point.interval[1]
    assert own.active_point_ == "rule_in"
    ids = own.explain(others.X, method="saliency").image_ids
    assert share_seen(point.fingerprint, ids) == 1.0
    assert share_seen(point.fingerprint, ids[:120]) == pytest.approx(0.5, abs=0.2)


def test_predict_by_name(own, others):
    own.set_threshold(0.01, name="low").set_threshold(0.99, name="high")
    proba = own.predict_proba(others.X)[:, 1]
    for name, threshold in (("low", 0.01), ("high", 0.99), (None, 0.99)):
        expected = np.where(proba >= threshold, "PNEUMONIA", "NORMAL")
        np.testing.assert_array_equal(own.predict(others.X, operating_point=name), expected)
        np.testing.assert_array_equal(own.flag(others.X, name), proba >= threshold)
    assert own.thresholds_ == {"default": 0.5, "low": 0.01, "high": 0.99}
    with pytest.raises(InvalidParameterError, match=r"'operating_point'.*low"):
        own.predict(others.X, operating_point="lower")


def test_a_point_can_be_handed_over(own, others):
    chosen = copy.deepcopy(own).set_threshold("youden", X=others.X, y=others.y, name="balanced")
    own.set_threshold(chosen.operating_points_["balanced"])
    assert own.active_point_ == "balanced"
    with pytest.raises(InvalidParameterError, match="'label' parameter"):
        own.set_threshold(OperatingPoint("x", "number", 0.0, "CAT"))
    with pytest.raises(InvalidParameterError, match="left out where an OperatingPoint is given"):
        own.set_threshold(chosen.operating_points_["balanced"], beta=3)


def test_a_number_that_is_handed_over_after_calibration_is_of_the_calibrated_probability(own, others):
    point = copy.deepcopy(own).set_threshold(0.3, name="low").operating_points_["low"]
    own.calibrate(others.X, others.y, method="platt").set_threshold(point)
    proba = own.predict_proba(others.X)[:, 1]
    np.testing.assert_array_equal(own.predict(others.X) == "PNEUMONIA", proba >= 0.3)


def test_no_point_is_chosen_where_the_calibration_is_flat(own, others):
    own.calibrate(others.X, others.y, method="isotonic")
    edges = own.calibration_.maps[0].scores
    flat = OperatingPoint("flat", "youden", edges[-1] + 1.0, "PNEUMONIA")
    with pytest.raises(DataError, match="operating point 'flat'"):
        own.set_threshold(flat)


@pytest.mark.parametrize("method", ["temperature", "platt", "isotonic"])
@pytest.mark.parametrize("which", ["own", "flipped"])
def test_calibration_keeps_chosen_decisions_and_plain_numbers(method, which, request, others):
    clf = copy.deepcopy(request.getfixturevalue(which))
    clf.set_threshold("sensitivity", at_least=0.9, X=others.X, y=others.y, name="screening")
    clf.set_threshold(0.3, name="number")
    before = clf.predict(others.X, operating_point="screening")
    raw = clf.predict_proba(others.X)
    try:
        clf.calibrate(others.X, others.y, groups=others.groups, method=method)
    except DataError as error:
        assert method == "isotonic", error  # noqa: PT017 - either outcome is right, and the next test looks closer
        return
    proba = clf.predict_proba(others.X)
    assert not np.allclose(proba, raw, atol=1e-3)
    np.testing.assert_allclose(proba.sum(axis=1), 1.0)
    np.testing.assert_array_equal(clf.predict(others.X, operating_point="screening"), before)
    positive = proba[:, clf.classes_.tolist().index(clf.pos_label_)]
    for name, threshold in clf.thresholds_.items():
        near = np.abs(positive - threshold) < 1e-9
        np.testing.assert_array_equal(clf.flag(others.X, name)[~near], (positive >= threshold)[~near])
    assert clf.thresholds_["number"] == 0.3
    np.testing.assert_allclose(clf.decision_function(others.X), np.log(proba[:, 1] / proba[:, 0]))


def test_isotonic_refuses_to_merge_a_point(own, others):
    own.set_threshold("youden", X=others.X, y=others.y, name="balanced")
    score = np.median(own._scores(own._logits(others.X)))
    own.operating_points_["flat"] = OperatingPoint("flat", "youden", float(score) + 100.0, "PNEUMONIA")
    with pytest.raises(DataError, match="operating point 'flat' the same"):
        own.calibrate(others.X, others.y, method="isotonic")
    assert own.calibration_ is None


def test_a_calibrated_number_means_the_calibrated_probability(own, others):
    own.calibrate(others.X, others.y, method="platt").set_threshold(0.2, name="low")
    proba = own.predict_proba(others.X)[:, 1]
    np.testing.assert_array_equal(own.flag(others.X), proba >= 0.2)


def test_balanced_weights_are_undone_before_the_temperature(phantoms, others):
    rare = np.concatenate([np.flatnonzero(phantoms.y == "NORMAL"), np.flatnonzero(phantoms.y == "PNEUMONIA")[:12]])
    clf = small_classifier(class_weight="balanced")
    clf.fit(phantoms.X[rare], phantoms.y[rare], groups=phantoms.groups[rare])
    assert clf.class_weights_[1] > 2 * clf.class_weights_[0]
    clf.calibrate(others.X, others.y)
    assert clf.calibration_.log_weights[0] == pytest.approx(np.log(clf.class_weights_[1] / clf.class_weights_[0]))


def test_prevalence_of_the_place_of_use(own, others):
    here = np.mean(others.y == "PNEUMONIA")
    plain = copy.deepcopy(own).calibrate(others.X, others.y)
    rare = own.calibrate(others.X, others.y, prevalence=0.02)
    shift = np.log(0.02 / 0.98) - np.log(here / (1 - here))
    np.testing.assert_allclose(rare.decision_function(others.X) - plain.decision_function(others.X), shift)


def test_saved_and_loaded(own, others, tmp_path):
    own.set_threshold("cost", false_negative_cost=5, false_positive_cost=1, X=others.X, y=others.y, name="cost")
    own.calibrate(others.X, others.y, method="platt", groups=others.groups)
    again = CXRClassifier.load(own.save(tmp_path / "model"))
    np.testing.assert_array_equal(again.predict_proba(others.X[:9]), own.predict_proba(others.X[:9]))
    assert again.operating_points_ == own.operating_points_
    assert again.calibration_ == own.calibration_
    np.testing.assert_array_equal(again.class_weights_, own.class_weights_)


def test_points_of_several_classes_are_against_the_rest(three, others):
    clf, y = three
    clf = copy.deepcopy(clf)
    before = clf.predict(others.X)
    clf.set_threshold("youden", X=others.X, y=y, label="OTHER", name="other")
    np.testing.assert_array_equal(clf.predict(others.X), before)
    proba = clf.predict_proba(others.X)[:, clf.classes_.tolist().index("OTHER")]
    point = clf.operating_points_["other"]
    np.testing.assert_array_equal(clf.flag(others.X, "other"), proba >= expit(point.score))
    assert clf.threshold_ is None
    with pytest.raises(InvalidParameterError, match="'label' parameter of set_threshold"):
        clf.set_threshold("youden", X=others.X, y=y)
    with pytest.raises(InvalidParameterError, match="which reports use"):
        clf.set_threshold("youden", X=others.X, y=y, label="OTHER", name="likeliest_class")
    with pytest.raises(InvalidParameterError, match="'operating_point' parameter of predict"):
        clf.predict(others.X, operating_point="other")
    with pytest.raises(InvalidParameterError, match="'operating_point' parameter of flag"):
        clf.flag(others.X)


@pytest.mark.parametrize("method", ["temperature", "platt"])
def test_several_classes_can_be_calibrated(three, others, method, tmp_path):
    clf, y = three
    clf = copy.deepcopy(clf).calibrate(others.X, y, method=method)
    proba = clf.predict_proba(others.X)
    np.testing.assert_allclose(proba.sum(axis=1), 1.0)
    again = CXRClassifier.load(clf.save(tmp_path / "model"))
    np.testing.assert_array_equal(again.predict_proba(others.X), proba)


def test_a_rule_that_finds_nothing_does_not_lose_the_training(phantoms, monkeypatch):
    def nothing(*args, **options):
        raise DataError("No threshold.")

    monkeypatch.setattr("cxr_estimator._fitting.choose_point", nothing)
    with pytest.warns(ThresholdWarning, match="No threshold. So the threshold is 0.5"):
        clf = small_classifier(threshold="youden").fit(phantoms.X, phantoms.y, groups=phantoms.groups)
    assert clf.threshold_ == 0.5


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda clf, d: clf.calibrate(None, d.y), InvalidParameterError, "'X' parameter of calibrate"),
        (lambda clf, d: clf.calibrate(d.X, d.y, method="beta"), InvalidParameterError, "'temperature'"),
        (lambda clf, d: clf.calibrate(d.X, d.y, prevalence=0.0), InvalidParameterError, "'prevalence'"),
        (lambda clf, d: clf.calibrate(d.X, d.y, prevalence={"NORMAL": 1.0}), InvalidParameterError, "keys"),
        (lambda clf, d: clf.calibrate(d.X, np.full(len(d.X), "NORMAL")), DataError, "0 of 'PNEUMONIA'"),
        (lambda clf, d: clf.calibrate(d.X[:12], d.y[:12]), DataError, "at least 10 images of each label"),
        (lambda clf, d: clf.set_threshold("youden", X=d.X), InvalidParameterError, "'y' parameter of set_threshold"),
        (lambda clf, d: clf.set_threshold(0.5, beta=1.0), InvalidParameterError, "left out for a number"),
        (lambda clf, d: clf.set_threshold("youden", X=d.X, y=d.y, label="NORMAL"), InvalidParameterError, "'label'"),
        (lambda clf, d: clf.set_threshold(0.5, name=""), InvalidTypeError, "'name'"),
        (lambda clf, d: clf.set_threshold("youden", X=d.X, y=d.y, groups=[1]), DataError, "groups"),
    ],
)
def test_bad_input(own, others, call, error, message):
    with pytest.raises(error, match=message):
        call(own, others)
