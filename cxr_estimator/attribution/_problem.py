"""What every method is given: a network, a batch of images, and the one number per image that is to be explained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from cxr_estimator._validation import invalid
from cxr_estimator.attribution._target import Target, TargetRule
from cxr_estimator.backbones import capture, to_grid
from cxr_estimator.inference import BatchLimit, Execution, batches, forward


class Chunk(NamedTuple):
    """Some of the evaluations that a method wants: `number[j]` (0, 1, ...) of image `owner[j]`; both (m,), int64."""

    owner: Tensor
    number: Tensor


class AtLayer(NamedTuple):
    """Activation of a layer and gradient of the scores with respect to it, both (n, channels, h, w), float32."""

    activation: Tensor
    gradient: Tensor


class Problem:
    """A batch to explain. All forward and backward passes of all methods go through here.

    Parameters
    ----------
    model : nn.Module
        In eval mode with frozen parameters (see `inference.evaluating`).
    x : Tensor (n, C, H, W), float32
        Normalised images; never written to.
    rule : TargetRule
        How the explained class of each image is chosen.
    mean, std : sequence of C floats, optional
        What `x` was normalised with: x = (pixels in [0, 1] - mean) / std. Default: 0 and 1.
    execution : Execution, optional
        Device, images at once and precision; default: the device of `x`, 32, float32.
    seed : int, default=0
    image_ids : sequence of n str (hex), optional
        Content ids. Together with `seed` they seed each image's own generator, so that its map does not depend on
        which images stand beside it.
    background : Tensor (b, C, H, W), optional
        Reference images for SHAP, normalised.
    progress : callable, optional
        Called with the share of the work on the batch that was done since the last call; what it raises, stops.
    """

    def __init__(
        self,
        model: nn.Module,
        x: Tensor,
        rule: TargetRule,
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        execution: Execution | None = None,
        seed: int = 0,
        image_ids: Sequence[str] | None = None,
        background: Tensor | None = None,
        progress: Callable[[float], Any] | None = None,
    ) -> None:
        self.model = model
        self.x = x
        self.rule = rule
        self.mean = (0.0,) * x.shape[1] if mean is None else tuple(mean)
        self.std = (1.0,) * x.shape[1] if std is None else tuple(std)
        self.execution = execution or Execution(x.device)
        self.seed = seed
        self.image_ids = tuple(f"{row:x}" for row in range(len(x))) if image_ids is None else tuple(image_ids)
        self.background = background
        self.progress = progress
        self.evaluations = 0  # images put through the network so far
        self._limit = BatchLimit(self.execution.batch_size)
        self._at_layers: dict[tuple[str, ...], list[AtLayer]] = {}

    def __len__(self) -> int:
        return len(self.x)

    @cached_property
    def logits(self) -> Tensor:
        """Logits (n, K) of the images themselves."""
        return self._forward(self.x)

    @cached_property
    def target(self) -> Target:
        """What is explained; the same for every perturbed version of an image."""
        return self.rule.resolve(self.logits)

    @property
    def score(self) -> Tensor:
        """The explained number (n,) of each image."""
        return self.target.score(self.logits)

    def normalised(self, unit: Tensor) -> Tensor:
        """Return pixels in [0, 1], (..., C, H, W), in the units of `x`."""
        mean, std = (torch.tensor(values, device=unit.device).view(-1, 1, 1) for values in (self.mean, self.std))
        return (unit - mean) / std

    def unit(self, x: Tensor | None = None) -> Tensor:
        """Return normalised images, those of the problem by default, as pixels in [0, 1], (..., C, H, W)."""
        x = self.x if x is None else x
        mean, std = (torch.tensor(values, device=x.device).view(-1, 1, 1) for values in (self.mean, self.std))
        return x * std + mean

    def generator(self, row: int, *stream: int) -> np.random.Generator:
        """Return a new generator that follows from the seed and the content of image `row` alone.

        `stream` gives one of several that are independent of each other, such as one for each evaluation, which then
        does not depend on how evaluations fall into batches.
        """
        return np.random.default_rng([self.seed, int(self.image_ids[row], 16), *stream])

    def chunks(self, count: int, rows: Sequence[int] | None = None, start: int = 0) -> Iterator[Chunk]:
        """Yield the evaluations `start` to `start + count - 1` of each image (or of those in `rows`), in batches.

        Batches are filled across images. After each one `progress` is told.
        """
        images = torch.arange(len(self)) if rows is None else torch.as_tensor(rows, dtype=torch.int64)
        total = len(images) * count
        position = 0
        while position < total:
            flat = torch.arange(position, min(position + self._limit.size, total))
            owner, number = images[flat // count], start + flat % count
            yield Chunk(owner.to(self.x.device), number.to(self.x.device))
            position += len(flat)
            if self.progress is not None:
                self.progress(len(flat) / (len(self) * count))

    def scores(self, x: Tensor, owner: Tensor) -> Tensor:
        """Return the scores (m,) of `x` (m, C, H, W), each for the target of image `owner[j]`."""
        return self.target.of(owner).score(self._forward(x))

    def gradients(self, x: Tensor, owner: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scores (m,) of `x` (m, C, H, W) and their gradients (m, C, H, W) with respect to it."""
        target = self.target.of(owner)

        def part(rows: slice) -> tuple[Tensor, Tensor]:
            leaf = x[rows].detach().requires_grad_()
            with torch.enable_grad(), self.execution.autocast():
                score = target.of(rows).score(self.model(leaf).float())
                (gradient,) = torch.autograd.grad(score.sum(), leaf)
            return score.detach(), gradient.float()

        self.evaluations += len(x)
        parts = self._limit.run(lambda size: [part(rows) for rows in batches(len(x), size)])
        return torch.cat([score for score, _ in parts]), torch.cat([gradient for _, gradient in parts])

    def at_layers(self, names: Sequence[str]) -> list[AtLayer]:
        """Return activation and gradient at each layer. The backward pass ends there; done once for all methods."""
        key = tuple(names)
        if key not in self._at_layers:
            with torch.enable_grad(), self.execution.autocast(), capture(self.model, *key) as captured:
                logits = self.model(self.x).float()
                self.evaluations += len(self.x)
                self.__dict__.setdefault("logits", logits.detach())  # spares the forward pass of `logits`
                score = self.target.score(logits).sum()
            for name in key:
                if name not in captured:
                    raise invalid("layer", type(self.model).__name__, "a layer that runs when the network does", name)
            found = torch.autograd.grad(score, [captured[name] for name in key], materialize_grads=True)
            self._at_layers[key] = [
                AtLayer(*(to_grid(self.model, tensor).float() for tensor in (captured[name].detach(), gradient)))
                for name, gradient in zip(key, found, strict=True)
            ]
        return self._at_layers[key]

    def variant(self, *, seed: int, x: Tensor | None = None) -> Problem:
        """Return the same problem with another seed, and `x` (n, C, H, W) in place of the images.

        What is explained stays: the class that was decided for the images themselves.
        """
        return Problem(
            self.model,
            self.x if x is None else x,
            replace(self.rule, index=self.target.index),
            mean=self.mean,
            std=self.std,
            execution=self.execution,
            seed=seed,
            image_ids=self.image_ids,
            background=self.background,
            progress=self.progress,
        )

    def _forward(self, x: Tensor) -> Tensor:
        self.evaluations += len(x)
        return forward(self.model, x, self.execution, self._limit)
