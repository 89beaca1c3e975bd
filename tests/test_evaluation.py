"""evaluate."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, recall_score, roc_auc_score

from cxr_estimator import evaluate
from cxr_estimator.errors import DataError, InvalidParameterError, InvalidTypeError


@pytest.fixture(scope="module")
def report(fitted, phantoms):
    return evaluate(fitted, phantoms.X, phantoms.y, phantoms.groups, n_resamples=200)


def test_equals_scikit_learn(report, fitted, phantoms):
    predicted, proba = fitted.predict(phantoms.X), fitted.predict_proba(phantoms.X)[:, 1]
    assert report.metrics["auroc"].value == pytest.approx(roc_auc_score(phantoms.y == "PNEUMONIA", proba))
    for metric, label in (("sensitivity", "PNEUMONIA"), ("specificity", "NORMAL")):
        assert report.metrics[metric].value == pytest.approx(recall_score(phantoms.y, predicted, pos_label=label))
    assert report.metrics["accuracy"].value == pytest.approx(accuracy_score(phantoms.y, predicted))
    assert (report.confusion == confusion_matrix(phantoms.y, predicted)).all()
    assert all(estimate.low <= estimate.value <= estimate.high for estimate in report.metrics.values())


def test_class_order_and_prevalence_head_the_report(report):
    text = str(report)
    assert text.splitlines()[0] == "80 images of 40 patients; 0 unreadable"
    assert text.splitlines()[1] == "classes in order: NORMAL 50.0%, PNEUMONIA 50.0%"
    assert "positive label: PNEUMONIA" in text
    assert report.to_frame().columns.tolist() == ["metric", "value", "low", "high"]
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["n_patients"] == 40


def test_swapping_the_positive_label_swaps_sensitivity_and_specificity(fitted, phantoms, report):
    import copy

    swapped = copy.copy(fitted)
    swapped.pos_label_ = "NORMAL"  # at a threshold of 0.5 the decisions stay the same
    other = evaluate(swapped, phantoms.X, phantoms.y, phantoms.groups, n_resamples=10)
    assert other.metrics["sensitivity"].value == report.metrics["specificity"].value
    assert other.metrics["specificity"].value == report.metrics["sensitivity"].value
    assert other.metrics["auroc"].value == pytest.approx(report.metrics["auroc"].value)


def test_several_classes(three_classes):
    X, y, clf = three_classes
    report = evaluate(clf, X, y, n_resamples=20)
    assert list(report.metrics) == ["macro_auroc", "accuracy", "recall_blue", "recall_green", "recall_red"]
    assert report.metrics["macro_auroc"].value == pytest.approx(
        roc_auc_score(y, clf.predict_proba(X), multi_class="ovr"), abs=0.02
    )
    assert report.threshold is None
    assert "positive label" not in str(report)


def test_without_patients_each_image_is_one(fitted, phantoms):
    assert evaluate(fitted, phantoms.X[:10], phantoms.y[:10], n_resamples=5).n_patients == 10


@pytest.mark.filterwarnings("ignore::cxr_estimator.errors.SkippedImagesWarning")
def test_unreadable_images_are_counted(fitted, phantoms):
    import copy

    clf = copy.copy(fitted).set_params(on_error="skip")
    report = evaluate(clf, [*phantoms.X[:10], "missing.png"], [*phantoms.y[:10], "NORMAL"], n_resamples=5)
    assert (report.n_images, report.n_unreadable) == (10, 1)
    with pytest.raises(DataError, match="none of the 1 images"):
        evaluate(clf, ["missing.png"], ["NORMAL"])


def test_one_class_only_gives_nan_where_undefined(fitted, phantoms):
    sick = phantoms.y == "PNEUMONIA"
    report = evaluate(fitted, phantoms.X[sick], phantoms.y[sick], n_resamples=5)
    assert np.isnan(report.metrics["auroc"].value)
    assert np.isnan(report.metrics["specificity"].value)
    assert report.to_dict()["metrics"]["auroc"]["value"] is None


def test_bad_input(fitted, phantoms):
    with pytest.raises(DataError, match="does not know"):
        evaluate(fitted, phantoms.X[:2], ["NORMAL", "COVID"])
    with pytest.raises(DataError, match="2 images but y has 1"):
        evaluate(fitted, phantoms.X[:2], ["NORMAL"])
    with pytest.raises(DataError, match="groups must have one entry"):
        evaluate(fitted, phantoms.X[:2], phantoms.y[:2], [1])


def test_offsets_of_single_images_do_not_change_the_macro_auroc(three_classes, monkeypatch):
    """Adding a constant to all logits of an image changes no probability."""
    X, y, clf = three_classes
    before = evaluate(clf, X, y, n_resamples=5).metrics["macro_auroc"]
    logits = clf._logits(X)
    offsets = np.random.default_rng(0).normal(0, 20, (60, 1)).astype(np.float32)
    monkeypatch.setattr(type(clf), "_logits", lambda self, X: logits + offsets)
    assert evaluate(clf, X, y, n_resamples=5).metrics["macro_auroc"].value == pytest.approx(before.value, abs=1e-3)


def test_wrong_arguments(fitted, phantoms):
    with pytest.raises(InvalidTypeError, match="'clf' parameter of evaluate must be a CXRClassifier"):
        evaluate("model", phantoms.X, phantoms.y)
    with pytest.raises(InvalidParameterError, match="'n_resamples'"):
        evaluate(fitted, phantoms.X, phantoms.y, n_resamples=0)
