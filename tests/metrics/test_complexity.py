"""Complexity metrics by hand, by their properties, and beside Quantus."""

from __future__ import annotations

import numpy as np
import pytest
import quantus
from hypothesis import given
from hypothesis import strategies as st

from cxr_estimator.errors import InvalidParameterError
from cxr_estimator.metrics import METRICS, Context, measure

COMPLEXITY = [name for name, metric in METRICS.items() if metric.family == "complexity"]
NOTHING = Context()


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("sparsity_90", [[1, 1], [1, 1]], 1.0),  # three of four hold 75%
        ("sparsity_90", [[9, 0], [0, 1]], 1 / 4),
        ("sparsity_90", [[-9, 0.5], [0.5, 1]], 2 / 4),  # 9 of 11 are 82%
        ("sparsity_90", [[0, 0], [0, 3]], 1 / 4),
        ("gini", [[1, 1], [1, 1]], 0.0),
        ("gini", [[0, 0], [-5, 0]], 3 / 4),
        ("gini", [[1, -2], [3, 4]], (-3 * 1 - 1 * 2 + 1 * 3 + 3 * 4) / (4 * 10)),
        ("entropy", [[1, 1], [1, 1]], np.log(4)),
        ("entropy", [[0, 0], [-5, 0]], 0.0),
        ("entropy", [[2, -1], [1, 0]], 1.5 * np.log(2)),  # 1/2 log 2 + 2 * 1/4 log 4
    ],
)
def test_by_hand(explain_values, name, values, expected):
    np.testing.assert_allclose(measure(name, explain_values([values]), NOTHING), [expected], atol=1e-12)


def test_nine_of_ten_equal_pixels_hold_ninety_percent(explain_values):
    for value in (0.1, 0.3, 1 / 3, 7.7):
        flat = explain_values(np.full((1, 2, 5), value))
        np.testing.assert_allclose(measure("sparsity_90", flat, NOTHING), 0.9)
        np.testing.assert_allclose(measure("sparsity_90", flat, NOTHING, share=0.3), 0.3)
        np.testing.assert_allclose(measure("sparsity_90", flat, NOTHING, share=1), 1.0)


@pytest.mark.parametrize("share", [0, 1.1, -1, np.nan])
def test_shares_are_checked(explain_values, share):
    with pytest.raises(InvalidParameterError, match="'share' parameter of sparsity_90"):
        measure("sparsity_90", explain_values(np.ones((1, 2, 2))), NOTHING, share=share)


@pytest.mark.parametrize("name", COMPLEXITY)
@given(seed=st.integers(0, 2**31), scale=st.floats(1e-3, 1e3))
def test_neither_scale_nor_sign_nor_place_matters(explain_values, name, seed, scale):
    rng = np.random.default_rng(seed)
    values = rng.standard_t(2, size=(1, 30))
    changed = scale * rng.permuted(values, axis=1) * rng.choice([-1, 1], values.shape)
    once, again = (measure(name, explain_values(each.reshape(1, 6, 5)), NOTHING) for each in (values, changed))
    np.testing.assert_allclose(again, once, rtol=1e-4)


@pytest.mark.parametrize("name", COMPLEXITY)
def test_fewer_pixels_are_better(explain_values, name):
    one, few = np.zeros((6, 6)), np.zeros((6, 6))
    one[2, 3] = few[1:3, 1:3] = 1.0
    found = measure(name, explain_values([one, few, np.arange(36).reshape(6, 6), np.ones((6, 6))]), NOTHING)
    best_first = -found if METRICS[name].greater_is_better else found
    assert (np.diff(best_first) > 0).all()


@pytest.mark.parametrize(("name", "metric"), [("gini", quantus.Sparseness), ("entropy", quantus.Complexity)])
def test_as_quantus(explain_values, random_maps, name, metric):
    oracle = metric(abs=True, normalise=False, disable_warnings=True, display_progressbar=False)
    expected = oracle(
        model=None, x_batch=random_maps[:, None], y_batch=np.zeros(len(random_maps), int), a_batch=random_maps[:, None]
    )
    found = measure(name, explain_values(random_maps), NOTHING)
    np.testing.assert_allclose(found, expected, rtol=1e-5)  # Quantus adds 1e-7 to each pixel
