"""A few images of each outcome, drawn at random, with their heat maps and what can be checked of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.utils import _safe_indexing

from cxr_estimator._explaining import prediction_of
from cxr_estimator._operating import Judged
from cxr_estimator._outputs import Task
from cxr_estimator._targets import present_or_not
from cxr_estimator.benchmark import outcomes
from cxr_estimator.explanation import Explanation
from cxr_estimator.trust import TrustCard, examine

_STREAM = 0x5E07
_KINDS = ("TP", "FN", "FP", "TN")  # in the order of the page
_KINDS_OF_CLASSES = ("right", "wrong")


@dataclass(frozen=True, eq=False, repr=False)
class Examples:
    """Images drawn at random of each outcome, and their maps. They hold radiographs, but no name of a file.

    Attributes
    ----------
    outcomes : tuple of str (n,)
        Of each image: "TP", "FN", "FP" or "TN" of the positive label, or of the explained one of several labels;
        of several classes "right" or "wrong".
    truth : tuple of str (n,)
        True class of each.
    counts : dict of str to int
        How many of all images have each outcome.
    explanations : dict of method to Explanation
        Of these n images, by one method each.
    cards : dict of method to tuple of TrustCard
        What can be checked of each map; empty for an ensemble.
    """

    outcomes: tuple[str, ...]
    truth: tuple[str, ...]
    counts: dict[str, int]
    explanations: dict[str, Explanation]
    cards: dict[str, tuple[TrustCard, ...]]


def explained_label(clf: Any, judged: Judged) -> Any:
    """Return what maps explain: the predicted class, or of several labels the one that most images have."""
    if clf.task_ is not Task.MULTILABEL:
        return "predicted"
    return clf.classes_.tolist()[int(np.nansum(judged.labels, axis=0).argmax())]


def outcomes_of(clf: Any, judged: Judged, target: Any) -> np.ndarray:
    """Return the outcome (M,) of each image, as text; "" where the label that is explained is not known."""
    if clf.task_ is not Task.MULTILABEL:
        return outcomes(prediction_of(clf, judged.logits, np.zeros(len(judged.logits), int), judged.labels), clf)
    known, has = judged.having(clf, target)
    column = np.full(len(has), clf.classes_.tolist().index(target))
    said = prediction_of(clf, judged.logits, column, present_or_not(str(target), has))
    return np.where(known, outcomes(said, clf), "")


def drawn(clf: Any, outcome: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Return the rows of `n` random images of each outcome."""
    rng = np.random.default_rng([seed, _STREAM])
    kinds = _KINDS_OF_CLASSES if clf.task_ is Task.MULTICLASS else _KINDS
    return np.concatenate([np.sort(rng.permutation(np.flatnonzero(outcome == kind))[:n]) for kind in kinds])


def examples(
    clf: Any,
    X: Any,
    judged: Judged,
    rows: np.ndarray,
    methods: Sequence[str],
    *,
    target: Any,
    seed: int,
    progress: Callable[[float, int], Any],
) -> Examples:
    """Explain the rows of the images X (M,), which could all be read, and check each map."""
    outcome = outcomes_of(clf, judged, target)
    request = {"target": target, "random_state": seed, "progress": progress}
    part = _safe_indexing(X, rows)
    cards: Mapping[str, list[TrustCard]] = {}
    if hasattr(clf, "estimators_"):
        found = clf.explain(part, method=list(methods), **request)
    else:
        batches = list(examine(clf, part, list(methods), **request))
        found = {name: Explanation.concatenate([batch.found[name] for batch in batches]) for name in methods}
        cards = {name: [card for batch in batches for card in batch.cards[name]] for name in methods}
    kinds = _KINDS_OF_CLASSES if clf.task_ is Task.MULTICLASS else _KINDS
    return Examples(
        tuple(outcome[rows].tolist()),
        tuple(_truth(clf, judged, row, target) for row in rows.tolist()),
        {kind: int((outcome == kind).sum()) for kind in kinds},
        {name: replace(one, names=()) for name, one in found.items()},
        {name: tuple(each) for name, each in cards.items()},
    )


def _truth(clf: Any, judged: Judged, row: int, target: Any) -> str:
    if clf.task_ is not Task.MULTILABEL:
        return str(judged.labels[row])
    return f"{target}" if judged.having(clf, target)[1][row] else f"not {target}"
