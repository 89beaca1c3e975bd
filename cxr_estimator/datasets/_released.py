"""What the readers of released data sets share: several labels per image, and images that a table only names."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from cxr_estimator._validation import check_choice, invalid
from cxr_estimator.errors import DataError, MissingImagesWarning

_SHOWN = 10  # names in a message


class MultiLabelDataset(NamedTuple):
    """Images by path, several labels for each, patients, and what the labels are called.

    Attributes
    ----------
    X : ndarray (N,), str
    y : ndarray (N, K), float64
        1: present, 0: absent, NaN: unknown.
    groups : ndarray (N,), str
    label_names : tuple of K str
    """

    X: np.ndarray
    y: np.ndarray
    groups: np.ndarray
    label_names: tuple[str, ...]


def check_findings(findings: Any, known: Sequence[str], *, caller: str) -> list[str]:
    """Return the chosen findings, in the given order; all for None."""
    if findings is None:
        return list(known)
    if isinstance(findings, str) or not isinstance(findings, Sequence) or not len(findings):
        raise invalid("findings", caller, "None or a list of findings, one at least", findings)
    chosen = [check_choice("findings", one, known, caller=caller) for one in findings]
    if len(set(chosen)) < len(chosen):
        raise invalid("findings", caller, "a list without repetitions", findings)
    return chosen


def present(paths: Iterable[str], names: Sequence[str], on_missing: str, *, caller: str) -> np.ndarray:
    """Return which of the files exist, (N,) bool; `names` are what the table calls them. None of them is opened.

    Raises
    ------
    DataError
        A file is missing and `on_missing` is "raise", or all are.
    """
    check_choice("on_missing", on_missing, ("raise", "skip"), caller=caller)
    there = np.array([os.path.isfile(path) for path in paths])
    if there.all():
        return there
    missing = [name for name, found in zip(names, there, strict=True) if not found]
    shown = ", ".join(missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
    told = f"{caller}: {len(missing)} of {len(there)} images are missing: {shown}"
    if on_missing == "raise" or not there.any():
        raise DataError(f'{told}. on_missing="skip" leaves missing images out.')
    warnings.warn(f"{told}. They are left out.", MissingImagesWarning, stacklevel=3)
    return there
