"""Two lung outlines fitted to a frontal chest radiograph: a shape of a few numbers, moved to where edges agree."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

_SIDE = 128  # pixels a side of the square that is looked at; lengths below are shares of the image's sides
# Typical value and spread of what describes both lungs. "right" is the patient's right lung, left in the image.
_PRIOR = {
    "middle": (0.505, 0.035),  # x of the midline, half-way down
    "lean": (0.0, 0.025),  # how far the midline runs to the side from there to the lower border
    "apex": (0.165, 0.08),  # y of both apices
    "base": (0.715, 0.085),  # y of the medial ends of the diaphragm, mean of both
    "base_tilt": (0.0, 0.025),  # how much lower the left one is
    "width": (0.355, 0.06),  # from the midline to the lateral border above the diaphragm, mean of both
    "width_tilt": (0.0, 0.025),  # how much wider the left one is
    "right_medial": (0.085, 0.023),  # from the midline to the medial border at the apex
    "left_medial": (0.085, 0.023),
    "right_heart": (0.045, 0.023),  # how much farther out the medial border is at the diaphragm
    "left_heart": (0.14, 0.045),
    "angle": (0.06, 0.027),  # how much lower than the medial end the costophrenic angle is, mean of both
    "angle_tilt": (0.0, 0.015),
    "roof": (0.53, 0.075),  # exponent of the lateral border: the smaller, the broader the apices
}
_MEAN, _SPREAD = np.array(list(_PRIOR.values()), np.float32).T
_SMOOTH = 5, 3, 2  # pixels: the coarsest blurs ribs away, the finest places the outline
_ROUNDS, _DRAWS, _BEST = 15, 250, 30
_CENTRE = slice(26, 90), slice(20, 108)  # rows and columns within the body: air around it sets no grey scale
_AGREEMENT = 0.37  # least of a fit to believe, of 1
_OF_EACH = 0.15  # and of each of its three borders
_GROW = 0.004  # blurring draws a convex outline inwards

# Places along the borders, each from 0 to 1: down the medial border, out along the base, up the lateral border.
_DOWN = np.linspace(0.05, 1, 20, dtype=np.float32)
_OUT = np.linspace(0, 1, 12, dtype=np.float32)[1:-1]
_UP = np.linspace(1, 0, 20, dtype=np.float32) ** 1.7  # denser where the apex turns
_HEART = np.clip((_DOWN - 0.25) / 0.75, 0, 1) ** 2 * (3 - 2 * np.clip((_DOWN - 0.25) / 0.75, 0, 1))
_LOG_ROOF = np.log(1 - (1 - _UP) ** 2.3 + 1e-4)


def lung_outlines(grey: np.ndarray) -> np.ndarray | None:
    """Return the outlines of the right and the left lung, (2, points, 2) x and y as shares of width and height.

    None where no likely shape has enough of its outline, and of each border, on edges from dark inside to bright
    outside.
    """
    scale = _SIDE / grey.shape[0], _SIDE / grey.shape[1]
    square = ndimage.zoom(grey, scale, order=1, mode="nearest", grid_mode=True)
    low, high = np.percentile(square[_CENTRE], (2, 98))
    if not high > low:
        return None
    # Air beside the body is no darker than the darkest lung then, and metal no brighter than bone.
    square = np.clip((square - low) / (high - low), -0.1, 1.2)
    gradients = [_gradient(square, smooth) for smooth in _SMOOTH]
    shape = _fit(gradients)[None]
    if not _is_plausible(gradients[-1], shape):
        return None
    x, y = _outlines(shape)
    across, down, _ = _normals(x, y)
    return np.stack([x + _GROW * across, y + _GROW * down], axis=-1)[0]


def _gradient(square: np.ndarray, smooth: float) -> np.ndarray:
    """Return the (2, side, side) gradient along x and y, relative to its mean length in the centre."""
    gradient = np.stack([ndimage.gaussian_filter(square, smooth, order, mode="nearest") for order in ((0, 1), (1, 0))])
    return gradient / (np.hypot(*gradient[:, *_CENTRE]).mean() + 1e-6)


def _fit(gradients: list[np.ndarray]) -> np.ndarray:
    """Return the shape that agrees best with edges, in spreads from the typical one.

    It is found by the cross-entropy method: draw shapes, keep the best, draw around them. The seed is fixed, so the
    same image gives the same shape.
    """
    rng = np.random.default_rng(0)
    mean, spread = np.zeros_like(_MEAN), np.ones_like(_MEAN)
    for turn in range(_ROUNDS):
        gradient = gradients[turn * len(gradients) // _ROUNDS]
        shapes = mean + spread * rng.standard_normal((_DRAWS, _MEAN.size), dtype=np.float32)
        shapes[0] = mean
        best = shapes[np.argpartition(-_merit(gradient, shapes), _BEST)[:_BEST]]
        # Some of the old spread is kept, or the draws close in before they have found the best place.
        mean, spread = best.mean(axis=0), 0.3 * spread + 0.7 * best.std(axis=0)
    return mean


def _outlines(shapes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y, (n, 2, points) each, of both lungs of n shapes given in spreads from the typical one."""
    values = dict(zip(_PRIOR, (_MEAN + _SPREAD * shapes).T[..., None], strict=True))
    roof = np.exp(values["roof"] * _LOG_ROOF)
    x, y = [], []
    for side, name in ((-1, "right"), (1, "left")):
        base, width, angle = (values[part] + side / 2 * values[f"{part}_tilt"] for part in ("base", "width", "angle"))
        medial, heart, apex = values[f"{name}_medial"], values[f"{name}_heart"], values["apex"]
        inner = medial + heart
        out = [medial + heart * _HEART, inner + _OUT * (width - inner), medial + (width - medial) * roof]
        down = [apex + _DOWN * (base - apex), base + angle * _OUT**2, apex + _UP * (base + angle - apex)]
        y.append(np.concatenate(down, axis=1))
        x.append(values["middle"] + 2 * values["lean"] * (y[-1] - 0.5) + side * np.concatenate(out, axis=1))
    return np.stack(x, axis=1), np.stack(y, axis=1)


