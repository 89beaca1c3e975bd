"""Localisation: does the attribution lie where the truth is."""

from __future__ import annotations

import numpy as np

from cxr_estimator.explanation import Explanation
from cxr_estimator.metrics._types import Context


def relevance_mass(explanation: Explanation, context: Context) -> np.ndarray:
    """Share of the positive attribution that lies inside the mask, in [0, 1]; higher is better.

    By chance it equals the mask's share of the image. NaN where the mask is empty or nothing is positive.

    References
    ----------
    Arras, Osman & Samek (2022), CLEVR-XAI, Information Fusion 81, doi:10.1016/j.inffus.2021.11.008
    ("relevance mass accuracy", with max(0, value) as relevance).
    """
    positive = np.clip(explanation.values.astype(np.float64), 0.0, None)
    inside = np.where(context.mask, positive, 0.0).sum(axis=(1, 2))
    total = positive.sum(axis=(1, 2))
    defined = (total > 0) & context.mask.any(axis=(1, 2))
    return np.divide(inside, total, out=np.full(len(total), np.nan), where=defined)
