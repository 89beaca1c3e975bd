"""A written audit is read back whole, and nothing else is taken for one."""

from __future__ import annotations

import contextlib
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr_estimator import make_phantoms
from cxr_estimator.attribution import METHODS
from cxr_estimator.audit import CHECKS, AuditCheck, AuditReport, audit
from cxr_estimator.errors import DataError, InvalidTypeError
from cxr_estimator.verdicts import DOUBTFUL, FAIL, NO_DATA, PASS
from tests.card.reading import tables

GAIN = AuditCheck("gain", "maps", "grad_cam", math.inf, (-math.inf, math.nan), -math.inf, "fail", "Said | “so”.")
REPORT = AuditReport((GAIN,), ("a", "b"), ("grad_cam",), 40, None, 2, 9, "A note.", {"torch": "2"})


def same(one, other):
    """Whether two numbers or pairs of them are the same, NaN too."""
    return repr(one) == repr(other)


def test_what_was_written_is_read(fitted, tmp_path):
    data = make_phantoms(24, 32, difficulty=0.0, random_state=9)
    report = audit(
        fitted, data.X, data.y, data.groups, methods=["grad_cam"], n_resamples=20,
        checks=["label_order", "border_exchange", "patient_overlap"],
    )  # fmt: skip
    report.save(tmp_path / "audit")
    for path in (tmp_path / "audit", tmp_path / "audit" / "audit.json", str(tmp_path / "audit")):
        again = AuditReport.load(path)
        assert again.to_dict() == report.to_dict()
        assert again.maps == report.maps
        assert str(again) == str(report)
        assert again.to_markdown() == report.to_markdown()
        for one, other in zip(again.checks, report.checks, strict=True):
            assert same(one, other._replace(pictures=()))


def test_infinite_and_missing_numbers_and_notes(tmp_path):
    (again,) = AuditReport.load(REPORT.save(tmp_path)).checks
    assert same(again, GAIN)
    found = json.loads(REPORT.to_json(), parse_constant=pytest.fail)
    assert (found["checks"][0]["value"], found["checks"][0]["interval"]) == ("inf", ["-inf", None])
    assert AuditReport.load(tmp_path).to_dict() == REPORT.to_dict()
    assert "A note." in str(AuditReport.load(tmp_path))
    assert "A note." in (tmp_path / "audit.html").read_text()


def test_verdicts_are_those_that_were_written(tmp_path):
    """Whatever the thresholds are today."""
    content = REPORT.to_dict()
    content["checks"][0]["verdict"] = "pass"
    (tmp_path / "audit.json").write_text(json.dumps(content))
    again = AuditReport.load(tmp_path)
    assert again.checks[0].verdict == "pass"
    assert again.maps["grad_cam"].verdict == "show"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "cannot be read as JSON"),
        (b"[]", "must hold a JSON object"),
        (b"{}", "is no audit of version 1"),
        (b'{"format": "cxr_estimator.receipt", "version": 1}', "is no audit of version 1"),
        (b'{"format": "cxr_estimator.audit", "version": 2}', "is no audit of version 1"),
        (b'{"format": "cxr_estimator.audit", "version": 1, "x": 1}', r"unknown entries \['x'\]"),
        (b'{"format": "cxr_estimator.audit", "version": 1}', r"it lacks \['checks', 'classes'"),
        (b'{"a": NaN}', "NaN is not allowed"),
        (b'{"a": 1, "a": 1}', "stands twice"),
        (b"\x80\x04K\x01.", "cannot be read as JSON"),  # a pickle
        (b" " * 5_000_001, "limit of 5,000,000 bytes"),
    ],
)
def test_what_is_no_audit(text, said, tmp_path):
    (tmp_path / "audit.json").write_bytes(text)
    with pytest.raises(DataError, match=said):
        AuditReport.load(tmp_path)


def test_what_is_not_there(tmp_path):
    for path in (tmp_path, tmp_path / "none.json"):
        with pytest.raises(DataError, match=r"\.json: there is no such file"):
            AuditReport.load(path)
    with pytest.raises(InvalidTypeError, match="'path'"):
        AuditReport.load(None)


