"""Checkpoints as timm shares them (config.json + model.safetensors) -> CXRClassifier."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from cxr_estimator import _persistence
from cxr_estimator._outputs import Task
from cxr_estimator._validation import check_number
from cxr_estimator.backbones import PLAIN_CNN, check_backbone
from cxr_estimator.errors import ModelFolderError
from cxr_estimator.preprocessing import Preprocessing
from cxr_estimator.serialization import CONFIG_NAME, WEIGHTS_NAME, is_timm, read_json, read_weights
from cxr_estimator.thresholds import DEFAULT_POINT, number_point

if TYPE_CHECKING:
    from cxr_estimator.classifier import CXRClassifier

_CALLER = "CXRClassifier.from_pretrained"
_RESIZE = {"center": "crop", "squash": "stretch", "border": "pad"}  # what timm calls crop_mode
_MOST_CLASSES = 100_000  # a few bytes must not name a list that fills the memory
_KNOWN_ARGUMENTS = {"num_classes", "in_chans", "img_size", "global_pool"}


def read(cls: type[CXRClassifier], folder: Path, device: str) -> CXRClassifier:
    """Read a folder that `timm.models.save_for_hf` or `push_to_hf_hub` wrote.

    The probabilities are those of the checkpoint behind timm's own evaluation transform. One class per image is
    assumed: timm's format does not tell of several labels. A network of two logits gets one, their difference.
    Labels are the checkpoint's `label_names`, sorted; where it has none, they are the positions 0 to K - 1 of its
    logits. Nothing is known of how it was fitted: `history_` is empty, `background_` and `ood_` are None, and it
    computes in float32 unless `precision` asks for bfloat16.

    Raises
    ------
    ModelFolderError
        No checkpoint of timm, only pickled weights, an unknown architecture, arguments or a last layer that cannot be
        taken over, weights that do not fit, or labels that are not as many as the classes.
    """
    with _persistence.naming(folder):
        config = read_json(folder / CONFIG_NAME)
        settings = _settings(config)
        labels = _labels(settings)
        state = _weights(folder / WEIGHTS_NAME)
        clf = _persistence.rebuild(cls, _described(settings, sorted(labels), _channels(settings, state)))
        model = _persistence.skeleton(clf, settings["num_classes"], folder)
        _check_arguments(model, config.get("model_args", {}), clf.image_size)
        state = _like(model.state_dict(), state)
        _persistence.check_weights(model.state_dict(), state, folder / WEIGHTS_NAME)
        clf.model_ = _persistence.network(clf, _with_sorted_labels(model, state, labels), folder)
    clf.background_ = clf.ood_ = None
    return _persistence.ready(clf, device)


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    """Return what timm calls `pretrained_cfg`, and beside it the architecture; older files have all at the top."""
    if not is_timm(config):
        kind = {key: config[key] for key in ("format", "model_type", "architectures") if key in config}
        raise ModelFolderError(
            f"no checkpoint of timm: found {kind or sorted(config)!r:.200}, expected the 'architecture' and the "
            "'pretrained_cfg' that timm.models.push_to_hf_hub writes"
        )
    nested = config.get("pretrained_cfg", config)
    settings = {**nested, **{key: config[key] for key in ("num_classes", "label_names", "labels") if key in config}}
    settings["architecture"] = config["architecture"]
    if settings["architecture"] == PLAIN_CNN:
        raise ModelFolderError(f"{PLAIN_CNN!r} is no architecture of timm")
    check_backbone(settings["architecture"], caller=_CALLER)
    check_number("num_classes", settings.get("num_classes"), caller=_CALLER, low=1, high=_MOST_CLASSES, integer=True)
    arguments = config.get("model_args", {})
    size = arguments.get("img_size")
    if size is not None and settings.get("fixed_input_size"):  # as timm does it: what the weights were made for
        settings["input_size"] = [3, *_pair(size)]
    return settings


def _pair(size: Any) -> list[int]:
    return [size, size] if isinstance(size, int) else list(size)


def _labels(settings: dict[str, Any]) -> list[Any]:
    """Return the label of each logit; of one logit the two labels, of which it is the log-odds of the second."""
    n_labels = max(settings["num_classes"], 2)
    names = settings.get("label_names") or settings.get("labels")
    if not names:
        return list(range(n_labels))
    if isinstance(names, dict):  # id -> name, for ids with gaps, which a classifier does not have
        names = [names.get(str(number)) for number in range(len(names))]
    usable = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not usable or len(names) != n_labels or len(set(names)) < n_labels:
        raise ModelFolderError(
            f"'label_names' must be {n_labels} different texts for {settings['num_classes']} logit(s). "
            f"Got {names!r:.200}"
        )
    return names


def _weights(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ModelFolderError(
            f"{path}: there is no such file. Weights in other files (pytorch_model.bin) are pickles, which can run "
            "code and are not read; timm.models.save_for_hf(..., safe_serialization=True) writes this one."
        )
    return read_weights(path)


def _channels(settings: dict[str, Any], state: dict[str, Tensor]) -> int:
    """Return the input planes of the first layer; older files leave `input_size` as it was before they changed."""
    first = state.get(f"{settings.get('first_conv')}.weight")
    if first is not None and first.ndim == 4 and first.shape[1] in (1, 3):
        return first.shape[1]
    return settings.get("input_size", [3])[0]


def _described(settings: dict[str, Any], classes: list[Any], channels: int) -> dict[str, Any]:
    """Return the checkpoint's configuration in this package's own format."""
    preprocessing = _preprocessing(settings, channels)
    task = Task.of_classes(len(classes))
    is_binary = task is Task.BINARY
    points = [number_point(0.5, name=DEFAULT_POINT, caller=_CALLER, label=classes[1])] if is_binary else []
    return {
        "parameters": {
            "backbone": settings["architecture"],
            **{name: getattr(preprocessing, name) for name in ("image_size", "channels", "resize")},
        },
        "task": task.value,
        "classes": {"dtype": "str" if isinstance(classes[0], str) else "int64", "values": classes},
        "pos_label": classes[1] if is_binary else None,
        "operating_points": [point.to_dict() for point in points],
        "active_operating_points": [point.name for point in points],
        "calibration": None,
        "class_weights": [1.0] * len(classes),
        "preprocessing": preprocessing.to_dict(),
        "image_shape": None,
        "bfloat16_change": 1.0,  # nobody tried it
        "training": {"history": [], "provenance": None},
        "weights_dtype": "float32",
    }


def _preprocessing(settings: dict[str, Any], channels: int) -> Preprocessing:
    """Return what does the same as timm's evaluation transform for these settings."""
    from timm.data import resolve_data_config

    data = resolve_data_config({}, pretrained_cfg=settings)
    *_, height, width = data["input_size"]
    if height != width:
        raise ModelFolderError(f"'input_size' must be a square. Got {data['input_size']!r:.100}")
    if data["crop_mode"] not in _RESIZE:
        raise ModelFolderError(f"'crop_mode' must be one of {list(_RESIZE)}. Got {data['crop_mode']!r:.100}")
    mean, std = (_per_channel(data[name], channels) for name in ("mean", "std"))
    return Preprocessing(
        height,
        channels,
        _RESIZE[data["crop_mode"]],
        mean=mean,
        std=std,
        crop_pct=data["crop_pct"],
        interpolation=data["interpolation"],
        fill=tuple(round(255 * value) / 255 for value in mean),
    )


