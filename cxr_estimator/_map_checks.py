"""What can be checked of single heat maps: the one table that trust cards and audits share.

A card shows what is found of one map; an audit shows the mean over images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from cxr_estimator.attribution import METHODS
from cxr_estimator.explanation import Explanation
from cxr_estimator.metrics import Context, measure
from cxr_estimator.metrics._maps import ratio
from cxr_estimator.metrics._reference import references
from cxr_estimator.metrics.faithfulness import area_under, deletion_curve
from cxr_estimator.metrics.localisation import corners, frame
from cxr_estimator.verdicts import Limits

N_REFERENCES = 9  # a map without any sense is better than all of them in one of ten images
STEPS = 5
# What hidden pixels show, one after the other: what is hidden cannot be missed where the hole looks like it, and a grey
# patch looks like an opacity to a network, a black one like a clear lung.
BASELINES = "black", "mean"
TOP = 10  # percent of the pixels, of which two maps by chance share a tenth
_NEVER = math.inf  # of what can only be doubtful
_SOME = 1e-6  # a gain of exactly 0, such as that of empty maps, is none


class Deletion(NamedTuple):
    """What the network says while the most relevant pixels are hidden.

    Attributes
    ----------
    fractions : ndarray (steps + 1,)
        Of the pixels, from 0 to 1.
    curve : ndarray (steps + 1,)
        Probability of the explained class, hidden in the order of the map, on average over `BASELINES`.
    references : ndarray (n_references, steps + 1)
        The same in the order of the map shifted and flipped.
    """

    fractions: np.ndarray
    curve: np.ndarray
    references: np.ndarray

    @property
    def gain(self) -> float:
        """How much less area the map leaves than its references do on average, in [-1, 1]; higher is better."""
        return float(area_under(self.references).mean() - area_under(self.curve[None])[0])

    @property
    def beaten(self) -> int:
        """How many of the references leave more area than the map."""
        return int((area_under(self.references) > area_under(self.curve[None])[0]).sum())


@dataclass
class Maps:
    """Maps of n images by one method, and all that checks look at.

    Attributes
    ----------
    explanation : Explanation
    context : Context
    others : dict of method to Explanation
        Maps of the same images by other methods; its own may be among them.
    regions : dict of name to ndarray (n, H, W), bool
        At model size; those along the edges are known without it.
    n_references, steps : int
        Of the deletion curves.
    """

    explanation: Explanation
    context: Context = field(default_factory=Context)
    others: Mapping[str, Explanation] = field(default_factory=dict)
    regions: Mapping[str, np.ndarray] = field(default_factory=dict)
    n_references: int = N_REFERENCES
    steps: int = STEPS

    @cached_property
    def deletions(self) -> list[Deletion]:
        """The deletion curves of each map and of its moved copies."""
        moved = references(self.explanation, self.context.perturbed.problem, self.n_references)
        own, *others = (self._mean_curve(one) for one in (self.explanation, *moved))
        fractions = np.linspace(0.0, 1.0, self.steps + 1)
        return [Deletion(fractions, curve, others) for curve, others in zip(own, np.stack(others, axis=1), strict=True)]

    def _mean_curve(self, explanation: Explanation) -> np.ndarray:
        """Return the deletion curve (n, steps + 1) of each map, on average over the baselines."""
        curves = [deletion_curve(explanation, self.context, steps=self.steps, baseline=one) for one in BASELINES]
        return np.mean(curves, axis=0)

    def compared(self) -> dict[str, Explanation]:
        """Return the other maps that show places and are of the same images, of the same size and of the same class."""
        own = self.explanation
        if not METHODS[own.method].localises:
            return {}
        return {
            name: _in_order(other, own)
            for name, other in self.others.items()
            if name != own.method and METHODS[name].localises and _has_same_subject(other, own)
        }

    def in_region(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the share (n,) of what speaks for the class that lies in a region, and the share of the area."""
        shape = self.explanation.values.shape
        mask = EDGES[name](shape[1:]) if name in EDGES else self.regions[name]
        mask = np.broadcast_to(mask, shape)
        return measure("relevance_mass", self.explanation, replace(self.context, mask=mask)), mask.mean(axis=(1, 2))


EDGES: dict[str, Callable[[tuple[int, int]], np.ndarray]] = {"border": frame, "corners": corners}


