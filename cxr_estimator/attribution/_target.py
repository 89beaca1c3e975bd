"""What is explained: one scalar per image, made from the logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cxr_estimator._outputs import Task, task_of
from cxr_estimator.thresholds import OperatingPoint


@dataclass(frozen=True)
class Target:
    """The explained scalar of each image.

    Parameters
    ----------
    index : Tensor (n,), int64
        Class index per image.
    cutoff : float or None
        None: the log-odds (binary) or the logit (several classes) of the class. A number: the margin, that is how
        far the log-odds lie beyond the cut-off, on the side of the class.
    task : Task or None
        None: one class per image.
    """

    index: Tensor
    cutoff: float | None = None
    task: Task | None = None

    def of(self, rows: Tensor | slice) -> Target:
        """Return the target of some of the images; `rows` may name one several times."""
        return Target(self.index[rows], self.cutoff, self.task)

    def score(self, logits: Tensor) -> Tensor:
        """Return the scalar (n,) for logits (n, K) of the same images."""
        if logits.shape[1] == 1:
            sign = 2.0 * self.index.to(logits) - 1.0
            return sign * (logits[:, 0] - (self.cutoff or 0.0))
        if self.cutoff is not None:  # logit(p_k) - logit(t_k)
            logits = (self.task or task_of(logits)).log_odds(logits) - self.cutoff
        return logits.gather(1, self.index[:, None])[:, 0]

    def proba(self, logits: Tensor) -> Tensor:
        """Return the probability (n,) of the class for logits (n, K) of the same images."""
        task = self.task or task_of(logits)
        return task.proba(logits).gather(1, self.index[:, None])[:, 0]


@dataclass(frozen=True)
class TargetRule:
    """How the target follows from the logits of the unperturbed images.

    Parameters
    ----------
    point : OperatingPoint or None
        The binary decision; None for several classes, where the largest logit decides.
    positive_index : int
        Index of the positive label, 0 or 1.
    index : Tensor (n,) or None
        Fixed classes; None explains the predicted ones.
    margin : bool
    task : Task or None
        None: one class per image. Of several labels none is "the" predicted one, so that `index` must be given.
    """

    point: OperatingPoint | None
    positive_index: int = 1
    index: Tensor | None = None
    margin: bool = False
    task: Task | None = None

    def predicted(self, logits: Tensor) -> Tensor:
        """Return the index (n,) of the decided class."""
        if self.point is None:
            return logits.argmax(dim=1)
        device = logits.device
        logits = logits.cpu().double()  # as the cut-off is: float32 would round it onto a neighbouring score
        log_odds = logits[:, 0] if self.positive_index == 1 else -logits[:, 0]
        positive = self.point.is_positive(log_odds)
        return torch.where(positive, self.positive_index, 1 - self.positive_index).to(device)

    def resolve(self, logits: Callable[[], Tensor]) -> Target:
        """Return the target for images whose logits (n, K) the function `logits` gives, if they are needed."""
        index = self.predicted(logits().detach()) if self.index is None else self.index
        return Target(index, self._cutoff() if self.margin else None, self.task)

    def _cutoff(self) -> float:
        if self.point is None:
            return 0.0  # several classes: each against the rest at 0.5
        return self.point.score if self.positive_index == 1 else -self.point.score
