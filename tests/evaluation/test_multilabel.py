"""Evaluation of several labels per image, some of them unknown."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, confusion_matrix, f1_score, recall_score, roc_auc_score

from cxr_estimator import CXRClassifier, evaluate
from cxr_estimator._outputs import Task
from cxr_estimator.errors import DataError
from cxr_estimator.evaluation.plots import plots_of
from cxr_estimator.thresholds import number_point
from tests.evaluation.conftest import IMAGES, judging

LABELS = ["Edema", "Effusion", "Mass"]
PATIENTS = np.repeat(np.arange(100), 2)


@pytest.fixture(scope="module")
def several(fitted):
    """A classifier of three labels that is right for most of `IMAGES`; of the first label, some are unknown."""
    rng = np.random.default_rng(0)
    y = (rng.random((200, 3)) < [0.5, 0.3, 0.2]).astype(float)
    logits = rng.normal(0, 1.5, (200, 3)) + 3.0 * y - 1.5
    y[:30, 0] = np.nan
    clf = judging(fitted, logits)
    clf.task_, clf.classes_, clf.pos_label_ = Task.MULTILABEL, np.array(LABELS), None
    points = [number_point(0.5, name=label, caller="t", label=label) for label in LABELS]
    clf.operating_points_ = {point.name: point for point in points}
    clf.active_points_, clf.class_weights_ = tuple(LABELS), np.ones(3)
    return clf, y


@pytest.fixture(scope="module")
def report(several):
    clf, y = several
    clf = copy.copy(clf)
    clf.set_threshold("sensitivity>=0.9", X=IMAGES, y=y, groups=PATIENTS, label="Mass", name="find_mass")
    sex = np.where(np.arange(200) % 4 < 2, "F", "M")
    return evaluate(clf, IMAGES, y, PATIENTS, subgroups={"sex": sex}, n_resamples=50)


def test_every_label_equals_scikit_learn_where_it_is_known(several, report):
    clf, y = several
    proba = clf.predict_proba(IMAGES)
    for k, label in enumerate(LABELS):
        rows = ~np.isnan(y[:, k])
        truth, score = y[rows, k], proba[rows, k]
        found = report.per_class[label]
        assert found["auroc"].value == pytest.approx(roc_auc_score(truth, score))
        assert found["auprc"].value == pytest.approx(average_precision_score(truth, score))
        assert report.support[label] == truth.sum()
        assert report.prevalence[label] == pytest.approx(truth.mean())
        at_half = report.decisions[label]
        assert at_half.estimates["f1"].value == pytest.approx(f1_score(truth, score >= 0.5))
        np.testing.assert_array_equal(at_half.confusion, confusion_matrix(truth, score >= 0.5))
        assert at_half.classes == (f"not {label}", label)
    areas = [report.per_class[label]["auroc"].value for label in LABELS]
    assert report.overall["macro_auroc"].value == pytest.approx(np.mean(areas))


def test_active_points_decide(several, report):
    clf, y = several
    assert list(report.decisions) == ["Edema", "Effusion", "find_mass", "Mass"]
    said = clf.predict(IMAGES)
    truth = y[:, 1]
    assert report.per_class["Effusion"]["recall"].value == pytest.approx(recall_score(truth, said[:, 1]))
    found = report.decisions["find_mass"]
    assert found.estimates["sensitivity"].value >= 0.9
    assert {one.verdict for one in found.transfer} == {"as promised"}
    assert report.per_class["Mass"]["recall"] == found.estimates["sensitivity"]
    recalls = [report.per_class[label]["recall"].value for label in LABELS]
    assert report.overall["macro_recall"].value == pytest.approx(np.mean(recalls))
    one = report.overall["macro_recall"]
    assert one.low < one.value < one.high
    assert report.confusion.shape == (3, 2, 2)
    np.testing.assert_array_equal(report.confusion[2], found.confusion)


def test_every_format(report, tmp_path):
    assert report.heading.startswith("labels, each among the images it is known of: Edema")
    content = json.loads(report.to_json())
    assert content["task"] == "multilabel"
    assert "## All labels, each at its operating point" in report.to_markdown()
    assert plots_of(report) == ["roc", "precision_recall", "reliability"]
    assert report.to_html().count("data:image/png") == 3
    assert set(report.subgroups["value"]) == {"F", "M"}
    assert report.subgroups["macro_auroc"].notna().all()
    frame = report.to_frame()
    assert frame[frame["figure"] == "prevalence"]["class"].tolist() == LABELS
    assert (report.save(tmp_path / "r") / "roc.png").exists()


def test_a_label_without_both_values_is_undefined_and_left_out_of_the_mean(several):
    clf, y = several
    y = y.copy()
    y[:, 2] = 0.0
    report = evaluate(clf, IMAGES, y, PATIENTS, n_resamples=20)
    assert np.isnan(report.per_class["Mass"]["auroc"].value)
    assert any(note.startswith("auroc of Mass is undefined") for note in report.notes)
    areas = [report.per_class[label]["auroc"].value for label in LABELS[:2]]
    assert report.overall["macro_auroc"].value == pytest.approx(np.mean(areas))
    y[:, 2] = np.nan
    report = evaluate(clf, IMAGES, y, PATIENTS, n_resamples=20)
    assert np.isnan(report.prevalence["Mass"])
    assert json.loads(report.to_json())["prevalence"]["Mass"] is None
    assert len(report.to_html()) > 1000
    assert "Mass unknown" in report.heading
    assert "Of no image it is known whether it has Mass." in report.notes
    assert not any("of Mass is undefined" in note for note in report.notes)
    with pytest.raises(DataError, match="no label of any image"):
        evaluate(clf, IMAGES, np.full((200, 3), np.nan), PATIENTS)


def test_labels_do_not_fit(several):
    clf, y = several
    with pytest.raises(DataError, match="3"):
        evaluate(clf, IMAGES, y[:, :2])


def test_calibration_before_and_after(several):
    clf, y = several
    clf = copy.copy(clf).calibrate(IMAGES, y, groups=PATIENTS, method="platt")
    report = evaluate(clf, IMAGES, y, PATIENTS, n_resamples=20)
    assert report.judged.uncalibrated.shape == (200, 3)
    legend = [text.get_text() for text in report.plot("reliability").axes[0].get_legend().get_texts()]
    assert "Edema, before calibration" in legend
    assert abs(report.per_class["Edema"]["calibration_gap"].value) < 0.01
    assert isinstance(clf, CXRClassifier)
