"""Operating points: cut-offs on the log-odds of the positive label, and the rules that choose them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from cxr_estimator._validation import check_choice, check_number, invalid, wrong_type
from cxr_estimator.errors import DataError

DEFAULT_POINT = "default"  # the operating point that a plain `threshold` makes

Rule = Callable[[np.ndarray, np.ndarray, float | None], np.ndarray]


@dataclass(frozen=True)
class OperatingPoint:
    """A named cut-off.

    Attributes
    ----------
    name, rule : str
    at_least : float or None
        What a "sensitivity" or "specificity" rule was asked for.
    score : float
        Cut-off on the log-odds of the positive label; a score equal to it counts as positive.
    sensitivity, specificity : float or None
        As observed on the data that chose it; on other data expect less. None for a plain number.
    n_images : int or None
        How many images chose it.
    """

    name: str
    rule: str
    at_least: float | None
    score: float
    sensitivity: float | None = None
    specificity: float | None = None
    n_images: int | None = None

    def __post_init__(self) -> None:
        check_number("score", self.score, caller=type(self).__name__)
        if not isinstance(self.name, str):
            raise wrong_type("name", type(self).__name__, "a text", self.name)

    @property
    def threshold(self) -> float:
        """The cut-off as a probability of the positive label, in (0, 1)."""
        return float(expit(self.score))

    def is_positive(self, scores: Any) -> Any:
        """Return which log-odds (array or tensor, any shape) count as positive."""
        return scores >= self.score


def _youden(sensitivity: np.ndarray, specificity: np.ndarray, at_least: float | None) -> np.ndarray:
    return sensitivity + specificity


def _at_least_sensitivity(sensitivity: np.ndarray, specificity: np.ndarray, at_least: float | None) -> np.ndarray:
    return np.where(sensitivity >= at_least, specificity, -np.inf)


def _at_least_specificity(sensitivity: np.ndarray, specificity: np.ndarray, at_least: float | None) -> np.ndarray:
    return np.where(specificity >= at_least, sensitivity, -np.inf)


# Each rule rates every possible cut-off by its (sensitivity, specificity); the best rated one is taken.
RULES: dict[str, Rule] = {
    "youden": _youden,
    "sensitivity": _at_least_sensitivity,
    "specificity": _at_least_specificity,
}


def parse_rule(text: str, *, caller: str) -> tuple[str, float | None]:
    """Return (rule, at_least) for "youden", "sensitivity>=0.95" or "specificity>=0.9"."""
    match = re.fullmatch(r"\s*([a-z_]+)\s*(?:>=\s*(\d*\.?\d+))?\s*", text)
    if match is None:
        raise invalid("threshold", caller, "a number or a rule such as 'youden' or 'sensitivity>=0.95'", text)
    rule = check_choice("threshold", match[1], RULES, caller=caller)
    return rule, check_at_least(rule, None if match[2] is None else float(match[2]), caller=caller)


def check_at_least(rule: str, at_least: float | None, *, caller: str) -> float | None:
    """Return `at_least` if `rule` has a use for it, and needs no other."""
    if rule == "youden":
        if at_least is not None:
            raise invalid("at_least", caller, "None for the rule 'youden'", at_least)
        return None
    if at_least is None:
        raise invalid("at_least", caller, f"a number in (0, 1] for the rule {rule!r}", None)
    return check_number("at_least", at_least, caller=caller, low=0.0, high=1.0, open_low=True)


def number_point(threshold: Any, *, name: str, caller: str) -> OperatingPoint:
    """Return the operating point of a plain probability `threshold` in (0, 1)."""
    check_number("threshold", threshold, caller=caller, low=0.0, high=1.0, open_low=True, open_high=True)
    return OperatingPoint(name, "number", None, math.log(threshold / (1.0 - threshold)))


def choose_point(
    scores: np.ndarray, positive: np.ndarray, rule: str, *, at_least: float | None = None, name: str = "default"
) -> OperatingPoint:
    """Choose a cut-off midway between two neighbouring scores, by a rule of `RULES`.

    Parameters
    ----------
    scores : ndarray (N,)
        Log-odds of the positive label.
    positive : ndarray (N,), bool
        Which images have the positive label.
    rule : {"youden", "sensitivity", "specificity"}
        "youden" maximises sensitivity + specificity; the others maximise the other quantity subject to `at_least`.
        Of equally good cut-offs the highest (most specific) is taken.

    Raises
    ------
    DataError
        One of the two labels is missing, or scores are not finite.
    """
    scores, positive = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=bool)
    if positive.all() or not positive.any():
        raise DataError("An operating point needs images of both labels; these data hold only one.")
    if not np.isfinite(scores).all():
        raise DataError("An operating point needs finite scores; some are NaN or infinite.")
    cutoffs, sensitivity, specificity = sweep(scores, positive)
    ratings = RULES[rule](sensitivity, specificity, at_least)
    best = int(np.argmax(np.round(ratings, 12)))  # the first, and so highest, of those that differ by rounding alone
    return OperatingPoint(
        name, rule, at_least, float(cutoffs[best]), float(sensitivity[best]), float(specificity[best]), len(scores)
    )


def sweep(scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return all distinct cut-offs, descending, with the sensitivity and specificity of each.

    The first lies 1 above the highest score (nothing is positive), the last 1 below the lowest (everything is).
    """
    distinct, position = np.unique(-scores, return_inverse=True)
    descending = -distinct
    between = (descending[:-1] + descending[1:]) / 2.0
    cutoffs = np.concatenate([[descending[0] + 1.0], between, [descending[-1] - 1.0]])
    true_positives = np.cumsum(np.bincount(position, weights=positive, minlength=len(distinct)))
    false_positives = np.cumsum(np.bincount(position, weights=~positive, minlength=len(distinct)))
    sensitivity = np.concatenate([[0.0], true_positives / positive.sum()])
    n_negative = (~positive).sum()
    specificity = np.concatenate([[1.0], (n_negative - false_positives) / n_negative])
    return cutoffs, sensitivity, specificity
