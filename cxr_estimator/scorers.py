"""Explanation quality as scores that `cross_val_score`, `cross_validate` and `GridSearchCV` take."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.metrics import get_scorer
from sklearn.utils import _safe_indexing
from sklearn.utils.metadata_routing import MetadataRequest

from cxr_estimator._measuring import MeasuringPlan
from cxr_estimator._validation import check_choice, check_number, check_seed, invalid, wrong_type
from cxr_estimator.attribution import METHODS
from cxr_estimator.classifier import CXRClassifier
from cxr_estimator.clinical import CLINICAL, clinical_scorer
from cxr_estimator.errors import DataError, ScoreWarning
from cxr_estimator.explanation import Explanation
from cxr_estimator.metrics import METRICS, N_REFERENCES, Request, checked

_EXPLAIN_OPTIONS = ("target", "batch_size", "background", "error_bars")


class _Sample(NamedTuple):
    """What decides which images are explained, and how: scorers that agree in it share the explanations."""

    n_samples: int | None
    random_state: int
    relative: bool
    n_references: int
    explain: tuple[tuple[str, Any], ...]


class XAIScorer:
    """A scorer `scorer(estimator, X, y, masks=None) -> float`; greater is better. Made by `xai_scorer`."""

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
        self.spec = spec
        self.n_samples = n_samples
        self.random_state = random_state
        self.relative = relative
        self.n_references = n_references
        self.method_options = dict(method_options or {})
        self.options = options
        self.method, self.request, self._explain = self._checked()
        self._metadata_request = MetadataRequest(owner=self)

    def _checked(self) -> tuple[str, Request, dict[str, Any]]:
        """Return the method, the metric with its options, and what `explain` is to be told."""
        caller = "xai_scorer"
        if not isinstance(self.spec, str) or self.spec.count(":") != 1:
            raise invalid("spec", caller, "'method:metric', such as 'grad_cam:deletion_auc'", self.spec)
        method, metric = self.spec.split(":")
        check_choice("method", method, METHODS, caller=caller)
        known = METRICS[check_choice("metric", metric, METRICS, caller=caller)].options
        if "other" in METRICS[metric].needs:
            raise invalid("metric", caller, "about one explanation (agreement is between two)", metric)
        if self.n_samples is not None:
            check_number("n_samples", self.n_samples, caller=caller, low=1, integer=True)
        check_seed(self.random_state, caller=caller)
        if not isinstance(self.relative, bool | np.bool_):
            raise wrong_type("relative", caller, "True or False", self.relative)
        check_number("n_references", self.n_references, caller=caller, low=1, integer=True)
        of_metric = {name: value for name, value in self.options.items() if name in known}
        of_explain = {name: value for name, value in self.options.items() if name in _EXPLAIN_OPTIONS}
        for name in self.options:
            check_choice(f"options of {self.spec}", name, [*known, *_EXPLAIN_OPTIONS], caller=caller)
        return method, checked(Request(metric, of_metric)), {**of_explain, **self.method_options}

    @property
    def _sample(self) -> _Sample:
        explain = tuple(sorted((name, repr(value)) for name, value in self._explain.items()))
        return _Sample(self.n_samples, self.random_state, bool(self.relative), self.n_references, explain)

    def __call__(self, estimator: Any, X: Any, y: Any = None, *, masks: Any = None, **ignored: Any) -> float:
        """Return the mean over (at most `n_samples` of) the images; greater is better."""
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

    def __eq__(self, other: object) -> bool:
        return isinstance(other, XAIScorer) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

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
        return f"xai_scorer({self.spec!r}, {', '.join(f'{k}={v!r}' for k, v in {**shown, **self.options}.items())})"


class XAIScorers:
    """A scorer that returns a dict of scores and explains once for all of them. Made by `xai_scorers`."""

    def __init__(self, scorers: Mapping[str, Any]) -> None:
        self.scorers = dict(scorers)
        self._metadata_request = MetadataRequest(owner=self)

    def __call__(self, estimator: Any, X: Any, y: Any = None, *, masks: Any = None, **ignored: Any) -> dict[str, float]:
        """Return the score of each label."""
        by_sample: dict[_Sample, dict[str, XAIScorer]] = {}
        found = {}
        for label, scorer in self.scorers.items():
            if isinstance(scorer, XAIScorer):
                by_sample.setdefault(scorer._sample, {})[label] = scorer
            else:
                found[label] = float(scorer(estimator, X, y))
        for group in by_sample.values():
            found |= _scores(group, estimator, X, y, masks)
        return {label: found[label] for label in self.scorers}

    set_score_request = XAIScorer.set_score_request
    get_metadata_routing = XAIScorer.get_metadata_routing
    _accept_sample_weight = XAIScorer._accept_sample_weight
    __sklearn_clone__ = XAIScorer.__sklearn_clone__

    def __repr__(self) -> str:
        return f"xai_scorers({self.scorers!r})"


def xai_scorer(
    spec: str,
    *,
    n_samples: int | None = None,
    random_state: int = 0,
    relative: bool = True,
    n_references: int = N_REFERENCES,
    method_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> XAIScorer:
    """Return a scorer of explanation quality for scikit-learn; greater is better.

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
    return XAIScorer(
        spec,
        n_samples=n_samples,
        random_state=random_state,
        relative=relative,
        n_references=n_references,
        method_options=method_options,
        **options,
    )


