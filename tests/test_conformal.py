"""Prediction sets: what they promise, and what they are made of."""

from __future__ import annotations

import copy
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mapie.classification import SplitConformalClassifier
from scipy.special import log_softmax, softmax
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression

from cxr_estimator import CXRClassifier, CXREnsemble, evaluate, make_phantoms
from cxr_estimator._operating import Judged
from cxr_estimator._outputs import Task
from cxr_estimator.conformal import Conformal, _sets, prediction_sets
from cxr_estimator.errors import (
    DataError,
    InvalidParameterError,
    InvalidTypeError,
    MissingPackageError,
    ModelFolderError,
    SameDataWarning,
    SkippedImagesWarning,
)
from tests.conftest import small_classifier


@pytest.fixture(scope="module")
def others():
    """Phantoms that the classifier was not fitted on, two of each patient."""
    return make_phantoms(160, 32, difficulty=0.0, random_state=5)


@pytest.fixture
def own(fitted):
    return copy.deepcopy(fitted)


def scores(rng, n, n_classes=3, spread=1.5):
    """Logits (n, K) and classes that are drawn from the probabilities they stand for, which are right."""
    logits = rng.normal(size=(n, n_classes)) * spread
    target = (softmax(logits, axis=1).cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    return logits, target


def estimator_of(logits):
    """An estimator of three classes to which images are the rows of `logits`."""
    return SimpleNamespace(
        classes_=np.array(["a", "b", "c"]),
        task_=Task.MULTICLASS,
        _images=lambda X: X,
        _logits=lambda X: logits[X],
        _proba=lambda values: softmax(values.astype(np.float64), axis=1),
    )


# -- sets


def test_sets_by_hand():
    """Ten images: for a coverage of 0.8 the 9th of the sorted scores, ceil(11 * 0.8) = 9, is the cut-off."""
    true = np.array([0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.45, 0.2])  # probabilities of the true class
    target = np.arange(10) % 2
    proba = np.where(np.arange(2) == target[:, None], true[:, None], 1 - true[:, None])
    new = np.array([[0.46, 0.54], [0.44, 0.56], [0.9, 0.1]])  # a class with 0.45 or more is in the set
    expected = [[True, True], [False, True], [True, False]]
    np.testing.assert_array_equal(_sets(proba, target, new, "lac", 0.8), expected)
    np.testing.assert_array_equal(_sets(proba, target, new, "lac", 0.9)[2], [True, False])  # from 0.2 on
    third = _sets(proba, target, np.array([[0.5, 0.5]]), "lac", 0.5)  # the 6th: from 0.7 on, so none
    np.testing.assert_array_equal(third, [[False, False]])


def test_as_mapie_does_it_from_end_to_end():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 2))
    y = np.array(["a", "b", "c"])[np.argmax(X @ rng.normal(size=(2, 3)) + rng.gumbel(size=(400, 3)), axis=1)]
    model = LogisticRegression().fit(X[:100], y[:100])
    oracle = SplitConformalClassifier(model, confidence_level=0.85, conformity_score="lac")
    expected = oracle.conformalize(X[100:250], y[100:250]).predict_set(X[250:])[1][:, :, 0]
    clf = estimator_of(log_softmax(model.decision_function(X), axis=1))
    target = np.searchsorted(model.classes_, y[100:250])
    clf.conformal_ = Conformal("lac", clf._logits(np.arange(100, 250)), target, 150)
    np.testing.assert_array_equal(prediction_sets(clf, np.arange(250, 400), 0.85), expected)


@given(seed=st.integers(0, 2**16), coverage=st.sampled_from([0.5, 0.7, 0.9]))
@settings(deadline=None, max_examples=25)
def test_aps_in_a_slower_way(seed, coverage):
    logits, target = scores(np.random.default_rng(seed), 60, n_classes=4)
    target[:4] = range(4)
    proba = softmax(logits, axis=1)
    likelier = np.array([[sum(q for q in row if q > p) for p in row] for row in proba])
    cut = np.sort(likelier[np.arange(40), target[:40]])[int(np.ceil(41 * coverage)) - 1]
    found = _sets(proba[:40], target[:40], proba[40:], "aps", coverage)
    near = np.abs(likelier[40:] - cut) < 1e-7
    np.testing.assert_array_equal(found[~near], (likelier[40:] <= cut)[~near])
    assert found[np.arange(20), proba[40:].argmax(axis=1)].all()


