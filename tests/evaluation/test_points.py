"""Operating points, and what becomes of their promises on other data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cxr_estimator import evaluate
from cxr_estimator.evaluation import Transfer
from cxr_estimator.statistics import Estimate, difference
from tests.evaluation.conftest import IMAGES, judging


def transfer(promised, observed):
    return Transfer("sensitivity", promised, observed, difference(observed, promised))


def test_a_gap_beyond_its_interval_is_flagged():
    promise = Estimate(0.95, 0.92, 0.97)
    assert transfer(promise, Estimate(0.80, 0.70, 0.88)).verdict == "lower"
    assert transfer(promise, Estimate(0.93, 0.85, 0.97)).verdict == "as promised"
    assert transfer(Estimate(0.5, 0.4, 0.6), promise).verdict == "higher"
    nothing = transfer(promise, Estimate(np.nan, np.nan, np.nan))
    assert nothing.verdict == "undefined"
    assert not nothing.flagged
    assert transfer(promise, Estimate(0.80, 0.70, 0.88)).flagged


def test_each_point_is_evaluated_and_the_active_one_first(two):
    clf, y, patients = two
    clf = judging(clf, clf.model_.logits)
    clf.set_threshold(0.9, name="strict").set_threshold(0.2, name="loose")
    report = evaluate(clf, IMAGES, y, patients, n_resamples=20)
    assert list(report.decisions) == ["loose", "default", "strict"]
    proba = clf.predict_proba(IMAGES)[:, 1]
    for name, threshold in (("loose", 0.2), ("default", 0.5), ("strict", 0.9)):
        point = report.decisions[name]
        assert point.threshold == pytest.approx(threshold)
        assert point.estimates["sensitivity"].value == (proba >= threshold)[y == "PNEUMONIA"].mean()
        assert point.confusion.sum() == 200
        assert point.confusion[1, 1] == ((proba >= threshold) & (y == "PNEUMONIA")).sum()
        assert point.transfer == ()  # a number promises nothing
    assert report.metrics["sensitivity"] == report.decisions["loose"].estimates["sensitivity"]


def test_a_point_keeps_its_promise_on_its_own_data_and_breaks_it_on_shifted_ones(two):
    clf, y, patients = two
    log_odds = clf.model_.logits
    clf = judging(clf, log_odds)
    clf.set_threshold("specificity", at_least=0.9, X=IMAGES, y=y, name="rule_in")
    same = evaluate(clf, IMAGES, y, patients, n_resamples=50)
    for one in same.decisions["rule_in"].transfer:
        assert one.gap.value == pytest.approx(0.0)
        assert one.verdict == "as promised"
    assert not [note for note in same.notes if "chosen" in note]
    elsewhere = judging(clf, log_odds + 2.0)
    shifted = evaluate(elsewhere, IMAGES, y, patients, n_resamples=50)
    verdicts = {one.figure: one.verdict for one in shifted.decisions["rule_in"].transfer}
    assert verdicts == {"sensitivity": "higher", "specificity": "lower"}
    (note,) = [note for note in shifted.notes if note.startswith("specificity at 'rule_in' is lower")]
    assert str(shifted.decisions["rule_in"].transfer[1].gap) in note


def test_a_promise_with_an_interval_makes_the_gap_less_sure(two):
    clf, y, patients = two
    clf = judging(clf, clf.model_.logits)
    clf.set_threshold("youden", X=IMAGES, y=y, name="point")
    point = clf.operating_points_["point"]
    widths = []
    for promise in (Estimate(0.8, 0.8, 0.8), Estimate(0.8, 0.6, 0.9)):
        clf.operating_points_["point"] = replace(point, sensitivity=promise, specificity=None)
        (one,) = evaluate(clf, IMAGES, y, patients, n_resamples=50).decisions["point"].transfer
        assert one.promised == promise
        widths.append(one.gap.high - one.gap.low)
    assert widths[1] > widths[0]


def test_the_rule_is_told(report):
    assert report.decisions["screening"].rule == "sensitivity>=0.95"
    assert report.decisions["screening"].label == "PNEUMONIA"
    assert report.decisions["default"].rule == "number"


def test_several_classes_have_the_likeliest(several_report, three):
    clf, y, _ = three
    (name, decisions), *others = several_report.decisions.items()
    assert name == "likeliest_class"
    assert not others
    assert decisions.confusion.trace() == (clf.predict(IMAGES) == y).sum()
    assert decisions.classes == several_report.classes


def test_a_point_of_one_of_several_classes(three):
    clf, y, patients = three
    clf = judging(clf, clf.model_.logits)
    label = clf.classes_[1]
    clf.set_threshold("sensitivity", at_least=0.9, X=IMAGES, y=y, groups=patients, label=label, name="all of them")
    report = evaluate(clf, IMAGES, y, patients, n_resamples=20)
    assert list(report.decisions) == ["likeliest_class", "all of them"]
    point = report.decisions["all of them"]
    assert point.label == label
    assert point.classes == (f"not {label}", label)
    flagged = clf.flag(IMAGES, operating_point="all of them")
    assert point.estimates["sensitivity"].value == flagged[y == label].mean() >= 0.9
    assert point.confusion.tolist() == [
        [(~flagged & (y != label)).sum(), (flagged & (y != label)).sum()],
        [(~flagged & (y == label)).sum(), (flagged & (y == label)).sum()],
    ]
    assert f"not {label}" in str(report)


def test_calibration_moves_probabilities_and_no_chosen_point(two):
    clf, y, patients = two
    clf = judging(clf, 3.0 * clf.model_.logits)
    clf.set_threshold("youden", X=IMAGES, y=y, groups=patients, name="point")
    before = evaluate(clf, IMAGES, y, patients, n_resamples=20)
    clf.calibrate(IMAGES, y, groups=patients, method="temperature")
    after = evaluate(clf, IMAGES, y, patients, n_resamples=20)
    assert after.decisions["point"].estimates == before.decisions["point"].estimates
    assert after.decisions["point"].threshold != before.decisions["point"].threshold
    assert after.overall["auroc"] == before.overall["auroc"]
    assert after.overall["log_loss"].value < before.overall["log_loss"].value
    assert before.judged.uncalibrated is None
    np.testing.assert_allclose(after.judged.uncalibrated, before.judged.proba)
    assert "PNEUMONIA, before calibration" in [
        text.get_text() for text in after.plot("reliability").axes[0].get_legend().get_texts()
    ]
