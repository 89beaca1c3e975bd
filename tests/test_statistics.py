"""Intervals and AUROC."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, norm, t

from cxr_estimator.statistics import (
    Estimate,
    clustered_difference,
    clustered_mean,
    difference,
    mcnemar,
    mean_band,
    paired_difference,
    patient_bootstrap,
    percentile_interval,
    proportion,
    resampled_sums,
    resampled_weights,
    share_difference,
    wilson,
)


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


def covered(interval, truth) -> bool:
    """Whether the interval, the last two of its numbers, holds the truth; rounding aside."""
    *_, low, high = interval
    return low - 1e-12 <= truth <= high + 1e-12


def test_weights_sums_and_lists_are_the_same_resamples():
    rng = np.random.default_rng(0)
    groups, values = np.array(list("caabbbd")), rng.normal(size=(7, 2))
    weights = np.stack(list(resampled_weights(groups, n_resamples=5, random_state=3)))
    drawn = []

    def statistic(rows):
        drawn.append(np.bincount(rows, minlength=7))
        return 0.0

    patient_bootstrap(statistic, groups, n_resamples=5, random_state=3)
    assert (np.stack(drawn[:5]) == weights).all()
    np.testing.assert_allclose(resampled_sums(values, groups, n_resamples=5, random_state=3), weights @ values)
    for images in ((1, 2), (3, 4, 5)):  # of one patient each
        assert (np.ptp(weights[:, images], axis=1) == 0).all()
    by_patient = weights[:, [0, 1, 3, 6]]
    assert (by_patient.sum(axis=1) == 4).all()


def test_percentiles_by_hand_without_nan():
    assert percentile_interval([np.nan, *range(101)], 0.9) == pytest.approx((5.0, 95.0))
    assert np.isnan(percentile_interval([np.nan])).all()


@given(st.integers(1, 300), st.floats(0, 1), st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_equals_scipy(n, share, confidence):
    k = round(share * n)
    expected = binomtest(k, n).proportion_ci(confidence, method="wilson")
    assert wilson(k / n, n, confidence) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_images_that_balance_within_patients_are_not_certain():
    """One right and one wrong image of each of 8 patients, without any variance between them."""
    found = proportion(np.tile([True, False], 8), np.repeat(np.arange(8), 2))
    assert found == (0.5, *wilson(0.5, 32))


def test_wilson_of_nothing_is_nan():
    assert np.isnan(wilson(0.5, 0)).all()


def test_share_near_the_ends_is_wilson_over_patients():
    groups = np.repeat(np.arange(40), 2)
    right = np.ones(80, dtype=bool)
    assert proportion(right, groups) == (1.0, *wilson(1.0, 40))
    right[:8:2] = False  # four patients
    assert proportion(right, groups) == (76 / 80, *wilson(76 / 80, 40))
    right[:28:2] = False  # 14 with a wrong and a right image, 26 with two right ones
    variance = 40 / 39 * (14 * (1 - 2 * 66 / 80) ** 2 + 26 * (2 - 2 * 66 / 80) ** 2) / 80**2
    assert proportion(right, groups) == pytest.approx((66 / 80, *wilson(66 / 80, 66 / 80 * 14 / 80 / variance)))
    right[28] = False  # and a fifteenth
    assert proportion(right, groups) == pytest.approx(patient_bootstrap(lambda rows: right[rows].mean(), groups))
    assert np.isnan(proportion([], [])).all()


def test_images_count_as_often_as_they_are_alike():
    """Six wrong images of 60: as 60 patients, or as twelve copies of each patient's one image."""
    right = np.arange(60) >= 6
    alone = proportion(right, np.arange(60))
    assert alone == pytest.approx((0.9, *wilson(0.9, 59)))  # 59: the variance of a sample
    assert proportion(np.repeat(right, 12), np.repeat(np.arange(60), 12)) == pytest.approx(alone)


