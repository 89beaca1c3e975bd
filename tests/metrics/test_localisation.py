"""Localisation metrics by hand, by their properties, and beside Quantus."""

from __future__ import annotations

import numpy as np
import pytest
import quantus
from hypothesis import given
from hypothesis import strategies as st

from cxr_estimator.errors import InvalidParameterError
from cxr_estimator.metrics import METRICS, Context, measure

LOCALISATION = [name for name, metric in METRICS.items() if metric.family == "localisation"]
WITH_MASK = [name for name in LOCALISATION if "mask" in METRICS[name].needs]
LEFT = np.array([[[True, False], [True, False]]])
CORNER = np.zeros((1, 4, 4), dtype=bool)
CORNER[0, :2, :2] = True


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("relevance_mass", [[1, 2], [3, 4]], 4 / 10),
        ("relevance_mass", [[1, 0], [1, 0]], 1.0),
        ("relevance_mass", [[0, 1], [0, 1]], 0.0),
        ("relevance_mass", [[1, -5], [2, 1]], 3 / 4),  # what speaks against the class does not count
        ("relevance_rank", [[1, 2], [3, 4]], 1 / 2),  # 4 outside, 3 inside
        ("relevance_rank", [[2, 1], [3, -9]], 1.0),
        ("relevance_rank", [[0, 5], [1, 4]], 0.0),
        ("relevance_rank", [[5, 2], [2, 2]], (1 + 1 / 3) / 2),  # one place left for three, one of them inside
        ("relevance_rank", [[-1, 5], [-2, -3]], (0 + 2 / 3) / 2),  # what is not positive is tied at 0
        ("relevance_rank", [[3, 3], [3, 3]], 1 / 2),
        ("pointing_game", [[1, 2], [3, 0]], 1.0),
        ("pointing_game", [[1, 4], [3, -9]], 0.0),
        ("pointing_game", [[2, 2], [2, 0]], 2 / 3),
        ("pointing_game", [[-1, 0], [0, 3]], 0.0),
        ("iou", [[4, 1], [1, 0]], 1 / 2),
        ("iou", [[4, 1], [2, 0]], 1.0),  # exactly half of the maximum counts
        ("iou", [[4, 3], [2, 0]], 2 / 3),
        ("iou", [[0, 1], [-9, 1]], 0.0),
    ],
)
def test_by_hand(explain_values, name, values, expected):
    np.testing.assert_allclose(measure(name, explain_values([values]), Context(mask=LEFT)), [expected])


@pytest.mark.parametrize("name", LOCALISATION)
def test_undefined_where_nothing_is_positive(explain_values, name):
    found = measure(name, explain_values([[[0, 0], [0, 0]], [[-1, 0], [0, -2]]]), Context(mask=np.repeat(LEFT, 2, 0)))
    assert np.isnan(found).all()


@pytest.mark.parametrize("name", WITH_MASK)
def test_an_empty_mask_is_never_a_hit(explain_values, name):
    mask = np.concatenate([np.zeros_like(LEFT), np.ones_like(LEFT)])
    found = measure(name, explain_values(np.ones((2, 2, 2))), Context(mask=mask))
    np.testing.assert_array_equal(found, [np.nan, 1.0])


def test_options_by_hand(explain_values):
    values = np.zeros((1, 4, 4))
    values[0, 0, 3], values[0, 0, 0], values[0, 2, 2] = 10, 2, 1  # the maximum is two pixels from the mask
    explanation, context = explain_values(values), Context(mask=CORNER)
    assert measure("pointing_game", explanation, context, tolerance=1.9) == 0
    assert measure("pointing_game", explanation, context, tolerance=2) == 1
    assert measure("iou", explanation, context, threshold=0.2) == 1 / 5
    assert measure("iou", explanation, context, threshold=0.1) == 1 / 6
    assert measure("iou", explanation, context, threshold=1) == 0


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("border_mass", {}, 12 / 15),  # a tenth of four pixels is one
        ("border_mass", {"width": 0.5}, 1.0),
        ("corner_mass", {}, 6 / 15),
        ("corner_mass", {"width": 0.5}, 1.0),
    ],
)
def test_frames_by_hand(explain_values, name, options, expected):
    values = np.array([[[1, 2, 0, 2], [1, 1, 1, 1], [-7, 0, 1, 2], [1, 0, 0, 2]]])
    np.testing.assert_allclose(measure(name, explain_values(values), Context(), **options), [expected])


