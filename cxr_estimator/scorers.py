"""Explanation quality as scores that `cross_val_score`, `cross_validate` and `GridSearchCV` take."""

from __future__ import annotations

import copy
import math
import reprlib
import warnings
from collections.abc import Mapping, Sequence, Sized
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from sklearn.metrics import get_scorer
from sklearn.utils import _safe_indexing
from sklearn.utils.metadata_routing import MetadataRequest, get_routing_for_object

from cxr_estimator._digest import digest_of
from cxr_estimator._explaining import options_of_each
from cxr_estimator._measuring import MeasuringPlan
from cxr_estimator._outputs import Task
from cxr_estimator._predicting import images as as_images
from cxr_estimator._validation import (
    check_choice,
    check_label_matrix,
    check_labels,
    check_number,
    check_seed,
    invalid,
    wrong_type,
)
from cxr_estimator.attribution import METHODS
from cxr_estimator.classifier import CXRClassifier
from cxr_estimator.clinical import CLINICAL, clinical_scorer, readable
from cxr_estimator.errors import DataError, ScoreWarning
from cxr_estimator.metrics import METRICS, N_REFERENCES, Request, checked

_CALLER = "xai_scorer"  # for messages
_KEYWORDS = "masks (sample_weight is not supported)"
_MOST = 100_000
_EXPLAIN_OPTIONS = ("target", "batch_size", "background", "error_bars")


class _Sample(NamedTuple):
    """What decides which images are explained, and how: scorers that agree in it share the explanations."""

    n_samples: int | None
    random_state: int
    relative: bool
    n_references: int
    explain: str  # a digest


class XAIScorer:
    """A scorer of explanation quality for scikit-learn, `scorer(estimator, X, y, masks=None)`; greater is better.

    The score is the mean of the metric over images. A metric of which less is better has its sign turned. With
    `relative` (metrics of faithfulness) it is the gain over the same map shifted and flipped, and a map of zeros
    counts as no gain: it is no worse anywhere else. All other undefined values are left out, and a warning counts them.

    Parameters
    ----------
    spec : str
        "method:metric", keys of `attribution.METHODS` and `metrics.METRICS`.
    n_samples : int, optional
        Explain so many of the images, drawn at random; all of them (with a warning) where there are fewer.
    random_state : int, default=0
        For the draw of images, and all else that is random.
    relative, n_references
        See `metrics.measure`.
    method_options : dict, optional
        Options of the method.
    **options
        Options of the metric, and `target`, `batch_size`, `background`, `error_bars` of `CXRClassifier.explain`.

    Examples
    --------
    >>> from cxr_estimator import xai_scorer
    >>> xai_scorer("grad_cam:deletion_auc", n_samples=32)
    xai_scorer('grad_cam:deletion_auc', n_samples=32, random_state=0, relative=True)
    """

    def __init__(
        self,
        spec: str,
        *,
        n_samples: int | None = None,
        random_state: int = 0,
        relative: bool = True,
        n_references: int = N_REFERENCES,
        method_options: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        if not isinstance(method_options, Mapping | None):
            raise wrong_type("method_options", _CALLER, "a dict of the options of the method", method_options)
        self.spec = spec
        self.n_samples = n_samples
        self.random_state = random_state
        self.relative = relative
        self.n_references = n_references
        self.method_options = dict(method_options or {})
        self.options = options
        self.method, self.request, self._explain = self._checked()
        self._sample = _Sample(n_samples, random_state, bool(relative), n_references, digest_of(self._explain))
        self._metadata_request = MetadataRequest(owner=self)

    def _checked(self) -> tuple[str, Request, dict[str, Any]]:
        """Return the method, the metric with its options, and what `explain` is to be told."""
        if not isinstance(self.spec, str) or self.spec.count(":") != 1:
            raise invalid("spec", _CALLER, "'method:metric', such as 'grad_cam:deletion_auc'", self.spec)
        method, metric = self.spec.split(":")
        check_choice("method", method, METHODS, caller=_CALLER)
        known = METRICS[check_choice("metric", metric, METRICS, caller=_CALLER)].options
        if "other" in METRICS[metric].needs:
            raise invalid("metric", _CALLER, "about one explanation (agreement is between two)", metric)
        if self.n_samples is not None:
            check_number("n_samples", self.n_samples, caller=_CALLER, low=1, high=_MOST, integer=True)
        check_seed(self.random_state, caller=_CALLER)
        if not isinstance(self.relative, bool | np.bool_):
            raise wrong_type("relative", _CALLER, "True or False", self.relative)
        check_number("n_references", self.n_references, caller=_CALLER, low=1, high=_MOST, integer=True)
        of_metric = {name: value for name, value in self.options.items() if name in known}
        of_explain = {name: value for name, value in self.options.items() if name in _EXPLAIN_OPTIONS}
        for name in self.options:
            check_choice(f"options of {self.spec}", name, [*known, *_EXPLAIN_OPTIONS], caller=_CALLER)
        options_of_each([method], self.method_options)
        return method, checked(Request(metric, of_metric)), {**of_explain, **self.method_options}

    def __call__(self, estimator: Any, X: Any, y: Any = None, *, masks: Any = None, **unknown: Any) -> float:
        """Return the mean over (at most `n_samples` of) the images; greater is better."""
        _refuse(unknown)
        return _scores({self.spec: self}, estimator, X, y, masks)[self.spec]

    def set_score_request(self, *, masks: bool | str | None) -> XAIScorer:
        """Ask for `masks` (N of them, at the original size of the images) with scikit-learn's metadata routing."""
        self._metadata_request.score.add_request(param="masks", alias=masks)
        return self

    def get_metadata_routing(self) -> MetadataRequest:
        """Return what the scorer asks for, for scikit-learn."""
        return self._metadata_request

    def _accept_sample_weight(self) -> bool:
        """Say no: without metadata routing, scikit-learn asks this of scorers that stand in a dict."""
        return False

    def __sklearn_clone__(self) -> XAIScorer:
        return copy.deepcopy(self)

    @property
    def _key(self) -> tuple[Any, ...]:
        """What makes two scorers equal."""
        return self.spec, self._sample, digest_of(self.options)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, XAIScorer) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        shown: dict[str, Any] = {
            "n_samples": self.n_samples,
            "random_state": self.random_state,
            "relative": self.relative,
        }
        if self.n_references != N_REFERENCES:
            shown["n_references"] = self.n_references
        if self.method_options:
            shown["method_options"] = self.method_options
        given = ", ".join(f"{name}={_BRIEF.repr(value)}" for name, value in {**shown, **self.options}.items())
        return f"xai_scorer({self.spec!r}, {given})"


