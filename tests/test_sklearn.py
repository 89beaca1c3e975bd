"""Scikit-learn's own tools, with file paths and with arrays."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone, is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.metrics import balanced_accuracy_score, make_scorer
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedGroupKFold,
    TunedThresholdClassifierCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import get_tags

from cxr_estimator import CXRClassifier, _fitting
from cxr_estimator.errors import DataError, EncodedLabelsWarning, PatientLeakWarning, SkippedImagesWarning
from tests.conftest import small_classifier


@pytest.fixture(scope="module", params=["arrays", "paths"])
def X(request, phantoms, tmp_path_factory):
    if request.param == "arrays":
        return phantoms.X
    folder = tmp_path_factory.mktemp("images")
    paths = [folder / f"{patient}_{i}.png" for i, patient in enumerate(phantoms.groups)]
    for path, image in zip(paths, phantoms.X, strict=True):
        Image.fromarray(image).save(path)
    return np.array([str(path) for path in paths])


@pytest.fixture
def clf():
    """Without an inner validation split, no patient can leak."""
    return small_classifier(max_epochs=2, validation_fraction=0.0)


def test_clone(clf, X, phantoms):
    once = clf.fit(X, phantoms.y)
    again = clone(once).fit(X, phantoms.y)
    assert (again.predict_proba(X) == once.predict_proba(X)).all()


def test_pipeline(clf, X, phantoms):
    pipe = Pipeline([("same", FunctionTransformer()), ("clf", clf)])
    pipe.fit(X, phantoms.y)
    assert (pipe.predict_proba(X) == clone(clf).fit(X, phantoms.y).predict_proba(X)).all()
    assert pipe.set_params(clf__max_epochs=1).get_params()["clf__max_epochs"] == 1


def test_cross_val_score(clf, X, phantoms):
    cv = StratifiedGroupKFold(3)
    scores = cross_val_score(clf, X, phantoms.y, groups=phantoms.groups, cv=cv, scoring="roc_auc", error_score="raise")
    assert scores.shape == (3,)
    assert ((scores >= 0) & (scores <= 1)).all()


def test_cross_val_predict_encodes_the_labels(clf, X, phantoms):
    """Scikit-learn fits on 0 and 1 there: `pos_label` is not found, which is said and changes no probability."""
    cv = StratifiedGroupKFold(3)
    options = {"groups": phantoms.groups, "cv": cv, "method": "predict_proba"}
    with pytest.warns(EncodedLabelsWarning, match="pos_label='PNEUMONIA' is none of them"):
        proba = cross_val_predict(clf, X, phantoms.y, **options)
    without = cross_val_predict(clf.set_params(pos_label=None), X, phantoms.y, **options)
    assert (proba == without).all()


def test_grid_search(clf, X, phantoms):
    search = GridSearchCV(
        clf, {"backbone": ["plain_cnn", "resnet10t"], "max_epochs": [1]}, cv=2, scoring="roc_auc", error_score="raise"
    )
    search.fit(X, phantoms.y)
    assert search.best_params_["backbone"] in ("plain_cnn", "resnet10t")
    assert search.predict(X).shape == (80,)


def test_learning_curve(clf, X, phantoms):
    sizes, train_scores, test_scores = learning_curve(
        clf, X, phantoms.y, train_sizes=[0.5, 1.0], cv=2, shuffle=True, random_state=0, error_score="raise"
    )
    assert sizes.tolist() == [20, 40]
    assert train_scores.shape == test_scores.shape == (2, 2)


@pytest.mark.parametrize("method", ["sigmoid", "isotonic", "temperature"])
@pytest.mark.filterwarnings("ignore::cxr_estimator.errors.EncodedLabelsWarning")
def test_calibrated_classifier(clf, X, phantoms, method):
    calibrated = CalibratedClassifierCV(clf, method=method, cv=2).fit(X, phantoms.y)
    proba = calibrated.predict_proba(X)
    assert proba.shape == (80, 2)
    np.testing.assert_allclose(proba.sum(axis=1), 1)


def test_tuned_threshold(clf, X, phantoms):
    scoring = make_scorer(balanced_accuracy_score)
    tuned = TunedThresholdClassifierCV(clf, scoring=scoring, cv=2, thresholds=9).fit(X, phantoms.y)
    assert 0 <= tuned.best_threshold_ <= 1
    assert set(tuned.predict(X)) <= {"NORMAL", "PNEUMONIA"}


# -- patients through scikit-learn


@pytest.fixture
def groups_seen(monkeypatch):
    """What each inner validation split was told of the patients."""
    seen = []
    original = _fitting.validation_split

    def spy(classes, encoded, groups, fraction, seed):
        seen.append(None if groups is None else len(set(groups)))
        return original(classes, encoded, groups, fraction, seed)

    monkeypatch.setattr(_fitting, "validation_split", spy)
    return seen


@pytest.mark.usefixtures("metadata_routing")
def test_with_metadata_routing_the_inner_split_gets_the_patients(phantoms, groups_seen):
    clf = small_classifier(max_epochs=1).set_fit_request(groups=True)
    cross_validate(
        clf, phantoms.X, phantoms.y, params={"groups": phantoms.groups}, cv=StratifiedGroupKFold(2), error_score="raise"
    )
    assert groups_seen
    assert all(number == 20 for number in groups_seen)  # half of the 40 patients


@pytest.fixture
def weights_seen(monkeypatch):
    """The sum of the sample weights of each fit, of those that got any."""
    seen = []
    original = _fitting.loss_weights

    def spy(class_weight, classes, encoded, sample_weight):
        seen.append(None if sample_weight is None else float(np.sum(sample_weight)))
        return original(class_weight, classes, encoded, sample_weight)

    monkeypatch.setattr(_fitting, "loss_weights", spy)
    return seen


@pytest.fixture
def weights_scored(monkeypatch):
    """The sample weights that each score got."""
    seen = []
    original = CXRClassifier.score

    def spy(self, X, y, sample_weight=None):
        seen.append(sample_weight)
        return original(self, X, y, sample_weight)

    monkeypatch.setattr(CXRClassifier, "score", spy)
    return seen


def search_once(clf, X, y, **metadata):
    GridSearchCV(clf, {"max_epochs": [1]}, cv=StratifiedGroupKFold(2), error_score="raise").fit(X, y, **metadata)


def cross_validate_once(clf, X, y, **metadata):
    cross_validate(clf, X, y, params=metadata, cv=StratifiedGroupKFold(2), error_score="raise")


@pytest.mark.usefixtures("metadata_routing")
@pytest.mark.parametrize(("run", "whole"), [(search_once, 1), (cross_validate_once, 0)])
def test_patients_and_weights_are_routed(phantoms, groups_seen, weights_seen, weights_scored, run, whole):
    """`whole` more fits, the refit, see all 40 patients."""
    weights = np.where(phantoms.y == "PNEUMONIA", 2.0, 1.0)
    clf = small_classifier(max_epochs=1).set_fit_request(groups=True, sample_weight=True)
    clf.set_score_request(sample_weight=True)
    run(clf, phantoms.X, phantoms.y, groups=phantoms.groups, sample_weight=weights)
    assert set(groups_seen) == {20, 40} if whole else {20}
    assert None not in weights_seen
    assert [len(weights) for weights in weights_scored] == [40, 40]
    assert sum(map(np.sum, weights_scored)) == weights.sum()


@pytest.mark.usefixtures("metadata_routing")
def test_weights_that_nobody_asked_for_are_refused(phantoms):
    clf = small_classifier(max_epochs=1).set_fit_request(groups=True)
    with pytest.raises(UnsetMetadataPassedError, match="sample_weight"):
        cross_validate_once(clf, phantoms.X, phantoms.y, groups=phantoms.groups, sample_weight=np.ones(80))


def test_without_metadata_routing_it_warns(phantoms, groups_seen):
    clf = small_classifier(max_epochs=1)
    with pytest.warns(PatientLeakWarning):
        cross_val_score(
            clf, phantoms.X, phantoms.y, groups=phantoms.groups, cv=StratifiedGroupKFold(2), error_score="raise"
        )
    assert set(groups_seen) == {None}


@pytest.mark.parametrize("X", ["paths"], indirect=True)
def test_without_metadata_routing_patients_come_from_file_names(X, phantoms, groups_seen):
    clf = small_classifier(patient_pattern=r"(P\d+)_[^/]*$", max_epochs=1)
    cross_val_score(clf, X, phantoms.y, groups=phantoms.groups, cv=StratifiedGroupKFold(2), error_score="raise")
    assert groups_seen
    assert all(number == 20 for number in groups_seen)


# -- what scikit-learn shows and asks


def test_text_repr_shows_what_is_not_default(clf):
    assert "backbone='plain_cnn'" in repr(clf)
    assert "weight_decay" not in repr(clf)


def test_html_repr(clf, fitted):
    for estimator, word in ((clf, "Not fitted"), (fitted, "Fitted"), (CXRClassifier(class_weight={"a": 2}), "class_")):
        text = estimator._repr_html_()
        assert "CXRClassifier" in text
        assert word in text
    assert "operating_points_" in fitted._repr_html_()
    assert "Not fitted" not in fitted._repr_html_()


def test_html_repr_of_a_pipeline(fitted):
    text = Pipeline([("same", FunctionTransformer()), ("clf", fitted)])._repr_html_()
    assert "CXRClassifier" in text
    assert "plain_cnn" in text


def test_tags(clf):
    tags = get_tags(clf)
    assert is_classifier(clf)
    assert tags.estimator_type == "classifier"
    assert tags.classifier_tags.multi_class
    assert tags.classifier_tags.multi_label
    assert tags.target_tags.required
    assert not tags.target_tags.multi_output
    assert tags.input_tags.two_d_array
    assert tags.input_tags.three_d_array
    assert tags.input_tags.string
    assert not tags.input_tags.sparse
    assert not tags.input_tags.allow_nan
    assert tags.requires_fit
    assert not tags.no_validation
    assert tags.transformer_tags.preserves_dtype == []
    # the tag means "even with a fixed random_state", so None does not make an estimator non-deterministic
    assert not get_tags(clf.set_params(random_state=None)).non_deterministic


# -- score


def test_weighted_score_by_hand(fitted, phantoms):
    right = fitted.predict(phantoms.X) == phantoms.y
    weights = np.arange(80.0)
    assert fitted.score(phantoms.X, phantoms.y) == right.mean()
    assert fitted.score(phantoms.X, phantoms.y, weights) == pytest.approx(weights[right].sum() / weights.sum())


@pytest.mark.parametrize("label", ["NORMAL", "PNEUMONIA"])
def test_an_unreadable_image_counts_as_wrong(fitted, phantoms, label):
    clf = copy.deepcopy(fitted).set_params(on_error="skip")
    right = (clf.predict(phantoms.X[:9]) == phantoms.y[:9]).sum()
    X, y = [*phantoms.X[:9], "nowhere.png"], [*phantoms.y[:9], label]
    with pytest.warns(SkippedImagesWarning, match=r"nowhere\.png"):
        assert clf.score(X, y) == pytest.approx(right / 10)
    with pytest.warns(SkippedImagesWarning):
        assert clf.score(X, y, sample_weight=[1] * 9 + [6]) == pytest.approx(right / 15)
    with pytest.warns(SkippedImagesWarning):
        assert clf.score(X[-1:], y[-1:]) == 0
    with pytest.warns(SkippedImagesWarning), pytest.raises(DataError, match="10 images but y has 9"):
        clf.score(X, y[:9])


def test_unreadable_images_of_several_classes_count_as_wrong(three_classes):
    clf = copy.deepcopy(three_classes[2]).set_params(on_error="skip")
    with pytest.warns(SkippedImagesWarning):
        assert clf.score(["a.png", "b.png", "c.png"], ["red", "green", "blue"]) == 0
