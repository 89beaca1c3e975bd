"""Localisation: does the attribution lie where the truth is, or at least not where no disease can be.

Every metric looks at what speaks for the explained class, max(0, value), and does not depend on its scale. NaN where
nothing is positive, and where a mask is needed and empty.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt

from cxr_estimator._validation import check_number
from cxr_estimator.explanation import Explanation
from cxr_estimator.metrics._maps import among_top, positive, ratio
from cxr_estimator.metrics._types import Context


def relevance_mass(explanation: Explanation, context: Context) -> np.ndarray:
    """Share of the positive attribution that lies inside the mask, in [0, 1]; higher is better.

    By chance it equals the mask's share of the image. NaN where the mask is empty or nothing is positive.

    References
    ----------
    Arras, Osman & Samek (2022), CLEVR-XAI, Information Fusion 81, doi:10.1016/j.inffus.2021.11.008
    ("relevance mass accuracy", with max(0, value) as relevance).
    """
    relevance, mask = positive(explanation), _rows(context.mask)
    return _where_defined(_share(relevance, mask), relevance, mask)


def relevance_rank(explanation: Explanation, context: Context) -> np.ndarray:
    """Share of the K most relevant pixels, K the size of the mask, that lie inside it, in [0, 1]; higher is better.

    By chance it equals the mask's share of the image. Pixels tied for the last places count in proportion, which is the
    expected value if ties are broken at random; so do pixels that are not positive, where fewer than K are.

    References
    ----------
    Arras, Osman & Samek (2022), CLEVR-XAI, Information Fusion 81, doi:10.1016/j.inffus.2021.11.008
    ("relevance rank accuracy", with max(0, value) as relevance)
    """
    relevance, mask = positive(explanation), _rows(context.mask)
    size = mask.sum(axis=1)
    inside = (among_top(relevance, size) * mask).sum(axis=1)
    return _where_defined(ratio(inside, size), relevance, mask)


def pointing_game(explanation: Explanation, context: Context, *, tolerance: float = 0.0) -> np.ndarray:
    """1 where the maximum lies inside the mask or at most `tolerance` pixels from it, else 0; higher is better.

    Of several tied maxima the share that hits counts. The distance is from centre to centre, at the model's input size.
    Deviation: the paper allows 15 pixels, in photographs of about 500; the default here is 0.

    References
    ----------
    Zhang et al. (2018), Top-down neural attention by excitation backprop, International Journal of Computer Vision 126,
    doi:10.1007/s11263-017-1059-x
    """
    check_number("tolerance", tolerance, caller="pointing_game", low=0)
    relevance, mask = positive(explanation), _rows(context.mask)
    near = np.array([distance_transform_edt(~each) <= tolerance for each in context.mask])
    maxima = relevance == relevance.max(axis=1, keepdims=True)
    hits = (maxima & _rows(near)).sum(axis=1)
    return _where_defined(hits / maxima.sum(axis=1), relevance, mask)


def iou(explanation: Explanation, context: Context, *, threshold: float = 0.5) -> np.ndarray:
    """Intersection over union of mask and pixels of at least `threshold` x maximum, in [0, 1]; higher is better.

    The value depends on the threshold as much as on the map: choose it on other images than those that are judged. The
    paper takes 0.2, and the box around the largest region instead of the pixels.

    References
    ----------
    Zhou et al. (2016), Learning deep features for discriminative localization, CVPR, doi:10.1109/CVPR.2016.319
    """
    check_number("threshold", threshold, caller="iou", low=0, high=1, open_low=True)
    relevance, mask = positive(explanation), _rows(context.mask)
    marked = relevance >= threshold * relevance.max(axis=1, keepdims=True)
    both, either = (marked & mask).sum(axis=1), (marked | mask).sum(axis=1)
    return _where_defined(ratio(both, either), relevance, mask)


def border_mass(explanation: Explanation, context: Context, *, width: float = 0.1) -> np.ndarray:
    """Share of the positive attribution in a frame of `width` x side along the border, in [0, 1]; lower is better.

    By chance it equals the share of the area, 1 - (1 - 2 width)^2 = 0.36 by default, up to whole pixels. Much more than
    that points to a shortcut: collimation, padding, burnt-in text.

    References
    ----------
    DeGrave, Janizek & Lee (2021), AI for radiographic COVID-19 detection selects shortcuts over signal, Nature Machine
    Intelligence 3, doi:10.1038/s42256-021-00338-7 (which looks at such maps, and gives no formula)
    """
    _check_width(width, "border_mass")
    return _share(positive(explanation), frame(explanation.values.shape[1:], width).ravel())


def corner_mass(explanation: Explanation, context: Context, *, width: float = 0.2) -> np.ndarray:
    """Share of the positive attribution in the four corners of `width` x side, in [0, 1]; lower is better.

    By chance it equals the share of the area, 4 width^2 = 0.16 by default, up to whole pixels. Much more than that
    points to a shortcut: side markers and text lie in corners.

    References
    ----------
    Zech et al. (2018), Variable generalization performance of a deep learning model to detect pneumonia in chest
    radiographs, PLOS Medicine 15, doi:10.1371/journal.pmed.1002683 (which finds maps on such markers, and gives no
    formula)
    """
    _check_width(width, "corner_mass")
    return _share(positive(explanation), corners(explanation.values.shape[1:], width).ravel())


def _rows(mask: np.ndarray) -> np.ndarray:
    return mask.reshape(len(mask), -1)


def _share(relevance: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Return the share of the relevance (N, H W) that lies in a region; NaN where there is none."""
    return ratio((relevance * region).sum(axis=1), relevance.sum(axis=1)).clip(max=1.0)  # sums differ by rounding


def _where_defined(values: np.ndarray, relevance: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return NaN instead of values where the mask is empty, which is never a hit, or nothing is positive."""
    return np.where(mask.any(axis=1) & relevance.any(axis=1), values, np.nan)


def frame(shape: tuple[int, ...], width: float = 0.1) -> np.ndarray:
    """Return the mask (H, W) of a frame of `width` x side along the border, of one pixel at least."""
    rows, columns = _edges(shape, width)
    return rows[:, None] | columns


def corners(shape: tuple[int, ...], width: float = 0.2) -> np.ndarray:
    """Return the mask (H, W) of the four corners of `width` x side, of one pixel at least."""
    rows, columns = _edges(shape, width)
    return rows[:, None] & columns


def _edges(shape: tuple[int, ...], width: float) -> list[np.ndarray]:
    """Return which rows, and which columns, are within `width` x side of an edge."""
    edges = []
    for side in shape:
        count, place = max(round(width * side), 1), np.arange(side)
        edges.append((place < count) | (place >= side - count))
    return edges


def _check_width(width: float, caller: str) -> None:
    check_number("width", width, caller=caller, low=0, high=0.5, open_low=True)
