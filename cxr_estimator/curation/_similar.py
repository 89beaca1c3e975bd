"""`SimilarCases`: which known cases look to the network like a new one."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors

from cxr_estimator._validation import check_number, check_per_image, wrong_type
from cxr_estimator.errors import DataError

_CALLER = "SimilarCases"


class SimilarCases:
    """Nearest neighbours by the embedding of a network, over cosine similarity.

    Alike means alike to this network: what it was not trained to tell apart may be close together.

    Parameters
    ----------
    clf : CXRClassifier
        Fitted; a later `fit` of it changes nothing here. With `on_error="skip"` unreadable images are left out, and
        listed in a warning.
    X : N images
        The known cases. Only their embeddings are kept, in memory.
    y : sequence of N labels, optional
        Shown beside each neighbour.

    Examples
    --------
    >>> from cxr_estimator import CXRClassifier, make_phantoms
    >>> from cxr_estimator.curation import SimilarCases
    >>> data = make_phantoms(20, size=32)
    >>> clf = CXRClassifier("plain_cnn", image_size=32, max_epochs=1, validation_fraction=0, random_state=0)
    >>> cases = SimilarCases(clf.fit(data.X, data.y, groups=data.groups), data.X, data.y)
    >>> found = cases.query(data.X[:1], k=2)
    >>> found["position"][0].item(), bool(found["same_image"][0]), round(float(found["similarity"][0]), 3)
    (0, True, 1.0)
    """

    def __init__(self, clf: Any, X: Any, y: Any = None) -> None:
        if not hasattr(clf, "_embed"):
            raise wrong_type("clf", _CALLER, "a CXRClassifier", clf)
        self._clf = copy.copy(clf)
        found = self._clf._embed(X)
        embeddings = found.values  # noqa: PD011 - no data frame
        if y is not None:
            y = check_per_image("y", y, len(embeddings), caller=_CALLER)
        self._index, self._labels = readable_rows(embeddings), y
        if not len(self._index):
            raise DataError(f"{_CALLER}: none of the {len(embeddings)} images could be read.")
        self._content_ids = np.array(found.content_ids)
        self._neighbours = NearestNeighbors(metric="cosine").fit(embeddings[self._index])

    def __len__(self) -> int:
        return len(self._index)

    def query(self, X: Any, *, k: int = 5, exclude_same: bool = False) -> pd.DataFrame:
        """Return the `k` most similar known cases of each image.

        Parameters
        ----------
        X : images
        k : int, default=5
        exclude_same : bool, default=False
            Leave out known cases with the very pixels of the image that is asked about.

        Returns
        -------
        DataFrame
            `query` (position in X), `rank` from 1, `position` among the known cases, `similarity` (cosine, at most 1,
            higher is more alike), `same_image`, and `label` where labels are known. Unreadable images have no rows.

        Raises
        ------
        InvalidParameterError
            `k` is larger than the number of known cases that are left.
        DataError
            All known cases have the pixels of an image, and `exclude_same` leaves none.
        """
        check_number("k", k, caller=f"{_CALLER}.query", low=1, high=len(self), integer=True)
        found = self._clf._embed(X)
        embeddings = found.values  # noqa: PD011 - no data frame
        asked = readable_rows(embeddings)
        columns = ["query", "rank", "position", "similarity", "same_image", *(["label"] * (self._labels is not None))]
        if not len(asked):
            return pd.DataFrame(columns=columns)
        ids = np.array(found.content_ids)
        most = self._most_same(ids) if exclude_same else 0
        check_number("k", k, caller=f"{_CALLER}.query", high=len(self) - most, integer=True)
        distance, neighbour = self._neighbours.kneighbors(embeddings[asked], n_neighbors=k + most)
        table = pd.DataFrame(
            {
                "query": np.repeat(asked, k + most),
                "position": self._index[neighbour].ravel(),
                "similarity": 1.0 - distance.ravel(),
                "same_image": (self._content_ids[neighbour] == ids[:, None]).ravel(),
            }
        )
        if exclude_same:
            table = table[~table["same_image"]]
        table["rank"] = table.groupby("query").cumcount() + 1
        if self._labels is not None:
            table["label"] = self._labels[table["position"]]
        return table[table["rank"] <= k].reset_index(drop=True)[columns]

    def _most_same(self, ids: np.ndarray) -> int:
        """Return the largest number of known cases with the pixels of one of the images; fail if none is left."""
        known = Counter(self._content_ids.tolist())
        most = max(known[one] for one in ids.tolist())
        if most == len(self):
            raise DataError(
                f"{_CALLER}.query: all {len(self)} known images have the pixels of an image that is asked about, so "
                "that exclude_same=True leaves 0 other images."
            )
        return most


def readable_rows(embeddings: np.ndarray) -> np.ndarray:
    """Return the positions (M,) of the images that could be read, in the order of the content ids."""
    return np.flatnonzero(~np.isnan(embeddings).any(axis=1))
