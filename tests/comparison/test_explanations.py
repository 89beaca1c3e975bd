"""Two explanations side by side: values by hand, and maps of models that see the image differently."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_estimator.comparison import common_ground, compare_explanations
from cxr_estimator.errors import DataError, InvalidTypeError
from cxr_estimator.metrics import METRICS
from cxr_estimator.preprocessing import Box, Geometry


@pytest.fixture(scope="module")
def explanation(fitted, phantoms):
    return fitted.explain(phantoms.X[:2], target="PNEUMONIA")


def with_map(explanation, values, geometry=None):
    """The explanation of one image with another map (h, w), and where it lies."""
    values = np.asarray(values, dtype=np.float32)
    h, w = values.shape
    geometry = geometry or Geometry((h, w), (h, w), Box(0, 0, h, w), Box(0, 0, h, w))
    return dataclasses.replace(explanation[0], values=values[None], images=None, spread=None, geometry=(geometry,))


def test_agreement_by_hand(explanation):
    """Of 10 x 10 pixels the strongest ten are rows: the same one, another one, or half of it."""
    base = np.arange(100.0).reshape(10, 10)
    one = with_map(explanation, base)
    found = compare_explanations(one, one)
    assert {name: float(value[0]) for name, value in found.agreement.items()} == pytest.approx(
        {"rank_correlation": 1.0, "top_k_overlap": 1.0, "ssim": 1.0}
    )
    turned = compare_explanations(one, with_map(explanation, base[::-1, ::-1])).agreement
    assert turned["rank_correlation"][0] == pytest.approx(-1.0)
    assert turned["top_k_overlap"][0] == 0.0
    half = base.copy()
    half[9, :5] = -1.0  # five of the strongest ten are now the weakest, and five of the row above take their place
    assert compare_explanations(one, with_map(explanation, half)).agreement["top_k_overlap"][0] == 0.5


def test_every_metric_of_agreement_is_taken(explanation):
    found = compare_explanations(explanation, explanation)
    assert set(found.agreement) == {name for name, metric in METRICS.items() if metric.family == "agreement"}
    for values in found.agreement.values():
        np.testing.assert_allclose(values, 1.0)
    assert len(found) == 2
    assert found.shapes == ((32, 32), (32, 32))


def test_decisions_and_probabilities_are_those_of_either_model(explanation):
    said = dataclasses.replace(
        explanation.prediction, proba=np.array([[0.75, 0.25], [0.5, 0.5]]), label=np.array(["NORMAL", "PNEUMONIA"])
    )
    other = dataclasses.replace(
        explanation.prediction, proba=np.array([[0.4, 0.6], [0.1, 0.9]]), label=np.array(["PNEUMONIA", "PNEUMONIA"])
    )
    a, b = (dataclasses.replace(explanation, prediction=one) for one in (said, other))
    found = compare_explanations(a, b)
    assert found.same_decision.tolist() == [False, True]
    np.testing.assert_array_equal(found.proba, [[0.25, 0.6], [0.5, 0.9]])
    first = found.sentences(0, names=("model A", "model B"))
    assert first[0] == "They differ: NORMAL by model A, PNEUMONIA by model B."
    assert first[1] == "The probability of PNEUMONIA is 25.0% by model A and 60.0% by model B: 35.0 points apart."
    assert "rank correlation 1.00" in first[2]
    assert "does not make either right" in first[2]
    assert found.sentences(1)[0] == "Both decide PNEUMONIA."


@pytest.mark.parametrize(
    ("share", "words"), [(1.0, "much alike"), (0.5, "partly alike"), (0.0, "little in common"), (-1.0, "contradict")]
)
def test_words_follow_the_rank_correlation(explanation, share, words):
    found = compare_explanations(explanation, explanation)
    set_to = dataclasses.replace(found, agreement={**found.agreement, "rank_correlation": np.full(2, share)})
    assert words in set_to.sentences(0)[2]


def test_maps_of_other_sizes_meet_at_the_coarser_resolution(explanation):
    """A map of blocks is the same map at twice the size."""
    small = np.random.default_rng(0).random((16, 16))
    shape, box = (64, 64), Box(0, 0, 64, 64)
    a = with_map(explanation, small, Geometry(shape, (16, 16), box, Box(0, 0, 16, 16)))
    large = np.kron(small, np.ones((4, 4)))
    b = with_map(explanation, large, Geometry(shape, (64, 64), box, Box(0, 0, 64, 64)))
    first, second = common_ground(a, b)
    np.testing.assert_allclose(first, small, rtol=1e-6)
    assert second.shape == (16, 16)
    assert compare_explanations(a, b).shapes == ((16, 16),)
    assert compare_explanations(a, b).agreement["rank_correlation"][0] > 0.9


def test_only_what_both_see_is_compared(explanation):
    """One model sees all of a 40 x 20 image with bars at its sides, the other the square in the middle."""
    original = np.random.default_rng(1).random((40, 20))
    padded = np.full((40, 40), 9.0)
    padded[:, 10:30] = original
    a = with_map(explanation, padded, Geometry((40, 20), (40, 40), Box(0, 0, 40, 20), Box(0, 10, 40, 20)))
    b = with_map(explanation, original[10:30], Geometry((40, 20), (20, 20), Box(10, 0, 20, 20), Box(0, 0, 20, 20)))
    for first, second in (common_ground(a, b), common_ground(b, a)):
        np.testing.assert_allclose(first, original[10:30], rtol=1e-6)
        np.testing.assert_allclose(second, original[10:30], rtol=1e-6)
    assert compare_explanations(a, b).agreement["ssim"][0] == pytest.approx(1.0)


def test_no_common_part_and_constant_maps_are_undefined(explanation):
    shape = (20, 10)
    top = Geometry(shape, (10, 10), Box(0, 0, 10, 10), Box(0, 0, 10, 10))
    bottom = Geometry(shape, (10, 10), Box(10, 0, 10, 10), Box(0, 0, 10, 10))
    values = np.arange(100.0).reshape(10, 10)
    apart = compare_explanations(with_map(explanation, values, top), with_map(explanation, values, bottom))
    flat = compare_explanations(with_map(explanation, values), with_map(explanation, np.ones((10, 10))))
    for found in (apart, flat):
        assert all(np.isnan(value[0]) for value in found.agreement.values())
        assert "cannot be compared" in found.sentences(0)[2]
    assert apart.shapes == ((0, 0),)


def test_tiny_maps_have_no_structural_similarity(explanation):
    one = with_map(explanation, np.arange(16.0).reshape(4, 4))
    found = compare_explanations(one, one)
    assert np.isnan(found.agreement["ssim"][0])
    assert found.agreement["rank_correlation"][0] == pytest.approx(1.0)
    assert "structural" not in found.sentences(0)[2]


@settings(deadline=None, max_examples=30)
@given(st.integers(7, 24), st.integers(7, 24), st.integers(0, 2**32 - 1))
def test_comparing_is_symmetric(explanation, n, m, seed):
    rng = np.random.default_rng(seed)
    one, other = (
        with_map(explanation, rng.random((k, k)), Geometry((30, 30), (k, k), Box(0, 0, 30, 30), Box(0, 0, k, k)))
        for k in (n, m)
    )
    there, back = compare_explanations(one, other), compare_explanations(other, one)
    assert there.shapes == back.shapes == ((min(n, m),) * 2,)
    for name, values in there.agreement.items():
        np.testing.assert_allclose(values, back.agreement[name])
    assert compare_explanations(one, one).agreement["rank_correlation"][0] == pytest.approx(1.0)


def test_bad_requests(explanation, fitted, phantoms):
    with pytest.raises(DataError, match="different images"):
        compare_explanations(explanation[:1], explanation[1:])
    with pytest.raises(DataError, match="different classes"):
        compare_explanations(explanation, fitted.explain(phantoms.X[:2], target="NORMAL"))
    with pytest.raises(InvalidTypeError, match="an Explanation"):
        compare_explanations(explanation, None)
    moved = dataclasses.replace(
        explanation[0], geometry=(Geometry((9, 9), (32, 32), Box(0, 0, 9, 9), Box(0, 0, 32, 32)),)
    )
    with pytest.raises(DataError, match="two sizes"):
        compare_explanations(explanation[0], moved)
