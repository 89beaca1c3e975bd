"""Complexity: on how few pixels does the attribution lie. Says nothing of whether they are the right ones.

In every formula a is the absolute attribution of a pixel. No metric depends on the scale of the map.
"""

from __future__ import annotations

import numpy as np
from scipy.special import entr

from cxr_estimator._validation import check_number
from cxr_estimator.explanation import Explanation
from cxr_estimator.metrics._maps import flat, ratio
from cxr_estimator.metrics._types import Context

_ROUNDING = 1e-9  # relative; without it nine of ten equal pixels may or may not hold 90%


def sparsity_90(explanation: Explanation, context: Context, *, share: float = 0.9) -> np.ndarray:
    """Smallest share of the pixels that holds 90% (`share`) of sum a, in (0, 1]; lower is more concise.

    A flat map has the value `share`; one pixel of a map of H x W has 1 / (H W).

    References
    ----------
    Hurley & Rickard (2009), Comparing measures of sparsity, IEEE Transactions on Information Theory 55,
    doi:10.1109/TIT.2009.2027527 (a count of what is large, as its l0-epsilon; here the share sets the threshold)
    """
    check_number("share", share, caller="sparsity_90", low=0, high=1, open_low=True)
    held = np.cumsum(np.sort(_absolute(explanation), axis=1)[:, ::-1], axis=1)
    total = held[:, -1:]
    count = (held < share * total * (1 - _ROUNDING)).sum(axis=1) + 1
    return np.where(total[:, 0] > 0, count / held.shape[1], np.nan)


def gini(explanation: Explanation, context: Context) -> np.ndarray:
    """Gini index sum_i (2 i - n - 1) a_i / (n sum a), a_1 <= ... <= a_n, in [0, 1 - 1 / n]; higher is sparser.

    0 for a flat map, 1 - 1 / n for one pixel of n.

    References
    ----------
    Chalasani et al. (2020), Concise explanations of neural networks using adversarial training, ICML,
    doi:10.48550/arXiv.1810.06583; Hurley & Rickard (2009), Comparing measures of sparsity, IEEE Transactions on
    Information Theory 55, doi:10.1109/TIT.2009.2027527
    """
    ascending = np.sort(_absolute(explanation), axis=1)
    n = ascending.shape[1]
    weights = 2 * np.arange(1, n + 1) - n - 1
    return ratio((ascending @ weights).clip(min=0.0), n * ascending.sum(axis=1))  # rounding may end below 0


def entropy(explanation: Explanation, context: Context) -> np.ndarray:
    """Entropy -sum p log p of the shares p = a / sum a, in nats, from 0 (one pixel) to log n (flat); lower is simpler.

    It grows with the number n of pixels: compare maps of the same size only.

    References
    ----------
    Bhatt, Weller & Moura (2020), Evaluating and aggregating feature-based model explanations, IJCAI,
    doi:10.24963/ijcai.2020/417 ("complexity")
    """
    absolute = _absolute(explanation)
    total = absolute.sum(axis=1)
    shares = absolute / np.where(total > 0, total, np.nan)[:, None]
    return entr(shares).sum(axis=1)


def _absolute(explanation: Explanation) -> np.ndarray:
    return np.abs(flat(explanation))
