"""What metrics share that look at maps alone: one row of pixels per map, the most relevant ones, and NaN for 0 / 0."""

from __future__ import annotations

import numpy as np

from cxr_estimator.explanation import Explanation


def usable(explanation: Explanation) -> np.ndarray:
    """Return which maps say anything (N,): all numbers, and not all zero."""
    values = explanation.values
    return np.isfinite(values).all(axis=(1, 2)) & (values != 0).any(axis=(1, 2))


def flat(explanation: Explanation) -> np.ndarray:
    """Return the maps as rows of pixels, (N, H W) float64; a map that holds NaN or infinity becomes one of zeros."""
    values = explanation.values.reshape(len(explanation.values), -1).astype(np.float64)
    return np.where(np.isfinite(values).all(axis=1, keepdims=True), values, 0.0)


def positive(explanation: Explanation) -> np.ndarray:
    """Return what speaks for the explained class, max(0, value), as rows of pixels, (N, H W) float64."""
    return flat(explanation).clip(min=0.0)


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return part / whole (N,), NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def among_top(values: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Return how far each pixel is among the `count` (N,) largest of its row (N, H W): from 0 to 1, `count` in all.

    Pixels tied for the last places share these equally: the probability to be chosen if ties are broken at random.
    """
    descending = np.sort(values, axis=1)[:, ::-1]
    last = np.take_along_axis(descending, np.maximum(count - 1, 0)[:, None], axis=1)
    above, tied = values > last, values == last
    left = count[:, None] - above.sum(axis=1, keepdims=True)
    return above + tied * (left / tied.sum(axis=1, keepdims=True))
