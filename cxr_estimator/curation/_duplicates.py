"""`duplicates`: the same picture twice, as the same pixels or changed a little."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cxr_estimator._validation import check_number, check_per_image
from cxr_estimator._wording import printable
from cxr_estimator.curation._pictures import HASH_BITS, Pictures, hash_distances, hashes, read_pictures, resemblance
from cxr_estimator.errors import SkippedImagesWarning
from cxr_estimator.images import as_images

_CALLER = "duplicates"
_DISTANCE, _SIMILARITY = 10, 0.95  # measured on real radiographs: benchmarks/curation.py
_GRADIENT_SHARE = 0.8  # of the distance of pHash that dHash may have: it changes less in duplicates
_BLOCK = 2**22  # distances at once


def duplicates(
    X: Any,
    *,
    y: Any = None,
    groups: Any = None,
    splits: Any = None,
    max_distance: int = _DISTANCE,
    min_similarity: float = _SIMILARITY,
    n_jobs: int | None = None,
    verbose: int = 0,
) -> pd.DataFrame:
    """Find images that are the same picture: exactly, or re-encoded, resized, cropped a little or made brighter.

    Exact ones have the same decoded pixels (`content_id`), as byte-identical files do. Near ones are candidates by two
    perceptual hashes of 64 bits, which many chest radiographs share, and confirmed where each of both pictures explains
    the other up to a small affine change. Embeddings of a network trained on the labels do not tell: of two images of
    one class their cosine is near 1 (`benchmarks/curation.py` measures all this).

    Parameters
    ----------
    X : N images
        Unreadable ones are left out, with a warning that lists them.
    y, groups, splits : sequences of N labels, patients and names of splits, optional
        Compared within each group.
    max_distance : int, default=10
        Most bits, of 64, in which the pHash of two candidates may differ; the dHash may in 80% of that. -1: exact only.
    min_similarity : float in [0, 1], default=0.95
        Least similarity that confirms a candidate.
    n_jobs : int, optional
        Threads that decode, in joblib's sense.
    verbose : int, default=0

    Returns
    -------
    DataFrame
        A row for each image that has a duplicate: `group` (from 0; connected pairs), `position` in X, `kind` ("exact"
        where its very pixels come again, else "near"), `hash_distance` and `similarity` to its nearest duplicate, and
        where these are given: `label`, `labels_differ` within the group, `patient` (a number, since names of patients
        stand in no table), `patients_differ`, `split`, `splits_differ`.

    Raises
    ------
    DataError
        No image could be read, or y, groups or splits do not fit.
    MissingPackageError
        ImageHash is not installed.

    Notes
    -----
    Time grows with the square of the number of distinct images; memory is 2 KB for each. Most of it goes into
    confirming the candidates, about 0.35 ms each: of real radiographs 0.16% of all pairs are candidates.

    Examples
    --------
    >>> from cxr_estimator import make_phantoms
    >>> from cxr_estimator.curation import duplicates
    >>> X = make_phantoms(4, size=64, images_per_patient=1).X
    >>> duplicates(X[[0, 1, 2, 3, 0]])[["group", "position", "kind"]].to_numpy().tolist()
    [[0, 0, 'exact'], [0, 4, 'exact']]
    """
    check_number("max_distance", max_distance, caller=_CALLER, low=-1, high=HASH_BITS, integer=True)
    check_number("min_similarity", min_similarity, caller=_CALLER, low=0, high=1)
    given = {"label": y, "patient": groups, "split": splits}
    about = checked(given, len(as_images(X)), caller=_CALLER)
    pictures = read_pictures(X, n_jobs=n_jobs, verbose=verbose, caller=_CALLER)
    if pictures.skipped:
        warnings.warn(SkippedImagesWarning(pictures.skipped), stacklevel=2)
    return duplicate_table(pictures, about, max_distance=max_distance, min_similarity=min_similarity)


def checked(given: Mapping[str, Any], n_images: int, *, caller: str) -> dict[str, np.ndarray]:
    """Return what is known of each image by name of the column; patients as numbers, texts as UTF-8 can hold them."""
    names = {"label": "y", "patient": "groups", "split": "splits"}
    about = {
        name: check_per_image(names[name], values, n_images, caller=caller)
        for name, values in given.items()
        if values is not None
    }
    if "patient" in about:
        about["patient"] = np.unique(about["patient"], return_inverse=True)[1]
    return {name: _printable(values) for name, values in about.items()}


def _printable(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind not in "OU":
        return values
    return np.array(
        [printable(one) if isinstance(one, str) else one for one in values.tolist()], dtype=values.dtype.kind
    )


def duplicate_table(
    pictures: Pictures,
    about: Mapping[str, np.ndarray],
    *,
    max_distance: int = _DISTANCE,
    min_similarity: float = _SIMILARITY,
) -> pd.DataFrame:
    """Return the table of `duplicates`; `about` holds what is known of each image of X, readable or not."""
    _, first, content, copies = np.unique(
        pictures.content_ids, return_index=True, return_inverse=True, return_counts=True
    )
    pairs = _near_pairs(pictures.pixels[first], max_distance, min_similarity)
    near = coo_array((np.ones(len(pairs.first)), (pairs.first, pairs.second)), shape=(len(first), len(first)))
    group = connected_components(near, directed=False)[1][content]
    alone = np.bincount(group)[group] == 1
    nearest = _nearest(pairs, len(first))
    is_exact = copies[content] > 1
    table = pd.DataFrame(
        {
            "group": group,
            "position": pictures.position,
            "kind": np.where(is_exact, "exact", "near"),
            "hash_distance": np.where(is_exact, 0, nearest.distance[content]).astype(np.int64),
            "similarity": np.where(is_exact, 1.0, nearest.similarity[content]),
        }
    )[~alone]
    # groups in the order of their first image
    table["group"] = pd.factorize(table["group"])[0]
    for name, values in about.items():
        table[name] = values[table["position"]]
        table[f"{name}s_differ"] = table.groupby("group")[name].transform("nunique") > 1
    return table.sort_values(["group", "position"], ignore_index=True)


class _Pairs(NamedTuple):
    """Near duplicates among distinct images: rows, pHash distance and similarity, (P,) each."""

    first: np.ndarray
    second: np.ndarray
    distance: np.ndarray
    similarity: np.ndarray


class _Nearest(NamedTuple):
    distance: np.ndarray
    similarity: np.ndarray


def _near_pairs(pixels: np.ndarray, max_distance: int, min_similarity: float) -> _Pairs:
    if max_distance < 0:
        return _joined([])
    hashed = hashes(pixels, caller=_CALLER)
    return _joined([_confirmed(pixels, one, min_similarity) for one in _candidates(*hashed, max_distance)])


def _candidates(by_cosines: np.ndarray, by_gradients: np.ndarray, max_distance: int) -> Iterator[_Pairs]:
    """Yield the pairs that both hashes allow, block by block, similarity still unknown."""
    size = len(by_cosines)
    step = max(1, _BLOCK // size)
    for start in range(0, size, step):
        rows = slice(start, start + step)
        distance = hash_distances(by_cosines, rows)
        allowed = (distance <= max_distance) & (hash_distances(by_gradients, rows) <= _GRADIENT_SHARE * max_distance)
        first, second = np.nonzero(np.triu(allowed, 1))
        yield _Pairs(first + start, second + start, distance[first, second], np.zeros(len(first)))


def _confirmed(pixels: np.ndarray, pairs: _Pairs, min_similarity: float) -> _Pairs:
    similarity = resemblance(pixels, pairs.first, pairs.second, min_similarity)
    good = similarity >= min_similarity
    return _Pairs(pairs.first[good], pairs.second[good], pairs.distance[good], similarity[good])


def _joined(parts: list[_Pairs]) -> _Pairs:
    nothing = np.zeros(0, dtype=np.int64)
    empty = _Pairs(nothing, nothing, nothing, np.zeros(0))
    return _Pairs(*(np.concatenate(columns) for columns in zip(empty, *parts, strict=True)))


def _nearest(pairs: _Pairs, size: int) -> _Nearest:
    """Return pHash distance and similarity of the most similar partner of each distinct image."""
    order = np.argsort(pairs.similarity, kind="stable")  # the most similar is written last
    found = _Nearest(np.zeros(size), np.zeros(size))
    for side in (pairs.first, pairs.second):
        better = order[pairs.similarity[order] >= found.similarity[side[order]]]
        found.distance[side[better]] = pairs.distance[better]
        found.similarity[side[better]] = pairs.similarity[better]
    return found
