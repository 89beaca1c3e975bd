"""Operating points."""

from __future__ import annotations

import json
import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import fbeta_score, roc_curve

from cxr_estimator.errors import DataError, InvalidParameterError, InvalidTypeError, ThresholdWarning
from cxr_estimator.thresholds import (
    RULES,
    Curve,
    OperatingPoint,
    check_options,
    choose_point,
    number_point,
    parse_rule,
    sweep,
)

#                   -2     -1     0      1     2     3
SCORES = np.array([-2.0, -1.0, 0.0, 1.0, 2.0, 3.0])
POSITIVE = np.array([False, False, True, False, True, True])


def test_sweep_by_hand():
    cutoffs, sensitivity, specificity, prevalence = sweep(SCORES, POSITIVE)
    assert cutoffs.tolist() == [4.0, 2.5, 1.5, 0.5, -0.5, -1.5, -3.0]
    np.testing.assert_allclose(sensitivity, [0, 1 / 3, 2 / 3, 2 / 3, 1, 1, 1])
    np.testing.assert_allclose(specificity, [1, 1, 1, 2 / 3, 2 / 3, 1 / 3, 0])
    assert prevalence == 0.5


COSTS = {"false_negative_cost": 3.0, "false_positive_cost": 1.0}


@pytest.mark.parametrize(
    ("rule", "options", "cutoff"),
    [
        ("youden", {}, 1.5),  # 2/3 + 1 equals 1 + 2/3 at -0.5: the higher cut-off wins
        ("sensitivity", {"at_least": 1.0}, -0.5),
        ("sensitivity", {"at_least": 0.5}, 1.5),
        ("specificity", {"at_least": 1.0}, 1.5),
        ("specificity", {"at_least": 0.6}, -0.5),
        ("f_beta", {"beta": 1.0}, -0.5),  # 6/7; at 1.5 it is 4/5
        ("f_beta", {"beta": 0.2}, 1.5),
        ("cost", COSTS, -0.5),  # one false alarm costs 1, one missed image 3
        ("cost", {**COSTS, "prevalence": 0.1}, 1.5),  # 0.1 / 3 * 3 = 0.1 against 0.9 / 3 = 0.3
    ],
)
def test_rules_by_hand(rule, options, cutoff):
    point = choose_point(SCORES, POSITIVE, rule, options, name="x", label="P")
    assert point.score == cutoff
    assert point.threshold == pytest.approx(1 / (1 + math.exp(-cutoff)))
    positive = point.is_positive(SCORES)
    assert point.sensitivity.value == pytest.approx(positive[POSITIVE].mean())
    assert point.specificity.value == pytest.approx((~positive)[~POSITIVE].mean())
    assert (point.name, point.rule, point.label, point.options) == ("x", rule, "P", options)
    assert (point.n_images, point.n_patients) == (6, 6)


RULED = [
    ("youden", {}),
    ("sensitivity", {"at_least": 0.8}),
    ("specificity", {"at_least": 0.8}),
    ("f_beta", {"beta": 2.0}),
]


@given(st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=2, max_size=40), st.sampled_from(RULED))
def test_rules_against_every_cutoff_of_scikit_learn(pairs, ruled):
    scores = np.array([score for score, _ in pairs], dtype=float)
    positive = np.array([label for _, label in pairs])
    rule, options = ruled
    if positive.all() or not positive.any():
        with pytest.raises(DataError, match="only one"):
            choose_point(scores, positive, rule, options)
        return
    false_positive_rate, sensitivity, _ = roc_curve(positive, scores, drop_intermediate=False)
    everything = Curve(sensitivity, sensitivity, 1 - false_positive_rate, positive.mean())
    ratings = RULES[rule].rate(everything, **options)
    if rule == "youden" and ratings.max() <= 1 + 1e-12:
        with pytest.raises(DataError, match="better than chance"):
            choose_point(scores, positive, rule, options, n_resamples=5)
        return
    if ratings.max() <= 0:
        with pytest.raises(DataError, match="best attainable"):
            choose_point(scores, positive, rule, options, n_resamples=5)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ThresholdWarning)  # the F-score may like everything positive best
        point = choose_point(scores, positive, rule, options, n_resamples=5)
    decided = point.is_positive(scores)  # what was promised is what the cut-off does, ties included
    assert decided[positive].mean() == pytest.approx(point.sensitivity.value)
    assert (~decided)[~positive].mean() == pytest.approx(point.specificity.value)
    here = Curve(
        *(np.array([share]) for share in (0, point.sensitivity.value, point.specificity.value)), positive.mean()
    )
    assert RULES[rule].rate(here, **options)[0] == pytest.approx(ratings.max())
    if rule == "f_beta":
        assert ratings.max() == pytest.approx(fbeta_score(positive, decided, beta=2.0))