@given(seed=st.integers(0, 2**16), method=st.sampled_from(["lac", "aps"]), n=st.integers(30, 60))
@settings(deadline=None, max_examples=25)
def test_sets_grow_with_the_coverage(seed, method, n):
    logits, target = scores(np.random.default_rng(seed), n)
    target[:3] = range(3)
    clf = estimator_of(logits)
    clf.conformal_ = Conformal(method, logits, target, n)
    before = np.zeros((n, 3), dtype=bool)
    for coverage in (0.5, 0.6, 0.8, 0.9, 0.95):
        found = prediction_sets(clf, np.arange(n), coverage)
        assert (found >= before).all()
        before = found
    if method == "aps":
        assert found.any(axis=1).all()


@pytest.mark.parametrize("sharpness", [1.0, 3.0])  # the second is far too sure of itself
@pytest.mark.parametrize("method", ["lac", "aps"])
def test_coverage_over_200_resamples(method, sharpness):
    rng = np.random.default_rng(1)
    covered = {0.8: [], 0.9: []}
    for _ in range(200):
        logits, target = scores(rng, 300)
        target[:3] = range(3)
        clf = estimator_of(logits * sharpness)
        clf.conformal_ = Conformal(method, clf._logits(np.arange(100)), target[:100], 100)
        for coverage, found in covered.items():
            sets = prediction_sets(clf, np.arange(100, 300), coverage)
            found.append(sets[np.arange(200), target[100:]].mean())
    for coverage, found in covered.items():
        assert np.mean(found) == pytest.approx(coverage, abs=0.02)


# -- the estimator


def test_sets_of_images(own, others):
    own.conformalize(others.X[:80], others.y[:80], groups=others.groups[:80])
    assert own.conformal_.n_patients == len(np.unique(others.groups[:80]))
    assert (own.conformal_.method, own.conformal_.n_images) == ("lac", 80)
    assert own.conformal_.logits.dtype == np.float32
    sets = own.predict_set(others.X[80:], coverage=0.9)
    assert sets.shape == (80, 2)
    assert sets.dtype == bool
    proba = own.predict_proba(others.X[80:])
    true = own._proba(own.conformal_.logits)[np.arange(own.conformal_.n_patients), own.conformal_.target]
    n = own.conformal_.n_patients
    cut = np.sort(1 - true)[int(np.ceil((n + 1) * 0.9)) - 1]
    near = np.abs(1 - proba - cut) < 1e-6
    np.testing.assert_array_equal(sets[~near], (1 - proba <= cut)[~near])


