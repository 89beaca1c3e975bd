"""One pass over some images: their maps by each method, and what each check of single maps says of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils import _safe_indexing

from cxr_estimator._explaining import Explained, ExplanationPlan
from cxr_estimator._map_checks import MAP_CHECKS, Maps
from cxr_estimator.anatomy import marker_mask
from cxr_estimator.explanation import Explanation
from cxr_estimator.metrics import Context

if TYPE_CHECKING:
    from cxr_estimator.audit._evidence import Evidence

_STREAM = 0xA0D2
_COSTLY = 8  # images whose maps are made anew, for a randomised network and for moved images


@dataclass(frozen=True, eq=False)
class Mapped:
    """What was measured of the maps of one method.

    Attributes
    ----------
    index, patient : ndarray (n,)
    values : dict of measure to ndarray (n,)
        NaN where undefined.
    faults : dict of measure to Exception
        What went wrong.
    explanation : Explanation
    """

    index: np.ndarray
    patient: np.ndarray
    values: dict[str, np.ndarray]
    faults: dict[str, Exception]
    explanation: Explanation


def map_images(evidence: Evidence) -> dict[str, Mapped]:
    """Explain some images, of each class as many, and measure the maps."""
    clf, rows = evidence.clf, _chosen(evidence)
    X, wanted = _safe_indexing(evidence.X, rows), [name for name in MAP_CHECKS if name in evidence.needs]
    options: dict[str, Any] = {"random_state": evidence.seed, "batch_size": _COSTLY}  # so that none is measured in vain
    n_done, faults = 0, dict[str, dict[str, Exception]]({method: {} for method in evidence.methods})

    def measured(batch: Explained) -> tuple[dict[str, Explanation], dict[str, dict[str, np.ndarray]]]:
        nonlocal n_done
        first = next(iter(batch.found.values()))
        regions = _regions(evidence, rows, batch, first)
        values = {}
        for method, explanation in batch.found.items():
            context = Context(batch.problem, explain=batch.explain[method])
            maps = Maps(explanation, context, batch.found, regions)
            n_costly = max(_COSTLY - n_done, 0)
            values[method] = {name: _measured(name, maps, n_costly, faults[method]) for name in wanted}
        n_done += len(first)
        evidence.progress(len(first))
        return batch.found, values

    found = list(ExplanationPlan.check(clf, X, None, list(evidence.methods), **options).run(measured))
    mapped = {}
    for method in evidence.methods:
        explanation = Explanation.concatenate([maps[method] for maps, _ in found])
        values = {name: np.concatenate([part[method][name] for _, part in found]) for name in wanted}
        index = rows[explanation.index]
        mapped[method] = Mapped(index, evidence.patient[index], values, faults[method], explanation)
    return mapped


def _measured(name: str, maps: Maps, n_costly: int, faults: dict[str, Exception]) -> np.ndarray:
    """Return what is measured of each map; NaN after a fault, and for costly checks beyond the first `n_costly`."""
    check, found = MAP_CHECKS[name], np.full(len(maps.explanation), np.nan)
    n = n_costly if check.is_costly else len(found)
    if n and name not in faults:
        try:
            found[:n] = check.measure(maps)[:n]
        except Exception as error:  # noqa: BLE001 - the check tells of it, and others go on
            faults[name] = error
    return found


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
    none = np.zeros(grey.shape[1:], bool)
    outside: dict[str, list[np.ndarray]] = {"lungs": [], "thorax": []}
    for row, geometry in enumerate(first.geometry):
        found = evidence.anatomy(int(rows[first.index[row]]), grey[row][None], geometry)
        for name, mask in zip(outside, found, strict=True):
            outside[name].append(none if mask is None else ~mask)
    return {
        "markers": np.stack([marker_mask(one) for one in grey]),
        **{f"outside {name}": np.stack(masks) for name, masks in outside.items()},
    }