xai_scorer = XAIScorer  # as scorers are called, which is also how one shows itself


class _Brief(reprlib.Repr):
    """Shows arrays by their shape."""

    def __init__(self) -> None:
        super().__init__()
        self.maxdict = self.maxlist = self.maxtuple = 20
        self.maxstring = self.maxother = 200

    def repr_ndarray(self, array: Any, level: int) -> str:
        return f"array of shape {tuple(array.shape)}"

    repr_Tensor = repr_ndarray


_BRIEF = _Brief()


class XAIScorers:
    """A scorer that returns a dict of scores and explains once for all of them. Made by `xai_scorers`."""

    def __init__(self, scorers: Mapping[str, Any], *, error_score: Any = math.nan) -> None:
        if error_score != "raise" and not isinstance(error_score, Real):
            raise invalid("error_score", "xai_scorers", "'raise' or a number", error_score)
        self.scorers = dict(scorers)
        self.error_score = error_score
        self._metadata_request = MetadataRequest(owner=self)

    def __call__(self, estimator: Any, X: Any, y: Any = None, *, masks: Any = None, **unknown: Any) -> dict[str, float]:
        """Return the score of each label."""
        _refuse(unknown)
        groups: dict[_Sample | None, dict[str, Any]] = {}
        for label, scorer in self.scorers.items():
            groups.setdefault(scorer._sample if isinstance(scorer, XAIScorer) else None, {})[label] = scorer
        found: dict[str, float] = {}
        for group in groups.values():
            found |= self._tried(group, estimator, X, y, masks)
        return {label: found[label] for label in self.scorers}

    def _tried(self, group: Mapping[str, Any], estimator: Any, X: Any, y: Any, masks: Any) -> dict[str, float]:
        """Return the scores of a group that shares work; `error_score` for those of its members that raise."""
        first = next(iter(group.values()))
        try:
            return (_scores if isinstance(first, XAIScorer) else _other_scores)(group, estimator, X, y, masks)
        except Exception as error:
            if self.error_score == "raise":
                raise
            if len(group) > 1:  # each by itself shows which of them it was
                parts = [self._tried({label: one}, estimator, X, y, masks) for label, one in group.items()]
                return {label: score for part in parts for label, score in part.items()}
            (label,) = group
            warnings.warn(
                f"{label} failed and is set to {self.error_score}. {type(error).__name__}: {error}",
                ScoreWarning,
                stacklevel=3,
            )
            return {label: float(self.error_score)}

    set_score_request = XAIScorer.set_score_request
    _accept_sample_weight = XAIScorer._accept_sample_weight
    __sklearn_clone__ = XAIScorer.__sklearn_clone__

    def get_metadata_routing(self) -> MetadataRequest:
        """Return what the scorer and its members ask for, for scikit-learn."""
        request = MetadataRequest(owner=self)
        asked = [self._metadata_request, *map(get_routing_for_object, self.scorers.values())]
        wanted = {(name, alias) for one in asked for name, alias in one.score.requests.items() if alias}
        for name, alias in self._metadata_request.score.requests.items():
            request.score.add_request(param=name, alias=alias)
        for name, alias in sorted(wanted, key=str):
            if name != "masks":
                raise invalid("scorers", "xai_scorers", f"such that ask for nothing but {_KEYWORDS}", name)
            request.score.add_request(param=name, alias=alias)
        if len(wanted) > 1:
            raise invalid("scorers", "xai_scorers", "such that ask for masks by one name", sorted(wanted, key=str))
        return request

    def __repr__(self) -> str:
        failing = "" if self.error_score != self.error_score else f", error_score={self.error_score!r}"
        return f"xai_scorers({self.scorers!r}{failing})"


