"""What must hold of the arrays and the description in the files of an explanation, before anything uses them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cxr_estimator.errors import DataError
from cxr_estimator.images import MAX_PIXELS
from cxr_estimator.preprocessing import Geometry

SHOWS = ("evidence", "sensitivity", "features")  # what the values of a map may stand for
# Per array: letters of the NumPy kinds that are allowed, and the number of dimensions.
_ARRAYS = {
    "values": ("f", 3), "score": ("f", 1), "index": ("iu", 1), "completeness_residual": ("f", 1), "proba": ("f", 2),
    "evaluations": ("iu", 1),
}  # fmt: skip
_TYPES: dict[str, tuple[type, ...]] = {
    "method": (str,), "signed": (bool,), "options": (dict,), "seed": (int, type(None)), "layer": (str, type(None)),
    "baseline": (str, type(None)), "shows": (str,), "versions": (dict,), "image_ids": (list,), "geometry": (list,),
    "prediction": (dict,),
}  # fmt: skip


def check_arrays(arrays: dict[str, np.ndarray]) -> None:
    """Raise unless each array is of its type and shape; that they belong together is for `Explanation` to see."""
    for name, (kinds, dimensions) in _ARRAYS.items():
        array = arrays[name]
        if array.dtype.kind not in kinds or array.ndim != dimensions or not array.size:
            raise DataError(f"{name!r} is of type {array.dtype} and shape {array.shape}")
    values, images, spread = arrays["values"], arrays.get("images"), arrays.get("spread")
    if spread is not None and (spread.dtype != np.float32 or spread.shape != values.shape):
        raise DataError(f"'spread' is of type {spread.dtype} and shape {spread.shape}")
    if values.dtype != np.float32:
        raise DataError(f"'values' is of type {values.dtype}, not float32")
    if images is not None and (
        images.dtype != np.uint8 or images.shape[:3] != values.shape or images.shape[3:] not in ((), (3,))
    ):
        raise DataError(f"'images' is of type {images.dtype} and shape {images.shape}")


def check_description(description: dict[str, Any]) -> None:
    """Raise unless every entry has its type."""
    for name, types in _TYPES.items():
        value = description[name]
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise DataError(f"{name!r} is {value!r:.200}")
    if not all(isinstance(value, str) for value in (*description["image_ids"], *description["versions"].values())):
        raise DataError("'image_ids' and 'versions' must hold text")
    if description["shows"] not in SHOWS:
        raise DataError(f"'shows' is {description['shows']!r:.200}")
    said = description["prediction"]
    threshold = said["threshold"]
    if threshold is not None and (isinstance(threshold, bool) or not isinstance(threshold, int | float)):
        raise DataError(f"'threshold' is {threshold!r:.200}")
    if said["pos_label"] is not None and said["pos_label"] not in said["classes"]:
        raise DataError(f"'pos_label' is {said['pos_label']!r:.200}")


def checked_geometry(description: Any, model_shape: tuple[int, int]) -> Geometry:
    """Return a geometry whose boxes lie within images of a size that can be."""
    geometry = Geometry.from_dict(description)
    shapes = {"original_shape": geometry.original_shape, "model_shape": geometry.model_shape}
    for name, sides in (*shapes.items(), ("source", geometry.source), ("target", geometry.target)):
        if not all(isinstance(side, int) and not isinstance(side, bool) and side >= 0 for side in sides):
            raise DataError(f"{name!r} of the geometry is {sides!r:.200}")
    for box, shape in ((geometry.source, geometry.original_shape), (geometry.target, geometry.model_shape)):
        if len(shape) != 2 or math.prod(shape) > MAX_PIXELS or geometry.model_shape != model_shape:
            raise DataError(f"the geometry has images of {shape!r:.200} pixels")
        is_inside = box.top + box.height <= shape[0] and box.left + box.width <= shape[1]
        if not is_inside or min(box.height, box.width) < 1:
            raise DataError(f"a box of the geometry lies outside of its image: {box!r:.200}")
    return geometry
