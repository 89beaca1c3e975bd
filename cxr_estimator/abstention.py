"""When an estimator gives no answer: from how much doubt on it says nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from sklearn.exceptions import NotFittedError
from sklearn.utils import _safe_indexing

from cxr_estimator._decisions import decided, deciding_point, said
from cxr_estimator._operating import judged
from cxr_estimator._outputs import Task
from cxr_estimator._progress import check_callback
from cxr_estimator._validation import check_number, check_seed, invalid, wrong_type
from cxr_estimator.doubts import PERCENTILES, Answers, check_doubts, combined, doubts_of
from cxr_estimator.errors import DataError
from cxr_estimator.fingerprints import fingerprint
from cxr_estimator.selective import check_max_error, cutoff_for_coverage, cutoff_for_error
from cxr_estimator.statistics import Estimate, proportion

_CALLER = "set_abstention"


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
    point_named : bool
        Whether it was asked for by name; else it was the active one, and must still be.
    answer_unusual : bool
        Whether images that `check_images` calls unusual are answered.
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
    point_named: bool
    answer_unusual: bool
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
            len(each) != len(PERCENTILES) or sorted(each) != list(each) for each in percentiles.values()
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
        for name in ("point_named", "answer_unusual"):
            if not isinstance(content[name], bool):
                raise wrong_type(name, "Abstention", "True or False", content[name])
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


def check_one_answer(clf: Any, caller: str) -> None:
    """Raise where an image has several labels, of which some may be certain and others not."""
    if clf.task_ is Task.MULTILABEL:
        raise DataError(f"{caller}: of several labels per image there is no one answer to give or to withhold.")


def judged_doubts(
    clf: Any,
    X: Any,
    y: Any,
    groups: Any,
    doubts: Sequence[str],
    operating_point: Any,
    seed: int,
    *,
    caller: str,
    progress: Any = None,
) -> tuple[np.ndarray, dict[str, np.ndarray], Any]:
    """Return which answers are wrong (M,), the doubts (M,) of each kind, and the images that were read."""
    check_one_answer(clf, caller)
    point = deciding_point(clf, operating_point, caller)
    data = judged(clf, X, y, groups, caller=caller)
    index = decided(clf, data.logits, point)
    answers = Answers(_safe_indexing(X, np.flatnonzero(data.readable)), data.logits, index, point, seed, progress)
    return clf.classes_[index] != data.labels, doubts_of(clf, doubts, answers), data


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
    answer_unusual: Any,
    random_state: Any,
    progress: Any,
) -> Abstention:
    """Return the cut-off that `set_abstention` is asked for."""
    names = check_doubts(doubt, caller=_CALLER, clf=clf)
    if (coverage is None) == (max_error is None):
        raise invalid("coverage", _CALLER, "given, or else max_error, but not both", coverage)
    check_max_error(0.5 if max_error is None else max_error, confidence)
    cutoff_for_coverage([0.0], 1.0 if coverage is None else coverage)  # bad numbers fail before the work
    check_callback(progress, caller=_CALLER)
    seed = check_seed(clf._default_seed if random_state is None else random_state, caller=_CALLER)
    wrong, found, data = judged_doubts(
        clf, X, y, groups, names, operating_point, seed, caller=_CALLER, progress=progress
    )
    percentiles = {name: tuple(np.quantile(found[name], PERCENTILES).tolist()) for name in names if len(names) > 1}
    total = combined(found, percentiles)
    usual = np.ones(len(total), dtype=bool)
    if not answer_unusual:
        usual[list(_unusual(clf, _safe_indexing(X, np.flatnonzero(data.readable))))] = False
    if not usual.any():
        raise DataError(f"{_CALLER}: check_images calls each of the {len(usual)} images unusual.")
    if coverage is not None:
        cutoff = cutoff_for_coverage(total[usual], coverage)
    else:
        one = data.one_of_each_patient(seed)  # images of a patient are no independent tests
        one = one[usual[one]]
        cutoff = cutoff_for_error(wrong[one], total[one], max_error, confidence)
    answered = usual & (total <= cutoff)
    point = deciding_point(clf, operating_point, _CALLER)
    return Abstention(
        doubts=names,
        cutoff=cutoff,
        percentiles=percentiles,
        point=None if point is None else point.name,
        point_named=operating_point is not None,
        answer_unusual=bool(answer_unusual),
        threshold=None if point is None else clf.thresholds_[point.name],
        coverage=proportion(answered, data.groups),
        error=proportion(wrong[answered], data.groups[answered]),
        error_of_all=float(wrong.mean()),
        max_error=None if max_error is None else float(max_error),
        confidence=None if max_error is None else float(confidence),
        n_images=len(wrong),
        n_patients=len(np.unique(data.groups)),
        seed=seed,
        fingerprint=fingerprint(data.content_ids.tolist()),
    )


def predict(clf: Any, X: Any, progress: Any = None) -> SelectivePrediction:
    """Return what `predict_with_abstention` is asked for."""
    caller = "predict_with_abstention"
    rule: Abstention | None = clf.abstention_
    if rule is None:
        raise NotFittedError(f"{caller}: no cut-off was chosen; call set_abstention with labelled images first.")
    if rule.threshold is not None and clf.thresholds_.get(rule.point) != rule.threshold:
        raise DataError(f"{caller}: the operating point {rule.point!r} has changed since; call set_abstention again.")
    if not rule.point_named and rule.point != clf.active_point_:
        raise DataError(
            f"{caller}: the operating point is {clf.active_point_!r} by now, but the cut-off was chosen for "
            f"{rule.point!r}. Call set_abstention again, with operating_point={rule.point!r} if that is to stay."
        )
    check_callback(progress, caller=caller)
    point = None if rule.point is None else clf.operating_points_[rule.point]
    logits = clf._logits(X)
    readable = np.flatnonzero(~np.isnan(logits).any(axis=1))
    doubt = np.full(len(logits), np.nan)
    unusual: dict[int, str] = {}
    if len(readable):
        rows = _safe_indexing(X, readable)
        if not rule.answer_unusual:
            unusual = {int(readable[row]): sentence for row, sentence in _unusual(clf, rows).items()}
        index = decided(clf, logits[readable], point)
        answers = Answers(rows, logits[readable], index, point, rule.seed, progress)
        doubt[readable] = combined(doubts_of(clf, rule.doubts, answers), rule.percentiles)
    reasons = [unusual.get(row) or _reason(each, rule) for row, each in enumerate(doubt.tolist())]
    answered = np.array([reason is None for reason in reasons])
    labels = said(clf, logits, point).astype(object)
    labels[~answered] = None
    return SelectivePrediction(labels, answered, doubt, tuple(reasons))


def _unusual(clf: Any, X: Any) -> dict[int, str]:
    """Return what `check_images` says of the images that it calls unusual, by row; nothing where it cannot tell."""
    if clf.ood_ is None:
        return {}
    check = clf.check_images(X)
    return {row: check.sentences[row] for row in np.flatnonzero(check.is_unusual).tolist()}


def _reason(doubt: float, rule: Abstention) -> str | None:
    if np.isnan(doubt):
        return "the image could not be read"
    if doubt <= rule.cutoff:
        return None
    return f"too doubtful: {' + '.join(rule.doubts)} {doubt:.3g}, answers are given up to {rule.cutoff:.3g}"
