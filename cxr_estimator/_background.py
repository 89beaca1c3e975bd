"""The reference images that SHAP methods compare with: means of clusters of many patients, so nobody's image."""

from __future__ import annotations

import numpy as np

from cxr_estimator.reading import PixelRows

PATIENTS = 20  # in every mean at least
_CLUSTERS = 4  # per class at most
_THUMBNAIL = 16  # pixels a side, in which images are clustered
_CHUNK = 256


def make_background(
    pixels: np.ndarray | PixelRows, target: np.ndarray, patients: np.ndarray | None, seed: int
) -> np.ndarray | None:
    """Return mean images (b, C, S, S), uint8, each of at least 20 patients; None where there are fewer.

    The patients of each class are clustered by k-means on thumbnails, into at most four clusters; a class of fewer than
    20 patients gets no image of its own. Every patient of a cluster has the same weight in its mean.

    Parameters
    ----------
    pixels : ndarray or PixelRows (N, C, S, S), uint8 or uint16
    target : ndarray (N,), int64, or (N, K)
        Class indices. Several labels per image make no classes: all images are clustered together.
    patients : ndarray (N,) or None
        None takes every image for a patient of its own.
    """
    if target.ndim == 2:
        target = np.zeros(len(target), dtype=np.int64)
    owner = np.arange(len(target)) if patients is None else np.unique(patients, return_inverse=True)[1]
    thumbnails = _thumbnails(pixels)
    rows_of = [np.flatnonzero(target == index) for index in np.unique(target)]
    large = [rows for rows in rows_of if len(np.unique(owner[rows])) >= PATIENTS]
    if not large and len(np.unique(owner)) >= PATIENTS:
        large = [np.arange(len(target))]
    weights = [weight for rows in large for weight in _cluster_weights(thumbnails, owner, rows, seed)]
    return _weighted_means(pixels, np.stack(weights)) if weights else None


def _cluster_weights(thumbnails: np.ndarray, owner: np.ndarray, rows: np.ndarray, seed: int) -> list[np.ndarray]:
    """Return for each cluster of the patients of `rows` the weights (N,) of all images in its mean."""
    from sklearn.cluster import KMeans

    patient, n_images = np.unique(owner[rows], return_inverse=True, return_counts=True)[1:]
    means = np.zeros((len(n_images), thumbnails.shape[1]))
    np.add.at(means, patient, thumbnails[rows])
    means /= n_images[:, None]
    for k in range(min(_CLUSTERS, len(means) // PATIENTS), 0, -1):
        cluster = KMeans(k, n_init=1, random_state=seed).fit_predict(means) if k > 1 else np.zeros(len(means), int)
        sizes = np.bincount(cluster, minlength=k)
        if sizes.min() >= PATIENTS:
            break
    weights = []
    for number, size in enumerate(sizes):
        weight = np.zeros(len(thumbnails))
        weight[rows] = (cluster == number)[patient] / (n_images[patient] * size)
        weights.append(weight)
    return weights


def _thumbnails(pixels: np.ndarray | PixelRows) -> np.ndarray:
    """Return every image as the means of its cells, (N, cells)."""
    found = []
    for start in range(0, len(pixels), _CHUNK):
        part = _eight_bits(pixels[start : start + _CHUNK])
        edges = np.unique(np.linspace(0, part.shape[2], _THUMBNAIL + 1, dtype=int)[:-1])
        cells = np.add.reduceat(np.add.reduceat(part, edges, axis=2), edges, axis=3)
        found.append(cells.reshape(len(part), -1))
    return np.concatenate(found)


def _weighted_means(pixels: np.ndarray | PixelRows, weights: np.ndarray) -> np.ndarray:
    total: np.ndarray | float = 0.0
    for start in range(0, len(pixels), _CHUNK):
        rows = slice(start, min(start + _CHUNK, len(pixels)))
        total = total + np.tensordot(weights[:, rows], _eight_bits(pixels[rows]), axes=1)
    return np.rint(total).astype(np.uint8)


def _eight_bits(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(np.float32) / (257.0 if pixels.dtype == np.uint16 else 1.0)