@pytest.mark.parametrize("share", [0.5, 0.8, 0.96])
@pytest.mark.parametrize("spread", [0.0, 1.5])
def test_share_covers_the_truth(share, spread):
    """80 patients of 1 to 3 images, alike within a patient as far as `spread` says; nominal 95%."""
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(80), rng.integers(1, 4, 80))
    cut = norm.ppf(share) * np.hypot(1.0, spread)
    found = []
    for draw in range(400):
        latent = rng.normal(0, spread, 80)[groups] + rng.normal(size=len(groups))
        found.append(covered(proportion(latent < cut, groups, n_resamples=400, random_state=draw), share))
    assert 0.92 <= np.mean(found) <= 0.98


def test_bootstrap_of_a_mean_covers_the_truth():
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(60), 2)
    found, apart = [], []
    for draw in range(300):
        values = rng.normal(size=60)[groups] + rng.normal(size=120)
        for patients, kept in ((groups, found), (np.arange(120), apart)):
            low, high = mean_band(values[:, None], patients, n_resamples=300, random_state=draw)
            kept.append(low[0] <= 0.0 <= high[0])
    assert 0.92 <= np.mean(found) <= 0.98
    assert np.mean(apart) < 0.92  # images of a patient are alike: without patients the interval is too narrow


def test_difference_is_newcombes_worked_example():
    """56 / 70 and 48 / 80: Newcombe (1998), table II, method 10: 0.0524 to 0.3339."""
    first, second = (Estimate(k / n, *wilson(k / n, n)) for k, n in ((56, 70), (48, 80)))
    assert difference(first, second) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


def test_difference_changes_sign_with_its_sides_and_shrinks_to_one_of_them():
    first, second = Estimate(0.9, 0.7, 0.95), Estimate(0.8, 0.75, 0.82)
    one, other = difference(first, second), difference(second, first)
    assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low))
    exact = Estimate(0.8, 0.8, 0.8)
    assert difference(first, exact) == pytest.approx((0.1, -0.1, 0.15))
    assert np.isnan(difference(first, Estimate(0.5, np.nan, np.nan))[1:]).all()


@pytest.mark.parametrize(("p", "q"), [(0.9, 0.8), (0.95, 0.95), (0.6, 0.3)])
def test_difference_covers_the_truth(p, q):
    rng = np.random.default_rng(0)
    found = []
    for k, j in zip(rng.binomial(60, p, 1000) / 60, rng.binomial(90, q, 1000) / 90, strict=True):
        found.append(covered(difference(Estimate(k, *wilson(k, 60)), Estimate(j, *wilson(j, 90))), p - q))
    assert 0.92 <= np.mean(found) <= 0.98


# --- means of few patients, and two ways to decide on the same images


def test_the_mean_of_independent_numbers_has_students_interval():
    values = np.random.default_rng(0).normal(size=8)
    found = clustered_mean(values, np.arange(8))
    low, high = t.interval(0.95, 7, values.mean(), values.std(ddof=1) / np.sqrt(8))
    assert (found.value, found.low, found.high) == pytest.approx((values.mean(), low, high))
    assert clustered_mean(np.repeat(values, 3), np.repeat(np.arange(8), 3)) == pytest.approx(tuple(found))
    assert np.isnan(clustered_mean(values[:4], np.arange(4)).low)
    assert np.isnan(clustered_mean(values[:0], np.arange(0)).value)


@pytest.mark.parametrize("n_patients", [5, 8, 24])
def test_means_of_few_patients_are_covered(n_patients):
    rng, inside = np.random.default_rng(n_patients), 0
    for _ in range(600):
        size = rng.integers(1, 4, n_patients)
        values = np.repeat(rng.normal(size=n_patients), size) + 0.5 * rng.normal(size=size.sum())
        found = clustered_mean(values, np.repeat(np.arange(n_patients), size))
        inside += found.low <= 0 <= found.high
    assert inside / 600 > 0.92


