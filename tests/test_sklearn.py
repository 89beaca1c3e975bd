"""Scikit-learn's own tools, with file paths and with arrays."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.metrics import balanced_accuracy_score, make_scorer
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    StratifiedGroupKFold,
    TunedThresholdClassifierCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from cxr_estimator import _fitting
from cxr_estimator.errors import EncodedLabelsWarning, PatientLeakWarning
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


def test_cross_val_score_in_two_processes(clf, X, phantoms):
    options = {"groups": phantoms.groups, "cv": GroupKFold(2), "error_score": "raise"}
    one = cross_val_score(clf, X, phantoms.y, **options)
    two = cross_val_score(clf, X, phantoms.y, n_jobs=2, **options)
    np.testing.assert_allclose(one, two, atol=0.1)  # workers get fewer threads, which moves the last digits


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


def test_html_and_text_repr(clf):
    assert "CXRClassifier" in clf._repr_html_()
    assert "plain_cnn" in repr(clf)
