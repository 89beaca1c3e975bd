"""Two models beside each other: decisions, tests and maps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from sklearn.metrics import cohen_kappa_score

from cxr_estimator._outputs import Task
from cxr_estimator.calibration import label_log_odds
from cxr_estimator.comparison._explanations import Comparison, compare_explanations
from cxr_estimator.evaluation._intervals import Patients
from cxr_estimator.explanation import Explanation
from cxr_estimator.roc import delong_difference
from cxr_estimator.statistics import Estimate, clustered_mean, mcnemar, paired_difference, proportion

_LEVEL = 0.05  # of p-values, below which words say that it is more than chance


class Judged(NamedTuple):
    """What a model says of the M images that all could read.

    Attributes
    ----------
    logits : ndarray (M, 1) or (M, K)
        The network's own.
    scores, proba : ndarray (M, K)
        Log-odds of each class before calibration, which rank images without ties, and probabilities.
    decided : ndarray (M,)
    """

    logits: np.ndarray
    scores: np.ndarray
    proba: np.ndarray
    decided: np.ndarray


class Test(NamedTuple):
    """How much larger a figure is for the first model, and the p-value of no difference.

    Attributes
    ----------
    figure : str
        "auroc", "accuracy", "sensitivity", "specificity", or "auroc LABEL" and "recall LABEL" of several classes.
    difference : Estimate
        With its 95% interval, over patients.
    p_value : float
        Two-sided: DeLong's test for areas, McNemar's for shares, both by patient. Not adjusted for other tests.
    """

    figure: str
    difference: Estimate
    p_value: float

    @property
    def words(self) -> str:
        """What that says."""
        if math.isnan(self.difference.value):
            return "undefined: images of one kind only"
        if math.isnan(self.p_value):
            return "too few patients to tell"
        return "more than chance explains" if self.p_value < _LEVEL else "chance can explain it"


class Pair(NamedTuple):
    """Two models beside each other.

    Attributes
    ----------
    names : (str, str)
    same_decision : Estimate
        Share of the images of which both decide the same.
    kappa : float
        Cohen's, of the decisions; NaN where both decide the same class of all images.
    tests : tuple of Test
        Empty without y.
    maps : dict of str to Estimate
        Mean agreement of the maps, by each metric of `Comparison.agreement`.
    comparison : Comparison
        Of the images in `ModelComparison.explained`.
    """

    names: tuple[str, str]
    same_decision: Estimate
    kappa: float
    tests: tuple[Test, ...]
    maps: dict[str, Estimate]
    comparison: Comparison


def judged_by(clf: Any, logits: np.ndarray) -> Judged:
    return Judged(logits, label_log_odds(logits, clf.task_), clf._proba(logits), np.asarray(clf._decide(logits)))


def pair_of(
    names: tuple[str, str],
    judged: dict[str, Judged],
    explanations: dict[str, Explanation],
    target: np.ndarray | None,
    of: Patients,
    chosen: np.ndarray,
    clf: Any,
) -> Pair:
    first, second = (judged[name] for name in names)
    same = first.decided == second.decided
    comparison = compare_explanations(*(explanations[name] for name in names))
    is_alone = len(np.unique([first.decided, second.decided])) == 1
    kappa = np.nan if is_alone else cohen_kappa_score(first.decided, second.decided)
    return Pair(
        names,
        proportion(same, of.groups, n_resamples=of.n_resamples, random_state=of.random_state),
        float(kappa),
        () if target is None else tuple(_tests(first, second, target, of.groups, clf)),
        {name: _mean(values, of.groups[chosen]) for name, values in comparison.agreement.items()},
        comparison,
    )


def _mean(values: np.ndarray, groups: np.ndarray) -> Estimate:
    known = ~np.isnan(values)
    return clustered_mean(values[known], groups[known])


def _tests(first: Judged, second: Judged, target: np.ndarray, groups: np.ndarray, clf: Any) -> Iterator[Test]:
    """Yield the tests: areas by DeLong, shares by McNemar, each by patient."""
    classes = clf.classes_.tolist()
    if clf.task_ is Task.BINARY:
        k = classes.index(clf.pos_label_)
        areas, sides = {"auroc": k}, {"sensitivity": target == k, "specificity": target != k}
    else:
        areas = {f"auroc {label}": k for k, label in enumerate(classes)}
        sides = {f"recall {label}": target == k for k, label in enumerate(classes)}
    for figure, k in areas.items():
        yield Test(figure, *delong_difference(first.scores[:, k], second.scores[:, k], target == k, groups))
    for figure, side in {"accuracy": np.ones(len(target), bool), **sides}.items():
        if side.any():
            one, other = ((each.decided == target)[side] for each in (first, second))
            apart = paired_difference(one, other, groups[side])
            yield Test(figure, apart, mcnemar(one, other, groups[side]))


def estimates(found: Mapping[str, Estimate]) -> dict[str, list[float | None]]:
    return {name: [_finite(part) for part in one] for name, one in found.items()}


def pair_as_dict(one: Pair) -> dict[str, Any]:
    return {
        "names": list(one.names),
        **estimates({"same_decision": one.same_decision}),
        "kappa": _finite(one.kappa),
        "tests": [
            {"figure": test.figure, **estimates({"difference": test.difference}), "p_value": _finite(test.p_value)}
            for test in one.tests
        ],
        "maps": estimates(one.maps),
    }


def _finite(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
