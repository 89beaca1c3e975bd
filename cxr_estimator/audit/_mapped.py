"""One pass over some images: their maps by each method, and what each measure of single maps says of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from sklearn.utils import _safe_indexing

from cxr_estimator._explaining import Explained, ExplanationPlan
from cxr_estimator.anatomy import marker_mask
from cxr_estimator.attribution import METHODS
from cxr_estimator.audit._exchanges import corners, frame
from cxr_estimator.explanation import Explanation
from cxr_estimator.metrics import Context, measure
from cxr_estimator.trust import N_REFERENCES, STEPS, deletions_of

if TYPE_CHECKING:
    from cxr_estimator.audit._evidence import Evidence

_STREAM = 0xA0D2
_TOP = 10  # percent of the pixels, of which two maps by chance share a tenth
_RANDOMISED = 8  # images whose maps are made anew, for a randomised network and for moved images


class Single(NamedTuple):
    """Maps of a batch of images by one method, and all that measures look at."""

    explanation: Explanation
    context: Context
    others: Mapping[str, Explanation]
    regions: Mapping[str, np.ndarray]  # (n, H, W), bool
    n_left: int  # of the images for expensive measures


@dataclass(frozen=True, eq=False)
class Mapped:
    """What was measured of the maps of one method.

    Attributes
    ----------
    index, patient : ndarray (n,)
    values : dict of measure to ndarray (n,)
        NaN where undefined.
    explanation : Explanation
    """

    index: np.ndarray
    patient: np.ndarray
    values: dict[str, np.ndarray]
    explanation: Explanation


def _gain(one: Single) -> np.ndarray:
    return np.array([found.gain for found in deletions_of(one.explanation, one.context, N_REFERENCES, STEPS)])


def _completeness(one: Single) -> np.ndarray:
    return one.explanation.completeness_residual.astype(np.float64)


def _seed_stability(one: Single) -> np.ndarray:
    if not METHODS[one.explanation.method].random:
        return np.full(len(one.explanation), np.nan)
    return measure("seed_stability", one.explanation, one.context, n_seeds=2)


def _randomisation(one: Single) -> np.ndarray:
    return _of_some(one, "parameter_randomisation", n_stages=1)


def _augmentation(one: Single) -> np.ndarray:
    return _of_some(one, "augmentation_consistency", n_draws=2)


def _of_some(one: Single, metric: str, **options: Any) -> np.ndarray:
    """Return the metric where there is still an expensive image left in this batch; NaN for the others."""
    found = np.full(len(one.explanation), np.nan)
    if one.n_left > 0:
        found[: one.n_left] = measure(metric, one.explanation, one.context, **options)[: one.n_left]
    return found


def _agreement(one: Single) -> np.ndarray:
    """Return the mean share of the strongest pixels that other methods' maps have in common with these."""
    others = [other for name, other in one.others.items() if name != one.explanation.method]
    if not others or not METHODS[one.explanation.method].localises:
        return np.full(len(one.explanation), np.nan)
    shares = [measure("top_k_overlap", one.explanation, replace(one.context, other=other), k=_TOP) for other in others]
    return np.mean(shares, axis=0)


def _excess(region: str) -> Callable[[Single], np.ndarray]:
    """Return a measure: -1 where nothing of what speaks for the class lies in a region, 0 as by chance, 1 all of it."""

    def measured(one: Single) -> np.ndarray:
        mask = one.regions[region]
        area = mask.mean(axis=(1, 2))
        inside = measure("relevance_mass", one.explanation, replace(one.context, mask=mask))
        with np.errstate(invalid="ignore", divide="ignore"):
            excess = (inside - area) / np.where(inside > area, 1 - area, area)
        return np.where((area > 0) & (area < 1), excess, np.nan)

    return measured


MEASURES: dict[str, Callable[[Single], np.ndarray]] = {
    "gain": _gain,
    "completeness": _completeness,
    "seed_stability": _seed_stability,
    "parameter_randomisation": _randomisation,
    "augmentation_consistency": _augmentation,
    "agreement": _agreement,
    "border_mass": _excess("border"),
    "corner_mass": _excess("corners"),
    "marker_mass": _excess("markers"),
    "outside_lungs_mass": _excess("outside lungs"),
    "outside_thorax_mass": _excess("outside thorax"),
}


def map_images(evidence: Evidence) -> dict[str, Mapped]:
    """Explain some images, of each class as many, and measure the maps."""
    clf, rows = evidence.clf, _chosen(evidence)
    plan = ExplanationPlan.check(
        clf, _safe_indexing(evidence.X, rows), None, list(evidence.methods), random_state=evidence.seed
    )
    n_done, found = 0, []
    wanted = [name for name in MEASURES if name in evidence.needs]

    def measured(batch: Explained) -> tuple[dict[str, Explanation], dict[str, dict[str, np.ndarray]]]:
        nonlocal n_done
        first = next(iter(batch.found.values()))
        regions = _regions(evidence, rows, batch, first)
        values = {}
        for method, explanation in batch.found.items():
            context = Context(batch.problem, explain=batch.explain[method])
            one = Single(explanation, context, batch.found, regions, max(_RANDOMISED - n_done, 0))
            values[method] = {name: MEASURES[name](one) for name in wanted}
        n_done += len(first)
        return batch.found, values

    found = list(plan.run(measured))
    mapped = {}
    for method in evidence.methods:
        explanation = Explanation.concatenate([maps[method] for maps, _ in found])
        values = {name: np.concatenate([part[method][name] for _, part in found]) for name in wanted}
        index = rows[explanation.index]
        mapped[method] = Mapped(index, evidence.patient[index], values, explanation)
    return mapped


def _chosen(evidence: Evidence) -> np.ndarray:
    """Return positions of `n_maps` random images, of the classes in turn, and of as many patients as can be."""
    rng = np.random.default_rng([evidence.seed, _STREAM])
    queues = []
    for k in np.unique(evidence.seen.target):
        shuffled = rng.permutation(evidence.seen.index[evidence.seen.target == k])
        _, first = np.unique(evidence.patient[shuffled], return_index=True)
        ahead = np.sort(first)
        queues.append([*shuffled[ahead], *np.delete(shuffled, ahead)])
    longest = max(map(len, queues))
    in_turn = [queue[place] for place in range(longest) for queue in queues if place < len(queue)]
    return np.array(in_turn[: evidence.n_maps])


def _regions(evidence: Evidence, rows: np.ndarray, batch: Explained, first: Explanation) -> dict[str, np.ndarray]:
    """Return the regions (n, H, W) at model size; nowhere for what is not found."""
    grey = batch.problem.unit().mean(dim=1).cpu().numpy()
    shape, none = grey.shape[1:], np.zeros(grey.shape[1:], bool)
    outside: dict[str, list[np.ndarray]] = {"lungs": [], "thorax": []}
    for row, geometry in enumerate(first.geometry):
        found = evidence.anatomy(int(rows[first.index[row]]), grey[row][None], geometry)
        for name, mask in zip(outside, found, strict=True):
            outside[name].append(none if mask is None else ~mask)
    return {
        "border": np.broadcast_to(frame(shape), grey.shape),
        "corners": np.broadcast_to(corners(shape), grey.shape),
        "markers": np.stack([marker_mask(one) for one in grey]),
        **{f"outside {name}": np.stack(masks) for name, masks in outside.items()},
    }
