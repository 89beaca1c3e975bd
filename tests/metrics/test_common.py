"""What every row of METRICS keeps."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from cxr_estimator.errors import InvalidParameterError
from cxr_estimator.metrics import METRICS, Context, measure

ROWS = slice(0, 6)
COARSE = {"stride": 4}  # of occlusion, since some metrics explain anew many times


@pytest.fixture(scope="module")
def batch(explained):
    explanation, context = explained(ROWS, **COARSE)
    context.mask[2] = False
    return explanation, context


@pytest.mark.parametrize("name", METRICS)
def test_contract(name, batch, explained):
    explanation, context = batch
    untouched = explanation.values.copy()
    values = measure(name, explanation, context, relative=False)
    assert values.shape == (6,)
    assert values.dtype == np.float64
    low, high = METRICS[name].range
    defined = values[~np.isnan(values)]
    assert len(defined) >= 4
    assert ((low <= defined) & (defined <= high)).all()
    assert (explanation.values == untouched).all()
    lone, lone_context = explained(slice(1, 2), **COARSE)
    np.testing.assert_allclose(measure(name, lone, lone_context, relative=False), values[1:2], atol=1e-5)
    np.testing.assert_allclose(measure(name, lone, lone_context), measure(name, explanation, context)[1:2], atol=1e-5)
    documentation = METRICS[name].function.__doc__
    assert "References" in documentation
    assert "doi:" in documentation
    assert METRICS[name].reference


@pytest.mark.parametrize("name", METRICS)
def test_maps_of_nan_give_nan_and_maps_of_nothing_gain_nothing(name, batch):
    explanation, context = batch
    values = explanation.values.copy()
    values[0], values[1, 3, 4], values[3, 0, 0] = 0.0, np.nan, np.inf
    for relative in (True, False):
        found = measure(name, dataclasses.replace(explanation, values=values), context, relative=relative)
        assert np.isnan(found[[1, 3]]).all()
        gains = relative and METRICS[name].has_reference_maps
        np.testing.assert_array_equal(found[0], 0.0 if gains else np.nan)  # a map of zeros, moved, is the same map
        np.testing.assert_allclose(
            found[[4, 5]], measure(name, explanation, context, relative=relative)[[4, 5]], atol=1e-6
        )


@pytest.mark.parametrize("name", METRICS)
def test_what_a_metric_needs_is_asked_for(name, batch):
    for need in METRICS[name].needs:
        with pytest.raises(InvalidParameterError, match=f"'{need}' parameter of {name} must be given"):
            measure(name, batch[0], dataclasses.replace(batch[1], **{need: None}))


@pytest.mark.parametrize("name", METRICS)
def test_options_are_checked(name, batch):
    with pytest.raises(InvalidParameterError, match=rf"options of {name}.*'stepps'"):
        measure(name, *batch, stepps=3)


@pytest.mark.parametrize("mask", [np.ones((6, 8, 8), bool), np.ones((6, 32, 32)), np.ones((5, 32, 32), bool), "mask"])
def test_masks_must_fit(batch, mask):
    with pytest.raises(InvalidParameterError, match="a bool array of shape"):
        measure("relevance_mass", batch[0], Context(mask=mask))


def test_problem_and_other_must_fit(batch, explained):
    explanation, context = batch
    fewer, context_of_fewer = explained(slice(0, 2))
    with pytest.raises(InvalidParameterError, match=r"of the shape \(6, 32, 32\)"):
        measure("aopc", explanation, context_of_fewer)
    with pytest.raises(InvalidParameterError, match="'other' parameter"):
        measure("relevance_mass", explanation, dataclasses.replace(context, other=fewer))


def test_unknown_metric_and_bad_count(batch):
    with pytest.raises(InvalidParameterError, match="Did you mean 'relevance_mass'"):
        measure("relevance_mas", *batch)
    with pytest.raises(InvalidParameterError, match="n_references"):
        measure("aopc", *batch, n_references=0)
