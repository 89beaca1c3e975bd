"""What every method is given: a network, a batch of images, and the one number per image that is to be explained."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cxr_estimator._validation import invalid
from cxr_estimator.attribution._target import Target, TargetRule
from cxr_estimator.backbones import capture, to_grid
from cxr_estimator.inference import BatchLimit, Execution, batches, forward, give_way

Score = Callable[[Tensor], Tensor]  # images (m, C, H, W) -> explained numbers (m,)
Around = Callable[[Score, slice], AbstractContextManager[Any]]  # what forward passes run in, see `Problem.gradients`


class Chunk(NamedTuple):
    """Some of the evaluations that a method wants: `number[j]` (0, 1, ...) of image `owner[j]`; both (m,), int64."""

    owner: Tensor
    number: Tensor


def add_to(total: Tensor, owner: Tensor, values: Tensor) -> None:
    """Add `values` (m, ...) to those rows of `total` (n, ...) that `owner` (m,) names, several to one if need be.

    By a product of matrices, as `index_add_` would sum in another order each time on a GPU.
    """
    images, place = owner.unique(return_inverse=True)
    member = F.one_hot(place, len(images)).to(values).T
    total[images] += (member @ values.reshape(len(values), -1)).view(len(images), *values.shape[1:])


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
    limit : BatchLimit, optional
        How many images fit into memory at once, as found so far; shared with other problems.
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
        limit: BatchLimit | None = None,
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
        self.limit = limit or BatchLimit(self.execution.batch_size)
        self._activations: dict[tuple[str, ...], list[Tensor]] = {}
        self._at_layers: dict[tuple[str, ...], list[AtLayer]] = {}

    def __len__(self) -> int:
        return len(self.x)

    @cached_property
    def logits(self) -> Tensor:
        """Logits (n, K) of the images themselves."""
        return self.logits_of(self.x)

    @cached_property
    def target(self) -> Target:
        """What is explained; the same for every perturbed version of an image."""
        return self.rule.resolve(lambda: self.logits)

    @property
    def score(self) -> Tensor:
        """The explained number (n,) of each image."""
        return self.target.score(self.logits)

    @property
    def references(self) -> Tensor:
        """The background images (b, C, H, W), for a method that cannot do without them."""
        if self.background is None:
            raise invalid("background", "explain", "given for methods that compare with other images", None)
        return self.background

    @cached_property
    def background_logits(self) -> Tensor:
        """Logits (b, K) of the background images."""
        return self.logits_of(self.references)

    @property
    def background_score(self) -> Tensor:
        """The mean score (n,) of the background images, for the target of each image."""
        logits = self.background_logits
        owner = torch.arange(len(self), device=logits.device).repeat_interleave(len(logits))
        return self.target.of(owner).score(logits.repeat(len(self), 1)).view(len(self), -1).mean(dim=1)

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

    def chunks(
        self, count: int, rows: Sequence[int] | None = None, start: int = 0, total: int | None = None
    ) -> Iterator[Chunk]:
        """Yield the evaluations `start` to `start + count - 1` of each image (or of those in `rows`), in batches.

        Batches are filled across images. After each one `progress` is told; where this is one of several rounds,
        `total` is the number of evaluations of an image in all of them.
        """
        images = torch.arange(len(self)) if rows is None else torch.as_tensor(rows, dtype=torch.int64)
        position = 0
        while position < len(images) * count:
            flat = torch.arange(position, min(position + self.limit.size, len(images) * count))
            owner, number = images[flat // count], start + flat % count
            yield Chunk(owner.to(self.x.device), number.to(self.x.device))
            position += len(flat)
            self.advance(len(flat) / (len(self) * (total or count)))

    def advance(self, share: float) -> None:
        """Tell `progress` that this share of the work on the batch was done; for loops other than over `chunks`.

        Between two passes nothing is hooked into the network, so that threads which wait for it can go first: a method
        of a thousand passes holds up one of two for the length of a pass.
        """
        give_way(self.model)
        self.tell(share)

    def tell(self, share: float) -> None:
        """Do what `advance` does, but keep the network: for work that holds another lock, too."""
        if self.progress is not None:
            self.progress(share)

    def scores(self, x: Tensor, owner: Tensor) -> Tensor:
        """Return the scores (m,) of `x` (m, C, H, W), each for the target of image `owner[j]`."""
        return self.target.of(owner).score(self.logits_of(x))

    def gradients(self, x: Tensor, owner: Tensor, around: Around | None = None) -> tuple[Tensor, Tensor]:
        """Return the scores (m,) of `x` (m, C, H, W) and their gradients (m, C, H, W) with respect to it.

        `around(score, rows)`, if given, is what the forward passes run in: those of `x[rows]` together, whose scores
        `score` gives, also for other images in their place.
        """
        target = self.target.of(owner)

        def part(rows: slice) -> tuple[Tensor, Tensor]:
            def score_of(images: Tensor) -> Tensor:
                return target.of(rows).score(self.model(images).float())

            leaf = x[rows].detach().requires_grad_()
            with torch.enable_grad(), self.execution.autocast():
                with nullcontext() if around is None else around(score_of, rows):
                    score = score_of(leaf)
                (gradient,) = torch.autograd.grad(score.sum(), leaf)
            return score.detach(), gradient.float()

        self.evaluations += len(x)
        parts = self.limit.run(lambda size: [part(rows) for rows in batches(len(x), size)])
        return torch.cat([score for score, _ in parts]), torch.cat([gradient for _, gradient in parts])

    def activations(self, names: Sequence[str]) -> list[Tensor]:
        """Return the activation (n, channels, h, w) at each layer, float32; done once for all methods."""
        key = tuple(names)
        if key not in self._activations:
            with torch.no_grad():
                captured, _ = self._captured(key)
            self._activations[key] = [to_grid(self.model, captured[name].detach()).float() for name in key]
        return self._activations[key]

    def at_layers(self, names: Sequence[str]) -> list[AtLayer]:
        """Return activation and gradient at each layer. The backward pass ends there; done once for all methods."""
        key = tuple(names)
        if key not in self._at_layers:
            with torch.enable_grad():
                captured, logits = self._captured(key)
                score = self.target.score(logits).sum()
            found = torch.autograd.grad(score, [captured[name] for name in key], materialize_grads=True)
            self._at_layers[key] = [
                AtLayer(*(to_grid(self.model, tensor).float() for tensor in (captured[name].detach(), gradient)))
                for name, gradient in zip(key, found, strict=True)
            ]
            self._activations[key] = [at.activation for at in self._at_layers[key]]
        return self._at_layers[key]

    @contextlib.contextmanager
    def portion(self, share: float) -> Iterator[None]:
        """Within the block, what is told to `progress` counts as this share of the whole, and at its end it is all."""
        outer, told = self.progress, 0.0

        def tell(part: float) -> None:
            nonlocal told
            told += part * share
            if outer is not None:
                outer(part * share)

        self.progress = tell
        try:
            yield
            tell(1.0 - told / share)
        finally:
            self.progress = outer

    def score_with_graph(self) -> Tensor:
        """Return the scores (n,) of one pass of all images, for derivatives with respect to what lies between.

        The graph holds what follows the first tensor that requires a gradient; the images do not.
        """
        with torch.enable_grad():
            logits = self._pass()  # first, since `target` needs them too
            return self.target.score(logits)

    def _pass(self) -> Tensor:
        """Run the network on the images; return the logits (n, K), with their graph if one is wanted."""
        with self.execution.autocast():
            logits = self.model(self.x).float()
        self.evaluations += len(self.x)
        self.__dict__.setdefault("logits", logits.detach())  # spares the forward pass of `logits`
        return logits

    def _captured(self, names: Sequence[str]) -> tuple[dict[str, Tensor], Tensor]:
        """Return the outputs of the layers in a pass of the images, and the logits."""
        with capture(self.model, *names) as captured:
            logits = self._pass()
        for name in names:
            if name not in captured:
                raise invalid("layer", type(self.model).__name__, "a layer that runs when the network does", name)
        return captured, logits

    def variant(self, *, seed: int | None = None, x: Tensor | None = None, model: nn.Module | None = None) -> Problem:
        """Return the same problem with another seed, with `x` (n, C, H, W) for the images or another network.

        What is explained stays: the class that was decided for the images themselves.
        """
        return Problem(
            self.model if model is None else model,
            self.x if x is None else x,
            replace(self.rule, index=self.target.index),
            mean=self.mean,
            std=self.std,
            execution=self.execution,
            seed=self.seed if seed is None else seed,
            image_ids=self.image_ids,
            background=self.background,
            limit=self.limit,
            progress=self.progress,
        )

    def at_precision(self, precision: str) -> Problem:
        """Return the problem itself, or a copy that runs the network in the given precision."""
        if precision == self.execution.precision:
            return self
        problem = self.variant()
        problem.execution = replace(self.execution, precision=precision)
        return problem

    def logits_of(self, x: Tensor) -> Tensor:
        """Return the logits (m, K) of any images (m, C, H, W)."""
        self.evaluations += len(x)
        return forward(self.model, x, self.execution, self.limit)
