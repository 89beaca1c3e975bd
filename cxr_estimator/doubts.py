"""How doubtful an answer is. `DOUBTS` is the one table: a new kind of doubt is a function and a line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.special import expit, logit

from cxr_estimator._measuring import MeasuringPlan
from cxr_estimator._progress import shared_progress
from cxr_estimator._validation import check_choice, invalid
from cxr_estimator.metrics import Request
from cxr_estimator.uncertainty import SAMPLERS, suitable_samplers

if TYPE_CHECKING:
    from cxr_estimator.thresholds import OperatingPoint

_ALMOST = 1e-12  # a probability of 1 is as far from the operating point as one this far below
PERCENTILES = np.linspace(0.0, 1.0, 101)


class Answers(NamedTuple):
    """Images and what is answered to them.

    Attributes
    ----------
    X : N images, all readable
    logits : ndarray (N, K)
    answer : ndarray (N,)
        Index of the decided class.
    point : OperatingPoint or None
        What decided between two classes.
    seed : int
    progress : callable or None
        Called as `progress(done, total)`, in images.
    """

    X: Any
    logits: np.ndarray
    answer: np.ndarray
    point: OperatingPoint | None
    seed: int
    progress: Callable[[float, int], Any] | None = None


class Doubt(NamedTuple):
    """A row of `DOUBTS`: `function(estimator, answers) -> (N,)`, higher is less sure, and what it is in words."""

    function: Callable[[Any, Answers], np.ndarray]
    summary: str


def _of_probability(clf: Any, answers: Answers) -> np.ndarray:
    return otherwise(clf, clf._proba(answers.logits)[None], answers)


def _of_samples(clf: Any, answers: Answers, *, method: str) -> np.ndarray:
    asked: dict[str, Any] = {"random_state": answers.seed, "progress": answers.progress}
    return otherwise(clf, clf.uncertainty(answers.X, method=method, **asked).samples, answers)


def _of_explanation(clf: Any, answers: Answers) -> np.ndarray:
    """Return 1 - `augmentation_consistency` of the Grad-CAM map of what is answered, in [0, 2].

    A map without any structure, whose consistency is undefined, counts as inconsistent as none other: 2.
    """
    requests = {"grad_cam": {"consistency": Request("augmentation_consistency", {})}}
    found, members = [], clf._members()
    for number, member in enumerate(members):
        plan = MeasuringPlan.check(
            member,
            answers.X,
            clf.classes_[answers.answer],
            requests,
            target="true",
            random_state=answers.seed,
            progress=shared_progress(answers.progress, number, len(members)),
        )
        parts = [batch.metrics["grad_cam"]["consistency"] for batch in plan.run()]
        found.append(np.nan_to_num(np.concatenate(parts), nan=-1.0))
    return 1.0 - np.mean(found, axis=0)


DOUBTS: Mapping[str, Doubt] = {
    "probability": Doubt(_of_probability, "how near the probability is to the operating point"),
    **{name: Doubt(partial(_of_samples, method=name), one.summary) for name, one in SAMPLERS.items()},
    "explanation": Doubt(_of_explanation, "how much the Grad-CAM map changes with small shifts of the image"),
}


def otherwise(clf: Any, samples: np.ndarray, answers: Answers) -> np.ndarray:
    """Return the mean probability (N,), over samples (T, N, K), that something else than the answer is right.

    Of two classes the log-odds are taken from the operating point on: what lies just there is most doubtful, 0.5,
    wherever it is set.
    """
    rows = np.arange(len(answers.answer))
    if answers.point is None:
        return 1.0 - samples[:, rows, answers.answer].mean(axis=0)
    place = clf.classes_.tolist().index(answers.point.label)
    beyond = _logit(samples[:, :, place]) - _logit(clf.thresholds_[answers.point.name])
    return expit(np.where(answers.answer == place, -beyond, beyond)).mean(axis=0)


def _logit(proba: Any) -> Any:
    return logit(np.clip(proba, _ALMOST, 1.0 - _ALMOST))


def check_doubts(doubt: Any, *, caller: str, clf: Any = None) -> tuple[str, ...]:
    """Return the names of one or several doubts, which must suit the estimator, if one is given."""
    names = [doubt] if isinstance(doubt, str) else doubt
    if not isinstance(names, Sequence) or not names or len(set(map(str, names))) < len(names):
        raise invalid("doubt", caller, f"one of {list(DOUBTS)}, or a list of different ones", doubt)
    found = tuple(check_choice("doubt", name, DOUBTS, caller=caller) for name in names)
    samplers = SAMPLERS if clf is None else suitable_samplers(clf)
    suitable = [name for name in DOUBTS if name in samplers or name not in SAMPLERS]
    for name in found:
        if name not in suitable:
            raise invalid("doubt", caller, f"one of {suitable} for a {type(clf).__name__}", name)
    return found


def doubts_of(clf: Any, names: Sequence[str], answers: Answers) -> dict[str, np.ndarray]:
    """Return each kind of doubt (N,) by name."""
    found = {}
    for number, name in enumerate(names):
        told = shared_progress(answers.progress, number, len(names))
        found[name] = DOUBTS[name].function(clf, answers._replace(progress=told))
    return found


def default_doubts(clf: Any) -> tuple[str, ...]:
    """Return the kinds of doubt that suit an estimator, but those that need something special of its network."""
    return ("probability", suitable_samplers(clf)[0], "explanation")


def combined(found: Mapping[str, np.ndarray], percentiles: Mapping[str, Sequence[float]]) -> np.ndarray:
    """Return one doubt (N,): the only one, or the mean of the shares of known images that were less doubtful."""
    if len(found) == 1:
        return next(iter(found.values()))
    return np.mean([_rank(each, np.array(percentiles[name])) for name, each in found.items()], axis=0)


def _rank(doubt: np.ndarray, percentiles: np.ndarray) -> np.ndarray:
    """Return the share of known images that were less doubtful; of equally doubtful ones half count."""
    known, first, count = np.unique(percentiles, return_index=True, return_counts=True)
    return np.interp(doubt, known, (first + (count - 1) / 2) / (len(percentiles) - 1))
