"""Localisation metrics by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr_estimator.metrics import Context, measure

LEFT = np.array([[[True, False], [True, False]]])


@pytest.mark.parametrize(
    ("values", "mask", "expected"),
    [
        ([[[1, 2], [3, 4]]], LEFT, 4 / 10),
        ([[[1, 0], [1, 0]]], LEFT, 1.0),
        ([[[0, 1], [0, 1]]], LEFT, 0.0),
        ([[[1, -5], [2, 1]]], LEFT, 3 / 4),  # what speaks against the class does not count
        ([[[0, 0], [0, 0]]], LEFT, np.nan),
        ([[[-1, 0], [0, -2]]], LEFT, np.nan),
        ([[[1, 1], [1, 1]]], np.zeros_like(LEFT), np.nan),  # an empty mask is never a hit
    ],
)
def test_relevance_mass(explain_values, values, mask, expected):
    np.testing.assert_allclose(measure("relevance_mass", explain_values(values), Context(mask=mask)), [expected])


@given(st.integers(0, 2**31), st.floats(0.01, 100))
def test_relevance_mass_ignores_scale_and_equals_area_for_flat_maps(explain_values, seed, scale):
    rng = np.random.default_rng(seed)
    values, mask = rng.normal(size=(1, 5, 5)), rng.random((1, 5, 5)) < 0.4
    mask[0, 0, 0] = True
    context = Context(mask=mask)
    once = measure("relevance_mass", explain_values(values), context)
    np.testing.assert_allclose(measure("relevance_mass", explain_values(scale * values), context), once, rtol=1e-5)
    flat = measure("relevance_mass", explain_values(np.full((1, 5, 5), scale)), context)
    np.testing.assert_allclose(flat, mask.mean(), rtol=1e-6)
