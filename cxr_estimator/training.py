"""The fit loop: AdamW, warm-up and cosine, weighted loss, EMA of the weights, early stopping on AUROC."""

from __future__ import annotations

import contextlib
import copy
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cxr_estimator.augmentation import AUGMENTATIONS
from cxr_estimator.errors import TrainingError
from cxr_estimator.inference import normalise, pixel_logits, unit_tensor
from cxr_estimator.preprocessing import Preprocessing
from cxr_estimator.statistics import auroc, macro_auroc

EMA_DECAY = 0.998
_WARM_UP = 0.05  # share of all steps
_GENERATORS = threading.RLock()
_LAST_RATE = 0.01  # share of the learning rate at which the cosine ends


@dataclass(frozen=True)
class TrainingSettings:
    """What the loop needs to know; see the parameters of `CXRClassifier`."""

    max_epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    label_smoothing: float
    patience: int
    augment: str
    seed: int
    device: torch.device


@dataclass(frozen=True)
class TrainingData:
    """Images and labels of one side of the split.

    Attributes
    ----------
    pixels : ndarray (N, C, H, W), uint8 or uint16
    target : ndarray (N,), int64
        Class indices.
    weight : ndarray (N,), float32
        Loss weight per image: class weight times sample weight.
    """

    pixels: np.ndarray
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
) -> list[dict[str, float]]:
    """Train `model` in place and leave it in eval mode with the weights of its best epoch.

    With validation images the best epoch has the highest AUROC (macro one-against-rest for several classes; the lower
    loss decides ties), and training stops after `patience` epochs without a better one. Without them all epochs run.
    What is judged and kept is the exponential moving average of weights and batch-norm statistics.

    Random numbers come from `settings.seed` alone and the global generators are left as they were.

    Returns
    -------
    list of dict
        One row per epoch: epoch, train_loss, val_loss, val_auroc, learning_rate, seconds, best.
    """
    with seeded(settings.seed, settings.device):  # dropout and stochastic depth draw from the global generator
        return _Loop(model, preprocessing, data, settings).run(validation, progress)


