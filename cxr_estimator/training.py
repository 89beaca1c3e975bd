"""The fit loop: AdamW, warm-up and cosine, weighted loss, EMA of the weights, early stopping on AUROC, resume."""

from __future__ import annotations

import contextlib
import copy
import ctypes
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cxr_estimator.augmentation import AUGMENTATIONS
from cxr_estimator.checkpoints import Checkpoint, CheckpointFile, fingerprint
from cxr_estimator.errors import TrainingError
from cxr_estimator.inference import BatchLimit, Execution, batches, normalise, pixel_logits, unit_tensor
from cxr_estimator.optimisation import WeightAverage, classification_loss, parameter_groups, rate_share
from cxr_estimator.preprocessing import Preprocessing
from cxr_estimator.reading import PixelRows
from cxr_estimator.roc import auroc, label_auroc, macro_auroc

_M_MMAP_THRESHOLD = -3  # of malloc.h
_GENERATORS = threading.RLock()


@dataclass(frozen=True)
class TrainingSettings:
    """What the loop needs to know; see the parameters of `CXRClassifier`."""

    max_epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    label_smoothing: float
    patience: int | None
    augment: str
    seed: int
    device: torch.device
    precision: str = "float32"
    dropout: float | None = None  # the network has it already; it tells the checkpoints of one from another's

    @property
    def execution(self) -> Execution:
        """How the network runs."""
        return Execution(self.device, self.batch_size, self.precision)


@dataclass(frozen=True)
class TrainingData:
    """Images and labels of one side of the split.

    Attributes
    ----------
    pixels : ndarray or PixelRows (N, C, H, W), uint8 or uint16
    target : ndarray (N,), int64, or (N, K), float32
        Class indices; or for each label 1, 0 or NaN (unknown).
    weight : ndarray, float32
        Loss weight per image (N,), or per label of it (N, K): class weight times sample weight.
    """

    pixels: np.ndarray | PixelRows
    target: np.ndarray
    weight: np.ndarray

    def __len__(self) -> int:
        return len(self.target)


def train(
    model: nn.Module,
    preprocessing: Preprocessing,
    data: TrainingData,
    validation: TrainingData | None,
    settings: TrainingSettings,
    progress: Callable[[int, dict[str, Any] | None], Any] | None = None,
    checkpoint_dir: str | Path | None = None,
) -> list[dict[str, Any]]:
    """Train `model` in place and leave it in eval mode with the weights of its best, or else its last, epoch.

    With validation images the best epoch has the highest AUROC (macro one-against-rest for several classes, the mean
    over those with both values for several labels per image; the lower loss decides ties), and training stops after
    `patience` epochs without a better one. Without them all epochs run, and the last is kept; so with a `patience` of
    None, where validation images are judged after each epoch but choose nothing.
    What is judged and kept is the exponential moving average of weights and batch-norm statistics.

    Random numbers come from `settings.seed` alone and the global generators are left as they were.

    With a `checkpoint_dir` a run that was killed is taken up where its last checkpoint stood, and on the same CPU ends
    with exactly the weights of an unbroken run. The checkpoint is found by a fingerprint of the settings, the initial
    weights and the data, so no other run takes it for its own. That of a finished run is kept: the same call again
    returns at once.

    Returns
    -------
    list of dict
        One row per epoch: epoch, train_loss, val_loss, val_auroc, learning_rate, seconds, best.
    """
    return_large_blocks()
    file = None
    if checkpoint_dir is not None:
        file = CheckpointFile(checkpoint_dir, _fingerprint(model, preprocessing, data, validation, settings))
    with seeded(settings.seed, settings.device):  # dropout and stochastic depth draw from the global generator
        return _Loop(model, preprocessing, data, validation, settings).run(file, progress)


def return_large_blocks() -> None:
    """Make the C library give freed blocks of 16 MB and more back to the system.

    glibc raises that limit to 32 MB by itself, and then keeps the activations of a training step in a heap that
    fragments: resnet18 at 224 px took a tenth more memory, and no less time. Holds for the whole process.
    """
    if sys.platform == "linux":
        set_option = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
        if set_option is not None:
            set_option(_M_MMAP_THRESHOLD, 2**24)


def _fingerprint(
    model: nn.Module,
    preprocessing: Preprocessing,
    data: TrainingData,
    validation: TrainingData | None,
    settings: TrainingSettings,
) -> str:
    description = {key: value for key, value in vars(settings).items() if key != "device"}  # a run may change its place
    arrays = [array for side in (data, validation) if side is not None for array in vars(side).values()]
    return fingerprint(description | {"preprocessing": preprocessing.to_dict()}, model.state_dict(), arrays)


