"""A small part of the planted benchmark, and what it makes of raw results."""

from __future__ import annotations

import json

import pytest

from benchmarks.planted import auditing, reporting
from benchmarks.planted.cases import STRENGTHS, Case
from cxr_estimator.verdicts import DOUBTFUL, FAIL


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A folder for results that begins empty."""
    monkeypatch.setattr(auditing, "RESULTS", tmp_path)
    return tmp_path


def raw(kind="clean", *, domain="phantoms", strength=0.0, seed=0, **ends):
    """Raw results of an audit of one check, which fails beyond 0.1."""
    low, high = ends.get("interval", (0.0, 0.02))
    check = ["corner_exchange", None, (low + high) / 2, low, high]
    case = Case(domain, kind, strength, seed)._asdict()
    return {**case, "checks": [check], "seconds": 1.0, "settings": auditing.settings()}


def keep(folder, *results):
    text = "".join(json.dumps(one) + "\n" for one in results)
    (folder / "planted_audits_judging.jsonl").write_text(text)


def test_exact_intervals():
    """Values of R's binom.test."""
    assert reporting.clopper_pearson(0, 20) == pytest.approx((0.0, 0.1684335))
    assert reporting.clopper_pearson(19, 20) == pytest.approx((0.7512672, 0.9987349))
    assert reporting.clopper_pearson(20, 20) == pytest.approx((0.8315665, 1.0))


def test_the_table_counts_what_is_caught_and_what_is_a_false_alarm(results):
    keep(
        results,
        raw(),
        raw(seed=1, interval=(0.2, 0.4)),
        raw("corner_marker", strength=1.0, interval=(0.8, 1.0)),
        raw("corner_marker", strength=1.0, seed=1),
        raw("border", strength=1.0, interval=(0.8, 1.0)),
    )
    assert list(reporting.rows("judging")) == [
        ("phantoms", "clean", 0.0, 2, 1, 1),
        ("phantoms", "corner_marker", 1.0, 2, 1, 1),
        ("phantoms", "border", 1.0, 1, 0, 1),  # by a check that says something else
    ]
    table = reporting.table("judging")
    assert "| clean | 0 | 1 of 2 |  | 1 of 2 (1% to 99%) |  |" in table
    assert "| border | 1 | 0 of 1 |  | 0 of 1 (0% to 98%) | 1 of 1 |" in table
    assert reporting.alarms("judging") == {"corner_exchange": 1}
    assert reporting.alarms("judging", DOUBTFUL) == {}
    assert "shortcuts of strength 1 caught in 1 of 3 (1% to 91%); false alarms in 1 of 2" in reporting.totals("judging")


def test_the_worst_of_several_methods_counts(results):
    one = raw()
    one["checks"] = [
        ["gain", "grad_cam", 0.1, 0.05, 0.2],
        ["gain", "lime", -0.1, -0.2, -0.05],
        ["gain", "x", *[None] * 3],
    ]
    assert reporting.verdicts(one) == {"gain": FAIL}
    keep(results, one)
    assert reporting.mildest("judging")["gain", "lime", "phantoms", "clean", 0.0] == [-0.05]


def test_results_of_another_recipe_do_not_count(results):
    keep(results, {**raw(), "settings": {"recipe": "another"}})
    assert auditing.read("judging") == []


def test_a_run_goes_on_where_it_was_stopped(results, monkeypatch):
    made = []
    monkeypatch.setattr(auditing, "DOMAINS", {"phantoms": None})
    monkeypatch.setattr(
        auditing, "audited", lambda case: made.append(case) or raw(*case[1:2], strength=case.strength, seed=case.seed)
    )
    auditing.run("judging", n_planted=1, n_clean=2, share=(0, 2))
    half = len(made)
    auditing.run("judging", n_planted=1, n_clean=2)
    assert len(set(made)) == len(made) == sum(map(len, STRENGTHS.values())) + 1
    assert 0 < half < len(made)
    auditing.run("judging", n_planted=1, n_clean=2)
    assert len(made) == len(set(made))


def test_a_planted_corner_is_caught_and_a_clean_model_is_not(monkeypatch):
    monkeypatch.setattr(auditing, "OPTIONS", {**auditing.OPTIONS, "n_maps": 6})
    found = {kind: reporting.verdicts(auditing.audited(Case("phantoms", kind, float(kind != "clean"), 3)))
             for kind in ("corner_marker", "clean")}  # fmt: skip
    assert found["corner_marker"]["corner_exchange"] == FAIL
    assert FAIL not in {found["clean"][name] for names in reporting.CATCHES.values() for name in names}
