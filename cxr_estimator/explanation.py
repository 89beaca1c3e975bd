"""Explanation: the frozen result of `CXRClassifier.explain`."""

from __future__ import annotations

import json
import operator
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cxr_estimator._arrays import label_array, read_arrays
from cxr_estimator._explanation_check import SHOWS, check_arrays, check_description, checked_geometry
from cxr_estimator.errors import DataError, ModelFolderError
from cxr_estimator.preprocessing import Geometry
from cxr_estimator.serialization import atomic_write, read_json, writable_folder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FORMAT = "cxr_estimator.explanation"
_VERSION = 1


@dataclass(frozen=True)
class Prediction:
    """What the model said of the explained images.

    Attributes
    ----------
    classes : tuple
        All labels, in the order of the columns of `proba`.
    proba : ndarray (N, K)
    label : ndarray (N,)
        The decision at the operating point.
    pos_label, threshold
        The positive label and its cut-off as a probability; None for several classes.
    true_label : ndarray (N,) or None
    """

    classes: tuple[Any, ...]
    proba: np.ndarray
    label: np.ndarray
    pos_label: Any = None
    threshold: float | None = None
    true_label: np.ndarray | None = None


@dataclass(frozen=True)
class Explanation:
    """Attributions for N images, with all that is needed to read and to repeat them.

    Attributes
    ----------
    values : ndarray (N, H, W), float32
        Attribution per pixel at the model's input size, not normalised; signed where `signed` is true.
    method : str
    signed : bool
    target : ndarray (N,)
        The explained class of each image.
    score : ndarray (N,)
        The explained scalar: the log-odds of the target unless `options["target"]` is "margin".
    index : ndarray (N,), int64
        Position of each explained image in X; unreadable images may be missing.
    image_ids : tuple of str
        Content ids (SHA-256 of the pixels).
    geometry : tuple of Geometry
        How each map leads back to the original image.
    prediction : Prediction
    options : dict
        Method options, those left at their defaults and the target as asked for included; of a background, a digest.
    seed : int or None
        None for methods without randomness.
    layer, baseline : str or None
    shows : str
        What the values stand for: "evidence", "sensitivity" or "features", see `attribution.Method`.
    versions : dict
        Versions of the packages that made the map.
    completeness_residual : ndarray (N,)
        |sum of values - (score - score of baseline)| / max(|score - score of baseline|, 0.1); NaN where the method
        promises no completeness.
    evaluations : ndarray (N,), int64
        Images that were put through the network for each map; what several methods share counts for the first.
    spread : ndarray (N, H, W), float32, or None
        Pointwise standard deviation over repetitions, where the method or `error_bars` repeated it.
    images : ndarray (N, H, W) or (N, H, W, 3), uint8, or None
        What the model saw, for figures. Never saved unless asked for.
    names : tuple of str
        File names or positions, for titles. Never saved, since file names may identify patients.
    """

    values: np.ndarray
    method: str
    signed: bool
    target: np.ndarray
    score: np.ndarray
    index: np.ndarray
    image_ids: tuple[str, ...]
    geometry: tuple[Geometry, ...]
    prediction: Prediction
    options: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    layer: str | None = None
    baseline: str | None = None
    shows: str = SHOWS[0]
    versions: dict[str, str] = field(default_factory=dict)
    completeness_residual: np.ndarray = field(default_factory=lambda: np.array([]))
    evaluations: np.ndarray = field(default_factory=lambda: np.array([], dtype=np.int64))
    spread: np.ndarray | None = None
    images: np.ndarray | None = None
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        per_image = ("target", "image_ids", "geometry", *_ARRAYS)
        lengths = {name: len(getattr(self, name)) for name in per_image}
        lengths |= {name: len(getattr(self.prediction, name)) for name in ("proba", "label")}
        if self.prediction.true_label is not None:
            lengths["true_label"] = len(self.prediction.true_label)
        for name in _OPTIONAL:
            if getattr(self, name) is not None:
                lengths[name] = len(getattr(self, name))
        if self.values.ndim != 3 or set(lengths.values()) != {len(self.values)}:
            raise DataError(f"An explanation needs values (N, H, W) and N entries of each kind. Got {lengths}.")

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, i: int | slice) -> Explanation:
        """Return the explanation of image `i` alone, or of a slice of images, as an Explanation."""
        if not isinstance(i, slice):
            i = operator.index(i)
        rows = i if isinstance(i, slice) else slice(i, i + 1 or None)
        if not len(range(len(self))[rows]):
            raise IndexError(f"no image at {i} among {len(self)}")
        said = self.prediction
        cut = {key: getattr(self, key)[rows] for key in ("target", "image_ids", "geometry", "names", *_ARRAYS)}
        prediction = replace(
            said,
            proba=said.proba[rows],
            label=said.label[rows],
            true_label=None if said.true_label is None else said.true_label[rows],
        )
        for name in _OPTIONAL:
            cut[name] = None if getattr(self, name) is None else getattr(self, name)[rows]
        return replace(self, prediction=prediction, **cut)

    def to_original(self, i: int) -> np.ndarray:
        """Return map `i` resized to the original image, (H, W) float32; 0 where the model saw nothing."""
        return self.geometry[i].to_original(self.values[i])

    def plot(self, i: int = 0, *, cmap: str | None = None) -> Figure:
        """Return the four-panel figure of image `i`: radiograph, heat map, overlay, prediction details."""
        from cxr_estimator.figures import plot_explanation

        return plot_explanation(self, i, cmap=cmap)

    def overlay(self, i: int = 0, *, cmap: str | None = None, opacity: float = 0.5) -> np.ndarray:
        """Return the heat map of image `i` laid over it, (H, W, 3) uint8 at model size."""
        from cxr_estimator.figures import overlay

        return overlay(self, i, cmap=cmap, opacity=opacity)

    def save(self, path: str | Path, *, include_image: bool = False) -> None:
        """Write `path`.npz (arrays) and `path`.json (the rest). Images and file names are left out by default."""
        arrays_path, description_path = _paths(path)
        arrays = {key: getattr(self, key) for key in _ARRAYS}
        arrays["proba"] = self.prediction.proba
        if self.spread is not None:
            arrays["spread"] = self.spread
        if include_image and self.images is not None:
            arrays["images"] = self.images
        description = {
            "format": _FORMAT,
            "version": _VERSION,
            **{key: getattr(self, key) for key in _PLAIN},
            "image_ids": list(self.image_ids),
            "geometry": [asdict(geometry) for geometry in self.geometry],
            "target": _labels_to_json(self.target),
            "prediction": {
                key: _labels_to_json(getattr(self.prediction, key))
                for key in ("classes", "label", "pos_label", "threshold", "true_label")
            },
        }
        writable_folder(arrays_path.parent)
        with atomic_write(arrays_path) as file:
            np.savez_compressed(file, **arrays)
        with atomic_write(description_path) as file:
            file.write(json.dumps(description, indent=1).encode())

    @classmethod
    def load(cls, path: str | Path) -> Explanation:
        """Read what `save` wrote. Nothing is unpickled."""
        arrays_path, description_path = _paths(path)
        description = read_json(description_path)
        if description.get("format") != _FORMAT or description.get("version") != _VERSION:
            raise ModelFolderError(f"{description_path}: not an explanation of version {_VERSION}.")
        description.setdefault("shows", SHOWS[0])  # files of before there was this entry
        try:
            check_description(description)
            arrays: dict[str, Any] = read_arrays(arrays_path, (*_ARRAYS, "proba"), optional=_OPTIONAL)
            check_arrays(arrays)
            said = description["prediction"]
            true_label, shape = said["true_label"], arrays["values"].shape[1:]
            return cls(
                **{key: arrays[key] for key in _ARRAYS},
                spread=arrays.get("spread"),
                images=arrays.get("images"),
                target=label_array(description["target"]),
                image_ids=tuple(description["image_ids"]),
                geometry=tuple(checked_geometry(item, shape) for item in description["geometry"]),
                prediction=Prediction(
                    classes=tuple(label_array(said["classes"]).tolist()),
                    proba=arrays["proba"],
                    label=label_array(said["label"]),
                    pos_label=said["pos_label"],
                    threshold=said["threshold"],
                    true_label=None if true_label is None else label_array(true_label),
                ),
                **{key: description[key] for key in _PLAIN},
            )
        except (DataError, KeyError, ValueError, TypeError) as error:
            raise ModelFolderError(f"{arrays_path}: this explanation is damaged ({error}).") from error

    @classmethod
    def concatenate(cls, parts: Sequence[Explanation]) -> Explanation:
        """Join explanations of the same method and model, in order."""
        first = parts[0]
        joined: dict[str, Any] = {}
        for key in ("target", *_ARRAYS):
            joined[key] = np.concatenate([getattr(part, key) for part in parts])
        for key in ("image_ids", "geometry", "names"):
            joined[key] = tuple(item for part in parts for item in getattr(part, key))
        for key in _OPTIONAL:
            if getattr(first, key) is not None:
                joined[key] = np.concatenate([getattr(part, key) for part in parts])
        prediction = replace(
            first.prediction,
            proba=np.concatenate([part.prediction.proba for part in parts]),
            label=np.concatenate([part.prediction.label for part in parts]),
            true_label=None
            if first.prediction.true_label is None
            else np.concatenate([part.prediction.true_label for part in parts]),
        )
        return replace(first, prediction=prediction, **joined)


def _paths(path: str | Path) -> tuple[Path, Path]:
    """Return the paths of arrays and description; a dot in the name, as in a DICOM identifier, is no suffix."""
    path = Path(path)
    return path.with_name(f"{path.name}.npz"), path.with_name(f"{path.name}.json")


_ARRAYS = ("values", "score", "index", "completeness_residual", "evaluations")
_OPTIONAL = ("spread", "images")  # arrays that may be None
_PLAIN = ("method", "signed", "options", "seed", "layer", "baseline", "shows", "versions")


def _labels_to_json(labels: Any) -> Any:
    if isinstance(labels, np.ndarray):
        return labels.tolist()
    if isinstance(labels, tuple):
        return [_labels_to_json(label) for label in labels]
    return labels.item() if isinstance(labels, np.generic) else labels
