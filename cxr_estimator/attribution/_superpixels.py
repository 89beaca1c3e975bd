"""Images cut into segments of like pixels, and what stands for an absent segment."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from cxr_estimator._validation import check_choice, check_number, invalid
from cxr_estimator.attribution._baselines import BASELINES, Baseline, baseline
from cxr_estimator.attribution._problem import Problem

SEGMENTATIONS = ("slic", "quickshift", "felzenszwalb", "grid")
_NEAR_ENOUGH = 0.2  # |log(found / wanted)| at which the search for a scale ends
_COMPACTNESS = (0.1, 0.3, 1.0, 3.0, 10.0)  # noise needs more, or all segments merge
_REACH = (1.0, 0.7, 1.4, 0.5, 2.0, 0.35)  # of the wanted width of a segment
_MERGING = (1.0, 0.5, 0.25, 0.1, 0.05, 0.02, 0.01, 0.001, 2.0, 4.0)
_QUICKSHIFT_WIDTH = 10
SEGMENT_MEAN = "segment_mean"


def superpixels(problem: Problem, segmentation: str, n_segments: int, *, caller: str) -> Tensor:
    """Return the segment (0, 1, ...) of each pixel, (n, H, W) int64, on the device of the images.

    Parameters
    ----------
    segmentation : {"slic", "quickshift", "felzenszwalb", "grid"}
        scikit-image's algorithms, or equal rectangles. All are deterministic.
    n_segments : int
        Wanted number of segments; "slic" and "grid" come near it, the others find their own number from a scale that
        is chosen so that it is of that order.
    """
    check_choice("segmentation", segmentation, SEGMENTATIONS, caller=caller)
    check_number("n_segments", n_segments, caller=caller, low=2, integer=True)
    height, width = problem.x.shape[2:]
    if n_segments > height * width:
        constraint = f"at most the {height * width} pixels of an image of {height} x {width}"
        raise invalid("n_segments", caller, constraint, n_segments)
    if segmentation == "grid":
        segments = np.broadcast_to(_grid(height, width, n_segments), (len(problem), height, width))
    else:
        pixels = problem.unit().clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy().astype(np.float64)
        segments = np.stack([_segments(image, segmentation, n_segments) for image in pixels])
    return torch.from_numpy(np.array(segments, dtype=np.int64)).to(problem.x.device)


def without_segments(problem: Problem, segments: Tensor, kind: Any, *, caller: str) -> Baseline:
    """Return each image with all of its `segments` (n, H, W) absent, (n, C, H, W), in the units of `problem.x`.

    `kind` is "segment_mean", each segment filled with its own mean per channel, or a kind of `_baselines.baseline`.
    """
    if isinstance(kind, str):
        check_choice("baseline", kind, (SEGMENT_MEAN, *BASELINES), caller=caller)
        if kind == SEGMENT_MEAN:
            return Baseline(_segment_means(problem.x, segments), kind)
    return baseline(problem, kind, caller=caller)


def painted(values: Tensor, segments: Tensor) -> Tensor:
    """Return the value of each pixel's segment, (m, H, W): `values` is (m, most segments), `segments` (m, H, W)."""
    return values.gather(1, segments.flatten(1)).view(segments.shape)


def _segment_means(x: Tensor, segments: Tensor) -> Tensor:
    means = []
    for image, segment in zip(x.flatten(2).cpu(), segments.flatten(1).cpu(), strict=True):
        # on the CPU, where sums have one order
        sums = torch.stack([torch.bincount(segment, weights=channel) for channel in image])
        means.append((sums / torch.bincount(segment).clamp(min=1))[:, segment])
    return torch.stack(means).view(x.shape).to(x)


def _grid(height: int, width: int, n_segments: int) -> np.ndarray:
    rows = max(1, min(height, round((n_segments * height / width) ** 0.5)))
    columns = max(1, min(width, round(n_segments / rows)))
    row, column = np.arange(height) * rows // height, np.arange(width) * columns // width
    return row[:, None] * columns + column[None, :]


def _segments(image: np.ndarray, segmentation: str, n_segments: int) -> np.ndarray:
    """Return the segments of one image (H, W, C) in [0, 1], numbered from 0 without gaps.

    What scale gives how many segments depends on the image. So several are tried, and the nearest number is taken.
    """
    cut, scales = {
        "slic": (_slic, _COMPACTNESS),
        "quickshift": (_quickshift, _REACH),
        "felzenszwalb": (_felzenszwalb, _MERGING),
    }[segmentation]
    best, miss = np.zeros(image.shape[:2], dtype=np.int64), np.inf
    for scale in scales:
        labels = np.unique(cut(image, n_segments, scale), return_inverse=True)[1].reshape(image.shape[:2])
        distance = abs(np.log((labels.max() + 1) / n_segments))
        if distance < miss:
            best, miss = labels, distance
        if miss < _NEAR_ENOUGH:
            break
    return best


def _slic(image: np.ndarray, n_segments: int, compactness: float) -> np.ndarray:
    from skimage.segmentation import slic

    options = {"compactness": compactness, "start_label": 0, "channel_axis": -1, "convert2lab": False}
    return slic(image, n_segments=n_segments, **options)  # in RGB, a colour counts for as much as a grey level does


def _quickshift(image: np.ndarray, n_segments: int, reach: float) -> np.ndarray:
    """Work on an image so small that a segment is some 10 pixels wide: the time grows with the square of that width."""
    from skimage.segmentation import quickshift
    from skimage.transform import resize

    height, width = image.shape[:2]
    shrink = min(1.0, _QUICKSHIFT_WIDTH * (n_segments / (height * width)) ** 0.5)
    rows, columns = max(round(height * shrink), 1), max(round(width * shrink), 1)
    small = resize(image, (rows, columns), anti_aliasing=shrink < 1)
    colour = small if image.shape[2] == 3 else np.repeat(small[:, :, :1], 3, axis=2)
    side = (rows * columns / n_segments) ** 0.5 * reach
    found = quickshift(colour, kernel_size=max(side / 4, 1.0), max_dist=max(side / 2, 1.0), ratio=0.5, rng=0)
    return found[np.arange(height)[:, None] * rows // height, np.arange(width)[None, :] * columns // width]


def _felzenszwalb(image: np.ndarray, n_segments: int, merging: float) -> np.ndarray:
    from skimage.segmentation import felzenszwalb

    area = image.shape[0] * image.shape[1] / n_segments
    return felzenszwalb(image, scale=area * merging, sigma=0.8, min_size=max(int(area / 4), 1), channel_axis=-1)
