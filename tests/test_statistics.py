"""Intervals and AUROC."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from cxr_estimator.statistics import Estimate, auroc, label_auroc, macro_auroc, mean_band, patient_bootstrap


def test_auroc_by_hand():
    # pairs (positive, negative): 3 > 1, 3 > 2, 2 > 1, and 2 = 2 counts half
    assert auroc(np.array([3, 2, 1, 2]), np.array([1, 1, 0, 0])) == (3 + 0.5) / 4


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=50))
def test_auroc_equals_scikit_learn(pairs):
    scores = np.array([score for score, _ in pairs], dtype=float)
    positive = np.array([label for _, label in pairs])
    if positive.all() or not positive.any():
        assert np.isnan(auroc(scores, positive))
    else:
        assert auroc(scores, positive) == pytest.approx(roc_auc_score(positive, scores))


def test_macro_auroc_equals_scikit_learn():
    rng = np.random.default_rng(0)
    proba = rng.dirichlet(np.ones(3), 60)
    target = rng.integers(0, 3, 60)
    assert macro_auroc(proba, target) == pytest.approx(roc_auc_score(target, proba, multi_class="ovr"))


def test_interval_of_a_mean_matches_theory():
    values = np.random.default_rng(0).normal(size=400)
    estimate = patient_bootstrap(lambda rows: values[rows].mean(), np.arange(400), n_resamples=2000)
    half = 1.96 * values.std() / np.sqrt(400)
    assert estimate.value == pytest.approx(values.mean())
    assert estimate.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert estimate.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_repeated_images_of_a_patient_do_not_narrow_the_interval():
    values = np.random.default_rng(0).normal(size=50)
    once = patient_bootstrap(lambda rows: values[rows].mean(), np.arange(50))
    tenfold, owner = np.repeat(values, 10), np.repeat(np.arange(50), 10)
    together = patient_bootstrap(lambda rows: tenfold[rows].mean(), owner)
    apart = patient_bootstrap(lambda rows: tenfold[rows].mean(), np.arange(500))
    width = once.high - once.low
    assert together.high - together.low == pytest.approx(width, rel=0.1)
    assert apart.high - apart.low < 0.5 * width


def test_undefined_resamples_are_left_out():
    estimate = patient_bootstrap(lambda rows: float("nan"), np.arange(3), n_resamples=5)
    assert all(np.isnan(number) for number in estimate)
    assert str(Estimate(0.5, 0.25, 0.75)) == "0.500 [0.250, 0.750]"


def test_band_of_means_is_the_bootstrap_of_each_column():
    rng = np.random.default_rng(0)
    values, groups = rng.normal(size=(30, 3)), rng.integers(0, 9, 30)
    low, high = mean_band(values, groups, n_resamples=200)
    for column in range(3):
        one = patient_bootstrap(lambda rows, column=column: values[rows, column].mean(), groups, n_resamples=200)
        assert (low[column], high[column]) == pytest.approx((one.low, one.high))


def test_label_auroc_is_the_mean_over_labels_of_known_images():
    rng = np.random.default_rng(0)
    scores, target = rng.random((40, 3)), rng.integers(0, 2, (40, 3)).astype(float)
    assert label_auroc(scores, target) == pytest.approx(roc_auc_score(target, scores, average="macro"))
    target[:15, 0] = np.nan
    target[:, 2] = 1  # never absent: left out
    expected = [roc_auc_score(target[15:, 0], scores[15:, 0]), roc_auc_score(target[:, 1], scores[:, 1])]
    assert label_auroc(scores, target) == pytest.approx(np.mean(expected))
    assert np.isnan(label_auroc(scores, np.full((40, 3), np.nan)))
