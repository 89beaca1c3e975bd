"""The networks: any timm model by name, or the small "plain_cnn"; where each keeps its last feature map."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from cxr_estimator._bundled import BUNDLED, begin_with_bundled
from cxr_estimator._validation import close_matches, invalid
from cxr_estimator.errors import InvalidParameterError, WeightsError

PLAIN_CNN = "plain_cnn"
_PLAIN_MEAN, _PLAIN_STD = (0.5,), (0.25,)
_PRETRAINED = f"True, False, {BUNDLED!r} or the path of a .safetensors file"


class PlainCNN(nn.Module):
    """A small convolutional network of (conv, batch norm, ReLU) x 2 per stage, each stage halving the image.

    Stages are as many as leave a map of about 8 x 8, so it serves 28 px as well as 224 px. Every ReLU is a module of
    its own and works out of place, so that propagation rules and hooks see each one.

    Parameters
    ----------
    num_outputs, channels, image_size : int
        Logits, input planes, and height and width of the input in pixels.
    width : int, default=24
        Channels of the first stage; each further stage has twice as many, at most 192.
    dropout : float in [0, 1), default=0.1
        Before the last layer.
    """

    def __init__(
        self, num_outputs: int, channels: int, image_size: int, width: int = 24, *, dropout: float = 0.1
    ) -> None:
        super().__init__()
        widths = [min(width * 2**stage, 192) for stage in range(max(2, round(math.log2(image_size / 8))))]
        self.features = nn.Sequential()
        for number, (before, after) in enumerate(zip([channels, *widths], widths, strict=False)):
            self.features.add_module(f"stage{number + 1}", _plain_stage(before, after))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1], num_outputs)
        self.head_hidden_size = widths[-1]

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, C, H, W) to logits (N, num_outputs)."""
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """Map images to the last feature map (N, D, h, w); this name and the next are timm's."""
        return self.features(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Map the feature map to logits, or to the pooled features (N, D) that enter the last layer."""
        x = self.dropout(self.flatten(self.pool(x)))
        return x if pre_logits else self.head(x)


def _plain_stage(before: int, after: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels, stride in ((before, 2), (after, 1)):
        conv = nn.Conv2d(channels, after, 3, stride=stride, padding=1, bias=False)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        layers += [conv, nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers)


def check_backbone(name: str, *, caller: str) -> str:
    """Return `name` if it is "plain_cnn" or a timm model; the error suggests the nearest names."""
    if name == PLAIN_CNN:  # loads without timm, which takes seconds to import
        return name
    import timm

    if isinstance(name, str) and timm.is_model(name):
        return name
    near = close_matches(name, [PLAIN_CNN, *timm.list_models()], n=5, cutoff=0.5)
    hint = f" Did you mean {', '.join(repr(option) for option in near)}?" if near else ""
    error = invalid("backbone", caller, f"{PLAIN_CNN!r} or a model of timm (timm.list_models() lists them)", name)
    raise InvalidParameterError(str(error) + hint)


def build_backbone(
    name: str,
    *,
    num_outputs: int,
    channels: int,
    image_size: int,
    pretrained: bool | str | Path = False,
    dropout: float | None = None,
) -> nn.Module:
    """Return a network that maps (N, channels, image_size, image_size) to logits (N, num_outputs).

    Parameters
    ----------
    name : str
        "plain_cnn" or the name of a timm model.
    pretrained : bool, "bundled" or path
        True: timm's weights for this model, from its cache or the Hub. "bundled": those of the model that comes with
        the package. A path: a local `.safetensors` file of this architecture; a first layer and a head of another size
        are adapted as timm does it.
    dropout : float in [0, 1), optional
        Before the last layer; a few families drop in their blocks as well. Default: the backbone's own.

    Raises
    ------
    InvalidParameterError
        Unknown backbone, or `pretrained` or `dropout` does not suit it.
    WeightsError
        The weights can be neither found nor downloaded, or do not fit the architecture.
    """
    caller = "build_backbone"
    check_backbone(name, caller=caller)
    if pretrained == BUNDLED:
        model = build_backbone(name, num_outputs=num_outputs, channels=channels, image_size=image_size, dropout=dropout)
        begin_with_bundled(model, name, channels, caller=caller)
        return model
    weights = _check_pretrained(pretrained, name, caller)
    own: dict[str, Any] = {} if dropout is None else {"dropout" if name == PLAIN_CNN else "drop_rate": dropout}
    if name == PLAIN_CNN:
        return PlainCNN(num_outputs, channels, image_size, **own)
    import timm

    options: dict[str, Any] = {"num_classes": num_outputs, "in_chans": channels, "pretrained": bool(weights), **own}
    if isinstance(weights, Path):
        options["pretrained_cfg_overlay"] = {"file": str(weights)}
    config = timm.get_pretrained_cfg(name)
    if config is not None and config.fixed_input_size:
        options["img_size"] = image_size  # transformers allocate their position embedding for one size
    try:
        model = timm.create_model(name, **options)
    except Exception as error:  # the network, the Hub's client, the file format: many classes, one remedy
        if dropout is not None and isinstance(error, TypeError) and "drop_rate" in str(error):
            raise invalid("dropout", caller, f"None for {name!r}, which takes none", dropout) from error
        if not weights:
            raise
        raise WeightsError(_weights_message(name, weights, error)) from error
    if isinstance(weights, Path):
        _check_overlap(model, name, weights)
    return model


def _check_pretrained(pretrained: bool | str | Path, name: str, caller: str) -> bool | Path:
    if isinstance(pretrained, bool):
        if pretrained and name == PLAIN_CNN:
            constraint = f"False or {BUNDLED!r} for {PLAIN_CNN!r}, which has no published weights"
            raise invalid("pretrained", caller, constraint, pretrained)
        return pretrained
    if not isinstance(pretrained, str | Path):
        raise invalid("pretrained", caller, _PRETRAINED, pretrained)
    path = Path(pretrained)
    if path.suffix != ".safetensors":  # other formats are pickles, which run code when they are read
        raise invalid("pretrained", caller, _PRETRAINED, str(pretrained))
    if name == PLAIN_CNN:
        raise invalid(
            "pretrained",
            caller,
            f"False or {BUNDLED!r} for {PLAIN_CNN!r}; load whole models with CXRClassifier.load",
            pretrained,
        )
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such weights file.")
    return path


def _check_overlap(model: nn.Module, name: str, path: Path) -> None:
    """Refuse a file of another architecture, which timm would accept while loading next to nothing of it."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        found = set(file.keys())
    wanted = set(model.state_dict())
    if len(found & wanted) < len(wanted) / 2:
        raise WeightsError(
            f"{path}: these weights are not of {name!r}: only {len(found & wanted)} of its {len(wanted)} tensors are "
            "there."
        )


def _weights_message(name: str, weights: bool | Path, error: Exception) -> str:
    reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no details'}"
    if isinstance(weights, Path):
        return f"{weights}: these weights cannot be loaded into {name!r} ({reason})."
    return (
        f"The pretrained weights of {name!r} could not be downloaded ({reason}). Without a network: run "
        f"`timm.create_model({name!r}, pretrained=True)` once on a connected machine and copy its Hugging Face cache "
        "(HF_HOME) here; or pass pretrained='FILE.safetensors'; or train from scratch with pretrained=False."
    )


def normalisation(model: nn.Module, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and standard deviation per channel that the backbone expects for pixels in [0, 1]."""
    config = getattr(model, "pretrained_cfg", None)
    if not config:
        return _PLAIN_MEAN * channels, _PLAIN_STD * channels
    mean, std = tuple(config["mean"]), tuple(config["std"])
    if channels == 1:
        return (sum(mean) / len(mean),), (sum(std) / len(std),)
    return mean, std


def embed(model: nn.Module, x: Tensor) -> Tensor:
    """Return the pooled features (N, D) that enter the last layer of a network from `build_backbone`.

    For timm this is `forward_head(..., pre_logits=True)`. In most networks the last layer is linear, so that it maps
    them to the logits; where there are two heads (distilled transformers, LeViT, EfficientFormer, RepViT), both do.
    """
    network: Any = model
    return network.forward_head(network.forward_features(x), pre_logits=True)


def embedding_size(model: nn.Module) -> int:
    """Return D, the number of features that `embed` gives."""
    network: Any = model
    return int(network.head_hidden_size)


def named_layer(model: nn.Module, name: str) -> nn.Module:
    """Return the layer called `name`; the error suggests the nearest names."""
    layers = dict(model.named_modules())
    if name in layers and name:
        return layers[name]
    near = close_matches(name, layers, n=8, cutoff=0.3) or list(layers)[1:9]
    raise invalid("layer", type(model).__name__, f"a layer of the network, such as {', '.join(map(repr, near))}", name)


_CAM_LAYERS: WeakKeyDictionary[nn.Module, dict[torch.Size, str]] = WeakKeyDictionary()


def default_cam_layer(model: nn.Module, x: Tensor) -> str:
    """Return the name of the layer on which class activation maps are taken by default.

    Class-token transformers: the first norm of the last block, since behind it the patch tokens no longer reach the
    class token and their gradients are zero. All others: the last layer whose output for `x` (N, C, H, W) still is a
    spatial map of at least 2 x 2, which is what enters the global pooling. It is looked up once per model and size.
    """
    known = _CAM_LAYERS.setdefault(model, {})
    if x.shape[1:] not in known:
        known[x.shape[1:]] = _find_cam_layer(model, x)
    return known[x.shape[1:]]


def _find_cam_layer(model: nn.Module, x: Tensor) -> str:
    if getattr(model, "num_prefix_tokens", 0):
        names = [name for name, _ in model.named_modules() if re.fullmatch(r"blocks\.\d+\.norm1", name)]
        if names:
            return names[-1]
    candidates = _layers_with(model, x, _is_spatial)
    if not candidates:
        raise invalid("layer", type(model).__name__, "named: this network has no layer with a spatial map", None)
    return candidates[-1]


def spatial_layers(model: nn.Module, x: Tensor) -> list[str]:
    """Return the names of the layers whose output for `x` (N, C, H, W) `to_grid` takes, in the order they run."""
    return _layers_with(model, x, _has_grid)


@torch.no_grad()
def _layers_with(model: nn.Module, x: Tensor, suits: Callable[[nn.Module, Tensor], bool]) -> list[str]:
    found: list[str] = []

    def note(name: str):
        def hook(module: nn.Module, inputs: tuple, output: object) -> None:
            if isinstance(output, Tensor) and suits(model, output):
                found.append(name)

        return hook

    with contextlib.ExitStack() as stack:
        for name, module in model.named_modules():
            if name and not isinstance(module, nn.Identity):
                stack.callback(module.register_forward_hook(note(name)).remove)
        model(x[:1])
    return list(dict.fromkeys(found))


def _is_spatial(model: nn.Module, output: Tensor) -> bool:
    if output.ndim == 4:
        rows, columns = output.shape[1:3] if _is_channels_last(model) else output.shape[2:4]
        return min(rows, columns) > 1
    grid = token_grid(model)
    return output.ndim == 3 and grid is not None and output.shape[1] == grid[0] * grid[1]


def _is_channels_last(model: nn.Module) -> bool:
    return str(getattr(model, "output_fmt", "")) == "NHWC"


def token_grid(model: nn.Module) -> tuple[int, int] | None:
    """Return (rows, columns) of the patch tokens, or None for a network without them."""
    embedding = getattr(model, "patch_embed", None) or getattr(model, "stem", None)
    grid = getattr(embedding, "grid_size", None)
    return None if grid is None or _is_channels_last(model) else (int(grid[0]), int(grid[1]))


def _has_grid(model: nn.Module, output: Tensor) -> bool:
    grid = token_grid(model)
    has_tokens = output.ndim == 3 and grid is not None and output.shape[1] >= grid[0] * grid[1]
    return has_tokens or (output.ndim == 4 and _is_spatial(model, output))


def to_grid(model: nn.Module, activation: Tensor) -> Tensor:
    """Return an activation as (N, C, h, w), from feature maps (either layout) or tokens (N, T, C)."""
    if not _has_grid(model, activation):
        raise invalid(
            "layer",
            type(model).__name__,
            "a layer with a spatial map of at least 2 x 2",
            f"output of shape {tuple(activation.shape)}",
        )
    grid = token_grid(model)
    if activation.ndim == 4 or grid is None:
        return activation.permute(0, 3, 1, 2) if _is_channels_last(model) else activation
    patches = activation[:, activation.shape[1] - grid[0] * grid[1] :]  # class and register tokens come first
    return patches.transpose(1, 2).unflatten(2, grid)


@contextlib.contextmanager
def capture(model: nn.Module, *layers: str) -> Iterator[dict[str, Tensor]]:
    """Within the block, a forward pass leaves the outputs of `layers` by name, for gradients with respect to them.

    The graph starts at the first of them, so a backward pass only runs through what comes behind it.
    """
    captured: dict[str, Tensor] = {}

    def hook_for(layer: str):
        def hook(module: nn.Module, inputs: tuple, output: object) -> Tensor:
            if not isinstance(output, Tensor):
                constraint = f"a layer that returns one tensor, unlike {layer!r}"
                raise invalid("layer", type(model).__name__, constraint, layer)
            starts = not captured or not output.requires_grad
            captured[layer] = output.detach().requires_grad_() if starts else output
            return captured[layer].clone()  # what follows may work in place, which a leaf does not allow

        return hook

    with contextlib.ExitStack() as stack:
        for layer in layers:
            stack.callback(named_layer(model, layer).register_forward_hook(hook_for(layer)).remove)
        yield captured
