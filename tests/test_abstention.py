"""When an estimator gives no answer."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from PIL import Image
from scipy.special import expit, logit
from sklearn.exceptions import NotFittedError

from cxr_estimator import CXRClassifier, CXREnsemble, make_phantoms
from cxr_estimator.abstention import Abstention
from cxr_estimator.doubts import DOUBTS, Answers, combined, otherwise
from cxr_estimator.errors import (
    DataError,
    InvalidParameterError,
    ModelFolderError,
    SkippedImagesWarning,
)
from tests.conftest import small_classifier


@pytest.fixture(scope="module")
def hard():
    """Phantoms that the network of `learnt` sometimes gets wrong."""
    return make_phantoms(240, 32, difficulty=0.2, random_state=1)


@pytest.fixture(scope="module")
def learnt(hard):
    clf = small_classifier(max_epochs=10, learning_rate=3e-3)
    return clf.fit(hard.X[:120], hard.y[:120], groups=hard.groups[:120])


@pytest.fixture
def own(learnt):
    return copy.deepcopy(learnt)


@pytest.fixture
def held_out(hard):
    return {"X": hard.X[120:], "y": hard.y[120:], "groups": hard.groups[120:]}


@pytest.mark.parametrize("doubt", [name for name in DOUBTS if name != "ensemble"])
def test_every_doubt_chooses_a_cutoff_and_keeps_to_it(own, held_out, doubt):
    own.set_abstention(**held_out, doubt=doubt, coverage=0.7)
    found = own.predict_with_abstention(held_out["X"])
    rule = own.abstention_
    assert found.answered.mean() == pytest.approx(rule.coverage.value)
    assert rule.coverage.value >= 0.7
    assert (found.answered == (found.doubt <= rule.cutoff)).all()
    right = own.predict(held_out["X"])
    assert (found.labels[found.answered] == right[found.answered]).all()
    assert all(label is None for label in found.labels[~found.answered])
    assert [reason is None for reason in found.reasons] == found.answered.tolist()
    wrong = right != held_out["y"]
    assert rule.error.value == pytest.approx(wrong[found.answered].mean())
    assert rule.error_of_all == pytest.approx(wrong.mean())
    assert (rule.n_images, rule.n_patients) == (120, len(np.unique(held_out["groups"])))


def test_the_doubt_of_a_probability_is_taken_from_the_operating_point(own, held_out):
    """At a threshold of 0.2, a probability of 0.2 is most doubtful: 0.5."""
    own.set_threshold(0.2)
    proba = np.array([[0.8, 0.2], [0.5, 0.5], [0.99, 0.01]])
    point = own.operating_points_["default"]
    answers = Answers(None, None, np.array([1, 1, 0]), point, 0)
    expected = [0.5, expit(-(logit(0.5) - logit(0.2))), expit(logit(0.01) - logit(0.2))]
    np.testing.assert_allclose(otherwise(own, proba[None], answers), expected)
    two = np.stack([proba, proba[[1, 0, 2]]])
    mixed = [(expected[0] + expected[1]) / 2] * 2 + [expected[2]]
    np.testing.assert_allclose(otherwise(own, two, answers), mixed)


def test_of_several_classes_it_is_what_is_left_to_the_others(three_classes):
    X, y, clf = three_classes
    clf = copy.deepcopy(clf).set_abstention(X, y, coverage=0.5)
    found = clf.predict_with_abstention(X)
    np.testing.assert_allclose(found.doubt, 1 - clf.predict_proba(X).max(axis=1), atol=1e-6)
    assert found.answered.sum() >= 30
    assert clf.abstention_.point is None


def test_a_certain_probability_is_not_infinitely_far():
    clf = CXRClassifier("plain_cnn")
    assert np.isfinite(otherwise(clf, np.array([[[0.0, 1.0]]]), Answers(None, None, np.array([1]), None, 0))).all()


def test_several_doubts_count_by_rank(own, held_out):
    """Doubts of different units: the mean of the shares of known images below."""
    percentiles = {"a": tuple(np.linspace(0, 1, 101)), "b": tuple(np.linspace(0, 1000, 101))}
    found = combined({"a": np.array([0.5, 0.0]), "b": np.array([250.0, 2000.0])}, percentiles)
    np.testing.assert_allclose(found, [(0.5 + 0.25) / 2, (0 + 1) / 2])
    own.set_abstention(**held_out, doubt=["probability", "explanation"], coverage=0.6)
    assert own.predict_with_abstention(held_out["X"]).answered.mean() >= 0.6


def test_equally_doubtful_images_have_the_middle_rank():
    """Half of the known images share a doubt of 1, the others lie evenly from 1 to 2."""
    known = {"a": (1.0,) * 51 + tuple(np.linspace(1, 2, 51)[1:]), "b": tuple(np.linspace(0, 1, 101))}
    found = combined({"a": np.array([1.0, 2.0, 0.0]), "b": np.zeros(3)}, known)
    np.testing.assert_allclose(found, [0.25 / 2, 1 / 2, 0.25 / 2])


def test_the_map_of_an_unsteady_explanation_is_doubted(own, hard):
    """By hand: 1 - the metric of each image, 2 for a map without structure."""
    answers = Answers(hard.X[:4], own._logits(hard.X[:4]), np.array([0, 1, 0, 1]), own.operating_points_["default"], 0)
    found = DOUBTS["explanation"].function(own, answers)
    assert found.shape == (4,)
    assert ((found >= 0) & (found <= 2)).all()
    flat = Answers(np.zeros((1, 32, 32), np.uint8), None, np.array([0]), None, 0)
    own.model_.head.weight.data.zero_()
    assert DOUBTS["explanation"].function(own, flat).tolist() == [2.0]


def test_an_error_is_promised_on_independent_patients(own, held_out):
    own.set_abstention(**held_out, max_error=0.6, confidence=0.9)
    rule = own.abstention_
    assert (rule.max_error, rule.confidence) == (0.6, 0.9)
    assert rule.error.value <= 0.6
    with pytest.raises(DataError, match=r"patients|independent images are too few"):
        own.set_abstention(**held_out, max_error=0.01)
    assert own.abstention_ == rule  # a failure changes nothing


def test_does_not_depend_on_what_stands_beside_an_image(own, held_out):
    own.set_abstention(**held_out, doubt=["test_time_augmentation", "explanation"], coverage=0.8)
    together = own.predict_with_abstention(held_out["X"][:6]).doubt
    alone = [own.predict_with_abstention(image[None]).doubt[0] for image in held_out["X"][:6]]
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_unreadable_images_get_no_answer(own, held_out, tmp_path):
    own.set_abstention(**held_out, coverage=1.0).set_params(on_error="skip")
    Image.fromarray(held_out["X"][0]).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"")
    with pytest.warns(SkippedImagesWarning):
        found = own.predict_with_abstention([tmp_path / "bad.png", tmp_path / "good.png"])
    assert found.answered.tolist() == [False, True]
    assert np.isnan(found.doubt[0])
    assert found.reasons == ("the image could not be read", None)
    with pytest.warns(SkippedImagesWarning):
        assert not own.predict_with_abstention([tmp_path / "bad.png"]).answered.any()


def test_comes_back_from_a_folder_and_belongs_to_its_point_and_calibration(own, held_out, tmp_path):
    own.set_abstention(**held_out, doubt=["probability", "explanation"], coverage=0.7).save(tmp_path)
    loaded = CXRClassifier.load(tmp_path)
    assert loaded.abstention_ == own.abstention_
    X = held_out["X"][:20]
    assert loaded.predict_with_abstention(X).labels.tolist() == own.predict_with_abstention(X).labels.tolist()
    loaded.set_threshold(0.3, name="screening")
    with pytest.raises(DataError, match=r"is 'screening' by now.*chosen for 'default'.*set_abstention again"):
        loaded.predict_with_abstention(X)
    named = loaded.set_abstention(**held_out, coverage=0.7, operating_point="default").predict_with_abstention(X)
    assert set(named.labels[named.answered]) <= set(own.predict(X))
    loaded.set_threshold(0.3)
    with pytest.raises(DataError, match="'default' has changed since; call set_abstention again"):
        loaded.predict_with_abstention(X)
    own.calibrate(**held_out)
    with pytest.raises(NotFittedError, match="no cut-off was chosen"):
        own.predict_with_abstention(X)


def test_tells_how_far_it_is_and_can_be_stopped(own, held_out):
    told = []
    doubts = ["probability", "test_time_augmentation", "explanation"]
    own.set_abstention(**held_out, doubt=doubts, coverage=0.7, progress=lambda *at: told.append(at))
    assert told == sorted(told)
    assert told[-1] == (pytest.approx(120), 120)

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        own.predict_with_abstention(held_out["X"], progress=stop)


def test_numbers_of_numpy_are_saved(own, held_out, tmp_path):
    own.set_abstention(**held_out, max_error=np.float32(0.6), confidence=np.float64(0.9)).save(tmp_path)
    assert CXRClassifier.load(tmp_path).abstention_ == own.abstention_


def test_bad_numbers_fail_before_the_work(own, held_out, monkeypatch):
    monkeypatch.setattr(CXRClassifier, "_run", lambda *_: pytest.fail("the network ran"))
    for bad in (
        {"coverage": 2},
        {"max_error": 0},
        {"max_error": 0.1, "confidence": 2},
        {"coverage": 0.5, "confidence": 0},
    ):
        with pytest.raises(InvalidParameterError):
            own.set_abstention(**held_out, **bad)


def test_a_model_without_one_saves_as_before(own, tmp_path):
    own.save(tmp_path)
    assert "abstention" not in json.loads((tmp_path / "config.json").read_text())
    assert CXRClassifier.load(tmp_path).abstention_ is None


@pytest.mark.parametrize(
    "changes",
    [
        {"doubts": ["horoscope"]},
        {"doubts": []},
        {"doubts": ["probability", "explanation"]},
        {"percentiles": {"probability": [0.0] * 101}},
        {"cutoff": "high"},
        {"cutoff": None},
        {"point": None},
        {"point": "nonsense"},
        {"threshold": None},
        {"answer_unusual": 1},
        {"coverage": [0.5, 0.4]},
        {"coverage": [2.0, 0.4, 0.5]},
        {"n_images": -1},
        {"seed": 1.5},
        {"more": 1},
    ],
)
def test_a_damaged_folder_is_refused(own, held_out, tmp_path, changes):
    own.set_abstention(**held_out, coverage=0.7).save(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    config["abstention"] |= changes
    path.write_text(json.dumps(config))
    with pytest.raises(ModelFolderError):
        CXRClassifier.load(tmp_path)


def test_percentiles_must_ascend(own, held_out):
    own.set_abstention(**held_out, doubt=["probability", "test_time_augmentation"], coverage=0.7)
    content = json.loads(json.dumps(own.abstention_.to_dict()))
    assert Abstention.from_dict(content) == own.abstention_
    content["percentiles"]["probability"].reverse()
    with pytest.raises(InvalidParameterError, match="percentiles"):
        Abstention.from_dict(content)


def test_an_ensemble_abstains_too(hard, held_out, learnt, tmp_path):
    other = small_classifier(max_epochs=6, learning_rate=3e-3, random_state=5)
    other.fit(hard.X[:120], hard.y[:120], groups=hard.groups[:120])
    joined = CXREnsemble.from_fitted([learnt, other])
    joined.set_abstention(**held_out, doubt=["ensemble", "explanation"], coverage=0.7).save(tmp_path)
    loaded = CXREnsemble.load(tmp_path)
    X = held_out["X"]
    found = loaded.predict_with_abstention(X)
    assert found.answered.mean() >= 0.7
    assert found.labels.tolist() == joined.predict_with_abstention(X).labels.tolist()


def test_bad_input(own, held_out):
    with pytest.raises(InvalidParameterError, match="'coverage'"):
        own.set_abstention(**held_out)
    with pytest.raises(InvalidParameterError, match="not both"):
        own.set_abstention(**held_out, coverage=0.5, max_error=0.1)
    with pytest.raises(InvalidParameterError, match=r"'doubt'.*'probability'"):
        own.set_abstention(**held_out, doubt="nothing", coverage=0.5)
    for doubt in ([], ["probability", "probability"], 3):
        with pytest.raises(InvalidParameterError, match="'doubt'"):
            own.set_abstention(**held_out, doubt=doubt, coverage=0.5)
    with pytest.raises(InvalidParameterError, match="'operating_point'"):
        own.set_abstention(**held_out, coverage=0.5, operating_point="other")
    with pytest.raises(InvalidParameterError, match="'y'"):
        own.set_abstention(held_out["X"], None, coverage=0.5)
    with pytest.raises(InvalidParameterError, match=r"'doubt'.*for a CXRClassifier"):
        own.set_abstention(**held_out, doubt="ensemble", coverage=0.5)
    with pytest.raises(InvalidParameterError, match=r"'doubt'.*for a CXREnsemble"):
        CXREnsemble.from_fitted([own, own]).set_abstention(**held_out, doubt="mc_dropout", coverage=0.5)
    with pytest.raises(NotFittedError):
        CXRClassifier().set_abstention(**held_out, coverage=0.5)
    with pytest.raises(NotFittedError):
        CXRClassifier().predict_with_abstention(held_out["X"])


def test_unusual_images_get_no_answer_however_sure_the_network_is(own, hard, held_out):
    own.fit_ood(hard.X, groups=hard.groups).set_abstention(**held_out, coverage=1.0)
    seen = own.predict_with_abstention(held_out["X"])
    assert seen.answered.mean() == pytest.approx(own.abstention_.coverage.value)  # what was promised, and no more
    assert seen.answered.tolist() == [not one for one in own.check_images(held_out["X"]).is_unusual]
    noise = np.random.default_rng(0).integers(0, 256, (3, 32, 32), dtype=np.uint8)
    images = np.concatenate([noise, held_out["X"][:4]])
    found = own.predict_with_abstention(images)
    check = own.check_images(images)
    assert check.is_unusual[:3].all()
    assert (found.answered == ~check.is_unusual.astype(bool)).all()
    assert found.reasons[0] == check.sentences[0]
    own.set_abstention(**held_out, coverage=1.0, answer_unusual=True)
    assert own.abstention_.coverage.value == 1.0
    assert own.predict_with_abstention(held_out["X"]).answered.all()
    joined = CXREnsemble.from_fitted([own, own])
    joined.set_abstention(**held_out, coverage=1.0)
    assert joined.predict_with_abstention(images[:3]).reasons == found.reasons[:3]


def test_several_labels_have_no_one_answer(phantoms):
    y = np.stack([phantoms.y == "PNEUMONIA", np.arange(80) % 2], axis=1).astype(float)
    clf = small_classifier(pos_label=None, max_epochs=1).fit(phantoms.X, y, groups=phantoms.groups)
    with pytest.raises(DataError, match="no one answer"):
        clf.set_abstention(phantoms.X, y, coverage=0.5)