def test_coverage_of_phantoms(own):
    """200 splits by patient of images with a known truth."""
    data = make_phantoms(400, 32, difficulty=0.6, random_state=8)
    logits = own._logits(data.X)
    rng, n = np.random.default_rng(0), len(data.y)
    index = np.searchsorted(own.classes_, data.y)
    own._images, own._logits = (lambda X: X), (lambda X: logits[X])
    patients = np.unique(data.groups)
    covered = []
    for _ in range(200):
        left = np.isin(data.groups, rng.permutation(patients)[: len(patients) // 2])
        order = rng.permutation(n)
        _, first = np.unique(data.groups[order], return_index=True)
        one = order[first]  # of each patient
        rows, new = one[left[one]], np.flatnonzero(~left)
        own.conformal_ = Conformal("lac", logits[rows], index[rows], len(rows))
        covered.append(own.predict_set(new)[np.arange(len(new)), index[new]].mean())
    assert np.mean(covered) == pytest.approx(0.9, abs=0.02)


def test_a_later_calibration_changes_both_sides(own, others):
    own.conformalize(others.X[:80], others.y[:80])
    before = own.predict_set(others.X[80:])
    own.calibrate(others.X[:80], others.y[:80], method="platt")
    after = own.predict_set(others.X[80:])
    again = own.conformalize(others.X[:80], others.y[:80]).predict_set(others.X[80:])
    np.testing.assert_array_equal(after, again)
    assert before.shape == after.shape


def test_one_image_of_each_patient_whatever_the_order(own, others):
    X, y, groups = others.X[:60], others.y[:60], others.groups[:60]
    first = own.conformalize(X, y, groups=groups).conformal_
    turned = own.conformalize(X[::-1], y[::-1], groups=groups[::-1]).conformal_
    np.testing.assert_allclose(turned.logits, first.logits, atol=1e-5)
    np.testing.assert_array_equal(turned.target, first.target)
    assert turned.fingerprint == first.fingerprint
    other = own.conformalize(X, y, groups=groups, random_state=7).conformal_
    assert other.fingerprint != first.fingerprint
    alone = own.conformalize(X, y).conformal_
    assert alone.n_patients == alone.n_images == 60


def test_every_image_of_a_patient_can_be_the_one():
    ids, groups = np.array(["c", "a", "b"]), np.array(["p", "q", "p"])
    data = Judged(np.zeros((3, 1)), np.zeros(3), groups, ids, np.ones(3, dtype=bool))
    chosen = {frozenset(data.one_of_each_patient(seed).tolist()) for seed in range(20)}
    assert chosen == {frozenset({0, 1}), frozenset({1, 2})}


def test_unreadable_images_have_all_classes(own, others, tmp_path):
    own.conformalize(others.X[:80], others.y[:80])
    own.set_params(on_error="skip")
    with pytest.warns(SkippedImagesWarning):
        found = own.predict_set([others.X[80], tmp_path / "missing.png"], coverage=0.6)
    np.testing.assert_array_equal(found[0], own.predict_set(others.X[80:81], coverage=0.6)[0])
    np.testing.assert_array_equal(found[1], [True, True])


def test_three_classes(three_classes):
    X, y, clf = three_classes
    clf = copy.deepcopy(clf)
    for method in ("lac", "aps"):
        sets = clf.conformalize(X[:40], y[:40], method=method).predict_set(X[40:])
        assert sets.shape == (20, 3)


def test_evaluation_knows_the_images(own, others):
    own.conformalize(others.X[:80], others.y[:80])
    with pytest.warns(SameDataWarning, match="100% of the images that prediction sets compare with"):
        evaluate(own, others.X[:80], others.y[:80], n_resamples=10)


# -- too little, too much


def test_too_few_patients(own, others):
    rows = np.concatenate([np.flatnonzero(others.y == label)[:6] for label in own.classes_])
    own.conformalize(others.X[rows], others.y[rows])
    message = r"coverage of 0\.95 needs 20 patients .* had 12\. These allow a coverage of up to 0\.9166"
    with pytest.raises(DataError, match=message):
        own.predict_set(others.X[:2], coverage=0.95)
    assert own.predict_set(others.X[:2], coverage=0.9166).shape == (2, 2)
    assert own.predict_set(others.X[:2], coverage=0.9).shape == (2, 2)


@given(n=st.integers(2, 200))
def test_the_coverage_that_is_said_to_be_allowed_is(n):
    logits, target = scores(np.random.default_rng(n), n)
    target[: min(n, 3)] = range(min(n, 3))
    clf = estimator_of(logits)
    clf.conformal_ = Conformal("lac", logits, target, n)
    with pytest.raises(DataError) as caught:
        prediction_sets(clf, np.arange(n), 0.9999)
    allowed = float(str(caught.value).split("up to ")[1].rstrip("."))
    assert 0 <= 1 - 1 / n - allowed < 1.01e-4
    if n > 2:
        prediction_sets(clf, np.arange(n), allowed)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"method": "raps"}, InvalidParameterError, "'method' parameter of conformalize must be one of 'lac', 'aps'"),
        ({"method": "aps"}, InvalidParameterError, "'method' parameter of conformalize must be 'lac' where there are"),
        ({"random_state": -1}, InvalidParameterError, "'random_state' parameter of conformalize"),
        ({"y": None}, InvalidParameterError, "'y' parameter of conformalize"),
        ({"y": ["CAT"] * 80}, DataError, "conformalize: y holds labels the model does not know"),
        ({"y": ["NORMAL"] * 80}, DataError, r"images of each class. Of \['PNEUMONIA'\] there are none"),
        ({"groups": ["p"] * 80}, DataError, "there are none"),
        ({"groups": ["p"]}, DataError, "groups must have one entry"),
    ],
)
def test_bad_input(options, error, message, own, others):
    with pytest.raises(error, match=message):
        own.conformalize(**{"X": others.X[:80], "y": others.y[:80], **options})
    assert own.conformal_ is None


@pytest.mark.parametrize(("coverage", "error"), [(1.0, ValueError), (0.4, ValueError), ("0.9", InvalidTypeError)])
def test_bad_coverage(coverage, error, own, others):
    with pytest.raises(error, match=r"'coverage' parameter of predict_set must be a number >= 0\.5 and < 1"):
        own.predict_set(others.X[:2], coverage=coverage)


