"""Patient ids from file names."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from cxr_estimator._validation import invalid
from cxr_estimator.errors import DataError

# "person12_bacteria_46.jpeg"; "IM-0115-0001.jpeg" and "NORMAL2-IM-0115-0001.jpeg" are different patients
KAGGLE_PATIENT_PATTERN = r"(person\d+)_(?:bacteria|virus)_|((?:NORMAL2-)?IM-\d+)-\d+"


def patient_ids(paths: Sequence[str | os.PathLike[str]], pattern: str, *, caller: str = "patient_ids") -> np.ndarray:
    """Return the patient of each path, (N,) str: the groups of the first match of `pattern`, or the match itself.

    Raises
    ------
    DataError
        A path does not match. Its file name is shown.
    """
    patients = found_in_names(paths, pattern, parameter="patient_pattern", caller=caller)
    for path, patient in zip(paths, patients, strict=True):
        if not patient:
            raise DataError(f"{caller}: the patient pattern {pattern!r} matches nothing in {os.fspath(path)!r}.")
    return np.array(patients)


def found_in_names(
    names: Sequence[str | os.PathLike[str]], pattern: Any, *, parameter: str, caller: str
) -> list[str | None]:
    """Return the groups of the first match of `pattern` in each name, or the match itself; None for no match."""
    try:
        expression = re.compile(pattern)
    except (re.error, TypeError) as error:
        raise invalid(parameter, caller, f"a regular expression ({error})", pattern) from error
    matches = (expression.search(os.fspath(name)) for name in names)
    return [(match and ("-".join(filter(None, match.groups())) or match[0])) or None for match in matches]
