"""The audit finds what was planted, tells nothing that it cannot know, and no check hides another."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import numpy as np
import pytest

from cxr_estimator.audit import CHECKS, Check, audit
from cxr_estimator.audit import _audit as module
from cxr_estimator.errors import DataError, InvalidParameterError, InvalidTypeError
from cxr_estimator.verdicts import Limits
from tests.conftest import small_classifier

CAUSAL = ["border_exchange", "corner_exchange", "brightness_exchange", "sharpness_exchange", "border_alone"]


@pytest.fixture(scope="module")
def cornered(phantoms):
    """A model of images whose corner tells the class."""
    X = tagged(phantoms)
    return small_classifier(max_epochs=12).fit(X, phantoms.y, groups=phantoms.groups)


def tagged(data):
    X = data.X.copy()
    X[:, :4, :4] = np.where(data.y == "PNEUMONIA", 255, 0)[:, None, None]
    return X


@pytest.fixture(scope="module")
def report(fitted, held_out):
    return audit(fitted, held_out.X, held_out.y, held_out.groups, n_maps=6, n_resamples=100)


def by_name(report):
    return {(one.name, one.method): one for one in report.checks}


def test_every_check_of_the_table_is_there(report):
    assert list(dict.fromkeys(one.name for one in report.checks)) == list(CHECKS)
    for one in report.checks:
        assert one.family == CHECKS[one.name].family
        assert one.threshold == CHECKS[one.name].limits.doubtful
        assert one.verdict in ("pass", "doubtful", "fail", "not enough data")
        assert one.sentence.endswith(".")
        assert "fault of the check" not in one.sentence
        if one.verdict != "not enough data":
            assert one.interval[0] <= one.value <= one.interval[1] or one.name == "calibration"


def test_a_planted_corner_is_found_and_shown(cornered, held_out):
    report = audit(cornered, tagged(held_out), held_out.y, held_out.groups, checks=CAUSAL, n_resamples=100)
    found = {one.name: one for one in report.checks}
    assert found["corner_exchange"].verdict == "fail"
    assert found["corner_exchange"].value > 0.5
    assert found["border_alone"].value > 0.9  # the corner lies in the frame
    assert found["sharpness_exchange"].verdict != "fail"
    first = found["corner_exchange"].pictures[0]
    assert first.pixels.shape == (32, 2 * 32 + 4)
    assert first.pixels.dtype == np.uint8
    corner, rest = first.pixels[:4, [*range(4), *range(36, 40)]], first.pixels[10:24, :32]
    assert set(corner.ravel().tolist()) == {0, 255}
    assert np.array_equal(rest, first.pixels[10:24, 36:])


def test_reversed_labels_are_found(cornered, held_out):
    turned = np.where(held_out.y == "NORMAL", "PNEUMONIA", "NORMAL")
    report = audit(cornered, tagged(held_out), turned, held_out.groups, checks=["label_order", "auroc_drop"])
    order, drop = report.checks
    assert order.verdict == "fail"
    assert "wrong way round" in order.sentence
    assert drop.verdict == "fail"


def test_training_images_are_found(fitted, phantoms, held_out):
    X, y = np.concatenate([held_out.X, phantoms.X[:20]]), np.concatenate([held_out.y, phantoms.y[:20]])
    doubles, seen = audit(fitted, X, y, checks=["seen_in_training", "duplicates"]).checks
    assert seen.verdict == "fail"
    assert seen.value == pytest.approx(1 / 3, abs=0.15)  # 20 of 60, as the sample goes
    (more,) = audit(fitted, np.concatenate([X, X[:6]]), [*y, *y[:6]], checks=["duplicates"]).checks
    assert more.verdict == "fail"
    assert 66 * more.value >= 60 * doubles.value + 6


def test_patients_of_the_training_are_found(fitted, held_out):
    patients = np.array([f"A{name}" for name in held_out.groups])
    asked = {"checks": ["patient_overlap"], "training_groups": ["B1", patients[0]]}
    (found,) = audit(fitted, held_out.X, held_out.y, patients, **asked).checks
    assert found.verdict == "fail"
    assert found.value == pytest.approx(1 / 20)
    (none,) = audit(fitted, held_out.X, held_out.y, patients, **{**asked, "training_groups": ["B1"]}).checks
    assert (none.value, none.verdict) == (0.0, "pass")


def test_the_same_audit_gives_the_same_report(fitted, held_out, report):
    again = audit(fitted, held_out.X, held_out.y, held_out.groups, n_maps=6, n_resamples=100)
    assert again.to_dict() == {**report.to_dict(), "evaluations": again.evaluations}
    order = np.random.default_rng(0).permutation(40)
    moved = audit(fitted, held_out.X[order], held_out.y[order], held_out.groups[order], checks=["border_alone"])
    assert moved.checks[0].value == pytest.approx(by_name(report)["border_alone", None].value)


def test_a_check_that_breaks_hides_no_other(fitted, held_out, monkeypatch, caplog):
    def broken(evidence):
        raise ZeroDivisionError("of X")

    def refused(evidence):
        raise DataError("there is nothing to see.")

    limits = Limits(0, 1)
    table = {"a": Check("data", broken, limits), "b": Check("data", refused, limits)}
    table["label_order"] = CHECKS["label_order"]
    monkeypatch.setattr(module, "CHECKS", table)
    with caplog.at_level(logging.ERROR):
        first, second, third = audit(fitted, held_out.X, held_out.y).checks
    assert first.verdict == second.verdict == "not enough data"
    assert "fault of the check (ZeroDivisionError)" in first.sentence
    assert "there is nothing to see." in second.sentence
    assert third.verdict != "not enough data"
    assert "the check a failed" in caplog.text


def test_evaluations_are_shared_and_counted(fitted, held_out):
    alone = [audit(fitted, held_out.X, held_out.y, checks=[name]).evaluations for name in CAUSAL]
    together = audit(fitted, held_out.X, held_out.y, checks=CAUSAL).evaluations
    n = len(held_out.X)
    assert alone == [3 * n, 3 * n, 3 * n, 3 * n, 2 * n]
    assert together == 10 * n
    assert not fitted.model_._forward_pre_hooks


def test_three_classes(three_classes):
    X, y, clf = three_classes
    report = audit(clf, X, y, n_maps=3, n_resamples=50, methods=["grad_cam"])
    found = by_name(report)
    assert found["label_order", None].value > 0.9
    assert not [one for one in report.checks if "fault of the check" in one.sentence]


def test_what_cannot_be_audited(fitted, held_out, ensemble, phantoms):
    X, y = held_out.X, held_out.y
    with pytest.raises(InvalidTypeError, match="a member of `estimators_`"):
        audit(ensemble, X, y)
    for options, error in (
        ({"methods": "grad_cam"}, InvalidTypeError),
        ({"methods": ["none"]}, InvalidParameterError),
        ({"checks": ["none"]}, InvalidParameterError),
        ({"checks": []}, InvalidParameterError),
        ({"n_maps": 0}, InvalidParameterError),
        ({"groups": [1]}, DataError),
        ({"masks": [None]}, InvalidParameterError),
        ({"methods": []}, InvalidTypeError),
        ({"methods": None}, InvalidTypeError),
        ({"pictures": "no"}, InvalidTypeError),
        ({"progress": 1}, InvalidTypeError),
    ):
        with pytest.raises(error):
            audit(fitted, X, y, **options)
    with pytest.raises(DataError):
        audit(fitted, X, ["other"] * len(X))


def test_maps_are_shown_or_not_by_the_checks(report):
    verdicts = {one.verdict for one in report.maps.values()}
    assert verdicts <= {"show", "show with warning", "withhold"}
    gain = next(one for one in report.checks if (one.name, one.method) == ("gain", "grad_cam"))

    def with_gain(verdict, **changes):
        kept = [one for one in report.checks if one.method == "grad_cam" and one.name != "gain"]
        checks = [*(one._replace(verdict="pass") for one in kept), gain._replace(verdict=verdict, **changes)]
        return replace(report, checks=tuple(checks), methods=("grad_cam",)).maps["grad_cam"]

    assert with_gain("pass").verdict == "show"
    assert with_gain("doubtful") == ("show with warning", gain.sentence)
    assert with_gain("fail") == ("withhold", gain.sentence)
    assert with_gain("fail", name="agreement").verdict == "show with warning"
    shortcut = by_name(report)["border_exchange", None]._replace(verdict="fail")
    only = replace(report, checks=(gain._replace(verdict="pass"), shortcut), methods=("grad_cam",))
    assert only.maps["grad_cam"] == ("show with warning", shortcut.sentence)


def test_the_report_as_files(report, tmp_path):
    report.save(tmp_path / "audit")
    found = json.loads((tmp_path / "audit" / "audit.json").read_text())
    assert [one["name"] for one in found["checks"]] == [one.name for one in report.checks]
    assert found["verdict"] == report.verdict
    page = (tmp_path / "audit" / "audit.html").read_text()
    assert all(one.sentence.replace("'", "&#39;").replace("“", "“") in page for one in report.checks)
    assert "http" not in page
    assert report.table["verdict"].tolist() == [one.verdict for one in report.checks]
    assert str(report).count("\n") > len(report.checks)