def xai_scorers(
    scorers: Mapping[str, Any] | Sequence[str], *, error_score: Any = math.nan, **options: Any
) -> XAIScorers:
    """Return one scorer that gives a dict of scores, for `cross_validate` and `GridSearchCV(refit=label)`.

    Scorers that agree in the images, the target and the options of methods share explanations and perturbed images.
    Where `on_error="skip"`, images that cannot be read are left out for all of them, and a `ScoreWarning` counts them.

    Parameters
    ----------
    scorers : dict of label to scorer, or list of str
        A scorer is "method:metric", an `xai_scorer`, a key of `clinical.CLINICAL`, a name that scikit-learn knows, such
        as "roc_auc", or any callable `scorer(estimator, X, y)`. A list of names is labelled by itself.
    error_score : "raise" or number, default=nan
        Score of a member that raises, with a `ScoreWarning` that says why; the others keep theirs.
    **options
        Of every "method:metric" that is given by name; see `xai_scorer`. Each metric takes those it knows.
    """
    if isinstance(scorers, str) or not isinstance(scorers, Mapping | Sequence) or not len(scorers):
        raise invalid("scorers", "xai_scorers", "a dict of label to scorer, or a list of names", scorers)
    if not isinstance(scorers, Mapping) and not all(isinstance(one, str) for one in scorers):
        raise invalid("scorers", "xai_scorers", "a dict of label to scorer where not all are given by name", scorers)
    named = scorers if isinstance(scorers, Mapping) else {name: name for name in scorers}
    if options and not any(isinstance(one, str) and ":" in one for one in named.values()):
        raise invalid("options", "xai_scorers", "empty where no scorer is given as 'method:metric'", options)
    specs = [one for one in named.values() if isinstance(one, str)]
    of_metrics = {name for spec in specs for name in _metric_options(spec)}
    members = {}
    for label, one in named.items():
        taken = {name: options[name] for name in options if name not in of_metrics or name in _metric_options(one)}
        members[label] = _scorer(one, taken)
    return XAIScorers(members, error_score=error_score)


def _metric_options(spec: Any) -> tuple[str, ...]:
    """Return the options of the metric that "method:metric" names, if it names one."""
    name = spec.partition(":")[2] if isinstance(spec, str) else ""
    return METRICS[name].options if name in METRICS else ()


