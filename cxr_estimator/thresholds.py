"""Operating points: cut-offs on the log-odds of a label, and the rules that choose them.

`RULES` is the one table: a new rule is a function and a line.
"""

from __future__ import annotations

import inspect
import math
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit

from cxr_estimator._validation import check_choice, check_copies, check_number, invalid, keyword_options, wrong_type
from cxr_estimator.errors import DataError, ThresholdWarning
from cxr_estimator.roc import Ranking
from cxr_estimator.statistics import FEWEST_PATIENTS, Estimate, percentile_interval, proportion, resampled_weights

DEFAULT_POINT = "default"  # the operating point that a plain `threshold` makes
NUMBER = "number"  # the rule of a point that was given and not chosen
LIKELIEST = "likeliest_class"  # how several classes are decided: no point may have this name


@dataclass(frozen=True)
class OperatingPoint:
    """A named cut-off.

    Attributes
    ----------
    name, rule : str
        The rule is a key of `RULES`, or "number".
    score : float
        Cut-off on the raw log-odds of `label`, before any calibration; a score equal to it counts as positive.
    label : label or None
        What the log-odds speak of.
    options : dict of str to float
        What the rule was asked for, such as `at_least`.
    interval : (float, float) or None
        95% patient-bootstrap interval of `score`: where the rule would have put it on other patients like these.
    sensitivity, specificity : Estimate or None
        As observed, at this cut-off, on the images that chose it; None for a number. On others expect a little less:
        the rule took the cut-off that did best on these, which the intervals do not know.
    n_images, n_patients : int or None
        How many images of how many patients chose it.
    fingerprint : tuple of str
        Sketch of the images that chose it, see `fingerprints`.
    augment : str or None
        How the changed copies of these images were made that chose it together with them, if any did.
    copies : int
        How many of each image; they are not counted in `n_images`.
    """

    name: str
    rule: str
    score: float
    label: Any = None
    options: Mapping[str, float] | None = None
    interval: tuple[float, float] | None = None
    sensitivity: Estimate | None = None
    specificity: Estimate | None = None
    n_images: int | None = None
    n_patients: int | None = None
    fingerprint: tuple[str, ...] = ()
    augment: str | None = None
    copies: int = 0

    def __post_init__(self) -> None:
        check_copies(self.augment, self.copies, caller=type(self).__name__)
        check_number("score", self.score, caller=type(self).__name__)
        check_choice("rule", self.rule, (NUMBER, *RULES), caller=type(self).__name__)
        check_number("probability", self.number, caller=type(self).__name__, low=0, high=1)
        if not isinstance(self.name, str):
            raise wrong_type("name", type(self).__name__, "a text", self.name)

    @property
    def threshold(self) -> float:
        """The cut-off as a probability of the label as the network gives it, in (0, 1), before any calibration."""
        return float(expit(self.score))

    @property
    def number(self) -> float:
        """The probability that a point of the rule "number" was given as."""
        return (self.options or {}).get("probability", self.threshold)

    @property
    def rule_text(self) -> str:
        """The rule as it is written: "sensitivity>=0.95", "cost, false_negative_cost 5, ..."."""
        options = dict(self.options or {}) if self.rule != NUMBER else {}
        at_least = f">={options.pop('at_least'):g}" if "at_least" in options else ""
        return ", ".join([f"{self.rule}{at_least}", *(f"{name} {value:g}" for name, value in options.items())])

    def is_positive(self, scores: Any) -> Any:
        """Return which raw log-odds (array or tensor, any shape) count as positive."""
        return scores >= self.score

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON types; NaN becomes None."""
        found = asdict(self)
        for name in ("interval", "sensitivity", "specificity"):
            values = getattr(self, name)
            found[name] = None if values is None else [None if value != value else value for value in values]
        return {**found, "options": dict(self.options or {}), "fingerprint": list(self.fingerprint)}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> OperatingPoint:
        """Undo `to_dict`; raises ValueError, TypeError or LookupError for anything else."""
        estimates = {
            name: None if content[name] is None else Estimate(*map(_number, content[name]))
            for name in ("sensitivity", "specificity")
        }
        low_high = content["interval"]
        interval = None if low_high is None else (_number(low_high[0]), _number(low_high[1]))
        options = {str(key): _number(value) for key, value in content["options"].items()}
        sketch = tuple(map(str, content["fingerprint"]))
        return cls(**{**content, **estimates, "interval": interval, "options": options, "fingerprint": sketch})


def _number(value: Any) -> float:
    return math.nan if value is None else check_number("number", value, caller="OperatingPoint")


class Curve(NamedTuple):
    """What every distinct cut-off does: `cutoffs` (P,), descending, with `sensitivity` and `specificity` (P,) each.

    The first cut-off lies 1 above the highest score (nothing is positive), the last 1 below the lowest (all is).
    `prevalence` is the share of positive images.
    """

    cutoffs: np.ndarray
    sensitivity: np.ndarray
    specificity: np.ndarray
    prevalence: float


def _youden(curve: Curve) -> np.ndarray:
    return curve.sensitivity + curve.specificity


def _sensitivity(curve: Curve, *, at_least: float) -> np.ndarray:
    return np.where(curve.sensitivity >= at_least, curve.specificity, -np.inf)


def _specificity(curve: Curve, *, at_least: float) -> np.ndarray:
    return np.where(curve.specificity >= at_least, curve.sensitivity, -np.inf)


def _f_beta(curve: Curve, *, beta: float = 1.0) -> np.ndarray:
    found = curve.prevalence * curve.sensitivity
    false_alarms = (1 - curve.prevalence) * (1 - curve.specificity)
    return (1 + beta**2) * found / (found + false_alarms + beta**2 * curve.prevalence)


def _cost(
    curve: Curve, *, false_negative_cost: float, false_positive_cost: float, prevalence: float | None = None
) -> np.ndarray:
    share = curve.prevalence if prevalence is None else prevalence
    whole = false_negative_cost + false_positive_cost  # so that the unit of costs does not matter
    missed = share * (1 - curve.sensitivity) * (false_negative_cost / whole)
    return -missed - (1 - share) * (1 - curve.specificity) * (false_positive_cost / whole)


class Rule(NamedTuple):
    """A row of `RULES`.

    Attributes
    ----------
    rate : callable
        `rate(curve, **options) -> (P,)` rates every cut-off; the best rated one is taken, of equals the highest.
    summary, reference : str
    """

    rate: Callable[..., np.ndarray]
    summary: str
    reference: str

    @property
    def options(self) -> dict[str, Any]:
        """Names and defaults of the options; `inspect.Parameter.empty` for those that must be given."""
        return keyword_options(self.rate)


RULES: dict[str, Rule] = {
    "youden": Rule(
        _youden,
        "the largest sensitivity + specificity",
        "Youden 1950, doi:10.1002/1097-0142(1950)3:1<32::AID-CNCR2820030106>3.0.CO;2-3",
    ),
    "sensitivity": Rule(
        _sensitivity,
        "the largest specificity among the cut-offs with a sensitivity of `at_least`",
        "Fawcett 2006, doi:10.1016/j.patrec.2005.10.010",
    ),
    "specificity": Rule(
        _specificity,
        "the largest sensitivity among the cut-offs with a specificity of `at_least`",
        "Fawcett 2006, doi:10.1016/j.patrec.2005.10.010",
    ),
    "f_beta": Rule(
        _f_beta,
        "the largest F-score; `beta` above 1 favours sensitivity",
        "van Rijsbergen 1979, Information Retrieval, ch. 7",
    ),
    "cost": Rule(
        _cost,
        "the least expected cost of an error, at the prevalence of the images or a given one",
        "Pauker & Kassirer 1980, doi:10.1056/NEJM198005153022003",
    ),
}
_OPTIONS: dict[str, dict[str, Any]] = {  # what `check_number` is told
    "at_least": {"low": 0.0, "high": 1.0, "open_low": True},
    "beta": {"low": 0.0, "high": 1000.0, "open_low": True},
    "false_negative_cost": {"low": 0.0, "open_low": True},
    "false_positive_cost": {"low": 0.0, "open_low": True},
    "prevalence": {"low": 0.0, "high": 1.0, "open_low": True, "open_high": True},
}


def parse_rule(
    text: str, options: Mapping[str, Any] | None = None, *, caller: str, parameter: str = "rule"
) -> tuple[str, dict[str, float]]:
    """Return (rule, options) for "youden", "sensitivity>=0.95", or "sensitivity" and {"at_least": 0.95}."""
    match = re.fullmatch(r"\s*([a-z_]+)\s*(?:>=\s*(\d+\.?\d*|\.\d+))?\s*", text)
    if match is None:
        raise invalid(parameter, caller, "a number or a rule such as 'youden' or 'sensitivity>=0.95'", text)
    rule = check_choice(parameter, match[1], RULES, caller=caller)
    options = dict(options or {})
    if match[2] is not None:
        if options.get("at_least") is not None:
            raise invalid("at_least", caller, f"left out where the rule is {text!r}", options["at_least"])
        options["at_least"] = float(match[2])
    return rule, check_options(rule, options, caller=caller)


def check_options(rule: str, options: Mapping[str, Any], *, caller: str) -> dict[str, float]:
    """Return the options of a rule, with its defaults; raise for one that it has no use for, lacks or cannot use."""
    known = RULES[rule].options
    chosen = {name: value for name, value in options.items() if value is not None}
    for name in chosen:
        if name not in known:
            takes = f"{', '.join(known)} for the rule {rule!r}" if known else f"left out for the rule {rule!r}"
            raise invalid(f"options of {rule}", caller, takes, name)
    missing = [name for name, value in known.items() if value is inspect.Parameter.empty and name not in chosen]
    if missing:
        raise invalid(missing[0], caller, f"given for the rule {rule!r}", None)
    given = {**{name: value for name, value in known.items() if value is not inspect.Parameter.empty}, **chosen}
    return {
        name: float(check_number(name, value, caller=caller, **_OPTIONS[name]))
        for name, value in given.items()
        if value is not None
    }


def number_point(threshold: Any, *, name: str, caller: str, label: Any = None) -> OperatingPoint:
    """Return the operating point of a plain probability `threshold` in (0, 1), as the network gives it."""
    check_number("threshold", threshold, caller=caller, low=0.0, high=1.0, open_low=True, open_high=True)
    number = float(threshold)
    # as precise as raw scores are: an image whose probability is this very number counts as positive
    score = float(np.float32(math.log(number / (1.0 - number))))
    return OperatingPoint(name, NUMBER, score, label, {"probability": number})


def choose_point(
    scores: np.ndarray,
    positive: np.ndarray,
    rule: str,
    options: Mapping[str, float] | None = None,
    *,
    groups: Any = None,
    name: str = DEFAULT_POINT,
    label: Any = None,
    n_resamples: int = 1000,
    random_state: int = 0,
    augment: str | None = None,
    copies: int = 0,
) -> OperatingPoint:
    """Choose a cut-off midway between two neighbouring scores, by a rule of `RULES`.

    Parameters
    ----------
    scores : ndarray (N,)
        Log-odds of the label.
    positive : ndarray (N,), bool
        Which images have the label.
    rule : {"youden", "sensitivity", "specificity", "f_beta", "cost"}
        Of equally good cut-offs the highest (most specific) is taken.
    options : dict of str to float, optional
        Of the rule, as `check_options` returns them.
    groups : array-like (N,), optional
        Patients, for the intervals; without them each image counts as one.
    n_resamples : int, default=1000
        Of the bootstrap.
    augment, copies
        Where each image is among the N with so many changed copies: kept, and each image is counted once. `groups` must
        then be given.

    Raises
    ------
    DataError
        One of the two labels is missing, scores are not finite, or no cut-off between the scores does what a
        "sensitivity" or "specificity" rule asks for, or is better than chance ("youden").

    Warns
    -----
    ThresholdWarning
        To call all images positive, or none, is best by "f_beta" or "cost".
    """
    scores, positive = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=bool)
    if positive.all() or not positive.any():
        raise DataError("An operating point needs images of both labels; these data hold only one.")
    if not np.isfinite(scores).all():
        raise DataError("An operating point needs finite scores; some are NaN or infinite.")
    patients = np.arange(len(scores)) if groups is None else np.asarray(groups)
    options = dict(options or {})
    ranking = Ranking(scores, positive)
    curve = _curve(ranking)
    best = _best(RULES[rule].rate(curve, **options))
    _check_useful(curve, best, rule, options)
    resamples = {"n_resamples": n_resamples, "random_state": random_state}
    chosen = curve.cutoffs[best]
    point = OperatingPoint(name, rule, float(chosen), label, options=options)
    return replace(
        point,
        interval=_interval(ranking, rule, options, resampled_weights(patients, **resamples), patients),
        sensitivity=proportion(scores[positive] >= chosen, patients[positive], **resamples),
        specificity=proportion(scores[~positive] < chosen, patients[~positive], **resamples),
        n_images=len(scores) // (1 + copies),
        n_patients=len(np.unique(patients)),
        augment=augment,
        copies=copies,
    )


def sweep(scores: np.ndarray, positive: np.ndarray) -> Curve:
    """Return all distinct cut-offs, descending, with the sensitivity and specificity of each."""
    return _curve(Ranking(scores, positive))


def _curve(ranking: Ranking, weight: np.ndarray | None = None) -> Curve:
    """Return the curve of images that count `weight` (N,) times each; NaN where a label is missing."""
    scores = ranking.distinct
    cutoffs = np.concatenate([[scores[0] + 1.0], (scores[:-1] + scores[1:]) / 2.0, [scores[-1] - 1.0]])
    found, alarms = (np.concatenate([[0.0], side]) for side in ranking.counts(weight))
    with np.errstate(invalid="ignore"):
        sensitivity, specificity = found / found[-1], (alarms[-1] - alarms) / alarms[-1]
    return Curve(cutoffs, sensitivity, specificity, float(found[-1] / (found[-1] + alarms[-1])))


def _best(ratings: np.ndarray) -> int:
    return int(np.argmax(np.round(ratings, 12)))  # the first, and so highest, of those that differ by rounding alone


def _check_useful(curve: Curve, best: int, rule: str, options: Mapping[str, float]) -> None:
    """Raise where nothing is left of sensitivity or specificity, unless costs, or the F-score, may want that."""
    sensitivity, specificity = float(curve.sensitivity[best]), float(curve.specificity[best])
    if sensitivity > 0 and specificity > 0 and not (rule == "youden" and sensitivity + specificity <= 1):
        return
    if rule == "youden":
        raise DataError("No threshold is better than chance: positive images score no higher than others.")
    if rule in ("sensitivity", "specificity"):
        kept = {"sensitivity": curve.sensitivity, "specificity": curve.specificity}
        other = next(name for name in kept if name != rule)
        raise DataError(
            f"No threshold between the scores has a {rule} of at least {options['at_least']:g} and a {other} above 0. "
            f"The best attainable {rule} is {kept[rule][kept[other] > 0].max():.4g}."
        )
    text = f"By the rule {rule!r} it is best to call {'no' if sensitivity == 0 else 'every'} image positive."
    warnings.warn(ThresholdWarning(text), stacklevel=4)


def _interval(
    ranking: Ranking, rule: str, options: Mapping[str, float], resamples: Any, patients: np.ndarray
) -> tuple[float, float] | None:
    """Return the percentile interval of the cut-off that the rule takes in each resample."""
    if len(np.unique(patients)) < FEWEST_PATIENTS:
        return None
    chosen = []
    for weight in resamples:
        curve = _curve(ranking, weight)
        if 0 < curve.prevalence < 1:
            chosen.append(curve.cutoffs[_best(RULES[rule].rate(curve, **options))])
    return percentile_interval(chosen)