def test_difference_of_means_of_independent_images_has_the_error_of_welch():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=8), 3 * rng.normal(size=20) + 1
    found, p_value = clustered_difference(first, np.arange(8), second, np.arange(8, 28))
    error = np.sqrt(first.var(ddof=1) / 8 + second.var(ddof=1) / 20)
    value = first.mean() - second.mean()
    assert (found.value, found.low, found.high) == pytest.approx((value, *t.interval(0.95, 7, value, error)))
    assert p_value == pytest.approx(2 * t.sf(abs(value / error), 7))
    turned, same = clustered_difference(second, np.arange(8, 28), first, np.arange(8))
    assert (turned.value, turned.low, turned.high, same) == pytest.approx((-value, -found.high, -found.low, p_value))
    again, _ = clustered_difference(np.repeat(first, 3), np.repeat(np.arange(8), 3), second, np.arange(8, 28))
    assert again == pytest.approx(tuple(found))
    few = clustered_difference(first[:4], np.arange(4), second, np.arange(8, 28))
    assert np.isnan([few[0].low, few[0].high, few[1]]).all()
    assert np.isnan(clustered_difference(first[:0], np.arange(0), second, np.arange(8, 28))[0].value)
    assert clustered_difference(first * 0, np.arange(8), first * 0, np.arange(8)) == (Estimate(0, 0, 0), 1)


@pytest.mark.parametrize(("first", "second", "in_both"), [(5, 24, 0), (8, 8, 4), (24, 24, 6)])
def test_differences_of_patients_with_images_on_both_sides_are_covered(first, second, in_both):
    rng, inside = np.random.default_rng(first), 0
    groups = np.repeat(np.arange(first), 2), np.repeat(np.arange(first - in_both, first - in_both + second), 2)
    for _ in range(400):
        of_patient = rng.normal(size=first + second)
        values = [of_patient[one] + 0.5 * rng.normal(size=len(one)) for one in groups]
        found, p_value = clustered_difference(values[0], groups[0], values[1], groups[1])
        inside += found.low <= 0 <= found.high
        assert (found.low <= 0 <= found.high) == (p_value >= 0.05)
    assert inside / 400 > 0.92


@pytest.mark.parametrize(("sizes", "least"), [([20, 1, 1, 1, 1], 0.84), ([12] + [1] * 12, 0.88)])
def test_one_patient_with_most_of_the_images_makes_nothing_sure(sizes, least):
    rng, inside, sure = np.random.default_rng(0), 0, 0
    groups, others = np.repeat(np.arange(len(sizes)), sizes), np.arange(24) + len(sizes)
    for _ in range(600):
        values = rng.normal(size=len(sizes))[groups] + 0.5 * rng.normal(size=len(groups))
        found = clustered_mean(values, groups)
        inside += found.low <= 0 <= found.high
        sure += clustered_difference(values, groups, rng.normal(size=24), others)[1] < 0.05
    assert inside / 600 > least  # by the variance of patients' sums 0.40 and 0.78
    assert sure / 600 < 0.08  # by the variance of patients' sums 0.38 and 0.14


@pytest.mark.parametrize("value", [0.1, 1 / 3, 0.7])
def test_equal_numbers_do_not_differ_by_rounding(value):
    for n, m in ((5, 24), (7, 10), (11, 23), (6, 13)):
        found, p_value = clustered_difference(np.full(n, value), np.arange(n), np.full(m, value), np.arange(n, n + m))
        assert (found.value, p_value) == (0, 1)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_mcnemar_of_independent_images_is_the_exact_test(pairs):
    first, second = np.array(pairs).T
    only, other = int((first & ~second).sum()), int((second & ~first).sum())
    expected = binomtest(only, only + other).pvalue if only + other else 1.0
    assert mcnemar(first, second) == pytest.approx(expected)
    assert mcnemar(second, first) == pytest.approx(expected)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=9))
def test_mcnemar_goes_through_all_signs_of_patients(sums):
    """Each patient with as many images in favour of one as the number says."""
    groups = np.repeat(np.arange(len(sums)), np.abs(sums) + 1)
    first = np.concatenate([[*([one > 0] * abs(one)), False] for one in sums]).astype(bool)
    second = np.concatenate([[*([one < 0] * abs(one)), False] for one in sums]).astype(bool)
    signs = np.array(list(product((-1, 1), repeat=len(sums))))
    expected = (np.abs(signs @ np.abs(sums)) >= abs(sum(sums))).mean()
    assert mcnemar(first, second, groups) == pytest.approx(expected)