@contextlib.contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators within the block and put them back afterwards.

    They belong to the whole process, so of several threads only one is let in at a time.
    """
    devices = [device] if device.type == "cuda" else []
    with _GENERATORS, torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


class _Loop:
    def __init__(
        self, model: nn.Module, preprocessing: Preprocessing, data: TrainingData, settings: TrainingSettings
    ) -> None:
        self.model = model
        self.preprocessing = preprocessing
        self.data = data
        self.settings = settings
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.augment = AUGMENTATIONS[settings.augment]
        self.total_steps = settings.max_epochs * steps_per_epoch(len(data), settings.batch_size)
        self.average = WeightAverage(model, total_steps=self.total_steps)
        self.optimizer = torch.optim.AdamW(_parameter_groups(model, settings.weight_decay), lr=settings.learning_rate)
        self.step = 0

    def run(self, validation: TrainingData | None, progress: Callable | None) -> list[dict[str, float]]:
        rows: list[dict[str, float]] = []
        best: tuple[float, float] | None = None
        best_epoch, best_state = 0, None
        for epoch in range(1, self.settings.max_epochs + 1):
            started = time.perf_counter()
            row = {"epoch": epoch, "train_loss": self._epoch(progress), "val_loss": np.nan, "val_auroc": np.nan}
            if validation is not None:
                row["val_loss"], row["val_auroc"] = self._validate(validation)
                key = (np.nan_to_num(row["val_auroc"], nan=-1.0), -row["val_loss"])
                if best is None or key > best:
                    best, best_epoch = key, epoch
                    best_state = copy.deepcopy(self.average.model.state_dict())
            row["learning_rate"] = self.optimizer.param_groups[0]["lr"]
            row["seconds"] = time.perf_counter() - started
            rows.append(row)
            if progress is not None:
                progress(0, row)
            if validation is not None and epoch - best_epoch >= self.settings.patience:
                break
        self.model.load_state_dict(self.average.model.state_dict() if best_state is None else best_state)
        self.model.eval()
        kept = best_epoch if validation is not None else len(rows)
        return [{**row, "best": row["epoch"] == kept} for row in rows]

    def _epoch(self, progress: Callable | None) -> float:
        self.model.train()
        order = torch.randperm(len(self.data), generator=self.generator).numpy()
        total, seen = 0.0, 0
        for rows in _batches(order, self.settings.batch_size):
            loss = self._step(rows)
            if not math.isfinite(loss):
                raise TrainingError(
                    f"Training diverged: the loss became {loss} in step {self.step}. A lower learning_rate helps, or "
                    "less extreme weights."
                )
            total, seen = total + loss * len(rows), seen + len(rows)
            if progress is not None:
                progress(1, None)
        return total / seen

    def _step(self, rows: np.ndarray) -> float:
        device = self.settings.device
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * _schedule(self.step, self.total_steps)
        x = unit_tensor(self.data.pixels[rows], device)
        if self.augment is not None:
            x = self.augment(x, self.generator)
        target = torch.from_numpy(self.data.target[rows]).to(device)
        weight = torch.from_numpy(self.data.weight[rows]).to(device)
        logits = self.model(normalise(x, self.preprocessing))
        loss = (weight * classification_loss(logits, target, self.settings.label_smoothing)).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), max_norm=5.0)
        self.optimizer.step()
        self.step += 1
        self.average.update(self.model)
        return loss.item()

    def _validate(self, validation: TrainingData) -> tuple[float, float]:
        scores = pixel_logits(
            self.average.model,
            validation.pixels,
            self.preprocessing,
            batch_size=self.settings.batch_size,
            device=self.settings.device,
        )
        logits, target = torch.from_numpy(scores), torch.from_numpy(validation.target)
        losses = classification_loss(logits, target) * torch.from_numpy(validation.weight)
        if scores.shape[1] == 1:
            return losses.mean().item(), auroc(scores[:, 0], validation.target == 1)
        return losses.mean().item(), macro_auroc(torch.softmax(logits, dim=1).numpy(), validation.target)


def classification_loss(logits: Tensor, target: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Return the loss of each image (N,): logistic for one logit, cross-entropy for K logits."""
    if logits.shape[1] == 1:
        smooth = target.to(logits) * (1.0 - label_smoothing) + 0.5 * label_smoothing
        return F.binary_cross_entropy_with_logits(logits[:, 0], smooth, reduction="none")
    return F.cross_entropy(logits, target, label_smoothing=label_smoothing, reduction="none")


class WeightAverage:
    """Bias-corrected exponential moving average of parameters and batch-norm statistics.

    avg_t = sum_i d^(t-i) w_i / sum_i d^(t-i), computed in place as avg += (1 - d) / (1 - d^t) * (w - avg): the first
    step takes the weights themselves, so nothing of the initialisation is left over. In short runs the horizon is
    shortened to a tenth of all steps; otherwise the average would trail far behind the weights.
    """

    def __init__(self, model: nn.Module, total_steps: int, decay: float = EMA_DECAY) -> None:
        self.model = copy.deepcopy(model).eval()
        self.decay = min(decay, 1.0 - 1.0 / max(2.0, total_steps / 10.0))
        self.steps = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the weights after one more step."""
        self.steps += 1
        share = (1.0 - self.decay) / (1.0 - self.decay**self.steps)
        for average, current in zip(self.model.state_dict().values(), model.state_dict().values(), strict=True):
            if average.is_floating_point():
                average.lerp_(current, share)
            else:
                average.copy_(current)


def _schedule(step: int, total: int) -> float:
    """Share of the learning rate: linear warm-up, then half a cosine."""
    warm_up = max(1, round(_WARM_UP * total))
    if step < warm_up:
        return (step + 1) / warm_up
    phase = (step - warm_up) / max(1, total - warm_up)
    return _LAST_RATE + (1.0 - _LAST_RATE) * 0.5 * (1.0 + math.cos(math.pi * phase))


def steps_per_epoch(n_images: int, batch_size: int) -> int:
    """Return how many batches `n_images` make."""
    return len(_batches(np.arange(n_images), batch_size))


def _batches(order: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Cut `order` into batches; a last batch of one is left out, since batch norm cannot train on it."""
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return batches[:-1] if len(batches) > 1 and len(batches[-1]) == 1 else batches


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Decay weights, but neither biases nor the scales of norms."""
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