def xai_scorers(scorers: Mapping[str, Any] | Sequence[str], **options: Any) -> XAIScorers:
    """Return one scorer that gives a dict of scores, for `cross_validate` and `GridSearchCV(refit=label)`.

    Scorers that agree in the images, the target and the options of methods share explanations and perturbed images.

    Parameters
    ----------
    scorers : dict of label to scorer, or list of str
        A scorer is "method:metric", an `xai_scorer`, a key of `clinical.CLINICAL`, a name that scikit-learn knows, such
        as "roc_auc", or any callable `scorer(estimator, X, y)`. A list of names is labelled by itself.
    **options
        Of every "method:metric" that is given by name; see `xai_scorer`.
    """
    if isinstance(scorers, str) or not isinstance(scorers, Mapping | Sequence) or not len(scorers):
        raise invalid("scorers", "xai_scorers", "a dict of label to scorer, or a list of names", scorers)
    named = scorers if isinstance(scorers, Mapping) else {name: name for name in scorers}
    return XAIScorers({label: _scorer(one, options) for label, one in named.items()})


def _scorer(scorer: Any, options: Mapping[str, Any]) -> Any:
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


def _scores(scorers: Mapping[str, XAIScorer], estimator: Any, X: Any, y: Any, masks: Any) -> dict[str, float]:
    """Return the score of each label; all agree in `_sample`."""
    if not isinstance(estimator, CXRClassifier):
        raise wrong_type("estimator", "xai_scorer", "a CXRClassifier", estimator)
    first = next(iter(scorers.values()))
    rows = _rows(estimator, X, first)
    requests: dict[str, dict[str, Request]] = {}
    for label, scorer in scorers.items():
        requests.setdefault(scorer.method, {})[label] = scorer.request
    plan = MeasuringPlan.check(
        estimator,
        _chosen(X, rows),
        _chosen(y, rows),
        requests,
        masks=_chosen(masks, rows),
        relative=bool(first.relative),
        n_references=first.n_references,
        random_state=first.random_state,
        **first._explain,
    )
    parts: dict[str, list[np.ndarray]] = {label: [] for label in scorers}
    for batch in plan.run():
        for method, by_label in batch.metrics.items():
            for label, values in by_label.items():
                parts[label].append(_signed(values, scorers[label], batch.found[method]))
    if not any(parts.values()):
        raise DataError(f"xai_scorer: none of the {len(X)} images could be read.")
    return {label: _mean(np.concatenate(values), scorers[label]) for label, values in parts.items()}


def _signed(values: np.ndarray, scorer: XAIScorer, explanation: Explanation) -> np.ndarray:
    metric = METRICS[scorer.request.metric]
    if scorer.relative and metric.has_reference_maps:
        is_empty = (explanation.values == 0).all(axis=(1, 2))
        return np.where(is_empty, 0.0, values)
    return values if metric.greater_is_better else -values


def _mean(values: np.ndarray, scorer: XAIScorer) -> float:
    undefined = np.isnan(values)
    if undefined.any():
        warnings.warn(
            f"{scorer.spec} is undefined for {undefined.sum()} of {len(values)} images, which were left out.",
            ScoreWarning,
            stacklevel=5,
        )
    return float(values[~undefined].mean()) if not undefined.all() else float("nan")


def _rows(estimator: CXRClassifier, X: Any, scorer: XAIScorer) -> np.ndarray | None:
    """Return which images are explained, in order; None for all."""
    if scorer.n_samples is None:
        return None
    count = len(X)
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
