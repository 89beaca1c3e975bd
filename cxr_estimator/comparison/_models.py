"""`compare`: models on the same images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_is_fitted

from cxr_estimator._outputs import Task
from cxr_estimator._predicting import images as as_images
from cxr_estimator._validation import check_choice, check_labels, check_number, check_per_image, check_seed, wrong_type
from cxr_estimator.attribution import METHODS, check_supported
from cxr_estimator.comparison._pairs import Judged, judged_by, pair_of
from cxr_estimator.comparison._report import ModelComparison
from cxr_estimator.errors import DataError
from cxr_estimator.evaluation._evaluate import report_of
from cxr_estimator.evaluation._intervals import Patients
from cxr_estimator.explanation import Explanation

_CALLER = "compare"


def compare(
    models: Mapping[str, Any] | Sequence[Any],
    X: Any,
    y: Any = None,
    groups: Any = None,
    *,
    method: str = "grad_cam",
    n_maps: int = 24,
    n_resamples: int = 1000,
    random_state: int = 0,
    progress: Callable[[int, int], Any] | None = None,
) -> ModelComparison:
    """Compare what models decide of the same images, how well, and what they look at.

    Parameters
    ----------
    models : dict of name to model, or sequence of models
        Two at least, of the same classes: CXRClassifier or CXREnsemble.
    X : N images
    y : sequence of N labels, optional
        For figures and tests. Images that trained a model favour it.
    groups : sequence of N patients, optional
        For intervals and tests. Without it each image counts as a patient of its own, which makes both too sure.
    method : str, default="grad_cam"
        Of explanation; each map is of the class that the first model decides.
    n_maps : int, default=24
        How many images are explained.
    n_resamples : int, default=1000
        Bootstrap resamples.
    random_state : int, default=0
    progress : callable, optional
        Called as `progress(done, total)` in models judged and explained; what it raises stops the work.

    Returns
    -------
    ModelComparison

    Raises
    ------
    DataError
        The models know other classes, or several labels per image, or no image could be read by all.

    Examples
    --------
    >>> from cxr_estimator import CXRClassifier, make_phantoms
    >>> from cxr_estimator.comparison import compare
    >>> clf, data = CXRClassifier.from_pretrained(), make_phantoms(12, 96, random_state=1)
    >>> found = compare({"one": clf, "same": clf}, data.X, data.y, data.groups, n_maps=2)
    >>> found.pairs[0].same_decision.value, len(found.flipped("one", "same"))
    (1.0, 0)
    """
    named = _named(models)
    first = next(iter(named.values()))
    n = len(as_images(first._members()[0], X))
    patients = np.arange(n) if groups is None else check_per_image("groups", groups, n, caller=_CALLER)
    labels = None if y is None else check_labels(y, n, caller=_CALLER, classes=first.classes_)
    n_maps = check_number("n_maps", n_maps, caller=_CALLER, low=1, integer=True)
    seed = check_seed(random_state, caller=_CALLER)
    check_choice("method", method, METHODS, caller=_CALLER)
    for clf in named.values():
        for member in clf._members():
            check_supported(method, member.model_)
    told = _Told(progress, 2 * len(named))
    logits = {name: told.after(clf._logits(X)) for name, clf in named.items()}
    rows = np.flatnonzero(~np.any([np.isnan(one).any(axis=1) for one in logits.values()], axis=0))
    if not len(rows):
        raise DataError(f"{_CALLER}: none of the {n} images could be read by all models.")
    judged = {name: judged_by(clf, logits[name][rows]) for name, clf in named.items()}
    target = None if labels is None else np.searchsorted(first.classes_, labels[rows])
    of = Patients(np.unique(patients[rows], return_inverse=True)[1], n_resamples, seed)
    chosen = np.sort(np.random.default_rng(seed).permutation(len(rows))[:n_maps])
    decided = judged[next(iter(named))].decided[chosen]
    explanations = {
        name: told.after(_explained(clf, X, rows[chosen], first.classes_[decided], method, seed))
        for name, clf in named.items()
    }
    pairs = [pair_of((a, b), judged, explanations, target, of, chosen, first) for a, b in combinations(named, 2)]
    return ModelComparison(
        tuple(map(str, first.classes_.tolist())),
        _table(rows, judged, first.classes_, labels),
        {} if target is None else {a: report_of(named[a], one.logits, target, of, {}) for a, one in judged.items()},
        tuple(pairs),
        rows[chosen],
        explanations,
        None if groups is None else of.number(),
        n - len(rows),
    )


class _Told:
    """Tells how many steps are done."""

    def __init__(self, progress: Callable[[int, int], Any] | None, total: int) -> None:
        self._progress, self._done, self._total = progress, 0, total

    def after(self, result: Any) -> Any:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total)
        return result


def _named(models: Any) -> dict[str, Any]:
    if not isinstance(models, Mapping | Sequence) or isinstance(models, str) or len(models) < 2:
        raise wrong_type("models", _CALLER, "a dict or a sequence of two models at least", models)
    named = dict(models) if isinstance(models, Mapping) else {f"model {k + 1}": one for k, one in enumerate(models)}
    for name, clf in named.items():
        if not isinstance(name, str) or not hasattr(clf, "_logits"):
            raise wrong_type("models", _CALLER, "models by name, each a CXRClassifier or CXREnsemble", {name: clf})
        check_is_fitted(clf, "classes_")
    classes = {name: clf.classes_.tolist() for name, clf in named.items()}
    if len({tuple(one) for one in classes.values()}) > 1:
        raise DataError(f"{_CALLER}: the models know different classes: {classes}.")
    if any(clf.task_ is Task.MULTILABEL for clf in named.values()):
        raise DataError(f"{_CALLER}: a model gives several labels per image; models of classes can be compared.")
    return named


def _explained(clf: Any, X: Any, rows: np.ndarray, target: np.ndarray, method: str, seed: int) -> Explanation:
    """Explain images at some positions, each of its own class."""
    parts, order = [], []
    for label in np.unique(target):
        own = np.flatnonzero(target == label)
        X_own = _safe_indexing(X, rows[own])
        parts.append(clf.explain(X_own, method=method, target=label, random_state=seed))
        order.append(own)
    return _reordered(Explanation.concatenate(parts), np.argsort(np.concatenate(order)))


def _reordered(explanation: Explanation, order: np.ndarray) -> Explanation:
    return Explanation.concatenate([explanation[int(row)] for row in order])


def _table(rows: np.ndarray, judged: dict[str, Judged], classes: np.ndarray, labels: Any) -> pd.DataFrame:
    columns: dict[str, Any] = {"position": rows}
    if labels is not None:
        columns["label"] = np.asarray(labels)[rows]
    for name, one in judged.items():
        columns[f"decision {name}"] = classes[one.decided]
        columns[f"probability {name}"] = one.proba[np.arange(len(rows)), one.decided]
    return pd.DataFrame(columns)
