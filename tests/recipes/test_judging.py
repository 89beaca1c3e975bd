"""The figures that recipes are chosen by."""

from __future__ import annotations

import numpy as np
import pytest
from judging import Judged, contrary, crossed, figures, of_condition, pooled, summary, unseen
from sklearn.metrics import average_precision_score, roc_auc_score


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    positive = np.arange(80) % 2 == 1
    clean = rng.normal(size=80) + 3.0 * positive
    return Judged(
        scores={"clean": clean, "brighter": clean + 10.0, "noise": clean + rng.normal(size=80)},
        positive=positive,
        patients=np.arange(80) // 2,
        sources=np.where(positive, np.where(np.arange(80) < 40, "bacteria", "virus"), "IM"),
        acquisition=rng.normal(size=80),
        points={"screening": np.full(80, 1.5)},
        leave_out="",
    )


def test_one_condition(case):
    score = case.scores["noise"]
    found = of_condition(case, score)
    assert found["auroc"] == pytest.approx(roc_auc_score(case.positive, score))
    assert found["auprc"] == pytest.approx(average_precision_score(case.positive, score))
    assert found["accuracy"] == pytest.approx(np.mean((score >= 0) == case.positive))
    assert found["screening_sensitivity"] == pytest.approx(np.mean(score[case.positive] >= 1.5))
    assert found["screening_specificity"] == pytest.approx(np.mean(score[~case.positive] < 1.5))


def test_a_shift_of_all_leaves_the_ranking_but_a_crossed_one_does_not(case):
    found = of_condition(case, case.scores["brighter"])
    assert found["auroc"] == pytest.approx(of_condition(case, case.scores["clean"])["auroc"])
    assert crossed(case, case.scores["brighter"]) == 0.0  # brighter normal images outscore all pneumonia
    assert crossed(case, case.scores["clean"]) == pytest.approx(found["auroc"])


def test_pooled_feels_scores_that_move_together(case):
    assert (
        pooled(case._replace(scores={"clean": case.scores["clean"]}))
        == of_condition(case, case.scores["clean"])["auroc"]
    )
    both = case._replace(scores={name: case.scores[name] for name in ("clean", "brighter")})
    expected = roc_auc_score(np.tile(case.positive, 2), np.concatenate(list(both.scores.values())))
    assert pooled(both) == pytest.approx(expected)
    assert expected < 0.8


def test_contrary_by_hand(case):
    small = case._replace(
        positive=np.array([True, True, True, False, False, False]),
        acquisition=np.array([3.0, 1.0, 2.0, -1.0, 0.0, 5.0]),
    )
    assert np.flatnonzero(contrary(small)).tolist() == [1, 5]


def test_unseen_by_hand(case):
    other = case._replace(leave_out="virus")
    assert set(case.sources[unseen(other)]) == {"virus", "IM"}
    assert set(case.sources[unseen(case._replace(leave_out="IM"))]) == {"bacteria", "virus", "IM"}


def test_summary_leaves_out_what_was_left_out(case):
    found = summary(case._replace(leave_out="virus"))
    known = case.sources != "virus"
    clean = case.scores["clean"]
    assert found["clean_auroc"] == pytest.approx(roc_auc_score(case.positive[known], clean[known]))
    other = case.sources != "bacteria"
    assert found["unseen_auroc"] == pytest.approx(roc_auc_score(case.positive[other], clean[other]))
    assert not any(key.startswith("unseen") for key in summary(case))
    two = [roc_auc_score(case.positive, case.scores[name]) for name in ("brighter", "noise")]
    assert summary(case)["shifted_auroc"] == pytest.approx(np.mean(two))
    assert summary(case)["worst_shift_auroc"] == pytest.approx(min(two))
    assert summary(case)["worst_crossed_auroc"] == 0.0


def test_figures_have_intervals_around_them(case):
    found = figures(case)
    assert found["n_images"] == 80
    assert found["n_patients"] == 40
    for name in ("clean_auroc", "shifted_auroc", "shifted_accuracy", "contrary_auroc"):
        value, low, high = found["summary"][name]
        assert low <= value <= high
        assert low < high
    assert set(found["conditions"]) == set(case.scores)
