"""The curves behind deletion and insertion, beside those of the same maps shifted and flipped."""

from __future__ import annotations

from typing import Any

import numpy as np

from cxr_estimator._validation import check_choice
from cxr_estimator.explanation import Explanation
from cxr_estimator.metrics._maps import usable
from cxr_estimator.metrics._reference import references
from cxr_estimator.metrics._types import Context
from cxr_estimator.metrics.faithfulness import deletion_curve, insertion_curve

CURVES = {"deletion": deletion_curve, "insertion": insertion_curve}


def curve_with_reference(
    kind: str, explanation: Explanation, context: Context, *, n_references: int, **options: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Return the curve of each map, and the mean curve of `n_references` moved versions of it, (N, steps + 1) both.

    A row is NaN where the map is all zero or not finite. `options` are those of the function of `kind` in `CURVES`.
    """
    function = CURVES[check_choice("kind", kind, CURVES, caller="curve_with_reference")]
    curve = function(explanation, context, **options)
    moved = references(explanation, context.perturbed.problem, n_references)
    reference = np.mean([function(one, context, **options) for one in moved], axis=0)
    defined = usable(explanation)[:, None]
    return np.where(defined, curve, np.nan), np.where(defined, reference, np.nan)