@contextlib.contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators within the block and put them back afterwards.

    They belong to the whole process, so of several threads only one is let in at a time.
    """
    devices = [device] if device.type == "cuda" else []
    with _GENERATORS, torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


@dataclass
class _Position:
    """How far a run has come: with the weights and the optimizer, all that it takes to go on."""

    epoch: int = 1
    step: int = 0  # over all epochs
    batch: int = 0  # in this epoch
    loss: float = 0.0  # sums over this epoch
    seen: int = 0
    seconds: float = 0.0
    rows: list[dict[str, Any]] = field(default_factory=list)
    best: tuple[float, float] | None = None  # AUROC and negative loss
    best_epoch: int = 0
    micro_batch: int = 0
    finished: bool = False


class _Loop:
    """One run. Random numbers follow from seed, epoch and step alone, so no generator's state needs to be saved."""

    def __init__(
        self,
        model: nn.Module,
        preprocessing: Preprocessing,
        data: TrainingData,
        validation: TrainingData | None,
        settings: TrainingSettings,
    ) -> None:
        self.model = model
        self.preprocessing = preprocessing
        self.data = data
        self.validation = validation
        self.settings = settings
        self.generator = torch.Generator()
        self.augment = AUGMENTATIONS[settings.augment]
        self.total_steps = settings.max_epochs * steps_per_epoch(len(data), settings.batch_size)
        self.average = WeightAverage(model, total_steps=self.total_steps)
        self.optimizer = torch.optim.AdamW(
            parameter_groups(model, settings.weight_decay),
            lr=settings.learning_rate,
            fused=settings.device.type in ("cpu", "cuda"),
        )
        self.limit = BatchLimit(settings.batch_size, least=2)
        self.position = _Position()
        self.best_state: dict[str, Tensor] | None = None
        self.chooses_epoch = validation is not None and settings.patience is not None

    def run(self, file: CheckpointFile | None, progress: Callable | None) -> list[dict[str, Any]]:
        at = self.position = self._resume(file)
        if progress is not None:
            progress(at.step, None)
        while not self._is_over():
            self._epoch(file, progress)
            row = self._end_epoch()
            if progress is not None:
                progress(0, row)
            if file is not None and not self._is_over():
                file.save(self._checkpoint())
        if not at.finished:
            self.model.load_state_dict(self.average.model.state_dict() if self.best_state is None else self.best_state)
            at.finished = True
            if file is not None:
                file.save(Checkpoint(_named("model", self.model.state_dict()), asdict(at)))
        self.model.eval()
        kept = at.best_epoch if self.chooses_epoch else len(at.rows)
        return [{**row, "best": row["epoch"] == kept} for row in at.rows]

    def _is_over(self) -> bool:
        at, patience = self.position, self.settings.patience
        has_stalled = self.validation is not None and patience is not None and at.epoch - 1 - at.best_epoch >= patience
        return at.finished or at.epoch > self.settings.max_epochs or has_stalled

    def _epoch(self, file: CheckpointFile | None, progress: Callable | None) -> None:
        self.model.train()
        at = self.position
        self.generator.manual_seed(_mixed(self.settings.seed, 0, at.epoch))
        order = torch.randperm(len(self.data), generator=self.generator).numpy()
        started = time.perf_counter() - at.seconds
        for rows in _batches(order, self.settings.batch_size)[at.batch :]:
            loss = self._step(rows)
            if not math.isfinite(loss):
                raise TrainingError(
                    f"Training diverged: the loss became {loss} in step {at.step}. A lower learning_rate helps, or "
                    "less extreme weights."
                )
            at.batch, at.loss, at.seen = at.batch + 1, at.loss + loss * len(rows), at.seen + len(rows)
            at.seconds = time.perf_counter() - started
            if file is not None and file.is_due:
                file.save(self._checkpoint())
            if progress is not None:
                progress(1, None)

    def _step(self, rows: np.ndarray) -> float:
        at, device = self.position, self.settings.device
        torch.manual_seed(_mixed(self.settings.seed, 1, at.step))  # for dropout and stochastic depth
        self.generator.manual_seed(_mixed(self.settings.seed, 2, at.step))
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate(at.step)
        x = unit_tensor(self.data.pixels[rows], device)
        if self.augment is not None:
            x = self.augment(x, self.generator)
        x = normalise(x, self.preprocessing)
        target = torch.from_numpy(self.data.target[rows]).to(device)
        weight = torch.from_numpy(self.data.weight[rows]).to(device)
        loss = self.limit.run(lambda size: self._gradients(x, target, weight, size))
        nn.utils.clip_grad_norm_(self.model.parameters(), max_norm=5.0)
        self.optimizer.step()
        self.average.update(self.model)
        at.step, at.micro_batch = at.step + 1, self.limit.size
        return loss

    def _rate(self, step: int) -> float:
        return self.settings.learning_rate * rate_share(step, self.total_steps)

    def _gradients(self, x: Tensor, target: Tensor, weight: Tensor, size: int) -> float:
        """Accumulate the gradients of the mean loss over parts of the batch; return that loss.

        Batch norm sees each part as a batch; where memory ran out half-way, its statistics have seen some parts twice.
        """
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for part in batches(len(x), size, least=2):
            with self.settings.execution.autocast():
                logits = self.model(x[part])
            losses = classification_loss(logits.float(), target[part], self.settings.label_smoothing)
            loss = (weight[part] * losses).sum() / len(x)
            loss.backward()
            total += loss.item()
        return total

    def _end_epoch(self) -> dict[str, Any]:
        """Validate, note the epoch in the history and begin the next one."""
        at = self.position
        started = time.perf_counter()
        row = {"epoch": at.epoch, "train_loss": at.loss / at.seen, "val_loss": np.nan, "val_auroc": np.nan}
        if self.validation is not None:
            row["val_loss"], row["val_auroc"] = self._validate(self.validation)
            key = (float(np.nan_to_num(row["val_auroc"], nan=-1.0)), -row["val_loss"])
            if self.chooses_epoch and (at.best is None or key > at.best):
                at.best, at.best_epoch = key, at.epoch
                self.best_state = copy.deepcopy(self.average.model.state_dict())
        row["learning_rate"] = self._rate(at.step - 1)
        row["seconds"] = at.seconds + time.perf_counter() - started
        at.rows.append(row)
        at.epoch, at.batch, at.loss, at.seen, at.seconds = at.epoch + 1, 0, 0.0, 0, 0.0
        return row

    def _validate(self, validation: TrainingData) -> tuple[float, float]:
        scores = pixel_logits(self.average.model, validation.pixels, self.preprocessing, self.settings.execution)
        logits, target = torch.from_numpy(scores), torch.from_numpy(validation.target)
        losses = classification_loss(logits, target) * torch.from_numpy(validation.weight)
        loss = losses.sum().item() / len(validation)
        if validation.target.ndim == 2:
            return loss, label_auroc(scores, validation.target)
        if scores.shape[1] == 1:
            return loss, auroc(scores[:, 0], validation.target == 1)
        return loss, macro_auroc(torch.softmax(logits, dim=1).numpy(), validation.target)

    def _checkpoint(self) -> Checkpoint:
        tensors = _named("model", self.model.state_dict()) | _named("average", self.average.model.state_dict())
        if self.best_state is not None:
            tensors |= _named("best", self.best_state)
        for number, state in self.optimizer.state_dict()["state"].items():
            tensors |= _named(f"optimizer.{number}", state)
        return Checkpoint(tensors, asdict(self.position))

    def _resume(self, file: CheckpointFile | None) -> _Position:
        """Take weights and optimizer from the checkpoint, if there is one, and return where it stood."""
        found = None if file is None else file.load()
        if found is None:
            return _Position()
        at = _Position(**found.facts)
        at.best = None if at.best is None else (at.best[0], at.best[1])  # JSON has no tuples
        self.model.load_state_dict(_unnamed("model", found.tensors))
        if at.finished:
            return at
        self.average.model.load_state_dict(_unnamed("average", found.tensors))
        self.average.steps, self.limit.size = at.step, at.micro_batch
        self.best_state = _unnamed("best", found.tensors) or None
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        # in each parameter's own memory layout, in which the unbroken run has them
        state = {
            number: {
                name: torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value
                for name, value in _unnamed(f"optimizer.{number}", found.tensors).items()
            }
            for number, parameter in enumerate(parameters)
        }
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        return at


def _named(prefix: str, tensors: dict[str, Any]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _unnamed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def _mixed(seed: int, purpose: int, number: int) -> int:
    """Return a seed for one purpose and step that shares nothing with its neighbours."""
    return int(np.random.SeedSequence([seed, purpose, number]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def steps_per_epoch(n_images: int, batch_size: int) -> int:
    """Return how many batches `n_images` make."""
    return len(_batches(np.arange(n_images), batch_size))


def _batches(order: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Cut `order` into batches; a last batch of one is left out, since batch norm cannot train on it."""
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return batches[:-1] if len(batches) > 1 and len(batches[-1]) == 1 else batches
