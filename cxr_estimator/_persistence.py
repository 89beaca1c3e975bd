"""CXRClassifier <-> model folder."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from cxr_estimator._fitting import ARCHITECTURE, build, check_parameters
from cxr_estimator._predicting import execution
from cxr_estimator.errors import CXRError, ModelFolderError
from cxr_estimator.preprocessing import Preprocessing
from cxr_estimator.serialization import (
    CONFIG_NAME,
    WEIGHTS_NAME,
    from_json,
    labels_from_json,
    labels_to_json,
    read_folder,
    to_json,
    write_folder,
)
from cxr_estimator.thresholds import OperatingPoint
from cxr_estimator.training import seeded
from cxr_estimator.versions import package_versions

if TYPE_CHECKING:
    from cxr_estimator.classifier import CXRClassifier


# Where and how a model was fitted is nobody else's business: a loaded one has the defaults.
_LOCAL = {"checkpoint_dir", "cache_dir", "n_jobs", "verbose"}


def save(clf: CXRClassifier, folder: Path) -> Path:
    """Write a fitted classifier; file names and patients are not part of it."""
    parameters = clf.get_params() | clf.architecture_
    config = {
        "parameters": {key: to_json(value) for key, value in parameters.items() if key not in _LOCAL},
        "classes": labels_to_json(clf.classes_),
        "pos_label": to_json(clf.pos_label_),
        "preprocessing": clf.preprocessing_.to_dict(),
        "image_shape": to_json(clf.image_shape_),
        "operating_points": [asdict(point) for point in clf.operating_points_.values()],
        "active_operating_point": clf.active_point_,
        "training": {"history": _history_to_json(clf.history_)},
        "versions": package_versions(),
    }
    if hasattr(clf, "feature_names_in_"):
        config["feature_names"] = clf.feature_names_in_.tolist()
    write_folder(folder, config, clf.model_.state_dict())
    return folder


def load(cls: type[CXRClassifier], folder: Path, device: str) -> CXRClassifier:
    """Read a classifier. Whatever is wrong with the folder is one error that names it."""
    config, state = read_folder(folder)
    try:
        clf = _rebuild(cls, config)
    except ModelFolderError:
        raise
    except (CXRError, KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ModelFolderError(f"{folder / CONFIG_NAME}: not a valid configuration ({error}).") from error
    expected = clf.model_.state_dict()
    for name, tensor in state.items():
        if name in expected and tensor.dtype != expected[name].dtype:
            raise ModelFolderError(
                f"{folder / WEIGHTS_NAME}: {name!r} is {tensor.dtype}, but {expected[name].dtype} is expected."
            )
        if not torch.isfinite(tensor).all():
            raise ModelFolderError(f"{folder / WEIGHTS_NAME}: {name!r} holds NaN or infinite numbers.")
    try:
        clf.model_.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise ModelFolderError(
            f"{folder / WEIGHTS_NAME}: the weights do not fit the configuration ({reason})."
        ) from error
    clf.device = device
    execution(clf)
    clf.model_.eval()
    return clf


def _rebuild(cls: type[CXRClassifier], config: dict[str, Any]) -> CXRClassifier:
    clf = cls(**{key: from_json(value) for key, value in config["parameters"].items()})
    check_parameters(clf)
    clf.classes_ = labels_from_json(config["classes"])
    pos_label = config["pos_label"]
    n_classes = len(clf.classes_)
    if pos_label not in clf.classes_.tolist() and (pos_label is not None or n_classes == 2):
        raise ModelFolderError(f"the positive label {pos_label!r} is none of the classes {clf.classes_.tolist()}.")
    clf.pos_label_ = pos_label
    clf.preprocessing_ = Preprocessing.from_dict(config["preprocessing"])
    _restore_columns(clf, config)
    for name in ("image_size", "channels", "resize", "intensity"):
        from_rows = name == "intensity" and clf.intensity is None and clf.image_shape_ is not None  # see _rows
        if getattr(clf.preprocessing_, name) != getattr(clf, name) and not from_rows:
            raise ModelFolderError(f"{name!r} of the preprocessing and of the parameters differ.")
    clf.architecture_ = {name: getattr(clf, name) for name in ARCHITECTURE}
    points = [OperatingPoint(**point) for point in config["operating_points"]]
    clf.operating_points_ = {point.name: point for point in points}
    clf.active_point_ = config["active_operating_point"]
    if (n_classes == 2) != (clf.active_point_ in clf.operating_points_):
        raise ModelFolderError(
            f"the active operating point {clf.active_point_!r} is none of {list(clf.operating_points_)}."
        )
    clf.history_ = pd.DataFrame(config["training"]["history"]).replace({None: np.nan})
    clf.skipped_ = ()
    with seeded(0, torch.device("cpu")):  # initial weights are drawn, to be replaced; that must disturb nobody
        clf.model_ = build(clf, n_classes, pretrained=False)
    return clf


def _restore_columns(clf: CXRClassifier, config: dict[str, Any]) -> None:
    """Set what a model fitted on rows knows of them: the shape of one image, the number of columns, their names."""
    clf.image_shape_ = from_json(config["image_shape"])
    if clf.image_shape_ is None:
        return
    height, width = clf.image_shape_
    clf.n_features_in_ = height * width
    names = config.get("feature_names")
    if names is None:  # the rows came without names
        return
    is_list = isinstance(names, list) and len(names) == clf.n_features_in_
    if not is_list or not all(isinstance(name, str) for name in names):
        raise ModelFolderError(f"'feature_names' must be {clf.n_features_in_} texts. Got {names!r:.200}.")
    clf.feature_names_in_ = np.array(names, dtype=object)


def _history_to_json(history: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dicts; NaN, which JSON lacks, becomes null."""
    return [
        {str(key): None if value != value else value for key, value in row.items()}
        for row in history.to_dict("records")
    ]
