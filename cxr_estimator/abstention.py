"""When an estimator gives no answer: how doubtful each is, and from how much doubt on it says nothing.

`DOUBTS` is the one table: a new kind of doubt is a function and a line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.special import expit, logit
from sklearn.utils import _safe_indexing

from cxr_estimator._decisions import decided, deciding_point, said
from cxr_estimator._measuring import MeasuringPlan
from cxr_estimator._operating import judged
from cxr_estimator._outputs import Task
from cxr_estimator._validation import check_choice, check_number, check_seed, invalid
from cxr_estimator.errors import DataError
from cxr_estimator.fingerprints import fingerprint
from cxr_estimator.metrics import Request
from cxr_estimator.selective import cutoff_for_coverage, cutoff_for_error
from cxr_estimator.statistics import Estimate, proportion
from cxr_estimator.uncertainty import SAMPLERS

if TYPE_CHECKING:
    from cxr_estimator.thresholds import OperatingPoint

_CALLER = "set_abstention"
_ALMOST = 1e-12  # a probability of 1 is as far from the operating point as one this far below
_PERCENTILES = np.linspace(0.0, 1.0, 101)


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
    """

    X: Any
    logits: np.ndarray
    answer: np.ndarray
    point: OperatingPoint | None
    seed: int


class Doubt(NamedTuple):
    """A row of `DOUBTS`: `function(estimator, answers) -> (N,)`, higher is less sure, and what it is in words."""

    function: Callable[[Any, Answers], np.ndarray]
    summary: str


def _of_probability(clf: Any, answers: Answers) -> np.ndarray:
    return otherwise(clf, clf._proba(answers.logits)[None], answers)


def _of_samples(clf: Any, answers: Answers, *, method: str) -> np.ndarray:
    return otherwise(clf, clf.uncertainty(answers.X, method=method, random_state=answers.seed).samples, answers)


