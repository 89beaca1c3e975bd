"""Operating points."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

from cxr_estimator.errors import DataError, InvalidParameterError, InvalidTypeError
from cxr_estimator.thresholds import RULES, check_at_least, choose_point, number_point, parse_rule, sweep

#                   -2     -1     0      1     2     3
SCORES = np.array([-2.0, -1.0, 0.0, 1.0, 2.0, 3.0])
POSITIVE = np.array([False, False, True, False, True, True])


def test_sweep_by_hand():
    cutoffs, sensitivity, specificity = sweep(SCORES, POSITIVE)
    assert cutoffs.tolist() == [4.0, 2.5, 1.5, 0.5, -0.5, -1.5, -3.0]
    np.testing.assert_allclose(sensitivity, [0, 1 / 3, 2 / 3, 2 / 3, 1, 1, 1])
    np.testing.assert_allclose(specificity, [1, 1, 1, 2 / 3, 2 / 3, 1 / 3, 0])


@pytest.mark.parametrize(
    ("rule", "at_least", "cutoff"),
    [
        ("youden", None, 1.5),  # 2/3 + 1 equals 1 + 2/3 at -0.5: the higher cut-off wins
        ("sensitivity", 1.0, -0.5),
        ("sensitivity", 0.5, 1.5),
        ("specificity", 1.0, 1.5),
        ("specificity", 0.6, -0.5),
    ],
)
def test_rules_by_hand(rule, at_least, cutoff):
    point = choose_point(SCORES, POSITIVE, rule, at_least=at_least, name="x")
    assert point.score == cutoff
    assert point.threshold == pytest.approx(1 / (1 + math.exp(-cutoff)))
    positive = point.is_positive(SCORES)
    assert point.sensitivity == pytest.approx(positive[POSITIVE].mean())
    assert point.specificity == pytest.approx((~positive)[~POSITIVE].mean())
    assert (point.name, point.rule, point.n_images) == ("x", rule, 6)


@given(
    st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=2, max_size=40),
    st.sampled_from([("youden", None), ("sensitivity", 0.8), ("specificity", 0.8)]),
)
def test_rules_against_every_cutoff_of_scikit_learn(pairs, rule):
    scores = np.array([score for score, _ in pairs], dtype=float)
    positive = np.array([label for _, label in pairs])
    if positive.all() or not positive.any():
        with pytest.raises(DataError, match="only one"):
            choose_point(scores, positive, rule[0], at_least=rule[1])
        return
    point = choose_point(scores, positive, rule[0], at_least=rule[1])
    false_positive_rate, sensitivity, _ = roc_curve(positive, scores, drop_intermediate=False)
    ratings = RULES[rule[0]](sensitivity, 1 - false_positive_rate, rule[1])
    reached = RULES[rule[0]](np.array([point.sensitivity]), np.array([point.specificity]), rule[1])
    assert reached[0] == pytest.approx(ratings.max())
    decided = point.is_positive(scores)  # what was promised is what the cut-off does, ties included
    assert decided[positive].mean() == pytest.approx(point.sensitivity)
    assert (~decided)[~positive].mean() == pytest.approx(point.specificity)


def test_a_score_on_the_cutoff_counts_as_positive():
    assert number_point(0.5, name="x", caller="t").is_positive(np.array([-1e-9, 0.0])).tolist() == [False, True]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("youden", ("youden", None)),
        ("sensitivity>=0.95", ("sensitivity", 0.95)),
        (" specificity >= 1 ", ("specificity", 1.0)),
    ],
)
def test_parse_rule(text, expected):
    assert parse_rule(text, caller="t") == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("yuden", "Did you mean 'youden'"),
        ("sensitivity", "at_least"),
        ("sensitivity>=1.5", "<= 1.0"),
        ("youden>=0.5", "None for the rule 'youden'"),
        ("sensitivity<0.5", "a number or a rule"),
        ("", "a number or a rule"),
        ("sensitivity>=1.2.3", "a number or a rule"),
    ],
)
def test_bad_rules(text, message):
    with pytest.raises(InvalidParameterError, match=message):
        parse_rule(text, caller="t")


@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, float("nan")])
def test_bad_numbers(value):
    with pytest.raises(InvalidParameterError, match="'threshold' parameter of t"):
        number_point(value, name="x", caller="t")


def test_wrong_types():
    with pytest.raises(InvalidTypeError):
        number_point(None, name="x", caller="t")
    with pytest.raises(InvalidTypeError):
        check_at_least("sensitivity", "0.9", caller="t")


def test_scores_must_be_finite():
    with pytest.raises(DataError, match="finite"):
        choose_point(np.array([np.nan, 1.0]), np.array([True, False]), "youden")
