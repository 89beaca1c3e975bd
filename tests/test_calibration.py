"""Calibration maps, and what they are fitted to."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit, softmax
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from cxr_estimator._calibration_maps import NEVER, Affine, Steps, fit_isotonic, fit_platt, fit_temperature
from cxr_estimator._outputs import Task
from cxr_estimator.calibration import CALIBRATORS, Calibration, fit_calibration, label_log_odds
from cxr_estimator.errors import DataError

STEPS = Steps((-1.0, 0.0, 1.0, 2.0), (0.2, 0.4, 0.4, 0.8))


def drawn(n, slope=1.0, intercept=0.0, seed=0):
    """Scores whose true log-odds are slope * score + intercept, and labels."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(0.0, 2.0, n)
    return scores, rng.random(n) < expit(slope * scores + intercept)


def fitted(logits, target, method="temperature", k=2, **options):
    task = Task.of_classes(k)
    options = {"class_weights": np.ones(k), "labels": list(range(k)), "task": task, **options}
    return fit_calibration(logits, target, method=method, **options)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_a_planted_temperature_is_recovered(temperature):
    scores, positive = drawn(100_000, slope=1 / temperature)
    found = fit_temperature(scores[:, None], positive.astype(int))
    assert 1 / found.slope == pytest.approx(temperature, rel=0.02)


def test_a_planted_temperature_of_several_classes_is_recovered():
    rng = np.random.default_rng(0)
    logits = rng.normal(0.0, 3.0, (100_000, 3))
    target = (softmax(logits / 2.0, axis=1).cumsum(axis=1) < rng.random((100_000, 1))).sum(axis=1)
    assert 1 / fit_temperature(logits, target).slope == pytest.approx(2.0, rel=0.02)


def test_platt_is_logistic_regression_on_many_images():
    scores, positive = drawn(20_000, 0.7, -1.5)
    oracle = LogisticRegression(C=np.inf).fit(scores[:, None], positive)
    found = fit_platt(scores, positive)
    assert found.slope == pytest.approx(oracle.coef_[0, 0], rel=1e-2)
    assert found.intercept == pytest.approx(oracle.intercept_[0], rel=1e-2)


def test_platt_stays_finite_where_the_labels_are_separated():
    found = fit_platt(np.array([-2.0, -1.0, 1.0, 2.0]), np.array([False, False, True, True]))
    assert expit(found(np.array([2.0])))[0] < 0.9


def test_platt_refuses_scores_that_point_the_wrong_way():
    scores, positive = drawn(200)
    with pytest.raises(DataError, match="no higher than others"):
        fit_platt(-scores, positive)


def test_isotonic_is_that_of_scikit_learn():
    scores, positive = drawn(3000)
    found = fit_isotonic(scores, positive)
    oracle = IsotonicRegression(out_of_bounds="clip").fit(scores, positive)
    new = np.linspace(-9, 9, 301)
    np.testing.assert_allclose(expit(found(new)), oracle.predict(new), atol=1.01 / 3002)


@pytest.mark.parametrize(
    ("proba", "score"), [(0.1, -NEVER), (0.3, -0.5), (0.4, 0.0), (0.5, 1.25), (0.8, 2.0), (0.9, NEVER)]
)
def test_the_inverse_of_steps_is_the_first_score_that_reaches_it(proba, score):
    assert STEPS.inverse(float(logit(proba))) == pytest.approx(score)


@pytest.mark.parametrize(
    ("score", "is_flat"),
    [(-2.0, True), (-0.5, False), (0.0, False), (0.5, True), (1.0, True), (1.5, False), (3.0, True)],
)
def test_where_steps_are_flat(score, is_flat):
    assert STEPS.is_flat_below(score) is is_flat


