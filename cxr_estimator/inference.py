"""The only place that runs a model forward in bulk: lock, mode, device, precision, batches, memory."""

from __future__ import annotations

import contextlib
import gc
import math
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from cxr_estimator._outputs import Task
from cxr_estimator._turns import Turns
from cxr_estimator._validation import check_choice, invalid
from cxr_estimator.errors import BatchSizeWarning, NotEnoughMemoryError, SkippedImage
from cxr_estimator.images import ImageSequence
from cxr_estimator.preprocessing import Preprocessing
from cxr_estimator.reading import PixelRows, PreparedImages, Reading, iter_prepared

PRECISIONS = ("auto", "float32", "bfloat16")
BFLOAT16_TOLERANCE = 0.005  # how far bfloat16 may move a probability of a few images where nobody asked for it
_AUTOMATIC_MEMORY = 2**30  # bytes of activations that batch_size="auto" allows on a CPU
_LARGEST_BATCH = 256  # beyond which a batch is no faster
_Result = TypeVar("_Result")
# CPU, MPS, and how the libraries below CUDA say it
_OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")

Run = Callable[[nn.Module, Tensor], Tensor]  # what to compute of a model and a batch, such as `backbones.embed`

# Kept outside the models: a lock can be neither copied nor pickled.
_HELD: WeakKeyDictionary[nn.Module, _Held] = WeakKeyDictionary()
_HELD_LOCK = threading.Lock()


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


def check_precision(precision: str, device: torch.device, *, caller: str) -> str:
    """Return "float32" or "bfloat16"; "auto" is bfloat16 where the device computes in it natively."""
    check_choice("precision", precision, PRECISIONS, caller=caller)
    if precision != "auto":
        return precision
    return "bfloat16" if _has_bfloat16(device) else "float32"


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool({"avx512_bf16", "amx_bf16"} & _cpu_flags())


@cache
def _cpu_flags() -> frozenset[str]:
    """Return what the processor offers; without the instructions bfloat16 is emulated, and slower than float32."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux: float32 is always right
        return frozenset()
    return frozenset(next((line.split() for line in lines if line.startswith("flags")), ()))


@dataclass(frozen=True)
class Execution:
    """How a network runs.

    Parameters
    ----------
    device : torch.device
    batch_size : int
        Images at once, at most.
    precision : {"float32", "bfloat16"}
        bfloat16 is autocast: weights stay float32.
    """

    device: torch.device
    batch_size: int = 32
    precision: str = "float32"

    def autocast(self) -> torch.autocast:
        """Return the context in which the network's forward pass belongs."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")


class BatchLimit:
    """Runs work in smaller and smaller batches until it fits into memory, and remembers what fitted.

    Parameters
    ----------
    size : int
        Images at once to begin with.
    least : int, default=1
        The smallest batch; 2 for training, since batch norm cannot train on a single image.
    """

    def __init__(self, size: int, least: int = 1) -> None:
        self.size = size
        self.least = least

    def run(self, work: Callable[[int], _Result]) -> _Result:
        """Return `work(size)`. Where memory runs out, warn, halve the size and begin that work again.

        Raises
        ------
        NotEnoughMemoryError
            It does not even suffice for the smallest batch.
        """
        while True:
            try:
                return work(self.size)
            except (RuntimeError, MemoryError) as error:
                if not _is_out_of_memory(error):
                    raise
                if self.size <= self.least:
                    count = "a single image" if self.size == 1 else f"{self.size} images"
                    raise NotEnoughMemoryError(
                        f"Out of memory even for {count} at once: a smaller image_size or backbone is needed."
                    ) from error
            # outside the handler, whose traceback would keep the tensors of the failed attempt alive
            self.size = max(self.least, self.size // 2)
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            warnings.warn(f"Out of memory: going on with batches of {self.size}.", BatchSizeWarning, stacklevel=2)


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, NotEnoughMemoryError):  # has given up already
        return False
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or any(text in str(error) for text in _OUT_OF_MEMORY)


