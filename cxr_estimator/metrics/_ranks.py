"""Rank correlation of maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata


def unit_ranks(maps: np.ndarray) -> np.ndarray:
    """Return the ranks of the pixels of each map (n, ...), centred and of length 1, (n, pixels).

    The dot product of two is Spearman's correlation. Ties share the mean of their ranks. NaN where a map is constant,
    which has no order, or holds a NaN.
    """
    flat = maps.reshape(len(maps), -1)
    centred = rankdata(flat, axis=1) - (flat.shape[1] + 1) / 2
    length = np.sqrt((centred**2).sum(axis=1, keepdims=True))
    return np.divide(centred, length, out=np.full_like(centred, np.nan), where=length > 0)


def spearman(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return Spearman's correlation (n,) of the pixels of maps a and b (n, ...); NaN where either is constant."""
    return correlation(unit_ranks(a), unit_ranks(b))


def correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return Spearman's correlation (n,) of maps whose `unit_ranks` a and b are."""
    return (a * b).sum(axis=1).clip(-1.0, 1.0)  # which rounding would leave


def mean_kept(correlations: Sequence[np.ndarray], original: np.ndarray) -> np.ndarray:
    """Return the mean (n,) of correlations (m, n) with, or among, maps that were made anew.

    Where a new map is constant, nothing of the order is left: that counts 0, since leaving it out would flatter a
    method that fails. NaN where the `original` map (n, H, W) itself is constant.
    """
    constant = (original == original[:, :1, :1]).all(axis=(1, 2))
    return np.where(constant, np.nan, np.nan_to_num(np.stack(correlations)).mean(axis=0))
