"""Checks of heat maps: do they tell what the model does. Each is the mean of a measure of single maps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cxr_estimator._figure_style import method_title
from cxr_estimator._map_checks import MAP_CHECKS
from cxr_estimator.audit._evidence import UNDEFINED, Evidence
from cxr_estimator.audit._types import Finding, Picture
from cxr_estimator.figures import overlay

_PICTURES = 2
_PLACES = {
    "border_mass": "In the frame along the border",
    "corner_mass": "In the corners",
    "marker_mass": "On side markers and letters",
    "outside_lungs_mass": "Outside of the lungs",
    "outside_thorax_mass": "Outside of the thorax",
}
_SCALE = ", where -100% is none, 0% what is there by chance, +100% all"
_SAID = {
    "gain": "Hiding what it marks lowers the probability of the explained class by {value:+.3f} of the area under the "
    "deletion curve more than hiding moved copies of it",
    "completeness": "Its values miss what they should add up to by {value:.0%}",
    "seed_stability": "With another random seed the rank correlation of the maps is {value:.2f}",
    "parameter_randomisation": "With random weights in the place of all learnt ones the rank correlation of the maps "
    "is {value:.2f}",
    "augmentation_consistency": "When the image moves by a few pixels the map moves along, with rank correlation "
    "{value:.2f}",
    "agreement": "{value:.0%} of its strongest pixels are among those of the other methods, too (by chance 10%)",
    **{name: f"{where} lies {{value:+.0%}} of what speaks for the class" + _SCALE for name, where in _PLACES.items()},
}


def of_maps(measure: str) -> Callable[[Evidence], list[Finding]]:
    """Return a check: the mean of a measure of single maps, for each method of which it can be taken."""
    greater_is_worse = MAP_CHECKS[measure].limits.greater_is_worse

    def check(evidence: Evidence) -> list[Finding]:
        found = []
        for method, mapped in evidence.mapped.items():
            values = mapped.values[measure]
            known = int((~np.isnan(values)).sum())
            if not known:
                continue
            estimate = evidence.mean(values, mapped.patient)
            said = f"{method_title(method)}: {_SAID[measure].format(value=estimate.value)} ({known} images)."
            worst = np.argsort(np.nan_to_num(-values if greater_is_worse else values, nan=np.inf))[:_PICTURES]
            found.append(Finding(estimate, said, method, _overlays(evidence, method, worst)))
        return found or [Finding(UNDEFINED, "It could be measured of no map.")]

    return check


def _overlays(evidence: Evidence, method: str, rows: np.ndarray) -> Callable[[], tuple[Picture, ...]]:
    explanation = evidence.mapped[method].explanation
    caption = f"{method_title(method)}: one of the maps with the worst values."
    return lambda: tuple(Picture(caption, overlay(explanation, int(row))) for row in rows)
