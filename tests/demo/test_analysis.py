"""What the app works out is what the estimator says."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from cxr_estimator import CXRClassifier, make_phantoms
from cxr_estimator.attribution import METHODS
from cxr_estimator.demo._analysis import (
    N_COPIES,
    Question,
    explain,
    judge,
    labels_of,
    methods_of,
    points_of,
)
from cxr_estimator.demo._models import Served
from cxr_estimator.errors import DataError, InvalidParameterError, InvalidTypeError
from cxr_estimator.images import as_images
from cxr_estimator.trust import examine
from tests.attribution.requests import GAPS
from tests.conftest import small_classifier
from tests.test_multilabel import OPTIONS, squares


@pytest.fixture(scope="module")
def binary(phantoms):
    """A model with two operating points that part the images, and a sense of what is ordinary."""
    clf = small_classifier().fit(phantoms.X, phantoms.y, groups=phantoms.groups)
    scores = np.sort(clf.predict_proba(phantoms.X)[:, 1])
    for name, place in (("screening", 20), ("rule_in", 60)):
        clf.set_threshold(float(scores[place - 1 : place + 1].mean()), name=name)
    return Served("ours", clf)


@pytest.fixture(scope="module")
def several_labels():
    X, y, groups = squares(60)
    return X, Served("labels", CXRClassifier(**OPTIONS).fit(X, y, groups=groups))


def image_of(X, row):
    return as_images([X[row]])[0]


@pytest.mark.parametrize("point", ["screening", "rule_in", None])
def test_two_classes_are_judged_as_the_estimator_judges(binary, phantoms, point):
    clf, X = binary.clf, phantoms.X[[0, 1, 30, 31, 50]]
    name = point or clf.active_point_
    expected, proba = clf.predict(X, operating_point=name), clf.predict_proba(X)
    sampled = clf.uncertainty(X, n_samples=N_COPIES, random_state=3).samples
    for row in range(len(X)):
        said = judge(binary, image_of(X, row), Question(point=point, seed=3))
        assert said.decided == (expected[row],)
        assert list(said.proba.values()) == pytest.approx(proba[row], abs=1e-6)
        assert list(said.proba) == clf.classes_.tolist()
        assert said.point.name == name
        assert said.threshold == clf.thresholds_[name]
        for k, label in enumerate(said.proba):
            low, high = said.spread[label]
            assert (low, high) == pytest.approx((sampled[:, row, k].min(), sampled[:, row, k].max()), abs=1e-6)
            assert low - 1e-6 <= said.proba[label] <= high + 1e-6
        assert said.label == expected[row]


def test_the_points_differ_and_the_active_one_comes_first(binary, phantoms):
    said = {point: [judge(binary, image_of(phantoms.X, row), Question(point=point)).decided for row in range(0, 80, 4)]
            for point in ("screening", "rule_in")}  # fmt: skip
    assert said["screening"] != said["rule_in"]
    assert points_of(binary.clf)[0] == binary.clf.active_point_
    assert set(points_of(binary.clf)) == set(binary.clf.operating_points_)


def test_a_cut_off_of_ones_own(binary, phantoms):
    image = image_of(phantoms.X, 0)
    proba = judge(binary, image, Question()).proba["PNEUMONIA"]
    for cut_off, decided in ((proba - 1e-6, "PNEUMONIA"), (proba, "PNEUMONIA"), (proba + 1e-6, "NORMAL")):
        said = judge(binary, image, Question(cut_off=cut_off))
        assert (said.decided, said.threshold, said.point) == ((decided,), cut_off, None)


def test_the_check_of_the_image_is_the_estimators():
    served, rng = Served("bundled", CXRClassifier.from_pretrained()), np.random.default_rng(0)
    refused = []
    for pixels in (make_phantoms(1, 224).X[0], rng.integers(0, 256, (300, 300), np.uint8)):
        said, check = judge(served, as_images([pixels])[0], Question()), served.clf.check_images([pixels])
        assert said.check.score == pytest.approx(check.score)
        assert said.check.sentences == check.sentences
        assert said.is_unusual == bool(check.is_unusual[0])
        # the least p-value there is: stranger than all that were held out
        is_strangest = check.p_value[0] == pytest.approx(1 / (check.n_held_out + 1))
        assert said.is_refused == (said.is_unusual and bool(is_strangest))
        refused.append(said.is_refused)
    assert refused[1]


def test_a_model_without_a_sense_of_the_ordinary_refuses_nothing(fitted, phantoms):
    clf = copy.copy(fitted)
    clf.ood_ = None
    said = judge(Served("ours", clf), image_of(phantoms.X, 0), Question())
    assert said.check is None
    assert (said.is_unusual, said.is_refused) == (False, False)


def test_several_classes_are_judged_as_the_estimator_judges(three_classes):
    X, _, clf = three_classes
    for row in range(4):
        said = judge(Served("colours", clf), image_of(X, row), Question())
        assert said.decided == (clf.predict(X[row : row + 1])[0],)
        assert list(said.proba.values()) == pytest.approx(clf.predict_proba(X[row : row + 1])[0], abs=1e-6)
        assert (said.point, said.threshold) == (None, None)
    assert points_of(clf) == []
    with pytest.raises(InvalidParameterError, match="this model has no points"):
        judge(Served("colours", clf), image_of(X, 0), Question(point="rule_in"))


def test_several_labels_are_judged_as_the_estimator_judges(several_labels):
    X, served = several_labels
    names = list(map(str, served.clf.classes_))
    for row in range(6):
        said, expected = judge(served, image_of(X, row), Question()), served.clf.predict(X[row : row + 1])[0]
        assert said.decided == tuple(name for name, present in zip(names, expected, strict=True) if present)
        likeliest = max(said.proba, key=said.proba.__getitem__)
        assert str(said.label) == (said.decided[0] if said.decided else likeliest)


def test_labels_that_are_no_text_are_explained_as_they_are(several_labels):
    X, served = several_labels
    assert labels_of(served.clf) == {"0": 0, "1": 1, "2": 2}
    image = image_of(X, 0)
    said = judge(served, image, Question(target="2"))
    assert said.label == 2
    assert explain(said, image, ["grad_cam"])["grad_cam"].explanation.target.tolist() == [2]


@pytest.mark.parametrize(
    ("question", "error", "message"),
    [
        (Question(point="nowhere"), InvalidParameterError, "'point' parameter of the app must be one of"),
        (Question(target="COVID"), InvalidParameterError, "'target' parameter of the app"),
        (Question(cut_off=0), InvalidParameterError, "> 0 and < 1"),
        (Question(cut_off=1.0), InvalidParameterError, "> 0 and < 1"),
        (Question(cut_off=float("nan")), InvalidParameterError, "'cut_off'"),
        (Question(cut_off="0.5"), InvalidTypeError, "'cut_off'"),
    ],
)
def test_questions_that_have_no_answer(binary, phantoms, question, error, message):
    with pytest.raises(error, match=message):
        judge(binary, image_of(phantoms.X, 0), question)


def test_maps_and_cards_are_those_of_the_package(binary, phantoms):
    image = image_of(phantoms.X, 2)
    said = judge(binary, image, Question(point="rule_in", seed=5))
    shown = explain(said, image, ["grad_cam", "occlusion"])
    (expected,) = examine(binary.clf, [image.pixels], ["grad_cam", "occlusion"], target=said.label, random_state=5)
    for method, one in shown.items():
        assert np.array_equal(one.explanation.values, expected.found[method].values)
        assert one.card.checks == expected.cards[method][0].checks
        assert one.explanation.prediction.label.tolist() == list(said.decided)
        assert one.explanation.prediction.threshold == said.threshold
        assert one.explanation.image_ids == (image.content_id,)


def test_cards_do_not_depend_on_what_came_first(binary, phantoms):
    image = image_of(phantoms.X, 2)
    said = judge(binary, image, Question())
    first = explain(said, image, ["grad_cam"])
    assert "agreement" not in {check.name for check in first["grad_cam"].card.checks}
    second = explain(said, image, ["occlusion"], others=first)
    at_once = explain(said, image, ["grad_cam", "occlusion"])
    assert list(second) == list(at_once)
    for method, one in at_once.items():
        assert second[method].card.checks == one.card.checks
        assert "agreement" in {check.name for check in one.card.checks}


def test_another_image_is_not_explained_by_mistake(binary, phantoms):
    said = judge(binary, image_of(phantoms.X, 2), Question())
    with pytest.raises(DataError, match="has changed since it was judged"):
        explain(said, image_of(phantoms.X, 3), ["grad_cam"])


def test_progress_can_stop_it(binary, phantoms):
    class Left(Exception):
        pass

    def leave(done, total):
        raise Left

    image = image_of(phantoms.X, 2)
    with pytest.raises(Left):
        explain(judge(binary, image, Question()), image, ["occlusion"], progress=leave)


def test_methods_come_with_the_reason_why_they_do_not_work(binary):
    found = methods_of(binary.clf)
    assert list(found) == list(METHODS)
    missing = {name for name, reason in found.items() if reason is not None and "background" not in reason}
    assert missing == {name for name, backbones in GAPS.items() if "plain_cnn" in backbones}
