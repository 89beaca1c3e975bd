"""Metrics of explanation quality. `METRICS` is the one list: a new metric is one function and one line here."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cxr_estimator._validation import check_choice, invalid
from cxr_estimator.explanation import Explanation
from cxr_estimator.metrics._types import Context, Metric
from cxr_estimator.metrics.localisation import relevance_mass

METRICS: dict[str, Metric] = {
    "relevance_mass": Metric(
        relevance_mass, greater_is_better=True, range=(0.0, 1.0), needs=("mask",), reference="Arras et al. 2022"
    ),
}

__all__ = ["METRICS", "Context", "Metric", "measure"]


def measure(metric: str, explanation: Explanation, context: Context) -> np.ndarray:
    """Return a metric of `METRICS` for each explained image, (N,) float64; NaN where it is undefined.

    Raises
    ------
    InvalidParameterError
        Unknown metric, a context without what the metric needs, or a mask of another shape than the maps.
    """
    entry = METRICS[check_choice("metric", metric, METRICS, caller="measure")]
    for name in entry.needs:
        if getattr(context, name) is None:
            raise invalid(name, metric, "given in the context", None)
    if context.mask is not None:
        mask = np.asarray(context.mask)
        if mask.shape != explanation.values.shape or mask.dtype != bool:
            expected = f"a bool array of shape {explanation.values.shape} (see Geometry.mask_to_model)"
            raise invalid("mask", metric, expected, f"{mask.dtype} of shape {mask.shape}")
        context = replace(context, mask=mask)
    return entry.function(explanation, context)