def batches(size: int, batch_size: int, least: int = 1) -> list[slice]:
    """Cut `size` rows into as few slices as possible, of nearly equal lengths of at most `batch_size`.

    None has less than `least` rows, if there are that many; where both cannot be had, one may have one row more.
    """
    count = min(math.ceil(size / batch_size), max(1, size // least))
    edges = [round(size * number / count) for number in range(count + 1)] if size else []
    return [slice(start, stop) for start, stop in pairwise(edges)]


class _Held:
    """The lock of a model, and how often `evaluating` is within: also in threads that gave way to others."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.within = 0
        self.modes: list[tuple[nn.Module, bool]] = []
        self.gradients: list[tuple[nn.Parameter, bool]] = []


def _held(model: nn.Module) -> _Held:
    with _HELD_LOCK:
        return _HELD.setdefault(model, _Held())


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Hold the model's lock, in eval mode and with frozen parameters; restore all of it afterwards.

    Gradients with respect to the input or to a layer still flow; those of the parameters are never computed.
    """
    held = _held(model)
    with held.turns:
        if held.within == 0:
            held.modes = [(module, module.training) for module in model.modules()]
            held.gradients = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
        held.within += 1
        try:
            model.eval()
            for parameter in model.parameters():
                parameter.requires_grad_(False)
            yield
        finally:
            held.within -= 1
            if held.within == 0:
                for module, training in held.modes:
                    module.training = training
                for parameter, required in held.gradients:
                    parameter.requires_grad_(required)
                held.modes, held.gradients = [], []


def give_way(model: nn.Module) -> None:
    """Let threads that wait for a model which this one holds go first; nothing may be hooked into it meanwhile."""
    _held(model).turns.give_way()


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


def denormalise(x: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Return the pixels in [0, 1] of a network's input; undoes `normalise`."""
    mean = torch.tensor(preprocessing.mean, device=x.device).view(1, -1, 1, 1)
    std = torch.tensor(preprocessing.std, device=x.device).view(1, -1, 1, 1)
    return x * std + mean


def iter_inputs(
    images: ImageSequence, preprocessing: Preprocessing, execution: Execution, reading: Reading | None = None
) -> Iterator[tuple[PreparedImages, Tensor]]:
    """Yield the images batch by batch, prepared and as normalised tensors (n, C, H, W), in flat memory."""
    for prepared in iter_prepared(images, preprocessing, reading, batch_size=execution.batch_size):
        yield prepared, normalise(unit_tensor(prepared.pixels, execution.device), preprocessing)


class Logits(NamedTuple):
    """Raw model output for every input row; a skipped image is a row of NaN."""

    values: np.ndarray  # (N, K) float32
    skipped: tuple[SkippedImage, ...]
    content_ids: tuple[str, ...]  # of the images that could be read, in order


def predict_logits(
    model: nn.Module,
    images: ImageSequence,
    preprocessing: Preprocessing,
    execution: Execution,
    reading: Reading | None = None,
    *,
    num_outputs: int,
    progress: Callable[[int], Any] | None = None,
    run: Run = nn.Module.__call__,
) -> Logits:
    """Run all images through the model. `progress` is called with the number of images of each finished batch.

    `run` is what `forward` takes; the values then are its output, (N, num_outputs).
    """
    values = np.full((len(images), num_outputs), np.nan, dtype=np.float32)
    skipped: list[SkippedImage] = []
    content_ids: list[str] = []
    limit = BatchLimit(execution.batch_size)
    for prepared, x in iter_inputs(images, preprocessing, execution, reading):
        skipped += prepared.skipped
        content_ids += prepared.content_ids
        if len(x):
            values[prepared.index] = forward(model, x, execution, limit, run).cpu().numpy()
        if progress is not None:
            progress(len(prepared.index) + len(prepared.skipped))
    return Logits(values, tuple(skipped), tuple(content_ids))


def pixel_logits(
    model: nn.Module,
    pixels: np.ndarray | PixelRows,
    preprocessing: Preprocessing,
    execution: Execution,
    run: Run = nn.Module.__call__,
) -> np.ndarray:
    """Return the logits (N, K), or what `run` gives, of images at model size, uint8 or uint16 (N, C, S, S)."""
    limit = BatchLimit(execution.batch_size)
    outputs = [
        forward(model, normalise(unit_tensor(pixels[rows], execution.device), preprocessing), execution, limit, run)
        for rows in batches(len(pixels), execution.batch_size)
    ]
    return torch.cat(outputs).cpu().numpy()


def automatic_batch_size(model: nn.Module, preprocessing: Preprocessing, execution: Execution) -> int:
    """Return how many images keep what a backward pass needs within 1 GiB, or half of the GPU's free memory."""
    size = preprocessing.image_size
    x = torch.zeros(1, preprocessing.channels, size, size, device=execution.device, requires_grad=True)
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with evaluating(model), torch.enable_grad(), execution.autocast():
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            output = model(x)  # held, so that no storage is given away twice
        weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
        each = sum(size for pointer, size in kept.items() if pointer not in weights)
        del output
    is_cuda = execution.device.type == "cuda"
    memory = torch.cuda.mem_get_info(execution.device)[0] // 2 if is_cuda else _AUTOMATIC_MEMORY
    return int(min(max(memory // max(each, 1), 1), _LARGEST_BATCH))


def bfloat16_change(
    model: nn.Module, pixels: np.ndarray | PixelRows, preprocessing: Preprocessing, execution: Execution, task: Task
) -> float:
    """Return the largest change of a probability of these images, (N, C, S, S), between float32 and bfloat16."""
    exact, rough = (
        torch.from_numpy(pixel_logits(model, pixels, preprocessing, replace(execution, precision=name)))
        for name in ("float32", "bfloat16")
    )
    change = float((task.proba(exact) - task.proba(rough)).abs().max())
    return change if math.isfinite(change) else 1.0


@torch.no_grad()
def forward(
    model: nn.Module,
    x: Tensor,
    execution: Execution,
    limit: BatchLimit | None = None,
    run: Run = nn.Module.__call__,
) -> Tensor:
    """Return the logits (n, K) of one batch, or `run(model, x)`, float32, in eval mode and without a graph."""
    with evaluating(model), execution.autocast():
        limit = limit or BatchLimit(len(x))
        return torch.cat(limit.run(lambda size: [run(model, x[rows]).float() for rows in batches(len(x), size)]))
