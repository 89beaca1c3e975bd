"""Small pictures of all images: their hashes, and how much of one another explains."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from joblib import effective_n_jobs
from PIL import Image
from scipy import ndimage

from cxr_estimator._optional import needed
from cxr_estimator._progress import bar
from cxr_estimator.errors import DataError, SkippedImage
from cxr_estimator.images import as_images
from cxr_estimator.preprocessing import Preprocessing
from cxr_estimator.reading import Reading, iter_prepared

HASH_BITS = 64
_SIDE, _BATCH = 32, 256  # pHash needs 32 x 32 pixels
_BLUR, _BACKGROUND = 0.7, 2.0  # standard deviations in pixels of the picture; benchmarks/curation.py compares others
_MARGIN = 2  # pixels whose gradients see the border
_PAIRS = 1000  # whose pictures are compared at once


class Pictures(NamedTuple):
    """All readable images, small.

    Attributes
    ----------
    position : ndarray (M,), int64
        Position of each in X.
    content_ids : ndarray (M,) of str
    pixels : ndarray (M, 32, 32), uint8
        Grey, stretched to the range and to the square.
    skipped : tuple of SkippedImage
    """

    position: np.ndarray
    content_ids: np.ndarray
    pixels: np.ndarray
    skipped: tuple[SkippedImage, ...]


def read_pictures(X: Any, *, n_jobs: int | None, verbose: int, caller: str) -> Pictures:
    """Decode all images once, with 1 KB kept of each; unreadable ones are listed and never fatal."""
    images = as_images(X)
    if images.is_rows:
        raise DataError(f"{caller}: X holds rows of numbers; reshape them to images (N, H, W).")
    small = Preprocessing(_SIDE, channels=1, intensity="minmax")
    reading = Reading(on_error="skip", n_jobs=effective_n_jobs(n_jobs))
    position, pixels = [], []
    ids: list[str] = []
    skipped: list[SkippedImage] = []
    with bar(len(images), "reading images", verbose) as progress:
        for part in iter_prepared(images, small, reading, batch_size=_BATCH):
            position.append(part.index)
            ids += part.content_ids
            pixels.append(_eight_bits(part.pixels[:, 0]))
            skipped += part.skipped
            progress(len(part.index) + len(part.skipped))
    if not ids:
        raise DataError(f"{caller}: none of the {len(images)} images could be read: {skipped[0].reason}")
    return Pictures(np.concatenate(position), np.array(ids), np.concatenate(pixels), tuple(skipped))


def _eight_bits(pixels: np.ndarray) -> np.ndarray:
    return pixels if pixels.dtype == np.uint8 else (pixels // 257).astype(np.uint8)


def hashes(pixels: np.ndarray, *, caller: str) -> tuple[np.ndarray, np.ndarray]:
    """Return pHash and dHash of pictures (M, 32, 32), each (M, 64) float32 of 1 and -1.

    So written, 64 minus the product of two hashes is twice their Hamming distance, and a matrix product gives all.
    """
    imagehash = needed("imagehash", "ImageHash", extra="curation", caller=caller)
    pictures = [Image.fromarray(one) for one in pixels]
    found = ([each(one).hash.ravel() for one in pictures] for each in (imagehash.phash, imagehash.dhash))
    by_cosines, by_gradients = (np.where(np.array(bits), np.float32(1), np.float32(-1)) for bits in found)
    return by_cosines, by_gradients


def hash_distances(hashed: np.ndarray, rows: slice) -> np.ndarray:
    """Return the Hamming distances of some rows of one of the `hashes` to all from the first of them on."""
    return (HASH_BITS - hashed[rows] @ hashed[rows.start :].T) / 2


def resemblance(pixels: np.ndarray, first: np.ndarray, second: np.ndarray, least: float) -> np.ndarray:
    """Return how much of one picture the other explains where it may be moved, stretched and rotated a little.

    The multiple correlation, in [0, 1], of a picture with the other and its first derivatives by an affine change (the
    tangent plane of Simard et al. 2012, doi:10.1007/978-3-642-35289-8_17), after a band-pass filter that leaves ribs
    and vessels rather than the outline all chests share. The lesser of both directions.

    Parameters
    ----------
    pixels : ndarray (M, 32, 32)
    first, second : ndarray (P,), int
        Rows of `pixels`.
    least : float
        Where the first direction gives less, the second is spared.

    Returns
    -------
    ndarray (P,), float64
        1 for pictures equal up to contrast; 0 where one of them has no contrast.
    """
    found = np.zeros(len(first))
    for rows in _parts(len(first)):
        a, b = _band(pixels[first[rows]]), _band(pixels[second[rows]])
        value = _explained(a, b)
        good = value >= least
        value[good] = np.minimum(value[good], _explained(b[good], a[good]))
        found[rows] = value
    return found


def _parts(size: int) -> Iterator[slice]:
    return (slice(start, start + _PAIRS) for start in range(0, size, _PAIRS))


def _band(pixels: np.ndarray) -> np.ndarray:
    fine = ndimage.gaussian_filter(pixels.astype(np.float64), (0, _BLUR, _BLUR))
    return fine - ndimage.gaussian_filter(fine, (0, _BACKGROUND, _BACKGROUND))


def _explained(model: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Return the multiple correlation (P,) of `shown` with `model` and its derivatives, (P, 32, 32) each."""
    inner = (..., slice(_MARGIN, -_MARGIN), slice(_MARGIN, -_MARGIN))
    size = (_SIDE - 2 * _MARGIN) ** 2
    down, across = np.gradient(model, axis=(1, 2))
    y, x = np.mgrid[-1 : 1 : _SIDE * 1j, -1 : 1 : _SIDE * 1j]
    plane = np.stack([model, down, across, x * down, y * down, x * across, y * across], axis=1)
    plane = _centred(plane[inner].reshape(*plane.shape[:2], size))
    target = _centred(shown[inner].reshape(len(shown), size))
    gram = plane @ plane.transpose(0, 2, 1)
    gram += np.eye(gram.shape[1]) * (1e-9 * np.trace(gram, axis1=1, axis2=2)[:, None, None] + 1e-12)
    along = np.einsum("pkn,pn->pk", plane, target)
    part = (along * np.linalg.solve(gram, along[..., None])[..., 0]).sum(axis=1)
    whole = (target**2).sum(axis=1)
    return np.sqrt(np.clip(np.divide(part, whole, out=np.zeros_like(part), where=whole > 0), 0.0, 1.0))


def _centred(values: np.ndarray) -> np.ndarray:
    return values - values.mean(axis=-1, keepdims=True)
