"""The table of figures, and how intervals are made."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as oracle
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import norm

from cxr_estimator.clinical import expected_calibration_error
from cxr_estimator.evaluation import FIGURES, Decided, Patients, Scored, estimates
from cxr_estimator.evaluation._intervals import confusion_matrix, of_confusion
from cxr_estimator.statistics import wilson

MOST = 60


def alone(n, n_resamples=20, seed=0):
    return Patients(np.arange(n), n_resamples, seed)


def of_labels(decided, positive, **options):
    return Decided.of_label(
        np.array(decided, dtype=bool), np.array(positive, dtype=bool), alone(len(decided), **options)
    )


def test_decisions_by_hand():
    """Three of four positive found, one of two negative taken for positive."""
    found = estimates(of_labels([1, 1, 1, 0, 1, 0], [1, 1, 1, 1, 0, 0]), "binary")
    values = {name: one.value for name, one in found.items()}
    assert values == pytest.approx(
        {
            "sensitivity": 3 / 4, "specificity": 1 / 2, "precision": 3 / 4, "npv": 1 / 2, "accuracy": 4 / 6,
            "balanced_accuracy": 5 / 8, "f1": 3 / 4, "mcc": (3 * 1 - 1 * 1) / np.sqrt(4 * 4 * 2 * 2),
        }
    )  # fmt: skip
    assert (found["npv"].low, found["npv"].high) == pytest.approx(wilson(1 / 2, 2))


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=4, max_size=MOST))
def test_decisions_equal_scikit_learn(pairs):
    decided, positive = np.array(pairs).T
    values = {name: one.value for name, one in estimates(of_labels(decided, positive), "binary").items()}
    expected = {
        "sensitivity": oracle.recall_score(positive, decided, zero_division=np.nan),
        "specificity": oracle.recall_score(~positive, ~decided, zero_division=np.nan),
        "precision": oracle.precision_score(positive, decided, zero_division=np.nan),
        "npv": oracle.precision_score(~positive, ~decided, zero_division=np.nan),
        "accuracy": oracle.accuracy_score(positive, decided),
        "f1": oracle.f1_score(positive, decided, zero_division=np.nan),
    }
    if positive.any() and not positive.all():
        expected["balanced_accuracy"] = oracle.balanced_accuracy_score(positive, decided)
        if decided.any() and not decided.all():
            expected["mcc"] = oracle.matthews_corrcoef(positive, decided)
    for name in values.keys() - expected.keys():
        assert np.isnan(values[name]), name
    assert {name: values[name] for name in expected} == pytest.approx(expected, nan_ok=True)


def test_several_classes_equal_scikit_learn():
    rng = np.random.default_rng(0)
    target, patients = np.arange(90) % 3, alone(90)
    proba = rng.dirichlet(np.ones(3), 90) + 0.5 * np.eye(3)[target]
    proba /= proba.sum(axis=1, keepdims=True)
    decided = proba.argmax(axis=1)
    found = estimates(Scored(proba, proba, target, patients), "several")
    found |= estimates(Decided(decided, target, 3, patients), "several")
    assert found.pop("calibration_error_by_chance").value > 0
    assert {name: one.value for name, one in found.items()} == pytest.approx(
        {
            "macro_auroc": oracle.roc_auc_score(target, proba, multi_class="ovr"),
            "brier": oracle.brier_score_loss(target, proba),
            "log_loss": oracle.log_loss(target, proba),
            "calibration_error": expected_calibration_error(proba.max(axis=1), decided == target, strategy="quantile"),
            "accuracy": oracle.accuracy_score(target, decided),
            "balanced_accuracy": oracle.balanced_accuracy_score(target, decided),
            "mcc": oracle.matthews_corrcoef(target, decided),
            "macro_precision": oracle.precision_score(target, decided, average="macro"),
            "macro_recall": oracle.recall_score(target, decided, average="macro"),
            "macro_f1": oracle.f1_score(target, decided, average="macro"),
        }
    )


def test_scores_equal_scikit_learn():
    rng = np.random.default_rng(1)
    positive, proba = rng.random(80) < 0.3, np.round(rng.random(80), 2)
    found = estimates(Scored.of_label(proba, proba, positive, alone(80)), "binary")
    assert found.pop("calibration_error_by_chance").value > 0
    clipped = np.clip(proba, 1e-15, 1 - 1e-15)
    assert {name: one.value for name, one in found.items()} == pytest.approx(
        {
            "auroc": oracle.roc_auc_score(positive, proba),
            "auprc": oracle.average_precision_score(positive, proba),
            "brier": oracle.brier_score_loss(positive, proba),
            "log_loss": oracle.log_loss(positive, clipped),
            "calibration_gap": proba.mean() - positive.mean(),
            "calibration_error": expected_calibration_error(proba, positive, strategy="quantile"),
        }
    )


@pytest.mark.parametrize("task", ["binary", "class"])
@pytest.mark.parametrize("seed", range(3))
def test_intervals_hold_the_values_and_lie_in_range(task, seed):
    rng = np.random.default_rng(seed)
    positive = rng.random(60) < 0.5
    scores = rng.normal(size=60) + positive * [0.0, 2.0, 20.0][seed]
    proba = 1 / (1 + np.exp(-scores))
    patients = Patients(np.repeat(np.arange(20), 3), 100)
    found = estimates(Scored.of_label(scores, proba, positive, patients), task)
    found |= estimates(Decided.of_label(scores > 1.0, positive, patients), task)
    for name, one in found.items():
        if name == "calibration_error":
            assert np.isnan([one.low, one.high]).all()
            continue
        low = -1.0 if name in ("mcc", "calibration_gap") else 0.0
        high = np.inf if name == "log_loss" else 1.0
        assert low <= one.low <= one.value <= one.high <= high, name
        assert one.low < one.high, name


def test_nothing_wrong_still_has_an_interval():
    """No bootstrap knows of an error that did not happen: 40 patients without one."""
    positive = np.arange(40) < 20
    found = estimates(of_labels(positive, positive), "binary")
    (low, _) = wilson(1.0, 20)
    for name, one in found.items():
        assert one.value == one.high == 1.0, name
        assert one.low < 0.95, name
    # the two recalls move one after the other: half of (1 - low) each, combined as squares
    assert found["balanced_accuracy"].low == pytest.approx(1.0 - np.sqrt(2.0) * (1.0 - low) / 2.0)
    scored = Scored.of_label(positive * 1.0, positive * 1.0, positive, alone(40))
    assert estimates(scored, "binary")["auprc"] == pytest.approx((1.0, *wilson(1.0, 20)))


def test_errors_that_did_not_happen_are_spread_evenly():
    target = np.arange(30) % 3
    found = of_confusion(lambda c: c[..., 0, 1] / c[..., 0, :].sum(axis=-1), target, target, 3, alone(30))
    assert found.value == found.low == 0.0
    assert found.high == pytest.approx((1.0 - wilson(1.0, 10)[0]) / 2.0)


def test_confusion_matrix_equals_scikit_learn():
    rng = np.random.default_rng(0)
    target, decided = rng.integers(0, 4, (2, 50))
    assert (confusion_matrix(target, decided, 4) == oracle.confusion_matrix(target, decided)).all()


def test_copies_of_images_change_no_interval():
    """Of figures that have one: each patient's image five times says nothing new."""
    rng = np.random.default_rng(3)
    positive = rng.random(60) < 0.5
    scores = rng.normal(size=60) + positive
    columns = [scores, 1 / (1 + np.exp(-scores)), positive, np.arange(60)]
    once, fivefold = (
        estimates(Scored.of_label(s, p, y, Patients(g, 50)), "binary")
        | estimates(Decided.of_label(s > 0.5, y, Patients(g, 50)), "binary")
        for s, p, y, g in (columns, [np.tile(one, 5) for one in columns])
    )
    for name, one in once.items():
        assert fivefold[name] == pytest.approx(one, nan_ok=True), name


