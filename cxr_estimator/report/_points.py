"""What operating points decide, in numbers of images that anybody can picture."""

from __future__ import annotations

import math
from typing import NamedTuple

import pandas as pd

from cxr_estimator.evaluation import EvaluationReport
from cxr_estimator.statistics import Estimate

OF = 1000


class Share(NamedTuple):
    """What a point does with 1,000 images like those here.

    Attributes
    ----------
    point, label : str
    prevalence : float
        Share of the images here that have the label.
    found, false_alarms : Estimate
        Of 1,000 images: those with the label that are decided so, and those without it that are.
    """

    point: str
    label: str
    prevalence: float
    found: Estimate
    false_alarms: Estimate


def shares(report: EvaluationReport) -> list[Share]:
    """Return what each operating point does; of a label that is known of no image NaN.

    The intervals are those of sensitivity and specificity: the prevalence is taken as it is here.
    """
    found = []
    for name, one in report.decisions.items():
        if one.label is None:
            continue
        prevalence = report.prevalence[one.label]
        sensitivity, specificity = one.estimates["sensitivity"], one.estimates["specificity"]
        alarms = Estimate(1 - specificity.value, 1 - specificity.high, 1 - specificity.low)
        with_label, without = OF * prevalence, OF * (1 - prevalence)
        found.append(Share(name, str(one.label), prevalence, _times(sensitivity, with_label), _times(alarms, without)))
    return found


def per_thousand(report: EvaluationReport) -> pd.DataFrame:
    """Return the same as a table of text."""
    rows = []
    for one in shares(report):
        have = OF * one.prevalence
        missed = Estimate(have - one.found.value, have - one.found.high, have - one.found.low)
        flagged = one.found.value + one.false_alarms.value
        right = "undefined" if math.isnan(flagged) or flagged == 0 else f"{one.found.value / flagged:.1%}"
        numbers = (_count(have), _counts(one.found), _counts(missed), _counts(one.false_alarms), right)
        rows.append((one.point, one.label, *numbers))
    columns = ["operating point", "label", "have it", "found", "missed", "false alarms", "of those flagged, right"]
    return pd.DataFrame(rows, columns=columns)


def _times(one: Estimate, factor: float) -> Estimate:
    return Estimate(*(factor * each for each in one))


def _counts(one: Estimate) -> str:
    if math.isnan(one.value):
        return "undefined"
    if math.isnan(one.low):
        return _count(one.value)
    return f"{_count(one.value)} ({_count(one.low)} to {_count(one.high)})"


def _count(number: float) -> str:
    return "undefined" if math.isnan(number) else f"{number + 0.0:.0f}"
