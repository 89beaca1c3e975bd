"""Buckets are random draws; differences are tested by patient and corrected for their number."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cxr_estimator._outputs import Task
from cxr_estimator.findings._buckets import (
    FIGURES,
    Difference,
    _corrected,
    compare,
    draw,
    figure_cell,
    percent,
    points,
    summarise,
)
from cxr_estimator.findings._describing import OVERLAPPING, PLACES
from cxr_estimator.statistics import Estimate

NAN = float("nan")


def table_of(**changes):
    """20 maps of two buckets in which nothing differs but what is changed."""
    n, half = 20, np.arange(20) < 10
    rng = np.random.default_rng(0)
    table = pd.DataFrame({name: rng.uniform(0.2, 0.3, n) for name in FIGURES})
    for name in (*PLACES, *OVERLAPPING):
        table[f"{name}_area"] = 0.25
    table["bucket"] = np.where(half, "FP", "TP")
    words = {"spread": "diffuse", "place": "in the lungs", "side": "image left", "verdict": "show"}
    for name, value in {**words, "explained": "PNEUMONIA", "shown": half}.items():
        table[name] = value
    for name, more in changes.items():
        table[name] += more * half
    return table


def buckets_of(table, patient):
    found = []
    for name in ("FP", "TP"):
        own = (table["bucket"] == name).to_numpy()
        found.append(summarise(name, table[own], patient[own], int(own.sum()) + 5))
    return found


def test_draws_are_random_and_repeatable():
    outcome = np.array(["TP", "FP", "TN", "FN"] * 25)
    drawn = draw(outcome, Task.BINARY, 10, 3)
    assert list(drawn) == ["TP", "FP", "FN", "random"]
    for name in ("TP", "FP", "FN"):
        assert set(outcome[drawn[name]]) == {name}
        assert len(set(drawn[name].tolist())) == 10
    again, other = draw(outcome, Task.BINARY, 10, 3), draw(outcome, Task.BINARY, 10, 4)
    assert all((drawn[name] == again[name]).all() for name in drawn)
    assert (drawn["TP"] != other["TP"]).any()
    assert (draw(outcome, Task.BINARY, 4, 3)["TP"] == drawn["TP"][:4]).all()
    assert len(draw(np.array(["TP"] * 3), Task.BINARY, 10, 0)["FP"]) == 0
    several = draw(np.array(["right", "wrong", "right"]), Task.MULTICLASS, 10, 0)
    assert {name: len(rows) for name, rows in several.items()} == {"right": 2, "wrong": 1, "random": 3}


def test_the_random_draw_does_not_know_the_outcome():
    """Each image has the same chance, whatever its bucket."""
    outcome = np.array(["TP"] * 90 + ["FP"] * 10)
    found = np.concatenate([outcome[draw(outcome, Task.BINARY, 10, seed)["random"]] for seed in range(200)])
    assert (found == "FP").mean() == pytest.approx(0.1, abs=0.02)


def test_a_summary_by_hand():
    table, patient = table_of(), np.arange(20)
    first, _ = buckets_of(table, patient)
    own = table["lungs"][:10].mean()
    assert first.figures["lungs"].value == pytest.approx(own)
    assert first.beyond["lungs"].value == pytest.approx(own - 0.25)
    assert first.counts["side"] == {"image left": 10}
    assert first.counts["verdict"] == {"show": 10}
    assert (first.n_in_all, first.n_explained, first.n_shown, first.n_patients) == (15, 10, 10, 10)
    assert first.summary(100) == "15 of 100 images, of which 10 were drawn at random; 10 shown."
    assert first._replace(n_in_all=0).summary(100) == "No false positives among 100 images."
    assert first._replace(n_in_all=0).summary(1) == "No false positives among 1 image."
    vanished = first._replace(n_explained=0).summary(100)
    assert vanished == "15 of 100 images; none of those that were drawn could be read again."
    assert "drawn from all 100 images" in first._replace(name="random").summary(100)


def test_only_what_differs_is_told():
    table, patient = table_of(border=0.12), np.arange(20)
    found = compare(buckets_of(table, patient), table, patient)
    assert [one.figure for one in found] == list(FIGURES)
    (sure,) = [one for one in found if one.is_sure]
    assert sure.figure == "border"
    assert sure.difference.value == pytest.approx(table["border"][:10].mean() - table["border"][10:].mean())
    assert sure.sentence.startswith("False positives differ from true positives in the weight along the border: ")
    assert not any(one.is_sure for one in compare(buckets_of(table_of(), patient), table_of(), patient))


def test_few_patients_make_no_claim():
    table, patient = table_of(border=0.5), np.where(np.arange(20) < 10, np.arange(20) % 4, np.arange(20))
    found = compare(buckets_of(table, patient), table, patient)
    assert not any(one.is_sure for one in found)
    assert all(np.isnan(one.p_value) and np.isnan(one.difference.low) for one in found)
    assert np.isnan(buckets_of(table, patient)[0].figures["border"].low)


def test_maps_of_other_classes_are_not_compared():
    table, patient = table_of(border=0.5), np.arange(20)
    table.loc[:9, "explained"] = "NORMAL"
    assert compare(buckets_of(table, patient), table, patient) == []


def test_an_undefined_figure_is_left_out():
    table, patient = table_of(), np.arange(20)
    table.loc[:2, "lungs"] = np.nan
    (lungs,) = [one for one in compare(buckets_of(table, patient), table, patient) if one.figure == "lungs"]
    assert lungs.means[0] == pytest.approx(table["lungs"][3:10].mean())


def test_correction_by_hand():
    """Holm: 3 x 0.01, then max(that, 2 x 0.015), then 0.5; an undefined one does not count."""
    p_values = [0.015, 0.5, NAN, 0.01]
    one = Difference("FP", "TP", "lungs", (0.0, 0.0), Estimate(0.0, 0.0, 0.0), 0.0)
    found = [each.p_value for each in _corrected([one._replace(p_value=p) for p in p_values])]
    assert found == pytest.approx([0.03, 0.5, NAN, 0.03], nan_ok=True)


def test_figures_in_words():
    assert percent(Estimate(0.516, 0.4, 0.61)) == "52% (40 to 61%)"
    assert percent(Estimate(0.516, NAN, NAN)) == "52%"
    assert percent(Estimate(0.97, 0.9, 1.04)) == "97% (90 to 100%)"
    assert percent(Estimate(0.03, -0.04, 0.1)) == "3% (0 to 10%)"
    assert percent(Estimate(NAN, NAN, NAN)) == "undefined"
    assert points(Estimate(0.12, 0.03, 0.21)) == "+12 points (+3 to +21)"
    assert figure_cell("gain", Estimate(0.12, 0.03, 0.21)) == "0.120 (0.030 to 0.210)"
