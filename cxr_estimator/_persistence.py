"""CXRClassifier <-> model folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from cxr_estimator._fitting import ARCHITECTURE, build, check_image_shape, check_parameters
from cxr_estimator._ood_blocks import widths
from cxr_estimator._outputs import Task
from cxr_estimator._predicting import execution
from cxr_estimator._validation import check_choice, check_number
from cxr_estimator.abstention import Abstention
from cxr_estimator.calibration import Calibration
from cxr_estimator.card import ModelCard
from cxr_estimator.conformal import Conformal
from cxr_estimator.errors import CXRError, DataError, ModelFolderError
from cxr_estimator.ood import OodStatistics
from cxr_estimator.preprocessing import Preprocessing
from cxr_estimator.provenance import Provenance
from cxr_estimator.serialization import (
    CONFIG_NAME,
    OWN_TENSORS,
    WEIGHT_TYPES,
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

if TYPE_CHECKING:
    from cxr_estimator.classifier import CXRClassifier

_BACKGROUND = f"{OWN_TENSORS}background"
_OOD = f"{OWN_TENSORS}ood."  # begins the names of tensors of the out-of-distribution statistics
_LARGE = 1e6  # beyond what pixels in [0, 1] can have as mean, or as 1 / standard deviation


# Where and how a model was fitted is nobody else's business: a loaded one has the defaults.
_LOCAL = {"checkpoint_dir", "cache_dir", "n_jobs", "verbose"}


FILES = (CONFIG_NAME, WEIGHTS_NAME)


def save(clf: CXRClassifier, folder: Path, dtype: str | None, card: ModelCard) -> dict[str, str]:
    """Write `FILES` of a fitted classifier, and return their SHA-256; file names and patients are not part of it."""
    dtype = dtype or clf.weights_dtype_
    parameters = {key: value for key, value in clf.get_params().items() if key not in _LOCAL} | clf.architecture_
    if isinstance(clf.pretrained, str):
        parameters["pretrained"] = Path(clf.pretrained)  # of which only the name is written
    check_parameters(type(clf)(**parameters))  # what could not be loaded must not replace what can
    config = {
        "parameters": {key: to_json(value) for key, value in parameters.items()},
        **decisions_to_json(clf, card),
        "preprocessing": clf.preprocessing_.to_dict(),
        "image_shape": to_json(clf.image_shape_),
        "bfloat16_change": clf.bfloat16_change_,
        "training": {
            "history": _history_to_json(clf.history_),
            "provenance": None if clf.provenance_ is None else clf.provenance_.to_dict(),
        },
        "weights_dtype": dtype,
    }
    if hasattr(clf, "feature_names_in_"):
        config["feature_names"] = clf.feature_names_in_.tolist()
    state = clf.model_.state_dict()
    if dtype == "float16":
        state = {**state, **dict(_halved(clf.model_))}
    if clf.background_ is not None:
        state = {**state, _BACKGROUND: torch.from_numpy(clf.background_)}
    if clf.ood_ is not None:
        config["ood"] = {"n_patients": clf.ood_.n_patients}
        state = {**state, **{_OOD + name: torch.from_numpy(array) for name, array in clf.ood_.arrays().items()}}
    return write_folder(folder, config, state)


def _halved(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the float32 parameters as float16; buffers are small, and may hold large numbers."""
    for name, tensor in model.named_parameters():
        if tensor.dtype == torch.float32:
            half = tensor.half()
            if not torch.isfinite(half).all():
                raise DataError(f"save: {name!r} holds numbers beyond the range of float16; use dtype='float32'.")
            yield name, half


def decisions_to_json(clf: Any, card: ModelCard) -> dict[str, Any]:
    """Describe how an estimator gets from logits to decisions, when it gives none, and what its author says of it."""
    optional = {"conformal": clf.conformal_, "abstention": clf.abstention_, "card": card if card.to_dict() else None}
    return {
        "task": clf.task_.value,
        "classes": labels_to_json(clf.classes_),
        "pos_label": to_json(clf.pos_label_),
        "operating_points": [point.to_dict() for point in clf.operating_points_.values()],
        "active_operating_points": list(clf.active_points_),
        "calibration": None if clf.calibration_ is None else clf.calibration_.to_dict(),
        "class_weights": clf.class_weights_.tolist(),
        **{name: value.to_dict() for name, value in optional.items() if value is not None},
    }


