"""Agreement of two explanations of the same images: `explanation` and `context.other`.

Every metric is symmetric in both and does not depend on the scale of either. NaN where one of both maps is constant.
High agreement does not mean that either is right.
"""

from __future__ import annotations

import numpy as np

from cxr_estimator._validation import check_number, invalid
from cxr_estimator.explanation import Explanation
from cxr_estimator.metrics._maps import among_top, flat
from cxr_estimator.metrics._ranks import spearman
from cxr_estimator.metrics._types import Context


def rank_correlation(explanation: Explanation, context: Context) -> np.ndarray:
    """Spearman's rank correlation over pixels, in [-1, 1]; higher is better. About 0 by chance.

    Tied pixels share their mean rank. Only the order counts, of the signed values.

    References
    ----------
    Spearman (1904), The proof and measurement of association between two things, American Journal of Psychology 15,
    doi:10.2307/1412159; for maps Adebayo et al. (2018), Sanity checks for saliency maps, NeurIPS,
    doi:10.48550/arXiv.1810.03292
    """
    return spearman(*_both(explanation, context))


def top_k_overlap(explanation: Explanation, context: Context, *, k: float = 10) -> np.ndarray:
    """Share of the k% most relevant pixels that both maps have in common, in [0, 1]; higher is better.

    k / 100 by chance. Pixels tied for the last places share these equally, so that each belongs to the k% in part; of a
    pixel, both maps have the smaller part in common. A map agrees with itself to 1, ties or none.

    References
    ----------
    Ghorbani, Abid & Zou (2019), Interpretation of neural networks is fragile, AAAI,
    doi:10.1609/aaai.v33i01.33013681 ("top-k intersection")
    """
    check_number("k", k, caller="top_k_overlap", low=0, high=100, open_low=True)
    maps = _both(explanation, context)
    count = np.full(len(maps[0]), max(round(k / 100 * maps[0].shape[1]), 1))
    common = np.minimum(*(among_top(each, count) for each in maps)).sum(axis=1)
    return np.where(_varies(*maps), common / count, np.nan).clip(max=1.0)  # parts add up to `count` but for rounding


def ssim(explanation: Explanation, context: Context, *, window: int = 7) -> np.ndarray:
    """Mean structural similarity, each map divided by its maximum absolute value, in [-1, 1]; higher is better.

    Square windows of `window` pixels with equal weights, as in scikit-image, and the range 2 of values in [-1, 1],
    whether or not the maps are signed. Large areas that are flat in both maps count as similar: maps of few pixels have
    high values whatever these are.

    References
    ----------
    Wang et al. (2004), Image quality assessment: from error visibility to structural similarity, IEEE Transactions on
    Image Processing 13, doi:10.1109/TIP.2003.819861; for maps Adebayo et al. (2018), Sanity checks for saliency maps,
    NeurIPS, doi:10.48550/arXiv.1810.03292
    """
    from skimage.metrics import structural_similarity

    shape = explanation.values.shape[1:]
    check_number("window", window, caller="ssim", low=3, high=min(shape), integer=True)
    if window % 2 == 0:
        raise invalid("window", "ssim", "odd", window)
    maps = _both(explanation, context)
    found = np.full(len(maps[0]), np.nan)
    for row in np.flatnonzero(_varies(*maps)):
        a, b = (each[row].reshape(shape) / np.abs(each[row]).max() for each in maps)
        found[row] = structural_similarity(a, b, win_size=window, data_range=2.0)
    return found.clip(-1.0, 1.0)


def _both(explanation: Explanation, context: Context) -> tuple[np.ndarray, np.ndarray]:
    """Return both explanations as rows of pixels, (N, H W)."""
    if context.other is None:
        raise invalid("other", "metrics of agreement", "given in the context", None)
    return flat(explanation), flat(context.other)


def _varies(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return where neither map is constant, (N,)."""
    return (np.ptp(a, axis=1) > 0) & (np.ptp(b, axis=1) > 0)
