"""The types that every metric shares."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from cxr_estimator._validation import invalid, keyword_options
from cxr_estimator.attribution import Problem
from cxr_estimator.explanation import Explanation
from cxr_estimator.metrics._perturbing import PerturbedOutputs, Perturbing


@dataclass(frozen=True)
class Context:
    """What a metric may need besides the explanation. Keep one for all metrics of the same images: it remembers.

    Attributes
    ----------
    problem : Problem
        The network and the images (N, C, H, W) that were explained, for metrics that put changed images through it.
    explain : callable
        `explain(problem) -> Tensor (N, H, W)`: the map that the same method with the same options makes of a variant
        of the problem, for metrics that explain anew.
    mask : ndarray (N, H, W), bool
        Ground-truth region at model size (`Geometry.mask_to_model` brings it there).
    other : Explanation
        Another explanation of the same images, for metrics of agreement.
    """

    problem: Problem | None = None
    explain: Callable[[Problem], Tensor] | None = None
    mask: Any = None
    other: Explanation | None = None
    _perturbed: PerturbedOutputs | None = None

    def __post_init__(self) -> None:
        if self.problem is not None and (self._perturbed is None or self._perturbed.problem is not self.problem):
            object.__setattr__(self, "_perturbed", PerturbedOutputs(self.problem))

    @property
    def perturbed(self) -> PerturbedOutputs:
        """What the network says to perturbed images, each evaluated once; `replace` hands it on with the problem."""
        if self._perturbed is None:
            raise invalid("problem", "Context", "given for metrics that put images through the network", None)
        return self._perturbed

    def map_of(self, problem: Problem) -> np.ndarray:
        """Return the maps (N, H, W) that `explain` makes of a variant of the problem."""
        if self.explain is None:
            raise invalid("explain", "Context", "given for metrics that explain anew", None)
        return self.explain(problem).detach().float().cpu().numpy()


@dataclass(frozen=True)
class Metric:
    """A row of `METRICS`.

    Attributes
    ----------
    function : callable
        `function(explanation, context, **options) -> (N,)`, NaN where undefined.
    family : str
        "faithfulness", "complexity", "robustness", "sanity", "localisation" or "agreement".
    greater_is_better : bool
    range : (low, high)
        Of the raw value.
    needs : tuple of str
        Fields of `Context` that must be given.
    reference : str
    """

    function: Callable[..., np.ndarray]
    family: str
    greater_is_better: bool
    range: tuple[float, float]
    needs: tuple[str, ...] = ()
    reference: str = ""

    @property
    def has_reference_maps(self) -> bool:
        """Whether the value is by default the gain over the same map shifted and flipped."""
        return self.family == "faithfulness"

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the options that the metric takes."""
        own = inspect.signature(self.function).parameters.values()
        takes_more = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in own)
        shared = Perturbing.__annotations__ if takes_more else ()
        return tuple(dict.fromkeys([*keyword_options(self.function), *shared]))