def test_images_of_a_patient_prove_no_more_than_one():
    first, second, groups = np.ones(30, bool), np.zeros(30, bool), np.repeat(np.arange(3), 10)
    assert mcnemar(first, second) < 1e-8
    assert mcnemar(first, second, groups) == pytest.approx(2 / 8)


def test_models_that_are_equally_good_differ_about_once_in_twenty():
    rng, by_patient, by_image = np.random.default_rng(1), 0, 0
    for _ in range(300):
        groups = np.repeat(np.arange(60), 5)
        first, second = (rng.normal(size=60)[groups] + 0.5 * rng.normal(size=300) < 0.8 for _ in range(2))
        by_patient += mcnemar(first, second, groups) < 0.05
        by_image += mcnemar(first, second) < 0.05
    assert 0.01 < by_patient / 300 < 0.08
    assert by_image / 300 > 0.2


def test_differences_of_shares():
    rng = np.random.default_rng(0)
    first, second = rng.random(200) < 0.8, rng.random(200) < 0.6
    found = share_difference(first, second, np.arange(200))
    assert found.value == pytest.approx(first.mean() - second.mean())
    error = np.std(first.astype(float) - second) / np.sqrt(200)
    assert found.low == pytest.approx(found.value - 1.96 * error, abs=0.02)
    assert found.high == pytest.approx(found.value + 1.96 * error, abs=0.02)
    same = share_difference(first, first, np.arange(200))
    assert (same.value, same.high, same.low) == pytest.approx((0, wilson(0, 200)[1], -wilson(0, 200)[1]))
    whole = share_difference(np.ones(20), np.zeros(20), np.arange(20))
    assert (whole.value, whole.high) == (1, 1)
    assert whole.low < 0.9


def test_paired_differences_by_hand():
    """Seven images agree and one does not: as of ten images, one more for each side (Bonett & Price)."""
    found = paired_difference(np.ones(8), [1, 1, 1, 1, 1, 1, 0, 1], np.arange(8))
    half = t.ppf(0.975, 7) * np.sqrt((0.2 + 0.1 - 0.1**2) / 10 * 10 / 9)
    assert tuple(found) == pytest.approx((1 / 8, 0.1 - half, 0.1 + half))
    same = paired_difference(np.ones(200), np.ones(200), np.repeat(np.arange(50), 4))
    assert same.value == 0
    assert same.low == -same.high
    assert same.high > 0.01, "that nobody differs here is no proof"
    whole = paired_difference(np.ones(20), np.zeros(20), np.arange(20))
    assert (whole.value, whole.high) == (1, 1)
    assert 0.7 < whole.low < 1
    few = paired_difference(np.ones(40), np.zeros(40), np.repeat(np.arange(4), 10))
    assert few.value == 1
    assert np.isnan(few.low)
    assert np.isnan(paired_difference([], [], []).value)


def test_paired_differences_count_patients_and_not_images():
    rng = np.random.default_rng(0)
    first, second = rng.random(30) < 0.8, rng.random(30) < 0.7
    one = paired_difference(first, second, np.arange(30))
    again = paired_difference(np.repeat(first, 9), np.repeat(second, 9), np.repeat(np.arange(30), 9))
    assert again.value == pytest.approx(one.value)
    assert again.high - again.low > 0.9 * (one.high - one.low)


@pytest.mark.parametrize(("n_patients", "right"), [(15, (0.95, 0.85)), (30, (0.95, 0.95)), (80, (0.9, 0.6))])
def test_paired_differences_cover_the_truth_where_images_of_a_patient_are_alike(n_patients, right):
    rng, covered, n_trials = np.random.default_rng(1), 0, 300
    limits = [norm.ppf(share) for share in right]
    for _ in range(n_trials):
        groups = np.repeat(np.arange(n_patients), rng.integers(1, 6, n_patients))
        shared = rng.normal(size=n_patients)[groups]
        one, other = (
            np.sqrt(0.5) * shared + 0.5 * rng.normal(size=n_patients)[groups] + 0.5 * rng.normal(size=len(groups))
            < limit
            for limit in limits
        )
        found = paired_difference(one, other, groups)
        covered += found.low <= right[0] - right[1] <= found.high
    assert covered >= 0.92 * n_trials
