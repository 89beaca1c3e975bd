"""Heat maps in words: how far each spreads, where in the chest it lies, and on which side.

The *weight* of a map is what in it speaks for the explained class, max(0, value); shares are of its sum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import ndimage

from cxr_estimator._map_checks import EDGES
from cxr_estimator.anatomy import below_lungs, lung_mask, marker_mask, midline_of, thorax_of
from cxr_estimator.errors import DataError
from cxr_estimator.explanation import Explanation
from cxr_estimator.metrics._maps import positive, ratio

# Parts that share out the image where the lungs are found, and places that may overlap with them.
PLACES = {
    "lungs": "in the lungs",
    "thorax": "elsewhere in the thorax",  # heart, mediastinum, chest wall
    "below": "below the diaphragm",
    "outside": "outside of the thorax",  # neck, shoulders, arms, the air beside the body
}
OVERLAPPING = {"border": "along the border", "corners": "in the corners", "markers": "on side markers or letters"}
LOCALISED, DIFFUSE, BETWEEN = "localised", "diffuse", "in between"
LEFT, RIGHT, BOTH = "image left", "image right", "both sides"
NOWHERE, NO_LUNGS, EMPTY = "no place in particular", "lungs not found", "empty map"
WORDS = {
    "spread": (LOCALISED, BETWEEN, DIFFUSE, EMPTY),
    "place": (*PLACES.values(), NOWHERE, NO_LUNGS, EMPTY),
    "side": (LEFT, RIGHT, BOTH, NO_LUNGS, EMPTY),
}

_HALF = 0.5  # of the weight, whose area is the extent of a map: an even map has an extent of 50%
# One lung is about an eighth of a frontal radiograph (as `lung_mask` finds them, 10% of those of children by Kermany et
# al. and 14% of phantoms), both are about a quarter.
MOST_LOCALISED, LEAST_DIFFUSE = 0.125, 0.25
_BLUR = 0.05  # of the side: pixels scattered all over the image, as gradients mark them, are no localised evidence
CLEARLY = 0.1  # points above the share of the area from which a place is told
_MUCH = 0.4  # of the weight, from which a map is said to lie there: with four parts no other can hold much more
_ONE_SIDE = 2 / 3  # of the weight: twice as much as on the other side
_ROUNDING = 1e-9  # relative; without it half of the pixels may or may not hold half of an even map


def regions(explanation: Explanation, lungs: Sequence[np.ndarray | None]) -> dict[str, np.ndarray]:
    """Return the places of each image, (n, H, W) bool each; nowhere for what is not found.

    "lungs", then of the rest "below" (lower than the lungs' lower edge, see `anatomy.below_lungs`), then "thorax"
    (the lungs' convex hull, enlarged by 15%) and "outside" have no pixel in common. "border" is the frame of a tenth of
    the side and "corners" are those of a fifth, as in an audit; they and "markers" overlap with the others.
    """
    images = grey_images(explanation)
    found = {name: np.zeros(images.shape, bool) for name in (*PLACES, *OVERLAPPING)}
    for name, mask in EDGES.items():
        found[name][:] = mask(images.shape[1:])
    for row, grey in enumerate(images):
        found["markers"][row] = marker_mask(grey)
        own = lungs[row]
        if own is not None:
            below, thorax = below_lungs(own) & ~own, thorax_of(own)
            parts = (own, thorax & ~own & ~below, below, ~thorax & ~own & ~below)
            for name, mask in zip(PLACES, parts, strict=True):
                found[name][row] = mask
    return found


def lungs_in(explanation: Explanation) -> list[np.ndarray | None]:
    """Return the mask (H, W) of the lungs of each image at model size; None where they are not found."""
    return [lung_mask(grey) for grey in grey_images(explanation)]


def grey_images(explanation: Explanation) -> np.ndarray:
    """Return the images (n, H, W), uint8."""
    images = explanation.images
    if images is None:
        raise DataError("findings: the explanation must come with its images, as `explain` returns it.")
    return images if images.ndim == 3 else images.mean(axis=3).astype(np.uint8)


def describe(explanation: Explanation, lungs: Sequence[np.ndarray | None]) -> pd.DataFrame:
    """Describe maps in figures and words.

    Parameters
    ----------
    explanation : Explanation of n images
        With its images.
    lungs : sequence of n masks (H, W), bool
        At model size, see `lungs_in`; None where they are not found.

    Returns
    -------
    DataFrame
        A row for each map: `extent`, the least share of the image that holds half of the weight, in (0, 0.5], of the
        map blurred by 5% of the side; for each of `PLACES` and `OVERLAPPING` the share of the weight there and, as
        "lungs_area" and so on, that of the image; `left`, the share on the image's left of the lungs' midline; the
        words `spread`, `place` and `side`, and a `description`. NaN where the lungs, or what speaks for the class, are
        not found. Markers are sought in all images, so their share is 0 where there are none.

    Notes
    -----
    On 24 Grad-CAM maps (4 x 4 cells) of radiographs of children by Kermany et al. 61 of 72 words, and all three words
    of 16 maps, were what one saw who had chosen the limits on maps of the same model. Wrong were mostly places and
    sides: of maps with one strong spot and much that is faint elsewhere, or near an edge that `lung_mask` had found
    inexactly or not at all.
    """
    weight = positive(explanation)
    pixels = weight.reshape(grey_images(explanation).shape)
    table: dict[str, Any] = {"extent": _extent(pixels)}
    known = np.array([own is not None for own in lungs], dtype=bool)
    for name, mask in regions(explanation, lungs).items():
        flat, is_known = mask.reshape(len(mask), -1), known if name in PLACES else True
        share = ratio((weight * flat).sum(axis=1), weight.sum(axis=1)).clip(max=1.0)  # sums differ by rounding
        table[name] = np.where(is_known, share, np.nan)
        table[f"{name}_area"] = np.where(is_known, flat.mean(axis=1), np.nan)
    table["left"] = _left(pixels, lungs)
    frame = pd.DataFrame(table)
    for column, word in (("spread", _spread), ("place", _place), ("side", _side), ("description", _description)):
        rows: list[Any] = frame.to_dict("records")
        frame[column] = [word(row) for row in rows]
    return frame


def beyond(table: pd.DataFrame, name: str) -> np.ndarray:
    """Return by how much the share of the weight in a place is larger than that of the area, (n,) in [-1, 1]."""
    return (table[name] - table[f"{name}_area"]).to_numpy(dtype=float)


def _extent(weight: np.ndarray) -> np.ndarray:
    sigma = (0.0, *(_BLUR * side for side in weight.shape[1:]))
    blurred = ndimage.gaussian_filter(weight, sigma, mode="nearest").reshape(len(weight), -1)
    held = np.cumsum(np.sort(blurred, axis=1)[:, ::-1], axis=1)
    count = (held < _HALF * held[:, -1:] * (1 - _ROUNDING)).sum(axis=1) + 1
    return np.where(held[:, -1] > 0, count / held.shape[1], np.nan)


def _left(weight: np.ndarray, lungs: Sequence[np.ndarray | None]) -> np.ndarray:
    """Return the share of the weight (n, H, W) left of the midline; what lies on it counts half."""
    middle = np.array([np.nan if own is None else midline_of(own) for own in lungs])
    with np.errstate(invalid="ignore"):
        side = (1 - np.sign(np.arange(weight.shape[2]) - middle[:, None])) / 2
    columns = weight.sum(axis=1)
    return ratio((columns * side).sum(axis=1), columns.sum(axis=1))


def _spread(row: dict[str, Any]) -> str:
    if math.isnan(row["extent"]):
        return EMPTY
    return LOCALISED if row["extent"] <= MOST_LOCALISED else DIFFUSE if row["extent"] >= LEAST_DIFFUSE else BETWEEN


def _named(row: dict[str, Any], names: dict[str, str]) -> list[str]:
    """Return the places that hold clearly more than their share, the most first; NaN is in none."""
    more = {name: row[name] - row[f"{name}_area"] for name in names}
    return sorted((name for name in names if more[name] >= CLEARLY), key=lambda name: -more[name])


def _place(row: dict[str, Any]) -> str:
    if row["spread"] == EMPTY:
        return EMPTY
    if math.isnan(row["lungs"]):
        return NO_LUNGS
    return next((PLACES[name] for name in _named(row, PLACES) if row[name] >= _MUCH), NOWHERE)


def _side(row: dict[str, Any]) -> str:
    if row["place"] in (EMPTY, NO_LUNGS):
        return str(row["place"])
    return LEFT if row["left"] >= _ONE_SIDE else RIGHT if row["left"] <= 1 - _ONE_SIDE else BOTH


def _description(row: dict[str, Any]) -> str:
    if row["spread"] == EMPTY:
        return "Nothing in the map speaks for the class."
    said = f"{row['spread'].capitalize()} (half of its weight on {row['extent']:.0%} of the image)"
    if row["place"] == NO_LUNGS:
        said += "; the lungs were not found, so places in the chest are not told"
    else:
        said += f", {_told_places(row) or 'in no part of the chest clearly more than by chance'}"
        share = 1 - row["left"] if row["side"] == RIGHT else row["left"]
        said += f", on both sides ({LEFT} {share:.0%})" if row["side"] == BOTH else f", {row['side']} ({share:.0%})"
    also = _named(row, OVERLAPPING)
    return f"{said}{'; also ' if also else ''}{' and '.join(_share(row, name) for name in also)}."


def _told_places(row: dict[str, Any]) -> str:
    """Return where the map lies, and where there is only more of it than by chance."""
    named = _named(row, PLACES)
    much = [_share(row, name) for name in named if row[name] >= _MUCH]
    more = [_share(row, name) for name in named if row[name] < _MUCH]
    return ", ".join([" and ".join(much)] * bool(much) + ["more than by chance " + " and ".join(more)] * bool(more))


def _share(row: dict[str, Any], name: str) -> str:
    return f"{(PLACES | OVERLAPPING)[name]} ({row[name]:.0%}, chance {row[f'{name}_area']:.0%})"
