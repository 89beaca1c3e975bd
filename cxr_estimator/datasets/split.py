"""Splits that keep patients whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cxr_estimator._validation import check_labels, check_per_image, check_seed, invalid
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
    caller = "patient_split"
    shares = _check_fractions(fractions, caller)
    n_images = len(y)
    patients = np.arange(n_images) if groups is None else check_per_image("groups", groups, n_images, caller=caller)
    classes, label = np.unique(check_labels(y, n_images, caller=caller), return_inverse=True)
    names, patient = np.unique(patients, return_inverse=True)
    if len(names) < len(shares):
        raise DataError(f"{caller}: {len(names)} patients cannot be split into {len(shares)} parts.")
    counts = np.zeros((len(names), len(classes)))
    np.add.at(counts, (patient, label), 1)
    part = _assign(counts, shares, np.random.default_rng(check_seed(random_state, caller=caller)))[patient]
    return tuple(np.flatnonzero(part == number) for number in range(len(shares)))


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