def _of_explanation(clf: Any, answers: Answers) -> np.ndarray:
    """Return 1 - `augmentation_consistency` of the Grad-CAM map of what is answered, in [0, 2].

    A map without any structure, whose consistency is undefined, counts as inconsistent as none other: 2.
    """
    requests = {"grad_cam": {"consistency": Request("augmentation_consistency", {})}}
    found = []
    for member in clf._members():
        plan = MeasuringPlan.check(
            member, answers.X, clf.classes_[answers.answer], requests, target="true", random_state=answers.seed
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


@dataclass(frozen=True)
class Abstention:
    """When an estimator gives no answer: where the doubt is above the cut-off.

    Attributes
    ----------
    doubts : tuple of str
        Keys of `DOUBTS`. Of several, each is replaced by the share of the images below that were less doubtful, and
        the doubt is their mean.
    cutoff : float
    percentiles : dict of str to tuple of 101 float
        Of each doubt on those images, where there are several.
    point : str or None
        The operating point that decides.
    threshold : float or None
        Its probability; with another one `predict_with_abstention` asks for a new cut-off.
    coverage : Estimate
        Share of the images that were answered.
    error : Estimate
        Share of wrong answers among these, with its interval over patients.
    error_of_all : float
        Share of wrong answers, had all been answered.
    max_error, confidence : float or None
        What was promised of the error, if anything.
    n_images, n_patients : int
        That chose the cut-off.
    seed : int
        Of the random doubts.
    fingerprint : tuple of str
    """

    doubts: tuple[str, ...]
    cutoff: float
    percentiles: dict[str, tuple[float, ...]]
    point: str | None
    threshold: float | None
    coverage: Estimate
    error: Estimate
    error_of_all: float
    max_error: float | None
    confidence: float | None
    n_images: int
    n_patients: int
    seed: int
    fingerprint: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Describe it as JSON can hold it."""
        return asdict(self) | {"coverage": list(self.coverage), "error": list(self.error)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Abstention:
        """Undo `to_dict`, or raise an error."""
        number = partial(check_number, caller="Abstention")
        doubts = check_doubts(list(content["doubts"]), caller="Abstention")
        wanted = doubts if len(doubts) > 1 else ()
        percentiles = {
            name: tuple(number("percentiles", each) for each in content["percentiles"][name]) for name in wanted
        }
        if set(content["percentiles"]) != set(wanted) or any(
            len(each) != len(_PERCENTILES) or sorted(each) != list(each) for each in percentiles.values()
        ):
            raise invalid("percentiles", "Abstention", "101 ascending numbers for each of several doubts", "others")
        for name in ("n_images", "n_patients", "seed"):
            number(name, content[name], low=0, integer=True)
        number("cutoff", content["cutoff"])
        for name in ("threshold", "max_error", "confidence"):
            if content[name] is not None:
                number(name, content[name], low=0, high=1)
        estimates = {
            name: Estimate(*(number(name, each, low=0, high=1) for each in content[name]))
            for name in ("coverage", "error")
        }
        number("error_of_all", content["error_of_all"], low=0, high=1)
        sketch = tuple(map(str, content["fingerprint"]))
        changed = {"doubts": doubts, "percentiles": percentiles, "fingerprint": sketch, **estimates}
        return cls(**{**content, **changed})


class SelectivePrediction(NamedTuple):
    """What `predict_with_abstention` says.

    Attributes
    ----------
    labels : ndarray (N,), object
        The answer, or None where none is given.
    answered : ndarray (N,), bool
    doubt : ndarray (N,)
        Higher is less sure; NaN for unreadable images.
    reasons : tuple of N str or None
        Why there is no answer.
    """

    labels: np.ndarray
    answered: np.ndarray
    doubt: np.ndarray
    reasons: tuple[str | None, ...]


def check_doubts(doubt: Any, *, caller: str) -> tuple[str, ...]:
    """Return the names of one or several doubts."""
    names = [doubt] if isinstance(doubt, str) else doubt
    if not isinstance(names, Sequence) or not names or len(set(map(str, names))) < len(names):
        raise invalid("doubt", caller, f"one of {list(DOUBTS)}, or a list of different ones", doubt)
    return tuple(check_choice("doubt", name, DOUBTS, caller=caller) for name in names)


def check_one_answer(clf: Any, caller: str) -> None:
    """Raise where an image has several labels, of which some may be certain and others not."""
    if clf.task_ is Task.MULTILABEL:
        raise DataError(f"{caller}: of several labels per image there is no one answer to give or to withhold.")


def judged_doubts(
    clf: Any, X: Any, y: Any, groups: Any, doubts: Sequence[str], operating_point: Any, seed: int, *, caller: str
) -> tuple[np.ndarray, dict[str, np.ndarray], Any]:
    """Return which answers are wrong (M,), the doubts (M,) of each kind, and the images that were read."""
    check_one_answer(clf, caller)
    point = deciding_point(clf, operating_point, caller)
    data = judged(clf, X, y, groups, caller=caller)
    index = decided(clf, data.logits, point)
    answers = Answers(_safe_indexing(X, np.flatnonzero(data.readable)), data.logits, index, point, seed)
    return clf.classes_[index] != data.labels, {name: DOUBTS[name].function(clf, answers) for name in doubts}, data


def choose(
    clf: Any,
    X: Any,
    y: Any,
    *,
    doubt: Any,
    coverage: Any,
    max_error: Any,
    confidence: float,
    groups: Any,
    operating_point: Any,
    random_state: Any,
) -> Abstention:
    """Return the cut-off that `set_abstention` is asked for."""
    names = check_doubts(doubt, caller=_CALLER)
    if (coverage is None) == (max_error is None):
        raise invalid("coverage", _CALLER, "given, or else max_error, but not both", coverage)
    given = getattr(clf, "random_state", None) if random_state is None else random_state
    seed = check_seed(given, caller=_CALLER)
    wrong, found, data = judged_doubts(clf, X, y, groups, names, operating_point, seed, caller=_CALLER)
    percentiles = {name: tuple(np.quantile(found[name], _PERCENTILES).tolist()) for name in names if len(names) > 1}
    total = combined(found, percentiles)
    if coverage is not None:
        cutoff = cutoff_for_coverage(total, coverage)
    else:
        one = data.one_of_each_patient(seed)  # images of a patient are no independent tests
        cutoff = cutoff_for_error(wrong[one], total[one], max_error, confidence)
    answered = total <= cutoff
    point = deciding_point(clf, operating_point, _CALLER)
    return Abstention(
        doubts=names,
        cutoff=cutoff,
        percentiles=percentiles,
        point=None if point is None else point.name,
        threshold=None if point is None else clf.thresholds_[point.name],
        coverage=proportion(answered, data.groups),
        error=proportion(wrong[answered], data.groups[answered]),
        error_of_all=float(wrong.mean()),
        max_error=max_error,
        confidence=None if max_error is None else confidence,
        n_images=len(wrong),
        n_patients=len(np.unique(data.groups)),
        seed=seed,
        fingerprint=fingerprint(data.content_ids.tolist()),
    )


def combined(found: Mapping[str, np.ndarray], percentiles: Mapping[str, Sequence[float]]) -> np.ndarray:
    """Return one doubt (N,): the only one, or the mean of the shares of known images that were less doubtful."""
    if len(found) == 1:
        return next(iter(found.values()))
    return np.mean([np.interp(each, percentiles[name], _PERCENTILES) for name, each in found.items()], axis=0)


def predict(clf: Any, X: Any, *, answer_unusual: bool) -> SelectivePrediction:
    """Return what `predict_with_abstention` is asked for."""
    caller = "predict_with_abstention"
    rule: Abstention | None = clf.abstention_
    if rule is None:
        raise DataError(f"{caller}: no cut-off was chosen; call set_abstention with labelled images first.")
    if rule.threshold is not None and clf.thresholds_.get(rule.point) != rule.threshold:
        raise DataError(f"{caller}: the operating point {rule.point!r} has changed since; call set_abstention again.")
    point = None if rule.point is None else clf.operating_points_[rule.point]
    logits = clf._logits(X)
    readable = np.flatnonzero(~np.isnan(logits).any(axis=1))
    doubt = np.full(len(logits), np.nan)
    unusual: dict[int, str] = {}
    if len(readable) and clf.ood_ is not None and not answer_unusual:
        check = clf.check_images(_safe_indexing(X, readable))
        said_of_each = zip(readable.tolist(), check.is_unusual, check.sentences, strict=True)
        unusual = {row: sentence for row, is_unusual, sentence in said_of_each if is_unusual}
    if len(readable):
        answers = Answers(
            _safe_indexing(X, readable), logits[readable], decided(clf, logits[readable], point), point, rule.seed
        )
        doubt[readable] = combined(
            {name: DOUBTS[name].function(clf, answers) for name in rule.doubts}, rule.percentiles
        )
    reasons = [unusual.get(row) or _reason(each, rule) for row, each in enumerate(doubt.tolist())]
    answered = np.array([reason is None for reason in reasons])
    labels = said(clf, logits, point).astype(object)
    labels[~answered] = None
    return SelectivePrediction(labels, answered, doubt, tuple(reasons))


def _reason(doubt: float, rule: Abstention) -> str | None:
    if np.isnan(doubt):
        return "the image could not be read"
    if doubt <= rule.cutoff:
        return None
    return f"too doubtful: {' + '.join(rule.doubts)} {doubt:.3g}, answers are given up to {rule.cutoff:.3g}"