def _steps(z: np.ndarray) -> np.ndarray:
    """Return half the difference of each point's neighbours on closed outlines."""
    return (np.roll(z, -1, axis=-1) - np.roll(z, 1, axis=-1)) / 2


def _normals(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return x and y of the unit normals that point out of the lungs, and the length of outline of each point."""
    dx, dy = _steps(x), _steps(y)
    length = np.hypot(dx, dy) + 1e-6
    turn = np.array([[1], [-1]], np.float32) / length  # the two lungs are run round in opposite directions
    return dy * turn, -dx * turn, length


def _counts(gradient: np.ndarray, shapes: np.ndarray, half: float) -> tuple[np.ndarray, np.ndarray]:
    """Return, (n, 2, points) each, how much edges agree with each point of n shapes' outlines, and its length.

    A point counts g / (|g| + half), where g is the outward gradient: a strong edge of something else, such as a
    cable, can outweigh only few others. Points outside the image count 0.
    """
    x, y = _outlines(shapes)
    across, down, lengths = _normals(x, y)
    columns, rows = np.floor(x * _SIDE).astype(np.int32), np.floor(y * _SIDE).astype(np.int32)
    inside = (columns >= 0) & (columns < _SIDE) & (rows >= 0) & (rows < _SIDE)
    at = np.where(inside, rows * _SIDE + columns, 0)
    outward = gradient[0].ravel()[at] * across + gradient[1].ravel()[at] * down
    return inside * outward / (np.abs(outward) + half), lengths


def _mean_count(counts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the mean along each outline, then of both lungs, (n,)."""
    return ((counts * lengths).sum(axis=-1) / lengths.sum(axis=-1)).mean(axis=1)


def _merit(gradient: np.ndarray, shapes: np.ndarray) -> np.ndarray:
    """Return what the shape to choose has most of, (n,)."""
    counts, lengths = _counts(gradient, shapes, 2.0)
    # Without a reward for length a shape would rather end at a rib or at the edge of an opacity than at the diaphragm.
    size = np.sqrt(lengths.sum(axis=-1).mean(axis=1))
    return _mean_count(counts, lengths) * size - 0.1 * (shapes**2).mean(axis=1)


def _is_plausible(gradient: np.ndarray, shape: np.ndarray) -> bool:
    counts, lengths = _counts(gradient, shape, 1.0)
    agreement = _mean_count(counts, lengths) - 0.15 * (shape**2).mean(axis=1)
    # One dark disc shows the outer borders of two lungs very well, but nothing between them.
    borders = np.split(counts, [_DOWN.size, _DOWN.size + _OUT.size], axis=-1)
    return bool(agreement[0] >= _AGREEMENT and min(border.mean() for border in borders) >= _OF_EACH)
