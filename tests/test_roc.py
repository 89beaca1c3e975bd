"""Areas under curves, and the interval of DeLong."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score

from cxr_estimator.roc import (
    Ranking,
    _delong_variance,
    auroc,
    delong,
    delong_difference,
    few_misplaced,
    label_auroc,
    macro_auroc,
    placements,
)

WEIGHTED = st.lists(st.tuples(st.integers(-3, 3), st.booleans(), st.integers(0, 3)), min_size=1, max_size=40)


def spread_of(scores, positive, groups=None):
    """The standard error by DeLong."""
    groups = np.arange(len(scores)) if groups is None else groups
    return np.sqrt(_delong_variance(placements(scores, positive), positive, groups))


def slow_variance(scores, positive, groups):
    """Obuchowski's equations as they are printed, pair by pair and patient by patient."""
    above = [[float(x > y) + 0.5 * (x == y) for y in scores[~positive]] for x in scores[positive]]
    v10, v01, area = np.mean(above, axis=1), np.mean(above, axis=0), np.mean(above)
    m, n, patients = positive.sum(), (~positive).sum(), np.unique(groups)
    s10 = s01 = s11 = 0.0
    for one in patients:
        mine, theirs = groups[positive] == one, groups[~positive] == one
        left, right = (v10[mine] - area).sum(), (v01[theirs] - area).sum()
        s10, s01, s11 = s10 + left**2, s01 + right**2, s11 + left * right
    i10, i01, i = len(np.unique(groups[positive])), len(np.unique(groups[~positive])), len(patients)
    s10, s01, s11 = i10 / ((i10 - 1) * m) * s10, i01 / ((i01 - 1) * n) * s01, i / (i - 1) * s11
    return s10 / m + s01 / n + 2 * s11 / (m * n)


@given(WEIGHTED)
def test_areas_equal_scikit_learn_with_weights_and_ties(rows):
    scores, positive, weights = (np.array(column) for column in zip(*rows, strict=True))
    ranking = Ranking(scores, positive)
    if weights @ positive and weights @ ~positive:
        assert ranking.auroc(weights) == pytest.approx(roc_auc_score(positive, scores, sample_weight=weights))
        expected = average_precision_score(positive, scores, sample_weight=weights)
        assert ranking.average_precision(weights) == pytest.approx(expected)
    else:
        assert np.isnan(ranking.auroc(weights))
        assert np.isnan(ranking.average_precision(weights)) == (weights @ positive == 0)


def test_areas_by_hand():
    """In falling order: positive, negative, positive, negative."""
    ranking = Ranking(np.array([4, 3, 2, 1]), np.array([True, False, True, False]))
    assert ranking.auroc() == 3 / 4
    assert ranking.average_precision() == pytest.approx((1 + 2 / 3) / 2)
    assert [counts.tolist() for counts in ranking.counts()] == [[1, 1, 2, 2], [0, 1, 1, 2]]


def test_published_example():
    """109 CT images rated 1 to 5 (Hanley & McNeil 1982, table I): 0.8932, standard error 0.0307 by DeLong.

    The figures, and the plain interval 0.83295 to 0.95339, are those of the manual of Stata's `roctab`.
    """
    scores = np.repeat([1, 2, 3, 4, 5, 1, 2, 3, 4, 5], [33, 6, 6, 11, 2, 3, 2, 2, 11, 33])
    positive = np.arange(109) >= 58
    area, error = auroc(scores, positive), spread_of(scores, positive)
    assert (area, error) == pytest.approx((0.8932, 0.0307), abs=5e-5)
    assert (area - 1.959964 * error, area + 1.959964 * error) == pytest.approx((0.83295, 0.95339), abs=5e-6)
    logit, half = np.log(area / (1 - area)), 1.959964 * error / (area * (1 - area))
    expected = [area, *(1 / (1 + np.exp(-logit - side * half)) for side in (-1, 1))]
    assert delong(scores, positive) == pytest.approx(expected, abs=1e-6)


