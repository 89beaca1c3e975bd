"""Truths that are planted on purpose: shortcuts that go with the label, and opacities whose place is known."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from cxr_estimator._validation import check_choice, check_labels, check_number, check_per_image, check_seed, wrong_type
from cxr_estimator.errors import DataError

_SMALLEST = 32  # side in pixels below which a marker cannot be drawn
_CARRIER, _LOOK, _OPACITY = range(3)  # independent random streams: no draw from one shifts another
_MARKER = ("11110", "10001", "10001", "11110", "10000", "10000", "10000")  # a P, as in "portable"
_MARKER_HEIGHT = 0.12  # of the shorter side
_MARKER_MARGIN = (0.02, 0.06)  # least and largest distance from the edges, as a share of the shorter side
_MARKER_GREY = (215, 255)
_BORDER_WIDTH = (0.03, 0.06)  # of each edge by itself, as a share of the side across it
_BORDER_GREY = (0, 20)
_BRIGHTER_BY = (20, 32)  # grey levels
_REDUCED_BY = (1.9, 2.4)  # times

_LUNG_CENTRE, _LUNG_HALF_AXES = (0.42, 0.21), (0.24, 0.12)  # y, and x from the middle, as shares of height and width
_FOCUS_HALF_AXES = (0.06, 0.12)  # shares of the side
_FILLED = (0.45, 0.8)  # share of the way to the grey of soft tissue
_SEEN = 10  # grey levels that make a changed pixel part of the mask


def plant_shortcut(
    X: Any,
    y: Any,
    kind: str,
    *,
    strength: float = 1.0,
    pos_label: Any = "PNEUMONIA",
    groups: Any = None,
    random_state: Any = 0,
) -> Any:
    """Plant a shortcut: a sign of the label that has nothing to do with disease.

    Parameters
    ----------
    X : array (N, H, W) or sequence of N arrays (H, W), uint8
        Grey images of at least 32 pixels a side. They are not changed.
    y : sequence of N labels
    kind : str
        Key of `SHORTCUTS`. "corner_marker": a bright letter in the upper right corner. "border": a dark frame of 3 to
        6 % of the side. "brightness": 20 to 32 grey levels more. "resolution": reduced to about half the size, and
        enlarged again.
    strength : float in [0, 1], default=1.0
        How far the shortcut goes with the label. An image of `pos_label` carries it with probability
        0.5 + strength / 2, any other one with 0.5 - strength / 2: 1 is perfect, 0 is independent of the label.
    pos_label : label, default="PNEUMONIA"
    groups : sequence of N patients, optional
        All images of a patient that have one label carry it, or none does. Default: each image by itself.
    random_state : int, RandomState, Generator or None, default=0
        With an integer, who carries it depends on the name of the patient (or the position of the image) alone, its
        look on the position: other images change neither. A stronger shortcut is carried by the same images of
        `pos_label` and by more.

    Returns
    -------
    array (N, H, W), or list of N arrays (H, W) where X is no array, uint8
        New arrays.

    Raises
    ------
    DataError
        An image is not grey, not uint8 or too small, or y and groups do not suit X.

    See Also
    --------
    shortcut_carriers : Which images carry it.

    References
    ----------
    Zech et al. (2018), Variable generalization performance of a deep learning model to detect pneumonia in chest
    radiographs, PLOS Medicine 15(11), doi:10.1371/journal.pmed.1002683 (markers such as "PORTABLE" tell the hospital)

    Examples
    --------
    >>> from cxr_estimator import make_phantoms
    >>> from cxr_estimator.datasets.shortcuts import plant_shortcut
    >>> data = make_phantoms(4, size=64)
    >>> planted = plant_shortcut(data.X, data.y, "corner_marker", groups=data.groups)
    >>> ((planted != data.X).any((1, 2)) == (data.y == "PNEUMONIA")).all()
    np.True_
    """
    caller = "plant_shortcut"
    plant = SHORTCUTS[check_choice("kind", kind, SHORTCUTS, caller=caller)]
    images = _check_images(X, caller)
    seed = check_seed(random_state, caller=caller)
    carried = shortcut_carriers(y, strength=strength, pos_label=pos_label, groups=groups, random_state=seed)
    if len(carried) != len(images):
        raise DataError(f"{caller}: X has {len(images)} images but y has {len(carried)} labels.")
    planted = [
        plant(image, _stream(seed, _LOOK, position)) if carries else image.copy()
        for position, (image, carries) in enumerate(zip(images, carried, strict=True))
    ]
    return np.stack(planted) if isinstance(X, np.ndarray) else planted


def shortcut_carriers(
    y: Any, *, strength: float = 1.0, pos_label: Any = "PNEUMONIA", groups: Any = None, random_state: Any = 0
) -> np.ndarray:
    """Return which images `plant_shortcut` gives a shortcut to, (N,) bool; it has the same parameters.

    Examples
    --------
    >>> from cxr_estimator.datasets.shortcuts import shortcut_carriers
    >>> shortcut_carriers(["NORMAL", "PNEUMONIA", "NORMAL"])
    array([False,  True, False])
    """
    caller = "plant_shortcut"
    labels = check_labels(y, len(y), caller=caller)
    check_number("strength", strength, caller=caller, low=0, high=1)
    positive = labels == check_choice("pos_label", pos_label, np.unique(labels).tolist(), caller=caller)
    patients = range(len(labels)) if groups is None else check_per_image("groups", groups, len(labels), caller=caller)
    seed = check_seed(random_state, caller=caller)
    draws = {patient: _stream(seed, _CARRIER, zlib.crc32(str(patient).encode())).random() for patient in set(patients)}
    probability = 0.5 + np.where(positive, strength, -strength) / 2
    return np.array([draws[patient] for patient in patients]) < probability


def _stream(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _check_images(X: Any, caller: str) -> list[np.ndarray]:
    """Return the images of X, each (H, W) uint8 and large enough."""
    images = list(X)
    for position, image in enumerate(images):
        if not isinstance(image, np.ndarray):
            raise wrong_type("X", caller, "an array (N, H, W) or a sequence of arrays (H, W)", image)
        if image.dtype != np.uint8 or image.ndim != 2 or min(image.shape) < _SMALLEST:
            raise DataError(
                f"{caller}: image {position} must be grey, (H, W), uint8, at least {_SMALLEST} pixels a side. Got "
                f"{image.dtype}, shape {image.shape}."
            )
    return images


def _corner_marker(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Burn a bright letter into the upper right corner."""
    side = min(image.shape)
    height = max(len(_MARKER), round(_MARKER_HEIGHT * side))
    width = height * len(_MARKER[0]) // len(_MARKER)
    dots = np.array([[dot == "1" for dot in row] for row in _MARKER])
    letter = dots[np.arange(height) * len(dots) // height][:, np.arange(width) * dots.shape[1] // width]
    top, margin = (side * rng.uniform(*_MARKER_MARGIN, 2)).round().astype(int)
    marked = image.copy()
    place = marked[top : top + height, image.shape[1] - margin - width : image.shape[1] - margin]
    place[letter] = np.maximum(place[letter], int(rng.integers(*_MARKER_GREY, endpoint=True)))
    return marked


def _border(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Cover the edges, as the blades of a collimator do."""
    height, width = image.shape
    top, bottom, left, right = (
        (np.array([height, height, width, width]) * rng.uniform(*_BORDER_WIDTH, 4)).round().astype(int)
    )
    framed = np.full_like(image, rng.integers(*_BORDER_GREY, endpoint=True))
    inside = np.s_[top : height - bottom, left : width - right]
    framed[inside] = image[inside]
    return framed


def _brightness(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Raise all grey values by the same; what passes white is lost."""
    return (image.astype(int) + rng.integers(*_BRIGHTER_BY, endpoint=True)).clip(max=255).astype(np.uint8)


def _resolution(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Reduce the image and enlarge it again, so that fine detail is lost."""
    height, width = image.shape
    factor = rng.uniform(*_REDUCED_BY)
    small = Image.fromarray(image).resize((round(width / factor), round(height / factor)), Image.Resampling.BOX)
    return np.array(small.resize((width, height), Image.Resampling.BILINEAR))


SHORTCUTS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "corner_marker": _corner_marker,
    "border": _border,
    "brightness": _brightness,
    "resolution": _resolution,
}


class Pasted(NamedTuple):
    """Images with opacities and where these are, as `paste_opacities` returns them."""

    X: Any
    masks: Any


def paste_opacities(X: Any, *, random_state: Any = 0) -> Pasted:
    """Paste one to three soft opacities into the lungs of normal frontal radiographs.

    A classifier then has something true to find whose place is known. These are **drawings, not disease**: nothing
    learned on them carries over to patients. Like exudate, an opacity takes away air: it brings dark pixels nearer to
    the grey of the soft tissue of the same image, and leaves bright ones nearly as they are.

    Parameters
    ----------
    X : array (N, H, W) or sequence of N arrays (H, W), uint8
        Upright frontal chest radiographs that fill the image, at least 32 pixels a side. They are not changed.
    random_state : int, RandomState, Generator or None, default=0
        With an integer, an opacity depends on the image and its position alone.

    Returns
    -------
    Pasted
        Named tuple of ``X`` and ``masks`` (bool: at least 10 grey levels brighter than before): arrays (N, H, W), or
        lists where X is no array.

    Raises
    ------
    DataError
        An image is not grey, not uint8 or too small.

    Notes
    -----
    Lungs are not segmented: centres are drawn among the darker pixels of two ellipses where lungs usually lie.

    Examples
    --------
    >>> from cxr_estimator import make_phantoms
    >>> from cxr_estimator.datasets.shortcuts import paste_opacities
    >>> pasted = paste_opacities(make_phantoms(2, size=64, prevalence=0).X)
    >>> pasted.masks.any((1, 2))
    array([ True,  True])
    """
    caller = "paste_opacities"
    seed = check_seed(random_state, caller=caller)
    images = _check_images(X, caller)
    pasted = [_with_opacities(image, _stream(seed, _OPACITY, position)) for position, image in enumerate(images)]
    masks = [after.astype(int) - before >= _SEEN for after, before in zip(pasted, images, strict=True)]
    return Pasted(np.stack(pasted), np.stack(masks)) if isinstance(X, np.ndarray) else Pasted(pasted, masks)


def _with_opacities(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    height, width = image.shape
    y, x = np.mgrid[:height, :width] + 0.5
    down, across = y / height - _LUNG_CENTRE[0], np.abs(x / width - 0.5) - _LUNG_CENTRE[1]
    lungs = (down / _LUNG_HALF_AXES[0]) ** 2 + (across / _LUNG_HALF_AXES[1]) ** 2 < 1
    grey = image.astype(float)
    smooth = ndimage.gaussian_filter(grey, 0.03 * min(image.shape))
    places = np.argwhere(lungs & (smooth <= np.median(smooth[lungs])))
    opacity = np.zeros(image.shape)
    for _ in range(rng.choice([1, 2, 3], p=[0.5, 0.35, 0.15])):
        opacity = np.maximum(opacity, _focus(y / height, x / width, places[rng.integers(len(places))], rng))
    texture = 0.85 + 0.12 * _cloud(image.shape, 0.02, rng)
    tissue = np.percentile(grey[height // 6 : -height // 6, width // 4 : -width // 4], 85)
    filled = rng.uniform(*_FILLED) * opacity * texture.clip(0.4, 1)
    return (grey + filled * np.maximum(tissue - grey, 0)).round().astype(np.uint8)


def _focus(y: np.ndarray, x: np.ndarray, place: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the opacity (H, W), 0 to 1, of an ellipse around `place` with a soft outline that noise frays."""
    height, width = y.shape
    down, right = y - y[place[0], 0], x - x[0, place[1]]
    angle, (a, b) = rng.uniform(0, math.pi), rng.uniform(*_FOCUS_HALF_AXES, 2)
    along, aside = (
        down * math.cos(angle) + right * math.sin(angle),
        right * math.cos(angle) - down * math.sin(angle),
    )
    form = 1 - np.hypot(along / a, aside / b) + 0.25 * _cloud((height, width), 0.03, rng)
    return ndimage.gaussian_filter((2 * form + 0.5).clip(0, 1), 0.01 * min(height, width))


def _cloud(shape: tuple[int, ...], grain: float, rng: np.random.Generator) -> np.ndarray:
    """Return smooth noise of unit variance, whose grain is a share of the side."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape), grain * min(shape))
    return noise / noise.std()
