"""What every row of METRICS keeps."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from cxr_estimator.errors import InvalidParameterError
from cxr_estimator.metrics import METRICS, Context, measure


@pytest.fixture(scope="module")
def explanation(fitted, phantoms):
    return fitted.explain(phantoms.X[:6], target="PNEUMONIA")


@pytest.fixture(scope="module")
def context(phantoms):
    masks = phantoms.lung_masks[:6].copy()
    masks[2] = False
    return Context(mask=masks)


@pytest.mark.parametrize("name", METRICS)
def test_contract(name, explanation, context):
    values = measure(name, explanation, context)
    assert values.shape == (6,)
    assert values.dtype == np.float64
    low, high = METRICS[name].range
    defined = values[~np.isnan(values)]
    assert len(defined)
    assert ((low <= defined) & (defined <= high)).all()
    alone = measure(name, explanation[1], dataclasses.replace(context, mask=context.mask[1:2]))
    np.testing.assert_allclose(alone, values[1:2])
    assert "References" in METRICS[name].function.__doc__


@pytest.mark.parametrize("name", METRICS)
def test_what_a_metric_needs_is_asked_for(name, explanation):
    for need in METRICS[name].needs:
        with pytest.raises(InvalidParameterError, match=f"'{need}' parameter of {name} must be given"):
            measure(name, explanation, Context())


@pytest.mark.parametrize("mask", [np.ones((6, 8, 8), bool), np.ones((6, 32, 32)), np.ones((5, 32, 32), bool)])
def test_masks_must_fit(explanation, mask):
    with pytest.raises(InvalidParameterError, match="a bool array of shape"):
        measure("relevance_mass", explanation, Context(mask=mask))


def test_unknown_metric(explanation, context):
    with pytest.raises(InvalidParameterError, match="Did you mean 'relevance_mass'"):
        measure("relevance_mas", explanation, context)