def test_what_comes_first_is_asked_for(own, others):
    with pytest.raises(NotFittedError, match=r"call conformalize\(X, y\) first"):
        own.predict_set(others.X[:2])
    for call in (lambda clf: clf.predict_set(others.X), lambda clf: clf.conformalize(others.X, others.y)):
        with pytest.raises(NotFittedError, match="is not fitted"):
            call(small_classifier())


def test_several_labels_have_no_set(phantoms):
    y = np.stack([phantoms.y == "PNEUMONIA", np.arange(len(phantoms.y)) % 2], axis=1).astype(float)
    clf = small_classifier(pos_label=None, max_epochs=1).fit(phantoms.X, y, groups=phantoms.groups)
    with pytest.raises(DataError, match=r"an image may have several labels.*set_threshold"):
        clf.conformalize(phantoms.X, y)


def test_without_mapie(own, others, monkeypatch):
    own.conformalize(others.X[:80], others.y[:80])
    monkeypatch.setitem(sys.modules, "mapie.classification", None)
    with pytest.raises(MissingPackageError, match=r"package mapie: pip install 'cxr_estimator\[conformal\]'"):
        own.predict_set(others.X[:2])


def test_fit_forgets_them(phantoms, own, others):
    own.conformalize(others.X[:80], others.y[:80])
    own.set_params(max_epochs=1).fit(phantoms.X, phantoms.y, groups=phantoms.groups)
    assert own.conformal_ is None


# -- saved and loaded


def test_saved_and_loaded(own, others, tmp_path, monkeypatch):
    own.conformalize(others.X[:80], others.y[:80], groups=others.groups[:80])
    own.save(tmp_path / "model")
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "mapie.classification", None)
        again = CXRClassifier.load(tmp_path / "model")
    for name, value in vars(own.conformal_).items():
        np.testing.assert_array_equal(getattr(again.conformal_, name), value)
    assert again.conformal_.logits.dtype == np.float32
    np.testing.assert_array_equal(again.predict_set(others.X[80:]), own.predict_set(others.X[80:]))
    text = (tmp_path / "model" / "config.json").read_text()
    assert not any(patient in text for patient in set(others.groups))


def test_an_ensemble_has_sets_as_well(fitted, others, tmp_path):
    ensemble = CXREnsemble.from_fitted([fitted, fitted])
    assert CXREnsemble.load(ensemble.save(tmp_path / "plain")).conformal_ is None
    ensemble.conformalize(others.X[:80], others.y[:80], random_state=0)
    again = CXREnsemble.load(ensemble.save(tmp_path / "ensemble"))
    np.testing.assert_array_equal(again.predict_set(others.X[80:]), ensemble.predict_set(others.X[80:]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(conformal=3), "not a valid configuration"),
        (lambda c: c["conformal"].pop("target"), "not a valid configuration"),
        (lambda c: c["conformal"].update(surprise=1), "not a valid configuration"),
        (lambda c: c["conformal"].update(method="aps"), "'method' parameter"),
        (lambda c: c["conformal"].update(target=[]), "must be of each of 2 classes"),
        (lambda c: c["conformal"].update(target=[1] * 80), "must be of each of 2 classes"),
        (lambda c: c["conformal"].update(target=[0, 1]), "do not fit 2 images"),
        (lambda c: c["conformal"].update(logits=[[0.0]]), "do not fit 80 images"),
        (lambda c: c["conformal"].update(logits=[["x"]] * 80), "do not fit 80 images"),
        (lambda c: c["conformal"].update(logits=[[0.0]] * 79 + [[1e300]]), "too large"),
        (lambda c: c["conformal"].update(logits=[[0.0], [0.0, 1.0]]), "not a valid configuration"),
        (lambda c: c["conformal"]["target"].append(2), "'target' parameter"),
        (lambda c: c["conformal"].update(n_images=79), "'n_images' parameter"),
        (lambda c: c["conformal"].update(fingerprint=None), "not a valid configuration"),
    ],
)
def test_wrong_folders_are_refused(change, message, own, others, tmp_path):
    own.conformalize(others.X[:80], others.y[:80]).save(tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))
    with pytest.raises(ModelFolderError, match=message):
        CXRClassifier.load(tmp_path / "model")