def test_the_cost_rule_takes_the_closed_form():
    """For calibrated scores the best cut-off is where the odds are the cost of a false alarm over that of a miss."""
    rng = np.random.default_rng(0)
    scores = rng.normal(0.0, 2.0, 200_000)
    positive = rng.random(len(scores)) < 1 / (1 + np.exp(-scores))
    options = {"false_negative_cost": 5.0, "false_positive_cost": 1.0}
    point = choose_point(scores, positive, "cost", options, n_resamples=1)
    assert point.threshold == pytest.approx(1 / 6, abs=0.02)


def test_a_given_prevalence_shifts_the_closed_form():
    rng = np.random.default_rng(1)
    scores = rng.normal(0.0, 2.0, 200_000)
    positive = rng.random(len(scores)) < 1 / (1 + np.exp(-scores))
    options = {"false_negative_cost": 5.0, "false_positive_cost": 1.0, "prevalence": 0.1}
    odds = (0.1 / 0.9) / (positive.mean() / (1 - positive.mean()))
    point = choose_point(scores, positive, "cost", options, n_resamples=1)
    assert math.exp(point.score) * odds == pytest.approx(1 / 5, rel=0.1)


def test_no_useful_threshold_says_what_is_attainable():
    scores, positive = np.array([0.0, 1.0, 2.0, 3.0]), np.array([True, False, True, False])
    with pytest.raises(DataError, match=r"specificity of at least 0.9 and a sensitivity above 0.*specificity is 0.5"):
        choose_point(scores, positive, "specificity", {"at_least": 0.9})
    with pytest.raises(DataError, match=r"sensitivity of at least 0.9 .*best attainable sensitivity is 0.5"):
        choose_point(scores, positive, "sensitivity", {"at_least": 0.9})


def test_intervals_cover_what_other_patients_would_have_given():
    """Of 60 draws of patients, the intervals of about 95% hold the cut-off and the sensitivity of the population."""
    rng = np.random.default_rng(0)

    def draw(n):
        positive = rng.random(n) < 0.5
        return rng.normal(positive * 2.0, 1.0), positive

    truth = choose_point(*draw(200_000), "youden", n_resamples=1)
    hits = []
    for number in range(60):
        scores, positive = draw(150)
        found = choose_point(scores, positive, "youden", n_resamples=200, random_state=number)
        low, high = found.interval
        sensitivity = float((rng.normal(2.0, 1.0, 20_000) >= found.score).mean())
        hits.append((low <= truth.score <= high, found.sensitivity.low <= sensitivity <= found.sensitivity.high))
    threshold, sensitivity = np.mean(hits, axis=0)
    assert threshold >= 0.88
    assert sensitivity >= 0.8  # less than 95%: the rule chose the cut-off where these images looked best


def test_patients_widen_the_interval():
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(30), 10)
    positive = np.repeat(np.arange(30) % 2 == 0, 10)
    scores = np.repeat(rng.normal(size=30), 10) + positive + rng.normal(0, 0.01, 300)
    alone, together = (choose_point(scores, positive, "youden", groups=groups) for groups in (None, patients))
    assert together.n_patients == 30
    assert np.ptp(together.sensitivity[1:]) > np.ptp(alone.sensitivity[1:])
    assert np.ptp(together.interval) > np.ptp(alone.interval)


