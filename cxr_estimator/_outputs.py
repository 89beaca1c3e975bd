"""What the outputs of a network mean: one class of two, one of several, or several labels that go together."""

from __future__ import annotations

from enum import StrEnum

import torch
from torch import Tensor


class Task(StrEnum):
    """The kind of problem, and with it the meaning of the logits.

    The number of classes does not tell it: two labels that may both be present have two logits, two classes have one.
    """

    BINARY = "binary"  # one logit: the log-odds of the second class
    MULTICLASS = "multiclass"  # a logit per class, of which only differences matter
    MULTILABEL = "multilabel"  # a logit per label: the log-odds of its presence

    @classmethod
    def of_classes(cls, n_classes: int) -> Task:
        """Return the task in which each image has one of `n_classes` classes."""
        return cls.BINARY if n_classes == 2 else cls.MULTICLASS

    def num_outputs(self, n_classes: int) -> int:
        """Return the number of logits for so many classes or labels."""
        return 1 if self is Task.BINARY else n_classes

    def log_odds(self, logits: Tensor) -> Tensor:
        """Return the log-odds (n, K) of each class against all others, or of each label, for logits (n, 1) or (n, K).

        Of several classes: z_k - log sum_{j != k} exp z_j = logit(softmax(z)_k).
        """
        if self is Task.BINARY:
            return torch.cat([-logits, logits], dim=1)
        if self is Task.MULTILABEL:
            return logits
        own = torch.eye(logits.shape[1], dtype=torch.bool, device=logits.device)
        others = logits[:, None, :].masked_fill(own, float("-inf"))
        return logits - torch.logsumexp(others, dim=2)

    def proba(self, logits: Tensor) -> Tensor:
        """Return the probability (n, K) of each class or label; those of labels do not sum to 1."""
        return torch.softmax(logits, dim=1) if self is Task.MULTICLASS else torch.sigmoid(self.log_odds(logits))


def task_of(logits: Tensor) -> Task:
    """Return the task of one class per image that logits (n, 1) or (n, K) belong to."""
    return Task.BINARY if logits.shape[1] == 1 else Task.MULTICLASS
