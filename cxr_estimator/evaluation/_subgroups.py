"""The table of subgroups, such as sex, age or site: for whom the classifier does less well."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from cxr_estimator._validation import invalid, wrong_type
from cxr_estimator.errors import DataError
from cxr_estimator.evaluation._figures import FIGURES, Decided, Scored
from cxr_estimator.statistics import FEWEST_PATIENTS, Estimate

MISSING = "(missing)"
MOST_VALUES = 50  # of one attribute
# which figures, and of which classes they need patients: 1 of two is the positive one; None: each, (): any
_NEEDS: dict[str, dict[str, tuple[int, ...] | None]] = {
    "binary": {"auroc": (0, 1), "sensitivity": (1,), "specificity": (0,)},
    "several": {"macro_auroc": None, "accuracy": (), "balanced_accuracy": None},
    "labels": {"macro_auroc": (), "macro_recall": (), "macro_f1": ()},
}


def check_subgroups(subgroups: Any, n_images: int, *, caller: str) -> dict[str, np.ndarray]:
    """Return the attributes by name, (N,) text each, with "(missing)" where there is no value."""
    if subgroups is None:
        return {}
    if not isinstance(subgroups, Mapping | pd.DataFrame):
        raise wrong_type("subgroups", caller, "a dict or a DataFrame of name to one value per image", subgroups)
    found = {}
    for name in subgroups:
        values = pd.Series(np.asarray(subgroups[name])) if np.ndim(subgroups[name]) == 1 else None
        if values is None or len(values) != n_images:
            raise DataError(f"{caller}: the subgroup {name!r} must have one value for each of the {n_images} images.")
        if str(name) in found:
            raise DataError(f"{caller}: two subgroups are called {str(name)!r}.")
        text = values.astype(str).where(values.notna(), MISSING).to_numpy(dtype=str)
        if len(np.unique(text)) > MOST_VALUES:
            constraint = f"of attributes with at most {MOST_VALUES} values (put numbers into bins, see pandas.cut)"
            raise invalid("subgroups", caller, constraint, f"{len(np.unique(text))} values of {name!r}")
        found[str(name)] = text
    return found


def subgroup_table(attributes: Mapping[str, np.ndarray], scored: Scored, decided: Decided, kind: str) -> pd.DataFrame:
    """Return a row for each value of each attribute.

    Parameters
    ----------
    attributes : dict of name to ndarray (N,) of text
    scored, decided : Scored, Decided
        All images; decisions at the active operating point.
    kind : {"binary", "several", "labels"}

    Returns
    -------
    DataFrame
        subgroup, value, n_images, n_patients; the prevalence of the positive label (two classes); each figure with its
        `_low` and `_high`; and too_few, the figures that are NaN because a label they need has fewer than five
        patients in the subgroup.
    """
    rows = [
        {"subgroup": name, "value": str(value), **_row(scored.at(values == value), decided.at(values == value), kind)}
        for name, values in attributes.items()
        for value in np.unique(values)
    ]
    return pd.DataFrame(rows)


def _row(scored: Scored, decided: Decided, kind: str) -> dict[str, Any]:
    row: dict[str, Any] = {"n_images": len(decided.target), "n_patients": decided.patients.number()}
    if kind == "binary":
        row["prevalence"] = float((decided.target == 1).mean())
    too_few = []
    for name, classes in _NEEDS[kind].items():
        sides = [decided.target == k for k in (range(decided.n_classes) if classes is None else classes)]
        if min([decided.patients.number(), *map(decided.patients.number, sides)]) < FEWEST_PATIENTS:
            too_few.append(name)
            estimate = Estimate(math.nan, math.nan, math.nan)
        else:
            estimate = FIGURES[name].estimate(scored if FIGURES[name].of == "scores" else decided)
        row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    return {**row, "too_few": ", ".join(too_few)}