WRONG = {
    "version": [True, 1.0],
    "n_images": [-1, 1.5, None, True, "1", 10**13],
    "n_patients": [-1, "40"],
    "n_unreadable": [-1, None],
    "classes": [None, "ab", [1], {}],
    "verdict": ["good", None, []],
    "maps": [
        [], {"none": {"verdict": "show", "reason": ""}}, {"grad_cam": "show"}, {"grad_cam": {"verdict": "show"}},
        {"grad_cam": {"verdict": "pass", "reason": ""}}, {"lime": {"verdict": "show", "reason": ""}}, {},
    ],
    "checks": [None, {}, [None], [[]], [{}]],
    "evaluations": [None, -1],
    "note": [1, ["a"]],
    "versions": [None, [], {"torch": 2}],
    "disclaimer": [None],
}  # fmt: skip
WRONG_OF_A_CHECK = {
    "name": ["none", None, ["gain"], {}],
    "family": ["others", None],
    "method": ["lime", 1, []],  # lime is not among the methods of this audit
    "threshold": ["0.1", None, True, [], 10**400],
    "verdict": ["good", "withhold", None],
    "sentence": [None, 1],
    "value": ["nan", "Infinity", False, {}, 10**400],
    "interval": [None, [], [0], [0, 1, 2], ["a", 1], 0.1],
}


def refused(content, path, said):
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=said):
        AuditReport.load(path)


@pytest.mark.parametrize("name", WRONG)
def test_wrong_entries_are_refused(name, tmp_path):
    content = REPORT.to_dict()
    assert set(WRONG) | {"format"} == set(content)
    for value in WRONG[name]:
        refused(content | {name: value}, tmp_path / "audit.json", name)
    del content[name]
    refused(content, tmp_path / "audit.json", "is no audit of version 1" if name == "version" else f"lacks .'{name}'")


@pytest.mark.parametrize("name", WRONG_OF_A_CHECK)
def test_wrong_entries_of_a_check_are_refused(name, tmp_path):
    content = REPORT.to_dict()
    (check,) = content["checks"]
    assert set(WRONG_OF_A_CHECK) == set(check)
    for value in WRONG_OF_A_CHECK[name]:
        refused(content | {"checks": [check | {name: value}]}, tmp_path / "audit.json", "no whole audit")
    del check[name]
    refused(content, tmp_path / "audit.json", f"'checks': it lacks .'{name}'")


NUMBERS = st.floats() | st.integers(-(2**60), 2**60).map(float)
CHECK = st.builds(
    lambda name, method, value, interval, threshold, verdict, sentence: AuditCheck(
        name, CHECKS[name].family, method, value, interval, threshold, verdict, sentence
    ),
    st.sampled_from(list(CHECKS)), st.sampled_from([None, "grad_cam", "lime"]), NUMBERS, st.tuples(NUMBERS, NUMBERS),
    NUMBERS.filter(lambda one: not math.isnan(one)), st.sampled_from([PASS, DOUBTFUL, FAIL, NO_DATA]), st.text(),
)  # fmt: skip


@given(st.lists(CHECK, max_size=4), st.text(), st.integers(0, 10**9))
def test_whatever_is_written_is_read(tmp_path_factory, checks, note, n):
    report = AuditReport(tuple(checks), ("a", note), ("grad_cam", "lime"), n, None, n, n, note)
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(report.to_json())
    again = AuditReport.load(path)
    assert again.to_dict() == report.to_dict()
    assert same(again.checks, report.checks)
    assert again.to_markdown() == report.to_markdown()
    assert {len(row) for table in tables(report.to_markdown()) for row in table} <= {3, 5}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
PLACES = [(name,) for name in WRONG] + [("checks", 0, name) for name in WRONG_OF_A_CHECK]
PLACES += [("checks", 0, "interval", 0), ("maps", "grad_cam", "verdict"), ("versions", "torch"), ("classes", 1)]


@given(st.sampled_from(PLACES), JSON)
def test_anything_in_any_place_is_read_or_refused(tmp_path_factory, place, value):
    content = json.loads(REPORT.to_json())
    inner = content
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(content))
    with contextlib.suppress(DataError):
        report = AuditReport.load(path)
        assert {one.method for one in report.checks} <= {None, *METHODS}
        assert AuditReport.load(report.save(path.parent / "any")).to_dict() == report.to_dict()