def load(cls: type[CXRClassifier], folder: Path, device: str) -> CXRClassifier:
    """Read a classifier. Whatever is wrong with the folder is one error that names it."""
    config, state = read_folder(folder)
    with naming(folder):
        clf = rebuild(cls, config)
    clf.background_ = _background(clf, state.pop(_BACKGROUND, None), folder)
    ood = {name: state.pop(name) for name in [*state] if name.startswith(_OOD)}
    clf.model_ = network(clf, state, folder)
    clf.ood_ = _ood(clf, ood, config.get("ood"), folder)
    return ready(clf, device)


@contextlib.contextmanager
def naming(folder: Path) -> Iterator[None]:
    """Turn whatever the configuration makes go wrong within the block into an error that names it."""
    try:
        yield
    except (CXRError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        if isinstance(error, ModelFolderError) and str(error).startswith(str(folder)):
            raise
        reason = str(error).removesuffix(".")
        raise ModelFolderError(f"{folder / CONFIG_NAME}: not a valid configuration ({reason}).") from error


def ready(clf: CXRClassifier, device: str) -> CXRClassifier:
    """Return `clf` in eval mode and on its device."""
    clf.device = device
    execution(clf)
    clf.model_.eval()
    return clf


def rebuild(cls: type[CXRClassifier], config: dict[str, Any]) -> CXRClassifier:
    """Return the classifier that a configuration describes, all but its network and what is told by tensors."""
    clf = cls(**{key: from_json(value) for key, value in config["parameters"].items()})
    check_parameters(clf)
    restore_decisions(clf, config)
    clf.preprocessing_ = Preprocessing.from_dict(config["preprocessing"])
    mean, std = clf.preprocessing_.mean, clf.preprocessing_.std
    if max(map(abs, mean)) > _LARGE or not 1 / _LARGE <= min(std) <= max(std) <= _LARGE:
        raise ModelFolderError(f"mean {mean} and std {std} of the preprocessing are out of range.")
    _restore_columns(clf, config)
    for name in ("image_size", "channels", "resize", "intensity"):
        from_rows = name == "intensity" and clf.intensity is None and clf.image_shape_ is not None  # see _rows
        if getattr(clf.preprocessing_, name) != getattr(clf, name) and not from_rows:
            raise ModelFolderError(f"{name!r} of the preprocessing and of the parameters differ.")
    clf.architecture_ = {name: getattr(clf, name) for name in ARCHITECTURE}
    clf.bfloat16_change_ = check_number("bfloat16_change", config["bfloat16_change"], caller="load", low=0, high=1)
    training = config["training"]
    if not isinstance(training, dict) or set(training) != {"history", "provenance"}:
        raise ModelFolderError("'training' must hold history and provenance.")
    clf.history_ = _history_from_json(training["history"])
    origin = training["provenance"]
    clf.provenance_ = None if origin is None else Provenance.from_dict(origin, clf.classes_.tolist())
    clf.weights_dtype_ = check_choice("weights_dtype", config["weights_dtype"], WEIGHT_TYPES, caller="load")
    clf.skipped_ = ()
    return clf


def restore_decisions(clf: Any, config: dict[str, Any]) -> None:
    """Set what `decisions_to_json` described, or raise."""
    _restore_labels(clf, config)
    pos_label = config["pos_label"]
    if pos_label not in clf.classes_.tolist() and (pos_label is not None or clf.task_ is Task.BINARY):
        raise ModelFolderError(f"the positive label {pos_label!r} is none of the classes {clf.classes_.tolist()}.")
    clf.pos_label_ = pos_label
    n_classes = len(clf.classes_)
    points = [OperatingPoint.from_dict(point) for point in config["operating_points"]]
    clf.operating_points_ = {point.name: point for point in points}
    if len(clf.operating_points_) < len(points):
        raise ModelFolderError("two operating points have the same name.")
    clf.active_points_ = tuple(config["active_operating_points"])
    decided = [clf.operating_points_[name].label for name in clf.active_points_ if name in clf.operating_points_]
    wanted = {Task.BINARY: [clf.pos_label_], Task.MULTICLASS: [], Task.MULTILABEL: clf.classes_.tolist()}[clf.task_]
    if len(clf.active_points_) != len(wanted) or sorted(decided, key=str) != sorted(wanted, key=str):
        raise ModelFolderError(
            f"the active operating points {clf.active_points_!r} of {list(clf.operating_points_)} do not decide on "
            f"each of {wanted}."
        )
    for point in points:
        if point.label not in clf.classes_.tolist():
            raise ModelFolderError(f"the operating point {point.name!r} is of the unknown label {point.label!r}.")
    clf.class_weights_ = np.array(config["class_weights"], dtype=np.float64)
    if clf.class_weights_.shape != (n_classes,) or not (clf.class_weights_ >= 0).all():
        raise ModelFolderError(f"'class_weights' must be {n_classes} numbers that are not negative.")
    clf.calibration_ = None if config["calibration"] is None else Calibration.from_dict(config["calibration"])
    if clf.calibration_ is not None and not clf.calibration_.fits(clf.task_, n_classes):
        raise ModelFolderError(f"the calibration does not fit {n_classes} classes.")
    clf.abstention_ = Abstention.from_dict(config["abstention"]) if "abstention" in config else None
    if clf.abstention_ is not None:
        named = clf.abstention_.point in clf.operating_points_ and clf.abstention_.threshold is not None
        if named != (clf.task_ is Task.BINARY):
            raise ModelFolderError("the abstention names an operating point for two classes only, and there it must.")
    sets = config.get("conformal")
    clf.card_ = ModelCard.from_dict(config["card"]) if "card" in config else None
    clf.conformal_ = None if sets is None else Conformal.from_dict(sets, clf.task_, n_classes)


def _restore_labels(clf: Any, config: dict[str, Any]) -> None:
    """Set the task and the classes, or the names of several labels per image, which need no order."""
    classes = config["classes"]
    own = Task.of_classes(len(classes["values"]))
    clf.task_ = Task(config["task"])
    if clf.task_ not in (own, Task.MULTILABEL):
        raise ModelFolderError(f"the task is {clf.task_.value!r}, but there are {len(classes['values'])} classes.")
    if clf.task_ is Task.MULTILABEL and config["pos_label"] is not None:
        raise ModelFolderError(f"the positive label {config['pos_label']!r} is for one class per image.")
    clf.classes_ = labels_from_json(classes, is_sorted=clf.task_ is not Task.MULTILABEL)


def _restore_columns(clf: CXRClassifier, config: dict[str, Any]) -> None:
    """Set what a model fitted on rows knows of them: the shape of one image, the number of columns, their names."""
    clf.image_shape_ = from_json(config["image_shape"])
    if clf.image_shape_ is None:
        return
    check_image_shape(clf.image_shape_)
    height, width = clf.image_shape_
    clf.n_features_in_ = height * width
    names = config.get("feature_names")
    if names is None:  # the rows came without names
        return
    is_list = isinstance(names, list) and len(names) == clf.n_features_in_
    if not is_list or not all(isinstance(name, str) for name in names):
        raise ModelFolderError(f"'feature_names' must be {clf.n_features_in_} texts. Got {names!r:.200}.")
    clf.feature_names_in_ = np.array(names, dtype=object)


def _background(clf: CXRClassifier, tensor: Tensor | None, folder: Path) -> np.ndarray | None:
    if tensor is None:
        return None
    shape = (clf.channels, clf.image_size, clf.image_size)
    if tensor.dtype != torch.uint8 or tensor.ndim != 4 or tuple(tensor.shape[1:]) != shape or not len(tensor):
        fault = f"{_BACKGROUND!r} is {tensor.dtype} of shape {tuple(tensor.shape)}, not uint8 of (b, {shape})"
        raise ModelFolderError(f"{folder / WEIGHTS_NAME}: {fault}.")
    return tensor.clone().numpy()


def _ood(clf: CXRClassifier, tensors: dict[str, Tensor], config: Any, folder: Path) -> OodStatistics | None:
    """Return the out-of-distribution statistics, or None for a model that has none."""
    if config is None and not tensors:
        return None
    if not isinstance(config, dict) or set(config) != {"n_patients"}:
        raise ModelFolderError(f"{folder / CONFIG_NAME}: 'ood' must hold n_patients alone. Got {config!r:.200}.")
    wrong = [name for name, tensor in tensors.items() if tensor.dtype != torch.float32]
    if wrong:
        raise ModelFolderError(f"{folder / WEIGHTS_NAME}: {wrong[0]!r:.200} is not float32.")
    arrays = {name.removeprefix(_OOD): tensor.clone().numpy() for name, tensor in tensors.items()}
    try:
        return OodStatistics.from_arrays(arrays, config["n_patients"], widths(clf.model_, clf.preprocessing_))
    except CXRError as error:
        raise ModelFolderError(f"{folder}: {error}") from error


def skeleton(clf: CXRClassifier, num_outputs: int, folder: Path) -> nn.Module:
    """Return the network of the configuration on torch's "meta" device, where it takes no memory.

    A few bytes of configuration can name a network of many gigabytes; so it is first compared with the weights, which
    are there in full.
    """
    with seeded(0, torch.device("cpu")):  # initial weights are drawn; that must disturb nobody
        try:
            with torch.device("meta"):
                return build(clf, num_outputs, pretrained=False)
        except Exception as error:  # whatever a backbone says to an image size that does not suit it
            reason = f"{clf.backbone!r} cannot be built for {clf.image_size} pixels: {str(error)[:200]}"
            raise ModelFolderError(f"{folder / CONFIG_NAME}: {reason}") from error


def network(clf: CXRClassifier, state: dict[str, Tensor], folder: Path) -> nn.Module:
    """Return the network of the configuration with the weights `state`."""
    num_outputs = clf.task_.num_outputs(len(clf.classes_))
    model = skeleton(clf, num_outputs, folder)
    expected = model.state_dict()
    halved = [name for name, one in model.named_parameters() if one.dtype == torch.float32]
    stored = {name: expected[name].half() for name in halved} if clf.weights_dtype_ == "float16" else {}
    check_weights({**expected, **stored}, state, folder / WEIGHTS_NAME)
    state = {name: tensor.to(expected[name].dtype) for name, tensor in state.items()}
    if not _is_whole_in_state(model):
        with seeded(0, torch.device("cpu")):
            model = build(clf, num_outputs, pretrained=False)
        model.load_state_dict(state)
        return model
    # copies, because tensors of a safetensors file are a view of it, which would follow its changes
    model.load_state_dict({name: tensor.clone() for name, tensor in state.items()}, assign=True)
    return model.to(memory_format=torch.channels_last)


def check_weights(expected: dict[str, Tensor], state: dict[str, Tensor], path: Path) -> None:
    """Raise unless the weights `state` have the names, shapes and types of the network's, and are finite."""
    wrong = sorted(expected.keys() ^ state.keys())
    if wrong:
        what = "missing" if wrong[0] in expected else "unknown"
        fault = f"{wrong[0]!r:.200} is {what}, one of {len(wrong)} differences"
        raise ModelFolderError(f"{path}: the weights do not fit the configuration ({fault}).")
    for name, tensor in state.items():
        like = expected[name]
        if tensor.dtype != like.dtype:
            raise ModelFolderError(f"{path}: {name!r} is {tensor.dtype}, but {like.dtype} is expected.")
        if tensor.shape != like.shape:
            fault = f"{name!r} has shape {tuple(tensor.shape)}, not {tuple(like.shape)}"
            raise ModelFolderError(f"{path}: the weights do not fit the configuration ({fault}).")
        if not torch.isfinite(tensor).all():
            raise ModelFolderError(f"{path}: {name!r} holds NaN or infinite numbers.")


def _is_whole_in_state(model: nn.Module) -> bool:
    """Whether every tensor of the network is in its state dict; tables, such as those of Swin, often are not."""
    state = model.state_dict()
    attributes = (value for module in model.modules() for value in vars(module).values())
    return all(name in state for name, _ in model.named_buffers()) and not any(
        isinstance(value, Tensor) for value in attributes
    )


def _history_to_json(history: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dicts; NaN, which JSON lacks, becomes null."""
    return [
        {str(key): None if value != value else value for key, value in row.items()}
        for row in history.to_dict("records")
    ]


def _history_from_json(rows: Any) -> pd.DataFrame:
    if not isinstance(rows, list) or not all(isinstance(row, dict) and row.keys() == rows[0].keys() for row in rows):
        raise ModelFolderError("the training history must be a list of objects with the same keys.")
    if not all(value is None or isinstance(value, bool | int | float) for row in rows for value in row.values()):
        raise ModelFolderError("the training history must hold numbers.")
    return pd.DataFrame(rows).replace({None: np.nan})