@pytest.mark.parametrize("right", [(0.9, 0.75), (0.985, 0.985)])
def test_figures_of_the_confusion_matrix_cover_the_truth(right):
    """120 patients, 40% of them positive; sensitivity and specificity as given; nominal 95%."""
    rng = np.random.default_rng(0)
    sensitivity, specificity = right
    cells = np.array([[0.6 * specificity, 0.6 * (1 - specificity)], [0.4 * (1 - sensitivity), 0.4 * sensitivity]])
    names = ("balanced_accuracy", "f1", "mcc")
    covered = {name: [] for name in names}
    truth = {
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "f1": 2 * cells[1, 1] / (2 * cells[1, 1] + cells[0, 1] + cells[1, 0]),
        "mcc": np.linalg.det(cells) / np.sqrt(0.4 * 0.6 * cells[:, 0].sum() * cells[:, 1].sum()),
    }
    for draw in range(250):
        positive = rng.random(120) < 0.4
        decided = rng.random(120) < np.where(positive, sensitivity, 1 - specificity)
        case = of_labels(decided, positive, n_resamples=200, seed=draw)
        for name in names:
            one = FIGURES[name].estimate(case)
            covered[name].append(one.low <= truth[name] <= one.high)
    for name in names:
        assert 0.92 <= np.mean(covered[name]) <= (0.98 if right[0] < 0.95 else 1.0), name


def test_average_precision_covers_the_truth():
    rng = np.random.default_rng(0)
    positive = np.arange(150) < 50

    def draw(y):
        return rng.normal(size=len(y)) + 1.5 * y

    many = np.tile(positive, 4000)
    truth = oracle.average_precision_score(many, draw(many))
    found = []
    for seed in range(250):
        scores = draw(positive)
        one = FIGURES["auprc"].estimate(Scored.of_label(scores, norm.cdf(scores), positive, alone(150, 200, seed)))
        found.append(one.low <= truth <= one.high)
    assert 0.92 <= np.mean(found) <= 0.98


def test_every_row_of_the_table_says_what_it_is():
    for name, one in FIGURES.items():
        assert one.of in ("scores", "decisions")
        assert set(one.tasks) <= {"binary", "several", "labels", "class"}
        assert one.summary, name
        assert one.interval, name
        assert one.reference.startswith("doi:10."), name


def test_the_error_of_perfect_calibration_holds_that_of_calibrated_probabilities():
    """Of 60 draws some 95% lie inside; doubled log-odds lie outside."""
    rng = np.random.default_rng(0)
    inside = []
    for number in range(60):
        log_odds = rng.normal(0, 2, 400)
        positive = rng.random(400) < expit(log_odds)
        patients = Patients(np.arange(400), n_resamples=100, random_state=number)
        for factor in (1.0, 2.0):
            case = Scored.of_label(log_odds, expit(factor * log_odds), positive, patients)
            error = FIGURES["calibration_error"].estimate(case).value
            chance = FIGURES["calibration_error_by_chance"].estimate(case)
            if factor == 1.0:
                inside.append(chance.low <= error <= chance.high)
            else:
                assert error > chance.high
    assert np.mean(inside) >= 0.85
