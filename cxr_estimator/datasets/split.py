"""Splits that keep patients whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cxr_estimator._validation import (
    check_label_matrix,
    check_labels,
    check_per_image,
    check_seed,
    invalid,
    is_label_matrix,
)
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
    y : sequence of length N, or array or data frame (N, K)
        Labels; or 1, 0 or NaN (unknown) for each of several labels, whose values are all spread over the parts.
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
    caller = "patient_split"
    shares = _check_fractions(fractions, caller)
    n_images = len(y)
    several = is_label_matrix(y)
    patients = np.arange(n_images) if groups is None else check_per_image("groups", groups, n_images, caller=caller)
    member = (_values if several else _classes)(y, n_images, caller)
    names, patient = np.unique(patients, return_inverse=True)
    if len(names) < len(shares):
        raise DataError(f"{caller}: {len(names)} patients cannot be split into {len(shares)} parts.")
    counts = np.zeros((len(names), member.shape[1]))
    np.add.at(counts, patient, member)
    part = _assign(counts, shares, np.random.default_rng(check_seed(random_state, caller=caller)))[patient]
    return tuple(np.flatnonzero(part == number) for number in range(len(shares)))


def _classes(y: Any, n_images: int, caller: str) -> np.ndarray:
    """Return which class each image has, (N, K) of 0 and 1."""
    classes, index = np.unique(check_labels(y, n_images, caller=caller), return_inverse=True)
    return np.eye(len(classes))[index]


def _values(y: Any, n_images: int, caller: str) -> np.ndarray:
    """Return which values of which labels each image has, (N, up to 3 K) of 0 and 1; "unknown" is a value here."""
    matrix = check_label_matrix(y, n_images, caller=caller)
    member = np.hstack([matrix == 1, matrix == 0, np.isnan(matrix)])
    return member[:, member.any(axis=0)].astype(float)


def _check_fractions(fractions: Any, caller: str) -> np.ndarray:
    try:
        shares = np.asarray(fractions, dtype=float)
    except (TypeError, ValueError):
        shares = np.array([])
    if shares.ndim != 1 or not (shares > 0).all() or abs(shares.sum() - 1.0) > 1e-6:
        raise invalid("fractions", caller, "positive numbers that sum to 1", fractions)
    return shares


def _assign(counts: np.ndarray, shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Give each patient (largest first, else in random order) to the part that suits it best.

    Where few patients of a label are left, the parts that have none of it come first, so that every part gets every
    label it can. Then a part that the patient would not overfill by more than one image, then the part that lacks its
    labels most, then the one that lacks most images of any kind; chance decides the rest.
    """
    order = rng.permutation(len(counts))
    order = order[np.argsort(-counts[order].sum(axis=1), kind="stable")]
    wanted = shares[:, None] * counts.sum(axis=0)
    missing = wanted.copy()
    present = np.hstack([counts > 0, np.ones((len(counts), 1), dtype=bool)])  # the last column: any label at all
    left, has = present.sum(axis=0), np.zeros((len(shares), present.shape[1]), dtype=bool)
    assigned = np.empty(len(counts), dtype=np.int64)
    for number in order:
        must = (~has & present[number] & (left <= (~has).sum(axis=0))).sum(axis=1)
        too_many = np.clip(counts[number] - missing - 1, 0, None).sum(axis=1)
        need = (missing / wanted) @ counts[number]
        lack = missing.sum(axis=1) / wanted.sum(axis=1)
        keys = [tuple(key) for key in np.stack([must, -too_many, need, lack], axis=1).round(9)]
        best = [part for part, key in enumerate(keys) if key == max(keys)]
        assigned[number] = rng.choice(best)
        missing[assigned[number]] -= counts[number]
        has[assigned[number]] |= present[number]
        left = left - present[number]
    return assigned
