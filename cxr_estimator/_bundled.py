"""The bundled model: the folder it lies in, and networks that begin with its weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxr_estimator import pretrained
from cxr_estimator._validation import invalid
from cxr_estimator.checksums import verify
from cxr_estimator.errors import ModelFolderError, WeightsError
from cxr_estimator.serialization import CONFIG_NAME, OWN_TENSORS, WEIGHTS_NAME, read_folder

if TYPE_CHECKING:
    from torch import Tensor, nn

BUNDLED = "bundled"  # what `CXRClassifier(pretrained=)` calls it


def bundled_folder() -> Path:
    """Return the folder of the bundled model, or raise ModelFolderError where it is missing or damaged."""
    folder = pretrained.FOLDER
    remedy = "Install cxr_estimator again, or name a model of your own."
    if not (folder / CONFIG_NAME).is_file():
        fault = f"{folder / CONFIG_NAME}: there is no such file, so this installation lacks the bundled model."
        raise ModelFolderError(f"{fault} {remedy}")
    try:
        verify(folder, (CONFIG_NAME, WEIGHTS_NAME))
    except (ModelFolderError, OSError) as error:
        raise ModelFolderError(f"The bundled model of this installation is damaged. {remedy} {error}") from error
    return folder


def begin_with_bundled(model: nn.Module, backbone: str, channels: int, *, caller: str) -> None:
    """Give a new network the weights of the bundled model.

    As timm does it, a grey first layer becomes one for RGB that says the same of a grey image in three channels, and
    the other way round. A "plain_cnn" of another image size may have more or fewer stages: those that both have are
    taken. The head is taken if all the rest is, and if it has as many outputs; else it stays as it was drawn.

    Raises
    ------
    InvalidParameterError
        It has another backbone.
    ModelFolderError
        It is missing or damaged.
    WeightsError
        Its weights do not fit the network.
    """
    parameters, stored = _parameters_and_weights()
    if backbone != parameters["backbone"]:
        theirs = f"{parameters['backbone']!r} at {parameters['image_size']} pixels"
        must = f"something else for {backbone!r}, since the bundled weights are those of {theirs}"
        raise invalid("pretrained", caller, must, BUNDLED)
    own, heads = model.state_dict(), _heads(model)
    if parameters["channels"] != channels:
        first = next(name for name, tensor in stored.items() if tensor.ndim == 4 and name in own)
        stored[first] = _with_channels(stored[first], channels)
    body = {name: tensor for name, tensor in stored.items() if name in own and not name.startswith(heads)}
    wrong = [name for name, tensor in body.items() if tensor.shape != own[name].shape]
    if wrong or len(body) < len(own) / 2:
        fault = f"{wrong[0]!r} has another shape" if wrong else f"of its {len(own)} tensors they have {len(body)}"
        size = parameters["image_size"]
        raise WeightsError(f"The bundled weights are for {size} pixels and do not suit this network: {fault}.")
    whole = stored.keys() == own.keys() and all(stored[name].shape == own[name].shape for name in own)
    model.load_state_dict(stored if whole else {**own, **body})


def _parameters_and_weights() -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the bundled model's parameters, and its weights without what is stored beside them."""
    config, state = read_folder(bundled_folder())
    return config["parameters"], {name: tensor for name, tensor in state.items() if not name.startswith(OWN_TENSORS)}


def _heads(model: nn.Module) -> tuple[str, ...]:
    """Return how the names of the last layers begin: one, or two of distilled transformers."""
    names = getattr(model, "pretrained_cfg", {}).get("classifier", "head")
    return tuple(f"{name}." for name in ([names] if isinstance(names, str) else names))


def _with_channels(weight: Tensor, channels: int) -> Tensor:
    """Return the weight (O, C, h, w) of a first layer for so many channels, grey or RGB."""
    grey = weight.float().sum(dim=1, keepdim=True)
    return (grey / channels).expand(-1, channels, -1, -1)