def _scorer(scorer: Any, options: Mapping[str, Any]) -> Any:
    if isinstance(scorer, XAIScorers):
        raise invalid("scorers", "xai_scorers", "single scorers: pass the members of this one", scorer)
    if callable(scorer):
        return scorer
    if isinstance(scorer, str) and ":" in scorer:
        return xai_scorer(scorer, **options)
    if isinstance(scorer, str) and scorer in CLINICAL:
        return clinical_scorer(scorer)
    try:
        return get_scorer(scorer)
    except (ValueError, TypeError) as error:
        expected = "'method:metric', a scorer, or a name that scikit-learn knows (see sklearn.metrics.get_scorer_names)"
        raise invalid("scorers", "xai_scorers", expected, scorer) from error


def _refuse(unknown: Mapping[str, Any]) -> None:
    for name in unknown:
        raise wrong_type("keywords", _CALLER, _KEYWORDS, name)


def _other_scores(scorers: Mapping[str, Any], estimator: Any, X: Any, y: Any, masks: Any) -> dict[str, float]:
    """Return the scores that are not of explanations, which cannot do with images that have no prediction."""
    if getattr(estimator, "on_error", None) == "skip":
        rows = np.flatnonzero(readable(estimator.predict_proba(X)[:, 0], ", ".join(scorers)))
        X, y = _chosen(X, rows), _chosen(y, rows)
    return {label: float(scorer(estimator, X, y)) for label, scorer in scorers.items()}


def _scores(scorers: Mapping[str, XAIScorer], estimator: Any, X: Any, y: Any, masks: Any) -> dict[str, float]:
    """Return the score of each label; all agree in `_sample`."""
    if not isinstance(estimator, CXRClassifier):
        raise wrong_type("estimator", _CALLER, "a CXRClassifier", estimator)
    first = next(iter(scorers.values()))
    rows = _rows(estimator, X, y, masks, first)
    requests: dict[str, dict[str, Request]] = {}
    for label, scorer in scorers.items():
        requests.setdefault(scorer.method, {})[label] = scorer.request
    plan = MeasuringPlan.check(
        estimator,
        _chosen(X, rows),
        None if estimator.task_ is Task.MULTILABEL else _chosen(y, rows),  # no score takes it, and it may be unknown
        requests,
        masks=_chosen(masks, rows),
        relative=bool(first.relative),
        n_references=first.n_references,
        random_state=first.random_state,
        **first._explain,
    )
    parts: dict[str, list[np.ndarray]] = {label: [] for label in scorers}
    for batch in plan.run():
        for by_label in batch.metrics.values():
            for label, values in by_label.items():
                parts[label].append(_signed(values, scorers[label]))
    if not any(parts.values()):
        raise DataError(f"{_CALLER}: none of the {len(X)} images could be read.")
    return {label: _mean(np.concatenate(values), scorers[label]) for label, values in parts.items()}


def _signed(values: np.ndarray, scorer: XAIScorer) -> np.ndarray:
    metric = METRICS[scorer.request.metric]
    is_gain = scorer.relative and metric.has_reference_maps
    return values if is_gain or metric.greater_is_better else -values


def _mean(values: np.ndarray, scorer: XAIScorer) -> float:
    undefined = np.isnan(values)
    if undefined.any():
        warnings.warn(
            f"{scorer.spec} is undefined for {undefined.sum()} of {len(values)} images, which were left out.",
            ScoreWarning,
            stacklevel=5,
        )
    return float(values[~undefined].mean()) if not undefined.all() else float("nan")


def _rows(estimator: CXRClassifier, X: Any, y: Any, masks: Any, scorer: XAIScorer) -> np.ndarray | None:
    """Return which images are explained, in order; None for all."""
    count = len(as_images(estimator, X))
    if y is not None and estimator.task_ is Task.MULTILABEL:
        check_label_matrix(y, count, caller=_CALLER, n_labels=len(estimator.classes_))
    elif y is not None:
        check_labels(y, count, caller=_CALLER, classes=estimator.classes_)
    given = len(masks) if isinstance(masks, Sized) else masks
    if given is not None and given != count:
        raise invalid("masks", _CALLER, f"one mask for each of the {count} images", given)
    if scorer.n_samples is None:
        return None
    if scorer.n_samples > count:
        warnings.warn(
            f"{scorer.spec}: n_samples={scorer.n_samples}, but there are {count} images here; all are used.",
            UserWarning,
            stacklevel=4,
        )
        return None
    return np.sort(np.random.default_rng(scorer.random_state).choice(count, scorer.n_samples, replace=False))


def _chosen(values: Any, rows: np.ndarray | None) -> Any:
    return values if rows is None or values is None else _safe_indexing(values, rows)