def test_variance_by_hand():
    """Positive 3, 5, 6 lie above 2.5, 4 and 4 of the negative 1, 2, 4, 3; those lie below 3, 3, 2 and 2.5."""
    scores, positive = np.array([3, 5, 6, 1, 2, 4, 3]), np.array([True] * 3 + [False] * 4)
    np.testing.assert_allclose(placements(scores, positive), [2.5 / 4, 1, 1, 1, 1, 2 / 3, 2.5 / 3])
    s10, s01 = (0.25**2 + 2 * 0.125**2) / 2, (2 * 0.125**2 + 0.2083333**2 + 0.0416667**2) / 3
    assert spread_of(scores, positive) ** 2 == pytest.approx(s10 / 3 + s01 / 4)


@given(st.integers(0, 1000))
def test_clustered_variance_equals_the_printed_equations(seed):
    rng = np.random.default_rng(seed)
    groups, positive = rng.integers(0, 8, 30), rng.permutation(np.arange(30) < 12)
    scores = np.round(rng.normal(size=30) + positive, 1)
    _, patient = np.unique(groups, return_inverse=True)
    expected = slow_variance(scores, positive, groups)
    assert _delong_variance(placements(scores, positive), positive, patient) == pytest.approx(expected)


def test_copies_of_images_change_nothing_if_they_are_the_same_patients():
    rng = np.random.default_rng(0)
    positive = np.arange(60) < 30
    scores, patients = rng.normal(size=60) + positive, np.arange(60)
    once = delong(scores, positive, patients)
    fourfold = [np.tile(one, 4) for one in (scores, positive, patients)]
    assert delong(*fourfold) == pytest.approx(once)
    apart = delong(*fourfold[:2])
    assert apart.high - apart.low == pytest.approx((once.high - once.low) / 2, rel=0.05)


def test_groups_default_to_one_image_per_patient():
    rng = np.random.default_rng(1)
    positive = np.arange(50) < 25
    scores = rng.normal(size=50) + positive
    assert delong(scores, positive) == delong(scores, positive, np.char.add("p", np.arange(50).astype(str)))


def test_swapping_the_labels_mirrors_the_interval():
    rng = np.random.default_rng(2)
    for shift in (1.0, 9.0):  # inside, and perfectly apart
        positive = np.arange(50) < 20
        scores = rng.normal(size=50) + shift * positive
        one, other = delong(scores, positive), delong(scores, ~positive)
        assert other == pytest.approx((1 - one.value, 1 - one.high, 1 - one.low))


@pytest.mark.parametrize("n", [5, 50, 500])
def test_perfect_ranking_has_an_interval_that_narrows_with_patients(n):
    positive = np.arange(2 * n) < n
    found = delong(positive, positive)
    assert found.value == found.high == 1.0
    assert 1.0 - found.low == pytest.approx(1.96**2 / (n + 1.96**2), rel=0.5)
    twice = delong(np.tile(positive, 2), np.tile(positive, 2), np.tile(np.arange(2 * n), 2))
    assert twice == pytest.approx(found)  # of patients, not of images


def test_few_misplaced_counts_patients():
    positive = np.arange(40) < 20
    placement = np.ones(40)
    placement[[0, 1, 2, 3, 4, 20, 21, 22, 23, 24]] = 0.9
    assert not few_misplaced(placement, positive, np.arange(40))
    assert few_misplaced(placement, positive, np.r_[0, 0, 2:40])
    assert few_misplaced(1.0 - placement, positive, np.r_[0, 0, 2:40])


def test_one_label_only_is_nan():
    assert np.isnan(delong([1, 2], [True, True])).all()


@pytest.mark.parametrize("area", [0.75, 0.9, 0.98])
def test_interval_covers_the_truth(area):
    rng = np.random.default_rng(0)
    positive = np.arange(120) < 40
    found = [delong(rng.normal(size=120) + shift(area) * positive, positive) for _ in range(400)]
    assert 0.92 <= np.mean([one.low <= area <= one.high for one in found]) <= 0.985


def shift(area):
    return norm.ppf(area) * np.sqrt(2.0)