def _per_channel(values: Any, channels: int) -> tuple[float, ...]:
    """Return one number for all channels, or one for each; for grey input those of a colour network are averaged."""
    found = (values,) if isinstance(values, int | float) else tuple(values)
    return found if len(found) in (1, channels) else (sum(found) / len(found),)


def _check_arguments(model: nn.Module, arguments: dict[str, Any], image_size: int) -> None:
    """Raise if the checkpoint's network was made with arguments that make another one than its name alone."""
    # rates of dropout matter in training only, and None is timm's word for "not given"
    given = {key: value for key, value in arguments.items() if value is not None and "drop" not in key}
    wrong = {key: value for key, value in given.items() if key not in _KNOWN_ARGUMENTS}
    if "img_size" in given and _pair(given["img_size"]) != [image_size] * 2:
        wrong["img_size"] = given["img_size"]
    if given.get("global_pool", _pooling(model)) != _pooling(model):
        wrong["global_pool"] = given["global_pool"]
    if wrong:
        raise ModelFolderError(f"'model_args' that make another network are not taken over: {wrong!r:.200}")


def _pooling(model: nn.Module) -> Any:
    """Return the name of the pooling, where timm keeps it."""
    head = getattr(model, "head", None)
    for owner, name in ((head, "global_pool"), (head, "pool_type"), (model, "global_pool")):
        pool = getattr(owner, name, None)
        pool = getattr(pool, "pool_type", pool)
        if isinstance(pool, str):
            return pool
    return None


def _like(expected: dict[str, Tensor], state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights in the network's precision; many are shared in half of it."""
    return {
        name: tensor.to(expected[name].dtype)
        if name in expected and tensor.is_floating_point() and expected[name].is_floating_point()
        else tensor
        for name, tensor in state.items()
    }


def _with_sorted_labels(model: Any, state: dict[str, Tensor], labels: list[Any]) -> dict[str, Tensor]:
    """Return the weights of the same network with sorted labels, and with one logit z_1 - z_0 for two of them.

    softmax(z)_1 = sigmoid(z_1 - z_0), and that difference is linear in what enters the last layer, as the logits are.
    """
    order = torch.tensor(sorted(range(len(labels)), key=labels.__getitem__))
    head = model.get_classifier()
    n_outputs = model.num_classes
    if n_outputs != 2 and order.tolist() == list(range(len(labels))):
        return state
    names = [name for name, module in model.named_modules() if module is head]
    is_linear = isinstance(head, nn.Linear) or (isinstance(head, nn.Conv2d) and head.kernel_size == (1, 1))
    if not is_linear or len(names) != 1:
        raise ModelFolderError(
            f"the last layer of the network is {type(head).__name__}, not one linear layer (or 1 x 1 convolution), so "
            "that its logits cannot be brought into the order of the sorted labels"
        )

    def changed(rows: Tensor) -> Tensor:
        if n_outputs == 1:
            return -rows
        rows = rows[order]
        return (rows[1:].double() - rows[:1].double()).float() if n_outputs == 2 else rows

    own = {f"{names[0]}.weight", f"{names[0]}.bias"}
    return {name: changed(tensor) if name in own else tensor for name, tensor in state.items()}
