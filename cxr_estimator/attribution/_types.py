"""The types that every attribution method shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor


class Attribution(NamedTuple):
    """What a method returns for a batch of n images.

    Attributes
    ----------
    values : Tensor (n, H, W), float32
    logits : Tensor (n, K)
        Output for the unperturbed images, so that nobody needs a second forward pass.
    layer : str or None
        The layer that was used, for methods that use one.
    """

    values: Tensor
    logits: Tensor
    layer: str | None = None


@dataclass(frozen=True)
class Method:
    """A row of `METHODS`.

    Attributes
    ----------
    function : callable
        `function(model, x, rule, **options) -> Attribution` for a model in eval mode with frozen parameters,
        x (n, C, H, W) and a `TargetRule`.
    signed : bool
        Whether negative values mean evidence against the target.
    localises : bool
        Whether the map is meant to show where, rather than which pixels the score is sensitive to.
    complete : bool
        Whether the values sum to the score minus the score of a baseline.
    bf16_safe : bool
        Whether the network may run in bfloat16 for it: maps keep their rank order.
    cost : str
        Passes through the network per image.
    """

    function: Callable[..., Attribution]
    signed: bool
    localises: bool
    complete: bool
    bf16_safe: bool
    cost: str
