"""Holes in an image, bridged smoothly from their rims."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import ndimage, sparse
from scipy.sparse.linalg import spsolve

_MOST_HOLE = 96  # pixels of the longer side of a hole when it is filled: what fills it is smooth


def filled(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the image with each hole of the mask bridged smoothly from its rim; `pixels` itself if there is none."""
    if not mask.any() or mask.all():
        return pixels
    filled = pixels.copy()
    labels, _ = ndimage.label(mask, np.ones((3, 3)))
    for index, hole in enumerate(ndimage.find_objects(labels), start=1):
        step = math.ceil(max(part.stop - part.start for part in hole) / _MOST_HOLE)
        # one row and column of the coarse grid more on each side: the rim from which it is filled
        box = tuple(slice(max(part.start - step, 0), part.stop + step) for part in hole)
        filled[box] = by_channel(_bridged, filled[box], labels[box] == index, step)
    return filled


def _bridged(grey: np.ndarray, hole: np.ndarray, step: int) -> np.ndarray:
    """Solve Laplace's equation in the hole, on a grid of each `step`-th pixel."""
    values = _laplace(grey[::step, ::step].astype(np.float64), hole[::step, ::step])
    if step > 1:
        rows, columns = (np.arange(side) / step for side in grey.shape)
        values = ndimage.map_coordinates(values, np.meshgrid(rows, columns, indexing="ij"), order=1, mode="nearest")
    result = grey.copy()
    result[hole] = as_before(values, grey)[hole]
    return result


def _laplace(grey: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Return the image with each pixel of the hole the mean of its neighbours in the image."""
    number = np.full(hole.shape, -1)
    number[hole] = np.arange(hole.sum())
    known = np.zeros(int(hole.sum()))
    degree = np.zeros_like(known)
    pairs = []
    for axis in (0, 1):
        for one, other in ((slice(1, None), slice(None, -1)), (slice(None, -1), slice(1, None))):
            here = (one, slice(None)) if axis == 0 else (slice(None), one)
            there = (other, slice(None)) if axis == 0 else (slice(None), other)
            own, next_to = number[here], number[there]
            degree += np.bincount(own[own >= 0], minlength=len(degree))
            rim = (own >= 0) & (next_to < 0)
            known += np.bincount(own[rim], weights=grey[there][rim], minlength=len(degree))
            both = (own >= 0) & (next_to >= 0)
            pairs.append(np.stack([own[both], next_to[both]]))
    rows, columns = np.concatenate(pairs, axis=1)
    size = len(degree)
    system = sparse.diags_array(degree) - sparse.coo_array((np.ones(len(rows)), (rows, columns)), shape=(size, size))
    result = grey.copy()
    result[hole] = spsolve(sparse.csc_array(system), known)
    return result


def as_before(values: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Return `values` as the type of `pixels`, within their range."""
    if pixels.dtype.kind in "ui":
        values = np.rint(values if pixels.dtype.itemsize < 3 else values.astype(np.float64))
    return values.clip(pixels.min(), pixels.max()).astype(pixels.dtype)


def by_channel(function: Callable[..., np.ndarray], pixels: np.ndarray, *arguments: Any) -> np.ndarray:
    if pixels.ndim == 2:
        return function(pixels, *arguments)
    return np.stack([function(pixels[..., channel], *arguments) for channel in range(pixels.shape[2])], axis=2)
