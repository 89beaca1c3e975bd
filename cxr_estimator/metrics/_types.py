"""The types that every metric shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from cxr_estimator.explanation import Explanation


@dataclass(frozen=True)
class Context:
    """What a metric may need besides the explanation.

    Attributes
    ----------
    mask : ndarray (N, H, W), bool
        Ground-truth region at model size (`Geometry.mask_to_model` brings it there).
    """

    mask: Any = None


@dataclass(frozen=True)
class Metric:
    """A row of `METRICS`.

    Attributes
    ----------
    function : callable
        `function(explanation, context) -> (N,)`, NaN where undefined.
    greater_is_better : bool
    range : (low, high)
    needs : tuple of str
        Fields of `Context` that must be given.
    reference : str
    """

    function: Callable[[Explanation, Context], np.ndarray]
    greater_is_better: bool
    range: tuple[float, float]
    needs: tuple[str, ...]
    reference: str