def _has_same_subject(other: Explanation, own: Explanation) -> bool:
    if other.values.shape[1:] != own.values.shape[1:]:
        return False
    targets = dict(zip(other.image_ids, other.target.tolist(), strict=True))
    return all(targets.get(one) == said for one, said in zip(own.image_ids, own.target.tolist(), strict=True))


def _in_order(other: Explanation, own: Explanation) -> Explanation:
    """Return the other maps in the order of the images of a batch."""
    if other.image_ids == own.image_ids:
        return other
    rows = {one: row for row, one in enumerate(other.image_ids)}
    return Explanation.concatenate([other[rows[one]] for one in own.image_ids])


def _gain(maps: Maps) -> np.ndarray:
    return np.array([one.gain for one in maps.deletions])


def _completeness(maps: Maps) -> np.ndarray:
    return maps.explanation.completeness_residual.astype(np.float64)


def _seed_stability(maps: Maps) -> np.ndarray:
    if not METHODS[maps.explanation.method].random:
        return np.full(len(maps.explanation), np.nan)
    return measure("seed_stability", maps.explanation, maps.context, n_seeds=2)


def _measured(metric: str, **options: Any) -> Callable[[Maps], np.ndarray]:
    return lambda maps: measure(metric, maps.explanation, maps.context, **options)


def _agreement(maps: Maps) -> np.ndarray:
    """Return the share of the strongest pixels in common with other maps, on average over those that say anything."""
    others = maps.compared().values()
    shares = [
        measure("top_k_overlap", maps.explanation, replace(maps.context, other=one), k=TOP) for one in others
    ] or [np.full(len(maps.explanation), np.nan)]
    known = ~np.isnan(shares)
    return ratio(np.where(known, shares, 0.0).sum(axis=0), known.sum(axis=0))


def _excess(region: str) -> Callable[[Maps], np.ndarray]:
    """Return a measure: -1 where nothing of what speaks for the class lies in a region, 0 as by chance, 1 all of it."""

    def measured(maps: Maps) -> np.ndarray:
        inside, area = maps.in_region(region)
        with np.errstate(invalid="ignore", divide="ignore"):
            excess = (inside - area) / np.where(inside > area, 1 - area, area)
        return np.where((area > 0) & (area < 1), excess, np.nan)

    return measured


class MapCheck(NamedTuple):
    """A row of `MAP_CHECKS`.

    Attributes
    ----------
    measure : callable
        `measure(maps) -> ndarray (n,)`; NaN where it does not apply or nothing can be said.
    limits : Limits
        Of a single map, and of the mean.
    withholds : bool
        Whether a map that fails must not be shown as evidence.
    is_costly : bool
        Whether maps are made anew for it, so that audits do it for few images.
    """

    measure: Callable[[Maps], np.ndarray]
    limits: Limits
    withholds: bool = False
    is_costly: bool = False


MAP_CHECKS: dict[str, MapCheck] = {
    "gain": MapCheck(_gain, Limits(0.02, _SOME, greater_is_worse=False), withholds=True),
    "completeness": MapCheck(_completeness, Limits(0.1, 0.5), withholds=True),
    "parameter_randomisation": MapCheck(
        _measured("parameter_randomisation", n_stages=1), Limits(0.6, 0.8), withholds=True, is_costly=True
    ),
    "seed_stability": MapCheck(_seed_stability, Limits(0.8, 0.4, greater_is_worse=False)),
    "agreement": MapCheck(_agreement, Limits(0.15, -_NEVER, greater_is_worse=False)),
    "augmentation_consistency": MapCheck(
        _measured("augmentation_consistency", n_draws=2), Limits(0.5, -_NEVER, greater_is_worse=False), is_costly=True
    ),
    "border_mass": MapCheck(_excess("border"), Limits(0.35, 0.7)),
    "corner_mass": MapCheck(_excess("corners"), Limits(0.35, 0.7)),
    "marker_mass": MapCheck(_excess("markers"), Limits(0.2, 0.4)),
    "outside_lungs_mass": MapCheck(_excess("outside lungs"), Limits(0.5, 0.8)),
    "outside_thorax_mass": MapCheck(_excess("outside thorax"), Limits(0.35, 0.7)),
}
