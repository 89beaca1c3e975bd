"""Two explanations of the same images side by side: decisions, probabilities, and how alike the maps are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from cxr_estimator._measuring import of_the_same_images
from cxr_estimator._validation import check_number
from cxr_estimator.errors import DataError
from cxr_estimator.explanation import Explanation
from cxr_estimator.metrics import METRICS, Context, Request, measure_all
from cxr_estimator.preprocessing import Geometry

TOP = 10  # percent of the pixels whose overlap is taken
_MEANINGS = {
    "rank_correlation": ("Rank correlation", "1: pixels in the same order; 0: by chance; -1: in the opposite one"),
    "top_k_overlap": ("Overlap of the strongest 10%", "1: the same pixels; 0.10: by chance; 0: none in common"),
    "ssim": ("Structural similarity (SSIM)", "1: the same picture; flat maps count as similar"),
}
_WINDOW = 7  # pixels of SSIM's windows, below which it is not taken
_ALIKE, PARTLY, _OPPOSED = 0.7, 0.3, -0.3  # rank correlations; words for people, not tests


@dataclass(frozen=True)
class Comparison:
    """Two explanations A and B of the same class of the same N images.

    Attributes
    ----------
    target : ndarray (N,)
        The explained class.
    labels : (ndarray (N,), ndarray (N,))
        What A's model decided of each image, and what B's did, each at its operating point.
    proba : ndarray (N, 2)
        Probability of the explained class by either model.
    agreement : dict of str to ndarray (N,)
        How alike the maps are, by each metric of `METRICS` of the family "agreement": "rank_correlation",
        "top_k_overlap" of the strongest 10%, and "ssim". 1 for the same map; NaN where a map is constant, or the
        models see no common part of the image.
    shapes : tuple of N (height, width)
        Size, in pixels, at which the maps were compared.
    """

    target: np.ndarray
    labels: tuple[np.ndarray, np.ndarray]
    proba: np.ndarray
    agreement: Mapping[str, np.ndarray]
    shapes: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.target)

    @property
    def same_decision(self) -> np.ndarray:
        """Whether both decide the same, (N,) bool."""
        return np.array([str(a) == str(b) for a, b in zip(*self.labels, strict=True)], dtype=bool)

    def sentences(self, i: int = 0, *, names: tuple[str, str] = ("the first", "the second")) -> list[str]:
        """Return what to tell a person about image `i`: the decisions, the probabilities, and the maps."""
        (a, b), (p, q), (first, second) = (str(labels[i]) for labels in self.labels), self.proba[i].tolist(), names
        decided = f"Both decide {a}." if self.same_decision[i] else f"They differ: {a} by {first}, {b} by {second}."
        apart = (
            f"The probability of {self.target[i]} is {p:.1%} by {first} and {q:.1%} by {second}: "
            f"{100 * abs(p - q):.1f} points apart."
        )
        return [decided, apart, self._of_maps(i)]

    def _of_maps(self, i: int) -> str:
        ranks, shared, alike = (
            float(self.agreement[name][i]) for name in ("rank_correlation", "top_k_overlap", "ssim")
        )
        if np.isnan(ranks):
            return "The maps cannot be compared: one is the same everywhere, or the models see no common part."
        grades = ((_ALIKE, "are much alike"), (PARTLY, "are partly alike"), (_OPPOSED, "have little in common"))
        how = next((words for least, words in grades if ranks >= least), "contradict each other")
        more = "" if np.isnan(alike) else f", structural similarity {alike:.2f}"
        return (
            f"The maps {how}: rank correlation {ranks:.2f}{more}; of the strongest {TOP}% of the pixels they share "
            f"{shared:.0%} (by chance {TOP}%). That two maps agree does not make either right."
        )


def compare_explanations(a: Explanation, b: Explanation) -> Comparison:
    """Compare two explanations of the same class of the same images, by models and methods that may differ.

    Maps of models with other input sizes, or that see another part of the image, are brought to common ground through
    their geometry: the part of the original image that both see, at the resolution of the coarser one.

    Parameters
    ----------
    a, b : Explanation of N images
        In the same order, such as `explain` of two models returns them for the same X and target.

    Returns
    -------
    Comparison

    Raises
    ------
    DataError
        Other images or other classes are explained.
    InvalidTypeError
        One is no Explanation.

    Examples
    --------
    >>> from cxr_estimator import CXRClassifier, make_phantoms
    >>> from cxr_estimator.comparison import compare_explanations
    >>> clf, X = CXRClassifier.from_pretrained(), make_phantoms(2, 96).X
    >>> by_method = clf.explain(X, method=["grad_cam", "hi_res_cam"], target="PNEUMONIA")
    >>> found = compare_explanations(by_method["grad_cam"], by_method["grad_cam"])
    >>> found.agreement["rank_correlation"].round(6).tolist()
    [1.0, 1.0]
    """
    of_the_same_images({"a": a, "b": b}, caller="compare_explanations")
    pairs = [common_ground(a, b, i) for i in range(len(a))]
    rows = [_agreement(a[i], *pair) for i, pair in enumerate(pairs)]
    return Comparison(
        target=a.target,
        labels=(a.prediction.label, b.prediction.label),
        proba=np.column_stack([_proba_of_target(one) for one in (a, b)]),
        agreement={name: np.array([row[name] for row in rows]) for name in rows[0]},
        shapes=tuple(pair[0].shape for pair in pairs),
    )


def agreement_words(name: str) -> tuple[str, str]:
    """Return what a metric of the family "agreement" is called, and what its values mean."""
    return _MEANINGS.get(name, (name.replace("_", " ").capitalize(), ""))


def common_ground(a: Explanation, b: Explanation, i: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return map `i` of both (h, w) float32: of the part of the image that both see, at the coarser resolution.

    Where both have the same geometry and see the whole image, these are the maps as they are. (0, 0) pixels where
    they see no common part.
    """
    check_number("i", i, caller="common_ground", low=0, high=len(a) - 1, integer=True)
    of_a, of_b = a.geometry[i], b.geometry[i]
    if of_a.original_shape != of_b.original_shape:
        raise DataError(f"common_ground: image {i} has two sizes, {of_a.original_shape} and {of_b.original_shape}.")
    edges = [
        (max(first, second), min(first + length, second + other))
        for first, length, second, other in (
            (of_a.source.top, of_a.source.height, of_b.source.top, of_b.source.height),
            (of_a.source.left, of_a.source.width, of_b.source.left, of_b.source.width),
        )
    ]
    if any(low >= high for low, high in edges):
        return np.empty((0, 0), dtype=np.float32), np.empty((0, 0), dtype=np.float32)
    boxes = [_box(geometry, edges) for geometry in (of_a, of_b)]
    height = max(1, round(min(bottom - top for _, top, _, bottom in boxes)))
    width = max(1, round(min(right - left for left, _, right, _ in boxes)))
    maps = [Image.fromarray(one.values[i].astype(np.float32)) for one in (a, b)]
    first, second = (
        np.asarray(one.resize((width, height), Image.Resampling.BILINEAR, box=box))
        for one, box in zip(maps, boxes, strict=True)
    )
    return first, second


