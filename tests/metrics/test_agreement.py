"""Agreement of two explanations by hand, by its properties, and beside SciPy and scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity

from cxr_estimator.errors import InvalidParameterError, InvalidTypeError
from cxr_estimator.metrics import METRICS, Context, measure

AGREEMENT = [name for name, metric in METRICS.items() if metric.family == "agreement"]


@pytest.fixture(scope="module")
def agree(explain_values):
    """A function that returns a metric of two stacks of maps."""

    def found(name, a, b, **options):
        return measure(name, explain_values(a), Context(other=explain_values(b)), **options)

    return found


@pytest.mark.parametrize(
    ("name", "a", "b", "options", "expected"),
    [
        ("rank_correlation", [[1, 2], [3, 4]], [[10, 20], [30, 99]], {}, 1.0),
        ("rank_correlation", [[1, 2], [3, 4]], [[4, 3], [2, -1]], {}, -1.0),
        ("rank_correlation", [[1, 2], [3, 4]], [[1, 3], [2, 4]], {}, 1 - 6 * 2 / (4 * 15)),  # 1 - 6 sum d^2 / n(n^2-1)
        ("rank_correlation", [[0, 0], [1, 1]], [[0, 1], [0, 1]], {}, 0.0),
        ("top_k_overlap", [[1, 2], [3, 4]], [[1, 3], [2, 4]], {"k": 25}, 1.0),
        ("top_k_overlap", [[1, 2], [3, 4]], [[1, 3], [2, 4]], {"k": 50}, 1 / 2),
        ("top_k_overlap", [[1, 2], [3, 4]], [[4, 3], [2, 1]], {"k": 50}, 0.0),
        ("top_k_overlap", [[1, 2], [3, 4]], [[4, 3], [2, 1]], {"k": 100}, 1.0),
        ("top_k_overlap", [[1, 2], [3, 4]], [[4, 3], [2, 1]], {}, 0.0),  # one pixel at least
        ("top_k_overlap", [[5, 1], [1, 1]], [[9, 0], [0, 8]], {"k": 50}, (1 + 1 / 3) / 2),  # three share one place
        ("top_k_overlap", [[5, 1], [1, 1]], [[1, 1], [1, 5]], {"k": 50}, 4 / 3 / 2),  # a third of each of four pixels
    ],
)
def test_by_hand(agree, name, a, b, options, expected):
    np.testing.assert_allclose(agree(name, [a], [b], **options), [expected], atol=1e-12)


def test_ssim_by_hand(agree):
    a, b = np.zeros((2, 3, 3))
    a[0, 0], b[1, 1] = 9.0, -2.0
    # scaled: one pixel of 1, one of -1; means 1/9 and -1/9, variances (1 - 1/9) / 8 = 1/9, covariance (0 + 1/9) / 8
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    expected = (2 * (-1 / 81) + c1) * (2 / 72 + c2) / ((2 / 81 + c1) * (2 / 9 + c2))
    np.testing.assert_allclose(agree("ssim", [a], [b], window=3), [expected])


@pytest.mark.parametrize("name", AGREEMENT)
def test_symmetric_and_blind_to_scale(agree, name):
    rng = np.random.default_rng(0)
    for decimals in (1, 6):  # with and without ties
        a, b = rng.normal(size=(2, 4, 9, 8)).round(decimals)
        found = agree(name, a, b)
        np.testing.assert_array_equal(agree(name, b, a), found)
        np.testing.assert_allclose(agree(name, 2**9 * a, b / 64), found, rtol=1e-9)
        np.testing.assert_allclose(agree(name, a, a), 1.0)


@pytest.mark.parametrize("name", AGREEMENT)
def test_symmetric_on_maps_of_methods(explained, name):
    explanation, context = explained(slice(0, 4))
    swapped = measure(name, context.other, Context(other=explanation))
    np.testing.assert_array_equal(measure(name, explanation, context), swapped)


@pytest.mark.parametrize("name", AGREEMENT)
def test_more_noise_is_less_agreement(agree, name):
    rng = np.random.default_rng(0)
    a, noise = rng.normal(size=(2, 8, 12, 12))
    means = [agree(name, a, (1 - share) * a + share * noise).mean() for share in (0, 0.3, 0.6, 1)]
    assert (np.diff(means) < 0).all()


@pytest.mark.parametrize("name", AGREEMENT)
def test_constant_maps_and_maps_of_nan_have_no_agreement(agree, name):
    a = np.random.default_rng(0).normal(size=(5, 8, 8))
    b = a.copy()
    b[0], b[1], b[2, 3, 3], b[3, 0, 0] = 2.0, 0.0, np.nan, np.inf
    np.testing.assert_allclose(agree(name, a, b), [np.nan] * 4 + [1.0])
    np.testing.assert_allclose(agree(name, b, a), [np.nan] * 4 + [1.0])


@given(seed=st.integers(0, 2**31), levels=st.sampled_from([2, 5, 1000]))
def test_rank_correlation_as_scipy(agree, seed, levels):
    a, b = np.random.default_rng(seed).integers(-levels, levels, size=(2, 2, 5, 6))
    expected = [spearmanr(one.ravel(), other.ravel()).statistic for one, other in zip(a, b, strict=True)]
    np.testing.assert_allclose(agree("rank_correlation", a, b), expected, atol=1e-9)


@pytest.mark.parametrize("window", [3, 7])
def test_ssim_as_scikit_image(agree, random_maps, window):
    other = random_maps[::-1].clip(min=0)
    expected = [
        structural_similarity(a / np.abs(a).max(), b / np.abs(b).max(), win_size=window, data_range=2.0)
        for a, b in zip(random_maps.astype(float), other.astype(float), strict=True)
    ]
    np.testing.assert_allclose(agree("ssim", random_maps, other, window=window), expected)


def test_top_k_overlap_by_sets(agree, random_maps):
    other = random_maps[::-1]
    found = agree("top_k_overlap", random_maps, other, k=30)
    best = [[set(np.argsort(-one.ravel())[:36].tolist()) for one in maps] for maps in (random_maps, other)]
    np.testing.assert_allclose(found, [len(a & b) / 36 for a, b in zip(*best, strict=True)])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("top_k_overlap", {"k": 0}),
        ("top_k_overlap", {"k": 101}),
        ("ssim", {"window": 1}),
        ("ssim", {"window": 4}),
        ("ssim", {"window": 9}),
        ("ssim", {"window": 3.0}),
    ],
)
def test_options_are_checked(agree, name, options):
    (option,) = options
    with pytest.raises((InvalidParameterError, InvalidTypeError), match=f"'{option}' parameter of {name}"):
        agree(name, np.ones((1, 8, 8)), np.ones((1, 8, 8)), **options)
