"""Figures of one run: how well scores tell pneumonia, on clean images and under every shift, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit

from cxr_estimator.clinical import expected_calibration_error
from cxr_estimator.roc import Ranking, auroc
from cxr_estimator.statistics import percentile_interval, resampled_weights

N_RESAMPLES = 200


class Judged(NamedTuple):
    """Images that were held out, and what a network said of them.

    Attributes
    ----------
    scores : dict of str to ndarray (N,)
        Calibrated log-odds of pneumonia under each condition; "clean" is one of them.
    positive : ndarray (N,), bool
    patients, sources : ndarray (N,)
    acquisition : ndarray (N,)
        Log-odds by grey-value statistics alone; see `material.Material.acquisition`.
    points : dict of str to ndarray (N,)
        The score from which each operating point, "screening" say, calls each image positive.
    leave_out : str
        The source that was not trained on; "" for none.
    """

    scores: Mapping[str, np.ndarray]
    positive: np.ndarray
    patients: np.ndarray
    sources: np.ndarray
    acquisition: np.ndarray
    points: Mapping[str, np.ndarray]
    leave_out: str

    def of(self, rows: np.ndarray) -> Judged:
        """Return the same for some rows, in any order and with repeats."""
        arrays = {name: getattr(self, name)[rows] for name in ("positive", "patients", "sources", "acquisition")}
        scores, points = ({name: each[rows] for name, each in some.items()} for some in (self.scores, self.points))
        return self._replace(scores=scores, points=points, **arrays)


def of_condition(case: Judged, score: np.ndarray) -> dict[str, float]:
    """Return the figures of one condition."""
    positive, proba = case.positive, expit(score)
    found = {
        "auroc": auroc(score, positive),
        "auprc": Ranking(score, positive).average_precision(),
        "accuracy": float(((proba >= 0.5) == positive).mean()),
    }
    for name, least in case.points.items():
        called = score >= least
        found[f"{name}_sensitivity"] = float(called[positive].mean())
        found[f"{name}_specificity"] = float((~called[~positive]).mean())
    return found | {"calibration_error": expected_calibration_error(proba, positive)}


def crossed(case: Judged, shifted: np.ndarray) -> float:
    """Return the lower AUROC of two: only the normal images are shifted, or only the others.

    A network that reads the scanner rather than the child fails here, where a shift of all images leaves the ranking.
    """
    clean, positive = case.scores["clean"], case.positive
    return min(auroc(np.where(positive == side, shifted, clean), positive) for side in (False, True))


def pooled(case: Judged) -> float:
    """Return the AUROC over the images of all conditions together: one threshold has to serve them all."""
    return auroc(np.concatenate(list(case.scores.values())), np.tile(case.positive, len(case.scores)))


def contrary(case: Judged) -> np.ndarray:
    """Return the rows (bool) whose grey-value statistics speak against their class, more than for half of the class."""
    against = np.where(case.positive, -case.acquisition, case.acquisition)
    middle = {side: np.median(against[case.positive == side]) for side in (False, True)}
    return against > np.where(case.positive, middle[True], middle[False])


def unseen(case: Judged) -> np.ndarray:
    """Return the rows (bool) of the source that was left out and of all seen sources of the other class."""
    left_out = case.sources == case.leave_out
    return left_out | (case.positive != case.positive[left_out].any())


def summary(case: Judged) -> dict[str, float]:
    """Return the figures that recipes are compared by; means are over the shifts."""
    known = case.of(np.flatnonzero(case.sources != case.leave_out))
    shifts = {name: score for name, score in known.scores.items() if name != "clean"}
    under = {name: of_condition(known, score) for name, score in shifts.items()}
    crosses = {name: crossed(known, score) for name, score in shifts.items()}
    against = known.of(np.flatnonzero(contrary(known)))
    found = {f"clean_{key}": value for key, value in of_condition(known, known.scores["clean"]).items()}
    for key in next(iter(under.values())):
        found[f"shifted_{key}"] = float(np.mean([each[key] for each in under.values()]))
    found["worst_shift_auroc"] = min(each["auroc"] for each in under.values())
    found["pooled_auroc"] = pooled(known)
    found["crossed_auroc"] = float(np.mean(list(crosses.values())))
    found["worst_crossed_auroc"] = min(crosses.values())
    found["contrary_auroc"] = auroc(against.scores["clean"], against.positive)
    if case.leave_out:
        other = case.of(np.flatnonzero(unseen(case)))
        found |= {f"unseen_{key}": value for key, value in of_condition(other, other.scores["clean"]).items()}
    return found


def figures(case: Judged) -> dict[str, Any]:
    """Return the summary with 95% intervals by patients, and the figures of every condition, as JSON types."""
    rows = np.arange(len(case.positive))
    draws = [
        summary(case.of(np.repeat(rows, weights)))
        for weights in resampled_weights(case.patients, n_resamples=N_RESAMPLES)
    ]
    intervals = {
        key: (value, *percentile_interval([draw[key] for draw in draws])) for key, value in summary(case).items()
    }
    known = case.of(np.flatnonzero(case.sources != case.leave_out))
    conditions = {
        name: of_condition(known, score) | {"crossed_auroc": crossed(known, score)}
        for name, score in known.scores.items()
    }
    return {
        "n_images": len(case.positive),
        "n_normal": int((~case.positive).sum()),
        "n_patients": len(np.unique(case.patients)),
        "summary": {key: [round(number, 4) for number in three] for key, three in intervals.items()},
        "conditions": {name: {k: round(v, 4) for k, v in each.items()} for name, each in conditions.items()},
    }
