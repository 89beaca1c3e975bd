"""What every training step is made of: the loss, the learning rate, the weight decay, the average of the weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EMA_DECAY = 0.998
_WARM_UP = 0.05  # share of all steps
_LAST_RATE = 0.01  # share of the learning rate at which the cosine ends


def classification_loss(logits: Tensor, target: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Return the loss of each image (N,), or of each label of it (N, K).

    For class indices `target` (N,): logistic for one logit, cross-entropy for K logits. For several labels per image,
    `target` (N, K) of 1, 0 and NaN: logistic for each, divided by K, so that an image's losses sum to their mean over
    labels; 0 where the label is unknown.
    """
    if target.ndim == 2:
        smooth = target.nan_to_num() * (1.0 - label_smoothing) + 0.5 * label_smoothing
        losses = F.binary_cross_entropy_with_logits(logits, smooth, reduction="none")
        return losses.masked_fill(target.isnan(), 0.0) / target.shape[1]
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
        for average, current in zip(_tensors(self.model), _tensors(model), strict=True):
            if average.is_floating_point():
                average.lerp_(current, share)
            else:
                average.copy_(current)


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()


def rate_share(step: int, total: int) -> float:
    """Share of the learning rate: linear warm-up, then half a cosine."""
    warm_up = max(1, round(_WARM_UP * total))
    if step < warm_up:
        return (step + 1) / warm_up
    phase = (step - warm_up) / max(1, total - warm_up)
    return _LAST_RATE + (1.0 - _LAST_RATE) * 0.5 * (1.0 + math.cos(math.pi * phase))


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Decay weights, but neither biases nor the scales of norms."""
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
