"""`compare`: models on the same images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_is_fitted

from cxr_estimator._deciding import Deciding
from cxr_estimator._operating import known_images
from cxr_estimator._outputs import Task
from cxr_estimator._predicting import images as as_images
from cxr_estimator._progress import check_callback
from cxr_estimator._validation import (
    check_choice,
    check_labels,
    check_number,
    check_per_image,
    check_seed,
    invalid,
    wrong_type,
)
from cxr_estimator.attribution import METHODS, check_supported
from cxr_estimator.comparison._pairs import Judged, judged_by, pair_of
from cxr_estimator.comparison._report import ModelComparison
from cxr_estimator.errors import DataError
from cxr_estimator.evaluation._evaluate import report_of
from cxr_estimator.evaluation._intervals import Patients
from cxr_estimator.evaluation._report import EvaluationReport, notes_on
from cxr_estimator.explanation import Explanation
from cxr_estimator.inference import Logits

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
        For figures and tests. Images that trained a model favour it; that is warned of, and noted.
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
        The models know other classes, or several labels per image, or, where y is given, have other positive labels;
        or no image could be read by all.

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
    check_number("n_maps", n_maps, caller=_CALLER, low=1, integer=True)
    check_number("n_resamples", n_resamples, caller=_CALLER, low=1, integer=True)
    seed = check_seed(random_state, caller=_CALLER)
    check_callback(progress, caller=_CALLER)
    first, n = next(iter(named.values())), _check_each(named, X, method)
    patients = np.arange(n) if groups is None else check_per_image("groups", groups, n, caller=_CALLER)
    labels = None if y is None else check_labels(y, n, caller=_CALLER, classes=first.classes_)
    if labels is not None:
        _check_same_positive(named)
    told = _Told(progress, 2 * len(named))
    said = {name: told.after(clf._run(X)) for name, clf in named.items()}
    rows = np.flatnonzero(~np.any([np.isnan(one.values).any(axis=1) for one in said.values()], axis=0))
    if not len(rows):
        raise DataError(f"{_CALLER}: none of the {n} images could be read by all models.")
    judged = {name: judged_by(clf, np.take(said[name].values, rows, axis=0)) for name, clf in named.items()}
    of = Patients(np.unique(patients[rows], return_inverse=True)[1], n_resamples, seed)
    chosen = np.sort(np.random.default_rng(seed).permutation(len(rows))[:n_maps])
    decided = first.classes_[judged[next(iter(named))].decided[chosen]]
    explanations = {
        name: told.after(_explained(clf, X, rows[chosen], decided, method, seed)) for name, clf in named.items()
    }
    target = None if labels is None else np.searchsorted(first.classes_, labels[rows])
    reports = {} if target is None else _reports(named, said, judged, target, of, n - len(rows), groups is not None)
    return ModelComparison(
        classes=tuple(map(str, first.classes_.tolist())),
        images=_table(rows, judged, first.classes_, labels),
        reports=reports,
        pairs=tuple(pair_of(two, judged, explanations, target, of, chosen, first) for two in combinations(named, 2)),
        explained=rows[chosen],
        explanations=explanations,
        unusual={name: _unusual(clf, X, rows[chosen]) for name, clf in named.items()},
        n_patients=None if groups is None else of.number(),
        n_unreadable=n - len(rows),
        notes=_joined({name: one.notes for name, one in reports.items()}),
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
        if not isinstance(name, str) or not isinstance(clf, Deciding):
            raise wrong_type("models", _CALLER, "models by name, each a CXRClassifier or CXREnsemble", {name: clf})
        if not name.strip():
            raise invalid("models", _CALLER, "models by names that are not empty", list(named))
        check_is_fitted(clf, "classes_")
    classes = {name: clf.classes_.tolist() for name, clf in named.items()}
    if len({tuple(one) for one in classes.values()}) > 1:
        raise DataError(f"{_CALLER}: the models know different classes: {classes}.")
    if any(clf.task_ is Task.MULTILABEL for clf in named.values()):
        raise DataError(
            f"{_CALLER}: a model gives several labels per image; only models that give each image one class can be "
            "compared. Use `evaluate` on each of them, and `compare_explanations` on their maps of one label."
        )
    return named


def _check_each(named: dict[str, Any], X: Any, method: str) -> int:
    """Return how many images there are, or raise where a model cannot see or explain them."""
    check_choice("method", method, METHODS, caller=_CALLER)
    members = [member for clf in named.values() for member in clf._members()]
    for member in members:
        check_supported(method, member.model_)
    return min(len(as_images(member, X)) for member in members)


def _check_same_positive(named: dict[str, Any]) -> None:
    positive = {name: clf.pos_label_ for name, clf in named.items()}
    if len(set(positive.values())) > 1:
        raise DataError(
            f"{_CALLER}: the models have different positive labels, {positive}, so that sensitivity and specificity of "
            "one are not those of the other. Without y decisions and maps can be compared."
        )


def _explained(clf: Any, X: Any, rows: np.ndarray, target: np.ndarray, method: str, seed: int) -> Explanation:
    """Explain images at some positions, each of its own class; the explanation names positions and no files."""
    found = clf.explain(_safe_indexing(X, rows), target, method=method, target="true", random_state=seed)
    if len(found) < len(rows):
        raise DataError(f"{_CALLER}: {len(rows) - len(found)} images could be read at first, but not any more.")
    return replace(
        found,
        index=rows,
        names=tuple(f"X[{row}]" for row in rows),
        options={**found.options, "target": "predicted"},
        prediction=replace(found.prediction, true_label=None),
    )


def _unusual(clf: Any, X: Any, rows: np.ndarray) -> tuple[str, ...]:
    """Return why each image is unusual to a model; empty where it is not, or the model cannot tell."""
    if clf.ood_ is None:
        return ("",) * len(rows)
    check = clf.check_images(_safe_indexing(X, rows))
    return tuple(said if strange else "" for said, strange in zip(check.sentences, check.is_unusual, strict=True))


def _reports(
    named: dict[str, Any],
    said: dict[str, Logits],
    judged: dict[str, Judged],
    target: np.ndarray,
    of: Patients,
    n_unreadable: int,
    patients_known: bool,
) -> dict[str, EvaluationReport]:
    """Return the report of each model, as `evaluate` makes it."""
    found = {}
    for name, clf in named.items():
        seen = known_images(clf, said[name].content_ids, caller=f"{_CALLER} ({name})")
        report = replace(report_of(clf, judged[name].logits, target, of, {}), n_unreadable=n_unreadable)
        found[name] = replace(report, notes=(*seen, *notes_on(report, patients_known=patients_known)))
    return found


def _joined(notes: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return the notes on all models: those that hold for each of them once, the others with the model's name."""
    every = list(dict.fromkeys(note for own in notes.values() for note in own))
    common = [note for note in every if all(note in own for own in notes.values())]
    return (*common, *(f"{name}: {note}" for name, own in notes.items() for note in own if note not in common))


def _table(rows: np.ndarray, judged: dict[str, Judged], classes: np.ndarray, labels: Any) -> pd.DataFrame:
    columns: dict[str, Any] = {"position": rows}
    if labels is not None:
        columns["label"] = np.asarray(labels)[rows]
    for name, one in judged.items():
        columns[f"decision {name}"] = classes[one.decided]
        columns[f"probability {name}"] = one.proba[np.arange(len(rows)), one.decided]
    return pd.DataFrame(columns)