def _box(geometry: Geometry, edges: list[tuple[int, int]]) -> tuple[float, float, float, float]:
    """Return (left, top, right, bottom), in pixels of the map, of what lies between edges of the original image."""
    source, target = geometry.source, geometry.target
    (top, bottom), (left, right) = (
        [begin + (edge - first) * size / length for edge in pair]
        for pair, begin, first, size, length in (
            (edges[0], target.top, source.top, target.height, source.height),
            (edges[1], target.left, source.left, target.width, source.width),
        )
    )
    # rounding must not lead out of the map
    h, w = geometry.model_shape
    return max(left, 0.0), max(top, 0.0), min(right, float(w)), min(bottom, float(h))


def _agreement(one: Explanation, first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """Return each metric of agreement of two maps (h, w) of one image."""
    requests = {
        name: Request(name, {"k": TOP} if "k" in metric.options else {})
        for name, metric in METRICS.items()
        if metric.family == "agreement"
    }
    found = dict.fromkeys(requests, float("nan"))
    if not first.size:
        return found
    if min(first.shape) < _WINDOW:
        del requests["ssim"]
    values: dict[str, Any] = measure_all(
        requests,
        replace(one, values=first[None], spread=None),
        Context(other=replace(one, values=second[None], spread=None)),
    )
    return found | {name: float(value[0]) for name, value in values.items()}


def _proba_of_target(explanation: Explanation) -> np.ndarray:
    """Return the probability (N,) of the explained class."""
    said = explanation.prediction
    columns = [said.classes.index(label) for label in explanation.target.tolist()]
    return said.proba[np.arange(len(explanation)), columns]
