"""Checks of heat maps: do they tell what the model does. Each is the mean of a measure of single maps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cxr_estimator._map_checks import MAP_CHECKS
from cxr_estimator.audit._evidence import UNDEFINED, Evidence
from cxr_estimator.audit._types import Finding, Picture
from cxr_estimator.figures import overlay

_PICTURES = 2
_PLACES = {
    "border_mass": "in the frame along the border",
    "corner_mass": "in the corners",
    "marker_mass": "on side markers and letters",
    "outside_lungs_mass": "outside of the lungs",
    "outside_thorax_mass": "outside of the thorax",
}
_SAID = {
    "gain": "Hiding what it marks lowers the area under the curve of the class's probability by {:.3f} more than "
    "hiding moved copies of it",
    "completeness": "Its values miss what they should add up to by {:.1%}",
    "seed_stability": "With another random seed the map has a rank correlation of {:.2f} with the first",
    "parameter_randomisation": "With random weights in the place of the learnt ones the map has a rank correlation of "
    "{:.2f} with the true one",
    "augmentation_consistency": "When the image moves by a few pixels, the map moves along with a rank correlation of "
    "{:.2f}",
    "agreement": "{:.0%} of its strongest pixels are among those of the other methods, too; by chance 10% would be",
}
_NONE = {
    "completeness": "None of the methods promises values that add up to anything.",
    "seed_stability": "None of the methods is random.",
    "agreement": "There are no two methods that show places.",
    "marker_mass": "No side markers or letters were found.",
    "outside_lungs_mass": "The lungs were not found.",
    "outside_thorax_mass": "The thorax was not found.",
}


def of_maps(measure: str) -> Callable[[Evidence], list[Finding]]:
    """Return a check: the mean of a measure of single maps, for each method of which it can be taken."""
    greater_is_worse = MAP_CHECKS[measure].limits.greater_is_worse

    def check(evidence: Evidence) -> list[Finding]:
        found = []
        for method, mapped in evidence.mapped.items():
            if measure in mapped.faults:
                raise mapped.faults[measure]
            values = mapped.values[measure]
            known = int((~np.isnan(values)).sum())
            if not known:
                continue
            estimate = evidence.mean(values, mapped.patient)
            said = f"{_sentence(measure, estimate.value)} ({known} images)."
            worst = np.argsort(np.nan_to_num(-values if greater_is_worse else values, nan=np.inf))[:_PICTURES]
            found.append(Finding(estimate, said, method, _overlays(evidence, method, worst)))
        return found or [Finding(UNDEFINED, _NONE.get(measure, "It could be measured of no map."))]

    return check


def _sentence(measure: str, value: float) -> str:
    if measure not in _PLACES:
        return _SAID[measure].format(value)
    how = f"{-value:.0%} less than by chance"
    if value >= 0:
        how = f"more than by chance, by {value:.0%} of what more there could be"
    return f"What speaks for the class lies {_PLACES[measure]} {how}"


def _overlays(evidence: Evidence, method: str, rows: np.ndarray) -> Callable[[], tuple[Picture, ...]]:
    explanation = evidence.mapped[method].explanation
    return lambda: tuple(
        Picture("one of the maps with the worst values.", overlay(explanation, int(row))) for row in rows
    )
