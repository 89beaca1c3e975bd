"""The only place that runs a model forward in bulk: lock, mode, device, batches."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from cxr_estimator._validation import invalid
from cxr_estimator.errors import SkippedImage
from cxr_estimator.images import ImageSequence
from cxr_estimator.preprocessing import PreparedImages, Preprocessing, prepare

Run = Callable[[nn.Module, Tensor], Tensor]  # what to compute of a model and a batch, such as `backbones.embed`

# Kept outside the models: a lock can be neither copied nor pickled.
_LOCKS: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()
_LOCKS_LOCK = threading.Lock()


def check_device(device: str, *, caller: str) -> torch.device:
    """Return the torch device for "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", "mps"."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        if not isinstance(device, str) or device == "meta":
            raise TypeError("not a place to compute")
        return torch.zeros(1, device=device).device
    except (RuntimeError, TypeError, AssertionError) as error:
        raise invalid("device", caller, f"'auto' or a device of this machine ({error})", device) from error


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Hold the model's lock, in eval mode and with frozen parameters; restore all of it afterwards.

    Gradients with respect to the input or to a layer still flow; those of the parameters are never computed.
    """
    with _LOCKS_LOCK:
        lock = _LOCKS.setdefault(model, threading.RLock())
    with lock:
        modes = [(module, module.training) for module in model.modules()]
        gradients = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
        try:
            model.eval()
            for parameter, _ in gradients:
                parameter.requires_grad_(False)
            yield
        finally:
            for module, training in modes:
                module.training = training
            for parameter, required in gradients:
                parameter.requires_grad_(required)


def unit_tensor(pixels: np.ndarray, device: torch.device) -> Tensor:
    """Return uint8 or uint16 pixels (N, C, H, W) as float32 in [0, 1], channels-last in memory."""
    top = float(np.iinfo(pixels.dtype).max)
    tensor = torch.from_numpy(pixels.astype(np.float32) if pixels.dtype == np.uint16 else pixels)
    # channels-last convolutions run up to 1.6 times faster on CPUs
    return (tensor.to(device).float() / top).contiguous(memory_format=torch.channels_last)


def normalise(unit: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Return (unit - mean) / std per channel."""
    mean = torch.tensor(preprocessing.mean, device=unit.device).view(1, -1, 1, 1)
    std = torch.tensor(preprocessing.std, device=unit.device).view(1, -1, 1, 1)
    return (unit - mean) / std


def iter_inputs(
    images: ImageSequence,
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    device: torch.device,
    on_error: str = "raise",
    n_jobs: int = 1,
) -> Iterator[tuple[PreparedImages, Tensor]]:
    """Yield the images batch by batch, prepared and as normalised tensors (n, C, H, W), in flat memory."""
    for start in range(0, len(images), batch_size):
        rows = range(start, min(start + batch_size, len(images)))
        prepared = prepare(images, preprocessing, indices=rows, on_error=on_error, n_jobs=n_jobs)
        yield prepared, normalise(unit_tensor(prepared.pixels, device), preprocessing)


class Logits(NamedTuple):
    """Raw model output for every input row; a skipped image is a row of NaN."""

    values: np.ndarray  # (N, K) float32
    skipped: tuple[SkippedImage, ...]


def predict_logits(
    model: nn.Module,
    images: ImageSequence,
    preprocessing: Preprocessing,
    *,
    num_outputs: int,
    batch_size: int,
    device: torch.device,
    on_error: str = "raise",
    n_jobs: int = 1,
    progress: Callable[[int], Any] | None = None,
    run: Run | None = None,
) -> Logits:
    """Run all images through the model. `progress` is called with the number of images of each finished batch.

    `run` is what `forward` takes; the values then are its output, (N, num_outputs).
    """
    values = np.full((len(images), num_outputs), np.nan, dtype=np.float32)
    skipped: list[SkippedImage] = []
    batches = iter_inputs(images, preprocessing, batch_size=batch_size, device=device, on_error=on_error, n_jobs=n_jobs)
    for prepared, x in batches:
        skipped += prepared.skipped
        if len(x):
            values[prepared.index] = forward(model, x, run).cpu().numpy()
        if progress is not None:
            progress(len(prepared.index) + len(prepared.skipped))
    return Logits(values, tuple(skipped))


def pixel_logits(
    model: nn.Module, pixels: np.ndarray, preprocessing: Preprocessing, *, batch_size: int, device: torch.device
) -> np.ndarray:
    """Return the logits (N, K) of images that are already at model size, uint8 or uint16 (N, C, S, S)."""
    outputs = [
        forward(model, normalise(unit_tensor(pixels[start : start + batch_size], device), preprocessing)).cpu().numpy()
        for start in range(0, len(pixels), batch_size)
    ]
    return np.concatenate(outputs)


@torch.no_grad()
def forward(model: nn.Module, x: Tensor, run: Run | None = None) -> Tensor:
    """Return the logits (n, K) of one batch, or `run(model, x)`, in eval mode and without a graph."""
    with evaluating(model):
        return (model(x) if run is None else run(model, x)).float()