@pytest.mark.parametrize("both", [False, True], ids=["one_label_per_patient", "both_labels_in_a_patient"])
def test_clustered_interval_covers_the_truth(both):
    """60 patients of four images that are much alike, for which the plain interval is wrong."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 4)
    positive = np.tile([True, False], 120) if both else groups < 30
    apart = norm.cdf(1.5 / 2.0)  # two images of different patients: variance 2 each
    truth = (59 * apart + norm.cdf(1.5 / np.sqrt(2.0))) / 60 if both else apart
    clustered, plain, widths = [], [], []
    for _ in range(400):
        scores = rng.normal(size=60)[groups] + rng.normal(size=240) + 1.5 * positive
        for patients, kept in ((groups, clustered), (None, plain)):
            found = delong(scores, positive, patients)
            kept.append(found.low <= truth <= found.high)
            widths.append(found.high - found.low)
    assert 0.92 <= np.mean(clustered) <= 0.98
    if both:  # differences within a patient are surer than those between patients
        assert np.mean(widths[::2]) < 0.9 * np.mean(widths[1::2])
    else:
        assert np.mean(plain) < 0.9


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


def test_label_auroc_is_the_mean_over_labels_of_known_images():
    rng = np.random.default_rng(0)
    scores, target = rng.random((40, 3)), rng.integers(0, 2, (40, 3)).astype(float)
    assert label_auroc(scores, target) == pytest.approx(roc_auc_score(target, scores, average="macro"))
    target[:15, 0] = np.nan
    target[:, 2] = 1  # never absent: left out
    expected = [roc_auc_score(target[15:, 0], scores[15:, 0]), roc_auc_score(target[:, 1], scores[:, 1])]
    assert label_auroc(scores, target) == pytest.approx(np.mean(expected))
    assert np.isnan(label_auroc(scores, np.full((40, 3), np.nan)))


# --- two models on the same images


def test_a_difference_of_areas_by_obuchowski():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 40, 120)
    positive = rng.random(120) < 0.5
    first, second = (positive * 0.8 + rng.normal(size=120) for _ in range(2))
    found, p = delong_difference(first, second, positive, groups)
    assert found.value == pytest.approx(roc_auc_score(positive, first) - roc_auc_score(positive, second))
    # the same equations, of the difference of the placements
    both = slow_variance_of(placements(first, positive) - placements(second, positive), positive, groups)
    assert (found.high - found.low) / 2 == pytest.approx(1.959964 * np.sqrt(both), rel=1e-6)
    assert p == pytest.approx(2 * norm.sf(abs(found.value) / np.sqrt(both)))


def slow_variance_of(difference, positive, groups):
    """Obuchowski's equations for placements that are differences, patient by patient."""
    area, m, n = difference[positive].mean(), positive.sum(), (~positive).sum()
    patients = np.unique(groups)
    sums = [[(difference[side & (groups == one)] - area).sum() for one in patients] for side in (positive, ~positive)]
    held = [len(np.unique(groups[side])) for side in (positive, ~positive)]
    s10, s01 = (i / ((i - 1) * size) * np.dot(x, x) for x, i, size in zip(sums, held, (m, n), strict=True))
    s11 = len(patients) / (len(patients) - 1) * np.dot(*sums)
    return s10 / m + s01 / n + 2 * s11 / (m * n)


def test_no_difference_is_found_about_once_in_twenty():
    rng, wrong = np.random.default_rng(1), 0
    for _ in range(400):
        groups = np.repeat(np.arange(40), 3)
        positive = np.repeat(rng.random(40) < 0.5, 3)
        patient = np.repeat(rng.normal(size=40), 3)
        scores = [positive + patient + rng.normal(size=120) for _ in range(2)]
        wrong += delong_difference(*scores, positive, groups)[1] < 0.05
    assert 0.02 < wrong / 400 < 0.09


def test_differences_that_nothing_is_known_of():
    assert np.isnan(delong_difference([1, 2], [1, 2], [True, True])[1])
    few, p = delong_difference([1, 2, 3, 4], [2, 1, 3, 4], [False, True, True, True])
    assert few.value == pytest.approx(1 / 3)
    assert np.isnan([few.low, few.high, p]).all()
    same, p = delong_difference(np.arange(20), np.arange(20) * 3.0, np.arange(20) % 2 == 0)
    assert (same.value, same.low, same.high, p) == (0, 0, 0, 1)
