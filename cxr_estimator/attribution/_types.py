"""The types that every attribution method shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

SPEEDS = {"fast": 10, "moderate": 300, "slow": None}  # at most so many images through the network for one map


class Attribution(NamedTuple):
    """What a method returns for a batch of n images.

    Attributes
    ----------
    values : Tensor (n, H, W), float32
    layer, baseline : str or None
        The layer and the reference that were used, for methods that use one.
    difference : Tensor (n,) or None
        What the values of an image should sum to, where the theory says so: the score minus the score of the baseline.
    spread : Tensor (n, H, W) or None
        Pointwise standard deviation over repetitions, for methods that repeat themselves.
    evaluations : Tensor (n,) or None
        Images that were put through the network for each map, for methods that decide it as they go.
    """

    values: Tensor
    layer: str | None = None
    baseline: str | None = None
    difference: Tensor | None = None
    spread: Tensor | None = None
    evaluations: Tensor | None = None


def everywhere(model: nn.Module) -> None:
    """Say that a method works on every network; see `Method.obstacle`."""


@dataclass(frozen=True)
class Method:
    """A row of `METHODS`.

    Attributes
    ----------
    function : callable
        `function(problem, **options) -> Attribution`. Its docstring is the documentation: first line the idea, then
        formula, deviations, "Use it for", "Fails", References.
    family : str
        "CAM", "gradient", "SHAP", "LIME", "perturbation", "propagation" or "combination".
    signed : bool
        Whether negative values mean evidence against the target.
    shows : str
        What the values stand for: "evidence" (what raised the score of the target, or lowered it in signed maps),
        "sensitivity" (how much the score changes with a pixel, in either direction) or "features" (what the network
        responds to, whatever the target).
    localises : bool
        Whether the map is meant to show where, rather than which pixels the score is sensitive to.
    complete : bool
        Whether the values sum to the score minus the score of a baseline.
    cost : str
        Passes through the network per image.
    speed : str
        What that comes to: "fast" (a few passes), "moderate" (up to 300) or "slow". Keys of `SPEEDS`.
    needs_gradients, needs_background, random : bool
        Whether it needs a backward pass, reference images, a seed.
    bf16_safe : bool
        Whether the network may run in bfloat16 for it: the rank correlation with the float32 map was 0.99 at least, on
        average over images, on each network that `benchmarks/bf16_maps.py` tries.
    obstacle : callable
        `obstacle(model)` returns why the method does not work on that network, or None where it does.
    """

    function: Callable[..., Attribution]
    family: str
    signed: bool
    localises: bool
    complete: bool
    cost: str
    speed: str = "fast"
    shows: str = "evidence"
    needs_gradients: bool = False
    needs_background: bool = False
    random: bool = False
    bf16_safe: bool = False
    obstacle: Callable[[nn.Module], str | None] = everywhere
