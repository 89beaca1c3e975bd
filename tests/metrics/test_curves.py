"""Curves beside those of the moved maps."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from cxr_estimator.errors import InvalidParameterError
from cxr_estimator.metrics._reference import moved
from cxr_estimator.metrics.curves import CURVES, curve_with_reference


@pytest.mark.parametrize("kind", CURVES)
def test_the_reference_is_the_mean_over_moved_maps(explained, kind):
    explanation, context = explained(slice(0, 3))
    curve, reference = curve_with_reference(kind, explanation, context, n_references=2, steps=4)
    np.testing.assert_array_equal(curve, CURVES[kind](explanation, context, steps=4))
    by_hand = [
        CURVES[kind](
            dataclasses.replace(explanation, values=moved(explanation.values, context.problem, draw)), context, steps=4
        )
        for draw in (0, 1)
    ]
    np.testing.assert_allclose(reference, (by_hand[0] + by_hand[1]) / 2)


def test_maps_that_say_nothing_have_no_curve(explained):
    explanation, context = explained(slice(0, 3))
    values = explanation.values.copy()
    values[0], values[1, 0, 0] = 0, np.nan
    found = curve_with_reference(
        "deletion", dataclasses.replace(explanation, values=values), context, n_references=1, steps=2
    )
    for curve in found:
        assert np.isnan(curve).all(axis=1).tolist() == [True, True, False]


def test_unknown_kind(explained):
    with pytest.raises(InvalidParameterError, match="'deletion', 'insertion'"):
        curve_with_reference("deleting", *explained(slice(0, 1)), n_references=1)
