"""Splits that keep patients whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cxr_estimator._validation import check_per_image, invalid
from cxr_estimator.errors import DataError


def patient_split(
    y: Any,
    groups: Any = None,
    *,
    fractions: Sequence[float] = (0.8, 0.1, 0.1),
    random_state: int | None = 0,
) -> tuple[np.ndarray, ...]:
    """Split images into parts that share no patient and have nearly the same mix of labels.

    Parameters
    ----------
    y : sequence of length N
        Labels.
    groups : sequence of length N, optional
        Patient of each image. Without it every image counts as a patient of its own.
    fractions : sequence of float, default=(0.8, 0.1, 0.1)
        Shares of the images, positive, summing to 1. With few patients the parts come only near them.
    random_state : int or None, default=0

    Returns
    -------
    tuple of ndarray, int64
        Sorted indices of each part, in the order of `fractions`.

    Raises
    ------
    DataError
        There are fewer patients than parts.

    Examples
    --------
    >>> train, test = patient_split([0, 0, 1, 1, 0, 1], ["a", "a", "b", "b", "c", "d"], fractions=(0.5, 0.5))
    >>> len(train) + len(test)
    6
    """
    shares = np.asarray(fractions, dtype=float)
    if shares.ndim != 1 or (shares <= 0).any() or abs(shares.sum() - 1.0) > 1e-6:
        raise invalid("fractions", "patient_split", "positive numbers that sum to 1", tuple(fractions))
    labels = np.unique(np.asarray(y), return_inverse=True)[1]
    n_images = len(labels)
    patients = np.arange(n_images) if groups is None else check_per_image("groups", groups, n_images, caller="patient_split")
    patient = np.unique(patients, return_inverse=True)[1]
    counts = np.zeros((patient.max() + 1, labels.max() + 1))
    np.add.at(counts, (patient, labels), 1)
    if len(counts) < len(shares):
        raise DataError(f"{len(counts)} patients cannot be split into {len(shares)} parts.")
    part = _assign(counts, shares, np.random.default_rng(random_state))[patient]
    return tuple(np.flatnonzero(part == number) for number in range(len(shares)))


def _assign(counts: np.ndarray, shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Give each patient (largest first, else in random order) to the part that lacks its labels most."""
    order = rng.permutation(len(counts))
    order = order[np.argsort(-counts[order].sum(axis=1), kind="stable")]
    wanted = shares[:, None] * counts.sum(axis=0)
    missing = wanted.copy()
    assigned = np.empty(len(counts), dtype=np.int64)
    for number in order:
        need = (missing / wanted) @ counts[number]
        assigned[number] = rng.choice(np.flatnonzero(need == need.max()))
        missing[assigned[number]] -= counts[number]
    return assigned