@given(st.floats(-6, 6), st.floats(0.01, 0.99), st.integers(0, 1), st.sampled_from(["affine", "steps"]))
def test_a_number_decides_as_the_calibrated_probability_does(score, threshold, k, kind):
    one = Affine(0.5, 0.3) if kind == "affine" else STEPS
    method = "platt" if kind == "affine" else "isotonic"
    calibration = Calibration(method, Task.BINARY, (0.2,), (one,), (-0.4,), 100, 100)
    own = calibration.of(k)
    second = float(expit(calibration(np.array([[score if k == 1 else -score]]))[0, 0]))
    proba = second if k == 1 else 1 - second
    assert own.proba(score) == pytest.approx(proba)
    if abs(proba - threshold) > 1e-9:
        assert (score >= own.score_of(threshold)) is (proba >= threshold)


@pytest.mark.parametrize("method", ["temperature", "platt", "isotonic"])
def test_class_weights_are_undone(method):
    """Weights shift what a network learns by their logarithm; afterwards the probabilities are those of the data."""
    scores, positive = drawn(60_000)
    weights = np.array([0.5, 4.0])
    logits = (scores + np.log(8.0))[:, None]
    found = fitted(logits, positive.astype(int), method, class_weights=weights)
    np.testing.assert_allclose(expit(found(logits)[:, 0]), expit(scores), atol=0.05)
    if method == "temperature":
        assert found.maps[0].slope == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("method", list(CALIBRATORS))
def test_several_classes(method):
    """Twice the true logits, and weights on the classes: afterwards every probability is near the true one."""
    rng = np.random.default_rng(0)
    true = rng.normal(0.0, 1.5, (40_000, 3))
    proba = softmax(true, axis=1)
    target = (proba.cumsum(axis=1) < rng.random((len(true), 1))).sum(axis=1)
    weights = np.array([1.0, 2.0, 4.0])
    logits = 2.0 * true + np.log(weights)
    found = softmax(fitted(logits, target, method, 3, class_weights=weights)(logits), axis=1)
    assert np.abs(found - proba).mean() < (0.005 if method == "temperature" else 0.03)
    raw = softmax(logits, axis=1)
    assert np.abs(found - proba).mean() < 0.3 * np.abs(raw - proba).mean()


def test_the_prevalence_is_shifted():
    """At another prevalence, with the same images of each label, Bayes' rule gives the posterior odds."""
    scores, positive = drawn(100_000)
    found = fitted(scores[:, None], positive.astype(int), prevalence=np.array([0.95, 0.05]))
    here = positive.mean()
    odds = np.exp(scores) * (0.05 / 0.95) / (here / (1 - here))
    np.testing.assert_allclose(expit(found(scores[:, None])[:, 0]), odds / (1 + odds), atol=0.02)


def test_the_prevalence_of_several_classes_is_shifted():
    rng = np.random.default_rng(0)
    target = rng.integers(3, size=9000)
    logits = rng.normal(size=(9000, 3)) + np.eye(3)[target]
    plain = fitted(logits, target, k=3)
    shifted = fitted(logits, target, k=3, prevalence=np.array([0.8, 0.1, 0.1]))
    wanted = softmax(plain(logits), axis=1) * [0.8, 0.1, 0.1] / (np.bincount(target) / 9000)
    np.testing.assert_allclose(softmax(shifted(logits), axis=1), wanted / wanted.sum(axis=1, keepdims=True))


@pytest.mark.parametrize(("method", "fewest"), [("temperature", 10), ("platt", 20), ("isotonic", 50)])
def test_too_few_images_of_a_label(method, fewest):
    scores, _ = drawn(200)
    target = (np.arange(200) < fewest - 1).astype(int)
    with pytest.raises(DataError, match=f"at least {fewest} images of each label. Got {fewest - 1} of 'P'"):
        fitted(scores[:, None], target, method, labels=["N", "P"])


def test_log_odds_of_each_label_by_hand():
    logits = np.log([[0.2, 0.3, 0.5]])
    np.testing.assert_allclose(label_log_odds(logits, Task.MULTICLASS), logit([[0.2, 0.3, 0.5]]))
    np.testing.assert_allclose(label_log_odds(logits, Task.MULTILABEL), logits)
    np.testing.assert_allclose(label_log_odds(np.array([[1.5]]), Task.BINARY), [[-1.5, 1.5]])
    assert np.isnan(label_log_odds(np.full((1, 3), np.nan), Task.MULTICLASS)).all()


