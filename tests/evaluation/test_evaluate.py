"""evaluate."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    auc,
    confusion_matrix,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

from cxr_estimator import evaluate
from cxr_estimator.errors import (
    DataError,
    InvalidParameterError,
    InvalidTypeError,
    SameDataWarning,
    SkippedImagesWarning,
)
from cxr_estimator.provenance import Provenance, Side
from tests.evaluation.conftest import IMAGES, judging


def test_equals_scikit_learn(report, two):
    clf, y, _ = two
    clf = judging(clf, clf.model_.logits)
    clf.set_threshold("sensitivity", at_least=0.95, X=IMAGES, y=y)
    predicted, proba = clf.predict(IMAGES), clf.predict_proba(IMAGES)[:, 1]
    assert report.metrics["auroc"].value == pytest.approx(roc_auc_score(y == "PNEUMONIA", proba))
    for metric, label in (("sensitivity", "PNEUMONIA"), ("specificity", "NORMAL")):
        assert report.metrics[metric].value == pytest.approx(recall_score(y, predicted, pos_label=label))
    assert report.metrics["accuracy"].value == pytest.approx(accuracy_score(y, predicted))
    assert (report.confusion == confusion_matrix(y, predicted)).all()
    for name, one in report.metrics.items():
        assert name == "calibration_error" or one.low <= one.value <= one.high


def test_figures_of_the_network_itself(fitted, phantoms):
    report = evaluate(fitted, phantoms.X, phantoms.y, phantoms.groups, n_resamples=50)
    proba = fitted.predict_proba(phantoms.X)[:, 1]
    assert report.overall["auroc"].value == pytest.approx(roc_auc_score(phantoms.y == "PNEUMONIA", proba))
    assert report.metrics["accuracy"].value == pytest.approx(fitted.score(phantoms.X, phantoms.y))


def test_swapping_the_positive_label_swaps_sensitivity_and_specificity(two):
    clf, y, patients = two
    report = evaluate(clf, IMAGES, y, patients, n_resamples=20)
    swapped = judging(clf, clf.model_.logits)
    swapped.pos_label_ = "NORMAL"
    swapped.set_threshold(0.5)  # at which the decisions stay the same
    other = evaluate(swapped, IMAGES, y, patients, n_resamples=20)
    pairs = {"sensitivity": "specificity", "precision": "npv", "auroc": "auroc", "brier": "brier", "mcc": "mcc"}
    for name, swapped_name in (*pairs.items(), *((b, a) for a, b in pairs.items())):
        assert other.metrics[name] == pytest.approx(report.metrics[swapped_name]), name
    gaps = other.metrics["calibration_gap"], report.metrics["calibration_gap"]
    assert gaps[0].value == pytest.approx(-gaps[1].value)
    assert (other.confusion == report.confusion).all()
    assert other.classes == report.classes


def test_several_classes(several_report, three):
    clf, y, _ = three
    report, proba, predicted = several_report, clf.predict_proba(IMAGES), clf.predict(IMAGES)
    assert report.metrics["macro_auroc"].value == pytest.approx(roc_auc_score(y, proba, multi_class="ovr"))
    for k, label in enumerate(report.classes):
        found = report.per_class[label]
        assert report.support[label] == (y == label).sum()
        assert found["recall"].value == pytest.approx(recall_score(y == label, predicted == label))
        assert found["precision"].value == pytest.approx(precision_score(y == label, predicted == label))
        assert found["f1"].value == pytest.approx(f1_score(y == label, predicted == label))
        assert found["auroc"].value == pytest.approx(roc_auc_score(y == label, proba[:, k]))
        assert report.metrics[f"recall_{label}"] == found["recall"]
    assert report.threshold is report.pos_label is None
    assert "positive label" not in str(report)


def test_subgroups_follow_the_readable_images(fitted, phantoms):
    clf = copy.copy(fitted).set_params(on_error="skip")
    X = [phantoms.X[0], "missing.png", *phantoms.X[1:10]]
    y, sex = [phantoms.y[0], "NORMAL", *phantoms.y[1:10]], ["F", "M", *["F"] * 9]
    with pytest.warns(SkippedImagesWarning):
        report = evaluate(clf, X, y, subgroups={"sex": sex}, n_resamples=5)
    assert report.subgroups["n_images"].tolist() == [10]


def test_names_of_patients_change_nothing(two):
    clf, y, patients = two
    once = evaluate(clf, IMAGES, y, patients, n_resamples=20).to_dict()
    assert (
        evaluate(clf, IMAGES, y, np.repeat(np.arange(100), 2), n_resamples=20).metrics.keys() == once["metrics"].keys()
    )
    renamed = evaluate(clf, IMAGES, y, np.char.add("x", patients), n_resamples=20)
    assert renamed.to_dict() == once


def test_without_patients_each_image_is_one(two):
    clf, y, patients = two
    report, clustered = evaluate(clf, IMAGES, y, n_resamples=5), evaluate(clf, IMAGES, y, patients, n_resamples=5)
    assert (report.n_patients, clustered.n_patients) == (200, 100)
    assert any("Patients are unknown" in note for note in report.notes)
    assert not any("Patients are unknown" in note for note in clustered.notes)


@pytest.mark.filterwarnings("ignore::cxr_estimator.errors.SkippedImagesWarning")
def test_unreadable_images_are_counted(fitted, phantoms):
    clf = copy.copy(fitted).set_params(on_error="skip")
    report = evaluate(clf, [*phantoms.X[:10], "missing.png"], [*phantoms.y[:10], "NORMAL"], n_resamples=5)
    assert (report.n_images, report.n_unreadable) == (10, 1)
    with pytest.raises(DataError, match="none of the 1 images"):
        evaluate(clf, ["missing.png"], ["NORMAL"])


@pytest.mark.parametrize(("n_of_one", "told"), [(11, True), (10, False)])
def test_a_patient_with_many_of_the_images_is_told(fitted, phantoms, n_of_one, told):
    patients = [f"P{max(i - n_of_one + 1, 0)}" for i in range(40)]  # the first has so many, the others one each
    report = evaluate(fitted, phantoms.X[:40], phantoms.y[:40], patients, n_resamples=5)
    said = [note for note in report.notes if note.startswith("One patient has")]
    assert bool(said) == told
    assert all("has 28% of the images" in note for note in said)


def test_one_class_only_gives_nan_where_undefined(fitted, phantoms):
    sick = phantoms.y == "PNEUMONIA"
    report = evaluate(fitted, phantoms.X[sick], phantoms.y[sick], n_resamples=5)
    assert np.isnan(report.metrics["auroc"].value)
    assert np.isnan(report.metrics["specificity"].value)
    assert report.to_dict()["metrics"]["auroc"]["value"] is None
    assert "auroc is undefined (NaN): it needs images with and without the label." in report.notes
    assert "specificity at 'default' is undefined (NaN): every image has the label." in report.notes


def test_bad_input(fitted, phantoms):
    with pytest.raises(DataError, match="does not know"):
        evaluate(fitted, phantoms.X[:2], ["NORMAL", "COVID"])
    with pytest.raises(DataError, match="2 images but y has 1"):
        evaluate(fitted, phantoms.X[:2], ["NORMAL"])
    with pytest.raises(DataError, match="groups must have one entry"):
        evaluate(fitted, phantoms.X[:2], phantoms.y[:2], [1])


def test_offsets_of_single_images_do_not_change_the_macro_auroc(three, several_report):
    """Adding a constant to all logits of an image changes no probability."""
    clf, y, patients = three
    offsets = np.random.default_rng(0).normal(0, 20, (200, 1))
    moved = evaluate(judging(clf, clf.model_.logits.numpy() + offsets), IMAGES, y, patients, n_resamples=5)
    assert moved.metrics["macro_auroc"].value == pytest.approx(several_report.metrics["macro_auroc"].value, abs=1e-3)


def test_wrong_arguments(fitted, phantoms):
    with pytest.raises(InvalidTypeError, match="'clf' parameter of evaluate must be a CXRClassifier"):
        evaluate("model", phantoms.X, phantoms.y)
    with pytest.raises(InvalidParameterError, match="'n_resamples'"):
        evaluate(fitted, phantoms.X, phantoms.y, n_resamples=0)


def test_validation_images_that_chose_the_epoch_are_noticed(two):
    """And those that did not, since no patience was asked for, are as good as others."""
    clf, y, patients = two
    ids = judging(clf, clf.model_.logits)._run(IMAGES).content_ids
    unseen = Side.of(np.zeros(2, int), ["a", "b"], None, ["00", "11"])
    side = Side.of(np.zeros(len(ids), int), ["a", "b"], None, ids)
    clf = judging(clf, clf.model_.logits)
    clf.provenance_ = Provenance.of_fit([unseen, side], (), 0, 1.0)
    with pytest.warns(SameDataWarning, match="100% of the images that chose its epoch"):
        evaluate(clf, IMAGES, y, patients, n_resamples=5)
    clf.patience = None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate(clf, IMAGES, y, patients, n_resamples=5)


def test_images_that_chose_a_point_or_calibrated_are_noticed(two):
    clf, y, patients = two
    clf = judging(clf, clf.model_.logits)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate(clf, IMAGES, y, patients, n_resamples=10)
    first, second = np.arange(60, 100), np.arange(0, 200, 2)  # of both labels
    clf.set_threshold("youden", X=IMAGES[first], y=y[first], groups=patients[first], name="first")
    with pytest.warns(SameDataWarning, match="100% of the images that chose the operating point 'first'"):
        report = evaluate(clf, IMAGES, y, patients, n_resamples=10)
    assert "100% of the images that chose the operating point 'first'" in report.notes[0]
    with pytest.warns(SameDataWarning, match="50% of the images that chose the operating point 'first'"):
        evaluate(clf, IMAGES[first[:20]], y[first[:20]], patients[first[:20]], n_resamples=10)
    clf = judging(clf, clf.model_.logits).set_threshold(0.5).calibrate(IMAGES[second], y[second])
    clf.operating_points_ = {"default": clf.operating_points_["default"]}
    with pytest.warns(SameDataWarning, match=r"are \d+% of the images that calibrated the model"):
        evaluate(clf, IMAGES[50:100], y[50:100], patients[50:100], n_resamples=10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate(clf, IMAGES[1::2], y[1::2], patients[1::2], n_resamples=10)


def test_curves_and_figures_rank_by_what_points_decide_on(two):
    """Isotonic calibration ties images; the drawn curve, its area and the points are those of the raw scores."""
    clf, y, patients = two
    raw = evaluate(clf, IMAGES, y, patients, n_resamples=10)
    clf = judging(clf, clf.model_.logits).calibrate(IMAGES, y, groups=patients, method="isotonic")
    report = evaluate(clf, IMAGES, y, patients, n_resamples=10)
    assert report.metrics["auroc"] == raw.metrics["auroc"]
    (curve,) = [line for line in report.plot("roc").axes[0].lines if "AUROC" in str(line.get_label())]
    assert auc(curve.get_xdata(), curve.get_ydata()) == pytest.approx(raw.metrics["auroc"].value)


def test_no_threshold_is_shown_for_several_calibrated_classes(three):
    clf, y, patients = three
    label = clf.classes_[0]
    clf = judging(clf, clf.model_.logits).set_threshold("youden", X=IMAGES, y=y, label=label, name="one")
    assert evaluate(clf, IMAGES, y, patients, n_resamples=10).decisions["one"].threshold is not None
    clf.calibrate(IMAGES, y)
    assert evaluate(clf, IMAGES, y, patients, n_resamples=10).decisions["one"].threshold is None


def test_wrong_labels_cost_no_pass_through_the_network(two, monkeypatch):
    clf, y, _ = two
    monkeypatch.setattr("cxr_estimator.CXRClassifier._run", lambda *_: pytest.fail("the network ran"))
    with pytest.raises(DataError, match="y has 199 labels"):
        evaluate(clf, IMAGES, y[:-1])
    with pytest.raises(DataError, match="subgroup"):
        evaluate(clf, IMAGES, y, subgroups={"sex": ["F"]})
    with pytest.raises(DataError, match="groups"):
        clf.calibrate(IMAGES, y, groups=[1])
