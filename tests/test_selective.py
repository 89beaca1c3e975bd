"""The risk-coverage curve and where to stop answering."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from cxr_estimator.errors import DataError, InvalidParameterError
from cxr_estimator.selective import best_possible, cutoff_for_coverage, cutoff_for_error, risk_coverage

answers = st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=30)


def test_a_curve_worked_out_by_hand():
    curve = risk_coverage([True, False, False, True], [4, 1, 2, 3])
    assert curve.coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert curve.risk.tolist() == pytest.approx([0, 0, 1 / 3, 2 / 4])
    assert curve.area == pytest.approx((0 + 0 + 1 / 3 + 2 / 4) / 4)


def test_equally_doubtful_images_count_as_chance_would_order_them():
    assert risk_coverage([True, False, False, True], [1, 1, 2, 2]).risk.tolist() == [0.5, 0.5, 0.5, 0.5]
    assert risk_coverage([False, True, True], [0, 1, 1]).risk.tolist() == pytest.approx([0, 1 / 2, 2 / 3])


@given(answers)
def test_ties_are_the_mean_over_all_orders(pairs):
    wrong, doubt = (np.array(column) for column in zip(*pairs, strict=True))
    rng = np.random.default_rng(0)
    areas = []
    for _ in range(400):
        order = np.lexsort((rng.random(len(wrong)), doubt))
        areas.append((np.cumsum(wrong[order]) / np.arange(1, len(wrong) + 1)).mean())
    assert risk_coverage(wrong, doubt).area == pytest.approx(np.mean(areas), abs=4 * np.std(areas) / 20 + 1e-9)


@given(answers)
def test_no_doubt_is_better_than_one_that_knows_the_errors(pairs):
    wrong, doubt = (np.array(column) for column in zip(*pairs, strict=True))
    best = best_possible(wrong)
    assert (best.risk <= risk_coverage(wrong, doubt).risk + 1e-12).all()
    assert risk_coverage(wrong, np.zeros(len(wrong))).area == pytest.approx(wrong.mean())
    assert best.risk[-1] == pytest.approx(wrong.mean())


@pytest.mark.parametrize(("coverage", "cutoff"), [(0.2, 1), (0.4, 2), (0.41, 3), (1.0, 5), (1e-6, 1)])
def test_the_cutoff_for_a_coverage(coverage, cutoff):
    assert cutoff_for_coverage([5, 3, 1, 2, 4], coverage) == cutoff


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=40), st.floats(0.01, 1))
def test_at_least_that_share_is_answered_and_no_smaller_cutoff_does(doubt, coverage):
    cutoff = cutoff_for_coverage(doubt, coverage)
    doubt = np.array(doubt)
    assert (doubt <= cutoff).mean() >= coverage - 1e-9
    assert (doubt < cutoff).mean() < coverage


def test_the_cutoff_for_an_error_worked_out_by_hand():
    """No error among 104: 0.95 ** 104 = 0.0048 < 0.05 / 10, a tenth of what may go wrong; 0.95 ** 103 is more."""
    assert cutoff_for_error(np.zeros(104), np.arange(104), 0.05) == 103
    with pytest.raises(DataError, match=r"103 independent images .* at most 0.05 .* 0.95; 0.05 is attainable"):
        cutoff_for_error(np.zeros(103), np.arange(103), 0.05)
    wrong = np.zeros(400)
    wrong[200:] = 1
    assert cutoff_for_error(wrong, np.arange(400), 0.05) == 199  # of 240, 40 are wrong
    assert binom.cdf(40, 240, 0.05) > 0.995


def test_one_sure_error_does_not_stop_the_search():
    wrong = np.zeros(1000)
    wrong[0] = 1
    assert cutoff_for_error(wrong, np.arange(1000), 0.01) == 999


def test_an_error_that_cannot_be_promised():
    wrong = np.arange(200) % 3 == 0
    with pytest.raises(DataError, match=r"; (0\.\d+) is attainable") as refused:
        cutoff_for_error(wrong, np.arange(200), 0.05)
    attainable = float(str(refused.value).split("; ")[1].split()[0])
    assert cutoff_for_error(wrong, np.arange(200), attainable + 0.005) >= 0


def test_equally_doubtful_images_are_answered_together():
    wrong = np.r_[np.zeros(70), np.ones(30)]
    with pytest.raises(DataError, match="attainable"):
        cutoff_for_error(wrong, np.zeros(100), 0.1)


def test_the_promise_holds_as_often_as_it_says():
    """True risk rises with doubt; the cut-off promises 10% with 90% confidence."""
    rng = np.random.default_rng(0)
    broken = given_up = 0
    for _ in range(300):
        doubt = rng.random(600)
        try:
            cutoff = cutoff_for_error(rng.random(600) < 0.4 * doubt, doubt, 0.1, 0.9)
        except DataError:
            given_up += 1
            continue
        broken += cutoff * 0.4 / 2 > 0.1  # mean risk below the cut-off
    assert given_up < 150
    assert broken / 300 <= 0.12  # 0.1 + sampling error of 300


@settings(max_examples=20)
@given(st.floats(0.05, 0.4))
def test_a_laxer_limit_never_answers_less(limit):
    rng = np.random.default_rng(1)
    doubt = rng.random(300)
    wrong = rng.random(300) < 0.3 * doubt**3
    assert cutoff_for_error(wrong, doubt, limit + 0.2) >= cutoff_for_error(wrong, doubt, limit + 0.1)


@pytest.mark.parametrize(("wrong", "doubt"), [([], []), ([True], [1, 2]), ([True], [np.nan]), ([[True]], [[1.0]])])
def test_bad_input(wrong, doubt):
    with pytest.raises(InvalidParameterError, match="'doubt'"):
        risk_coverage(wrong, doubt)


@pytest.mark.parametrize("value", [0, 1.5, -1])
def test_limits_out_of_range(value):
    with pytest.raises(InvalidParameterError):
        cutoff_for_coverage([1.0], value)
    with pytest.raises(InvalidParameterError):
        cutoff_for_error([False], [1.0], value)
    with pytest.raises(InvalidParameterError):
        cutoff_for_error([False], [1.0], 0.5, value)