@pytest.mark.parametrize("method", list(CALIBRATORS))
def test_each_of_several_labels_is_calibrated_by_itself_where_it_is_known(method):
    rng = np.random.default_rng(0)
    scores = rng.normal(0.0, 2.0, (30_000, 2))
    target = (rng.random(scores.shape) < expit(scores)).astype(float)
    logits = scores * [2.0, 0.5] + np.log([1.0, 3.0])
    target[rng.random(scores.shape) < 0.3] = np.nan
    several = {"task": Task.MULTILABEL, "class_weights": np.array([1.0, 3.0])}
    found = fitted(logits, target, method, **several)
    np.testing.assert_allclose(expit(found(logits)), expit(scores), atol=0.06)
    rare = fitted(logits, target, method, **several, prevalence=np.array([0.05, 0.5]))
    shift = logit([0.05, 0.5]) - logit(np.nanmean(target, axis=0))
    np.testing.assert_allclose(rare(logits) - found(logits), np.broadcast_to(shift, logits.shape))
    with pytest.raises(DataError, match="Got 0 of not 1"):
        fitted(logits, np.where(np.arange(2) == 1, 1.0, target), method, **several)


@pytest.mark.parametrize("method", list(CALIBRATORS))
@pytest.mark.parametrize("k", [2, 3])
def test_json_and_back(method, k):
    rng = np.random.default_rng(0)
    target = rng.integers(k, size=400)
    logits = rng.normal(size=(400, 1 if k == 2 else k)) + (target[:, None] if k == 2 else np.eye(k)[target])
    found = fitted(logits, target, method, k)
    again = Calibration.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again == found
    np.testing.assert_array_equal(again(logits), found(logits))


@pytest.mark.parametrize(
    "change",
    [
        {"method": "magic"},
        {"task": "magic"},
        {"maps": []},
        {"maps": [{"slope": -1.0, "intercept": 0.0}]},
        {"maps": [{"scores": [1.0, 0.0], "proba": [0.1, 0.2]}]},
        {"maps": [{"scores": [0.0, 1.0], "proba": [0.0, 1.0]}]},
        {"log_weights": [float("nan")]},
        {"prior_shift": [0.0, 0.0]},
    ],
)
def test_a_damaged_description_is_refused(change):
    good = Calibration("platt", Task.BINARY, (0.0,), (Affine(1.0),), (0.0,), 10, 10).to_dict()
    with pytest.raises((ValueError, TypeError, LookupError)):
        Calibration.from_dict({**good, **change})


@pytest.mark.parametrize("k", [2, 3])
def test_few_images_that_are_all_right_make_no_certainty(k):
    rng = np.random.default_rng(0)
    target = np.repeat(np.arange(k), 12)
    logits = rng.normal(0, 0.5, (len(target), k)) + 4.0 * np.eye(k)[target]
    logits = logits[:, 1:] - logits[:, :1] if k == 2 else logits
    found = fitted(logits, target, k=k)(logits)
    proba = expit(np.abs(found)) if k == 2 else softmax(found, axis=1).max(axis=1)
    assert proba.max() < 0.999


@pytest.mark.parametrize(
    ("method", "scores"),
    [
        ("temperature", np.ones(40)),
        ("temperature", -np.repeat([0.0, 1.0], 20)),
        ("platt", np.zeros(40)),
        ("platt", np.ones(40)),
        ("platt", -np.repeat([0.0, 1.0], 20)),
    ],
)
def test_useless_scores_are_refused(method, scores):
    with pytest.raises(DataError, match="finds no use in these scores"):
        fitted(scores[:, None], np.repeat([0, 1], 20), method)


def test_no_image_falls_off_the_edge_of_a_step():
    """Many images share the probability of a step; a threshold of just that counts them all."""
    for seed in range(20):
        scores, positive = drawn(150, seed=seed)
        calibration = fitted(scores[:, None], positive.astype(int), "isotonic")
        proba = expit(calibration(scores[:, None])[:, 0])
        for value in np.unique(proba):
            np.testing.assert_array_equal(scores >= calibration.of(1).score_of(float(value)), proba >= value)
