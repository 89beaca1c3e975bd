"""What logits mean, by hand and against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit, logit, softmax

from cxr_estimator._outputs import Task, task_of

LOGITS = arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(2, 5)), elements=st.floats(-15, 15))


def test_the_number_of_classes_does_not_tell_the_task():
    assert Task.of_classes(2) is Task.BINARY
    assert Task.of_classes(3) is Task.MULTICLASS
    assert [task.num_outputs(2) for task in Task] == [1, 2, 2]
    assert task_of(torch.zeros(5, 1)) is Task.BINARY
    assert task_of(torch.zeros(5, 2)) is Task.MULTICLASS


def test_by_hand():
    z = torch.tensor([[math.log(3.0)]], dtype=torch.float64)
    assert Task.BINARY.proba(z).tolist()[0] == pytest.approx([0.25, 0.75])
    assert Task.BINARY.log_odds(z).tolist()[0] == pytest.approx([-math.log(3.0), math.log(3.0)])
    both = torch.tensor([[0.0, math.log(3.0)]], dtype=torch.float64)
    assert Task.MULTICLASS.proba(both).tolist()[0] == pytest.approx([0.25, 0.75])
    assert Task.MULTILABEL.proba(both).tolist()[0] == pytest.approx([0.5, 0.75])


@given(LOGITS)
def test_probabilities_are_those_of_scipy(logits):
    z = torch.from_numpy(logits)
    np.testing.assert_allclose(Task.MULTICLASS.proba(z).numpy(), softmax(logits, axis=1), rtol=1e-12)
    np.testing.assert_allclose(Task.MULTILABEL.proba(z).numpy(), expit(logits), rtol=1e-12)
    np.testing.assert_allclose(Task.BINARY.proba(z[:, :1]).numpy()[:, 1], expit(logits[:, 0]), rtol=1e-12)


@given(LOGITS)
def test_log_odds_are_those_of_the_probabilities(logits):
    z = torch.from_numpy(logits)
    for task, outputs in ((Task.MULTICLASS, z), (Task.MULTILABEL, z), (Task.BINARY, z[:, :1])):
        expected = logit(task.proba(outputs).numpy())
        close = np.abs(expected) < 15  # beyond, a probability has no digits left
        np.testing.assert_allclose(task.log_odds(outputs).numpy()[close], expected[close], rtol=1e-6, atol=1e-6)


def test_nan_stays_nan():
    for task in Task:
        assert torch.isnan(task.proba(torch.full((1, task.num_outputs(2)), math.nan))).all()