@pytest.mark.parametrize(("name", "chance"), [("border_mass", 0.36), ("corner_mass", 0.16)])
def test_frames_by_chance(explain_values, name, chance):
    explanation = explain_values(np.full((1, 20, 40), 0.3))
    np.testing.assert_allclose(measure(name, explanation, Context()), chance)
    middle, corner = np.zeros((2, 1, 20, 40))
    middle[0, 8:12, 15:25] = corner[0, :2, -3:] = 1.0
    assert measure(name, explain_values(middle), Context()) == 0
    assert measure(name, explain_values(corner), Context()) == 1


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("pointing_game", {"tolerance": -1}),
        ("iou", {"threshold": 0}),
        ("iou", {"threshold": 1.5}),
        ("border_mass", {"width": 0}),
        ("corner_mass", {"width": 0.6}),
    ],
)
def test_options_are_checked(explain_values, name, options):
    (option,) = options
    with pytest.raises(InvalidParameterError, match=f"'{option}' parameter of {name}"):
        measure(name, explain_values(np.ones((1, 4, 4))), Context(mask=CORNER), **options)


@pytest.mark.parametrize("name", LOCALISATION)
@given(seed=st.integers(0, 2**31), exponent=st.integers(-20, 20))
def test_scale_does_not_matter(explain_values, name, seed, exponent):
    rng = np.random.default_rng(seed)
    values, mask = rng.integers(-4, 5, size=(3, 5, 5)), rng.random((3, 5, 5)) < 0.4
    context = Context(mask=mask)
    once = measure(name, explain_values(values), context)
    np.testing.assert_allclose(measure(name, explain_values(2.0**exponent * values), context), once)


@pytest.mark.parametrize("name", WITH_MASK)
@given(seed=st.integers(0, 2**31), scale=st.floats(0.01, 100))
def test_flat_maps_have_the_value_of_chance(explain_values, name, seed, scale):
    mask = np.random.default_rng(seed).random((1, 5, 5)) < 0.4
    mask[0, 0, 0] = True
    flat = measure(name, explain_values(np.full((1, 5, 5), scale)), Context(mask=mask))
    np.testing.assert_allclose(flat, mask.mean(), rtol=1e-6)


def test_ties_count_as_if_broken_at_random(explain_values):
    rng = np.random.default_rng(0)
    values, mask = rng.integers(0, 3, size=(1, 4, 4)), rng.random((1, 4, 4)) < 0.4
    found = measure("relevance_rank", explain_values(values), Context(mask=mask))
    size = mask.sum()
    broken = [mask.ravel()[np.lexsort([rng.random(16), -values.ravel()])[:size]].mean() for _ in range(4000)]
    np.testing.assert_allclose(found, np.mean(broken), atol=4 * np.std(broken) / np.sqrt(4000))


@pytest.mark.parametrize("name", WITH_MASK)
def test_perfect_beats_random_beats_reversed(explain_values, name):
    rng = np.random.default_rng(0)
    mask = np.zeros((8, 16, 16), dtype=bool)
    for each, (row, column) in zip(mask, rng.integers(0, 10, size=(8, 2)), strict=True):
        each[row : row + 6, column : column + 6] = True
    noise = rng.random(mask.shape)
    maps = {"perfect": mask + 0.3 * noise, "random": noise, "reversed": ~mask + 0.3 * noise}
    mean = {kind: measure(name, explain_values(each), Context(mask=mask)).mean() for kind, each in maps.items()}
    print(name, mean)
    assert mean["perfect"] > mean["random"] + 0.3
    assert mean["random"] > mean["reversed"]


@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("relevance_mass", quantus.RelevanceMassAccuracy),
        ("relevance_rank", quantus.RelevanceRankAccuracy),
        ("pointing_game", quantus.PointingGame),
    ],
)
def test_as_quantus(explain_values, random_maps, name, metric):
    mask = np.random.default_rng(1).random(random_maps.shape) < 0.3  # fewer than are positive: no ties
    oracle = metric(abs=False, normalise=False, disable_warnings=True, display_progressbar=False)
    expected = oracle(
        model=None,
        x_batch=random_maps[:, None],
        y_batch=np.zeros(len(random_maps), int),
        a_batch=random_maps[:, None].clip(min=0),
        s_batch=mask[:, None],
    )
    found = measure(name, explain_values(random_maps), Context(mask=mask))
    np.testing.assert_allclose(found, np.asarray(expected, dtype=float), rtol=1e-6)