def test_too_few_patients_have_no_interval():
    point = choose_point(SCORES, POSITIVE, "youden", groups=["a", "a", "b", "a", "b", "b"])
    assert point.interval is None
    assert OperatingPoint.from_dict(json.loads(json.dumps(point.to_dict()))) == point


def test_json_and_back():
    point = choose_point(SCORES, POSITIVE, "cost", COSTS, name="x", label="P")
    assert OperatingPoint.from_dict(json.loads(json.dumps(point.to_dict()))) == point
    with pytest.raises((TypeError, LookupError, ValueError)):
        OperatingPoint.from_dict({**point.to_dict(), "interval": ["low", "high"]})


def test_a_score_on_the_cutoff_counts_as_positive():
    assert number_point(0.5, name="x", caller="t").is_positive(np.array([-1e-9, 0.0])).tolist() == [False, True]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("youden", ("youden", {})),
        ("f_beta", ("f_beta", {"beta": 1.0})),
        ("sensitivity>=0.95", ("sensitivity", {"at_least": 0.95})),
        (" specificity >= 1 ", ("specificity", {"at_least": 1.0})),
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
        ("youden>=0.5", "left out for the rule 'youden'"),
        ("cost", "false_negative_cost"),
        ("sensitivity<0.5", "a number or a rule"),
        ("", "a number or a rule"),
        ("sensitivity>=1.2.3", "a number or a rule"),
    ],
)
def test_bad_rules(text, message):
    with pytest.raises(InvalidParameterError, match=message):
        parse_rule(text, caller="t")


@pytest.mark.parametrize(
    ("rule", "options", "message"),
    [
        ("cost", {"false_negative_cost": 0, "false_positive_cost": 1}, "false_negative_cost.*> 0"),
        ("cost", {"false_negative_cost": 1}, "'false_positive_cost' parameter of t must be given"),
        ("cost", {**COSTS, "prevalence": 1.0}, "prevalence"),
        ("f_beta", {"beta": -1.0}, "beta"),
        ("sensitivity", {"beta": 1.0, "at_least": 0.5}, "at_least for the rule 'sensitivity'"),
    ],
)
def test_bad_options(rule, options, message):
    with pytest.raises(InvalidParameterError, match=message):
        check_options(rule, options, caller="t")


@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, float("nan")])
def test_bad_numbers(value):
    with pytest.raises(InvalidParameterError, match="'threshold' parameter of t"):
        number_point(value, name="x", caller="t")


def test_wrong_types():
    with pytest.raises(InvalidTypeError):
        number_point(None, name="x", caller="t")
    with pytest.raises(InvalidTypeError):
        check_options("sensitivity", {"at_least": "0.9"}, caller="t")


def test_scores_must_be_finite():
    with pytest.raises(DataError, match="finite"):
        choose_point(np.array([np.nan, 1.0]), np.array([True, False]), "youden")


def test_calling_everything_positive_is_said():
    with pytest.warns(ThresholdWarning, match="best to call every image positive"):
        choose_point(SCORES[::-1], POSITIVE, "f_beta", {"beta": 5.0})
    with pytest.warns(ThresholdWarning, match="best to call no image positive"):
        choose_point(SCORES[::-1], POSITIVE, "cost", {"false_negative_cost": 1.0, "false_positive_cost": 9.0})


def test_the_unit_of_costs_does_not_matter():
    points = [
        choose_point(SCORES, POSITIVE, "cost", {"false_negative_cost": 5 * unit, "false_positive_cost": unit})
        for unit in (1e-12, 1.0, 1e12)
    ]
    assert len({point.score for point in points}) == 1


def test_an_unknown_rule_makes_no_point():
    with pytest.raises(InvalidParameterError, match="'rule' parameter of OperatingPoint"):
        OperatingPoint("x", "banana", 0.1)
