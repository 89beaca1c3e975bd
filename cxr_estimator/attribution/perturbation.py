"""Perturbation: what the score loses when parts of the image are hidden.

Each method hides a part by putting a baseline there, see `_baselines.baseline`. Black is air in a radiograph: a black
patch in the lung looks healthy, and its edges look like nothing the network has seen. All channels of a pixel are
hidden together.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from cxr_estimator._validation import check_number, wrong_type
from cxr_estimator.attribution import _baselines
from cxr_estimator.attribution._problem import Problem
from cxr_estimator.attribution._random_masks import HalfSums, RandomMasks, reliability
from cxr_estimator.attribution._superpixels import painted, superpixels, without_segments
from cxr_estimator.attribution._types import Attribution

_ROUND = 100  # masks between two looks at whether a map has converged; even, so that both halves grow alike


def occlusion(
    problem: Problem, *, window: int | None = None, stride: int | None = None, baseline: Any = None
) -> Attribution:
    """Slide a window over the image and note what the score loses where it hides the image.

    R_p = mean over the windows W that cover pixel p of score(x) - score(x with the baseline in W)  (section 4.2).
    Signed: below 0, hiding raises the score. Windows that reach beyond the right or lower border are cut off there.

    Parameters
    ----------
    window : int, optional
        Side of the window in pixels; default: an eighth of the shorter side of the image.
    stride : int, optional
        Step in pixels, at most the window; default: half the window.
    baseline : {"black", "mean", "blur", "background"} or array, optional
        What hidden pixels show; default: the background, if there is one, else blur.

    Use it for: a plain measurement of which regions the score needs; a reference for faster methods.
    Fails: a finding larger than the window, or seen twice, is never hidden whole and so seems not to matter; the
    patch itself is something new to the network; coarse, and slow where it is fine.

    References
    ----------
    Zeiler & Fergus (2014), Visualizing and understanding convolutional networks, ECCV,
    doi:10.1007/978-3-319-10590-1_53
    """
    caller = "occlusion"
    height, width = problem.x.shape[2:]
    side = min(height, width)
    size = max(side // 8, 1) if window is None else window
    check_number("window", size, caller=caller, low=1, high=side, integer=True)
    step = max(size // 2, 1) if stride is None else stride
    check_number("stride", step, caller=caller, low=1, high=size, integer=True)
    base = _baselines.baseline(problem, baseline, caller=caller)
    rows, columns = (_windows(length, size, step).to(problem.x.device) for length in (height, width))
    losses = problem.x.new_empty(len(problem), len(rows) * len(columns))
    for owner, number in problem.chunks(losses.shape[1]):
        inside = rows[number // len(columns)][:, :, None] & columns[number % len(columns)][:, None, :]
        hidden = torch.where(inside[:, None], base.images[owner], problem.x[owner])
        losses[owner, number] = problem.score[owner] - problem.scores(hidden, owner)
    down, across = rows.to(losses), columns.to(losses)
    sums = down.T @ losses.view(-1, len(rows), len(columns)) @ across
    return Attribution(sums / (down.sum(dim=0)[:, None] * across.sum(dim=0)), baseline=base.name)


def superpixel_occlusion(
    problem: Problem, *, segmentation: str = "slic", n_segments: int = 50, baseline: Any = None
) -> Attribution:
    """Hide one segment after the other and note what the score loses.

    R_p = score(x) - score(x with the baseline in the segment of pixel p). Signed: below 0, hiding raises the score. It
    is occlusion (section 4.2 of the paper) with windows that follow the edges in the image.

    Parameters
    ----------
    segmentation : {"slic", "quickshift", "felzenszwalb", "grid"}
    n_segments : int, default=50
        Wanted number of segments.
    baseline : {"black", "mean", "blur", "background", "segment_mean"} or array, optional
        As for `occlusion`, or the segment's own mean.

    Use it for: a quick map whose regions have the outlines of what is seen.
    Fails: as `occlusion`; and large segments lose more than small ones, at the same weight of each pixel.

    References
    ----------
    Zeiler & Fergus (2014), Visualizing and understanding convolutional networks, ECCV,
    doi:10.1007/978-3-319-10590-1_53
    """
    caller = "superpixel_occlusion"
    segments = superpixels(problem, segmentation, n_segments, caller=caller)
    base = without_segments(problem, segments, baseline, caller=caller)
    counts = segments.flatten(1).amax(dim=1) + 1
    losses = problem.x.new_zeros(len(problem), int(counts.max()))
    for owner, number in problem.chunks(losses.shape[1]):
        exists = number < counts[owner]
        owner, number = owner[exists], number[exists]
        if len(owner):
            inside = segments[owner] == number[:, None, None]
            hidden = torch.where(inside[:, None], base.images[owner], problem.x[owner])
            losses[owner, number] = problem.score[owner] - problem.scores(hidden, owner)
    return Attribution(painted(losses, segments), baseline=base.name, evaluations=counts + 1)


def rise(
    problem: Problem,
    *,
    n_masks: int = 1000,
    grid: int = 7,
    p: float = 0.5,
    baseline: Any = None,
    centre: bool = True,
    converge: float | None = None,
) -> Attribution:
    """Show the image through random soft masks and average the masks by the score that each one leaves.

    R = 1 / (p N) sum_i (score(x M_i + b (1 - M_i)) - c) M_i  (eq. 6 and section 3.2). A mask is a `grid` x `grid` of
    ones (with probability `p`) and zeros, resized bilinearly to one cell more than the image and cropped at random.

    Deviations: the score is a logit; b is a baseline, where the paper has black; and c is the mean score of the masked
    images, which changes nothing in the limit but a constant, and takes away most of the noise. With it a value is
    signed: below 0, showing the pixel lowers the score. `centre=False` gives the paper's c = 0.

    Parameters
    ----------
    n_masks : int, default=1000
        Number of masks N, at most where `converge` is given; 2 to 100,000.
    grid : int, default=7
    p : float, default=0.5
        0.01 to 0.99.
    baseline : {"black", "mean", "blur", "background"} or array, optional
        What hidden pixels show; default: the background, if there is one, else blur.
    centre : bool, default=True
    converge : float, optional
        Stop where the map is reliable enough: after each 100 masks the maps of the even and of the odd ones are
        compared. Their rank correlation r tells, by the formula of Spearman and Brown, 2 r / (1 + r), how the map
        from all masks so far would agree with that of another seed; an image for which this reaches `converge` gets
        no more masks. `evaluations` says how many images each map took, the unmasked one included.

    Use it for: the regions that the score rests on, for a network of any kind, when there is time.
    Fails: a few hundred masks give a grainy map (see `converge` and error bars); nothing much smaller than a cell of
    the grid is found; masked images are unlike any radiograph.

    References
    ----------
    Petsiuk et al. (2018), RISE, BMVC, doi:10.48550/arXiv.1806.07421
    """
    caller = "rise"
    check_number("n_masks", n_masks, caller=caller, low=2, high=100_000, integer=True)
    check_number("grid", grid, caller=caller, low=2, high=min(problem.x.shape[2:]), integer=True)
    check_number("p", p, caller=caller, low=0.01, high=0.99)
    if not isinstance(centre, bool):
        raise wrong_type("centre", caller, "True or False", centre)
    if converge is not None:
        check_number("converge", converge, caller=caller, low=0, high=1, open_low=True, open_high=True)
    base = _baselines.baseline(problem, baseline, caller=caller)
    masks, sums = RandomMasks(problem, n_masks, grid, p), HalfSums(problem.x)
    used = torch.zeros(len(problem), dtype=torch.int64)
    running = torch.arange(len(problem))
    while len(running):
        done = int(used[running[0]])
        count = n_masks if converge is None else min(_ROUND, n_masks - done)
        for owner, number in problem.chunks(count, running.tolist(), start=done, total=n_masks):
            mask = masks.of(owner, number)
            shown = torch.lerp(base.images[owner], problem.x[owner], mask[:, None])
            sums.add(owner, number % 2, problem.scores(shown, owner) - problem.score[owner], mask)
        used[running] += count
        if done + count == n_masks or converge is None:
            break
        halves = sums.maps(problem.score, centre=centre, halves=True)[:, running]
        running = running[reliability(halves).cpu() < converge]
    values = sums.maps(problem.score, centre=centre, halves=False)[0] / p
    return Attribution(values, baseline=base.name, evaluations=used + 1)


def _windows(length: int, size: int, step: int) -> Tensor:
    """Return which of `length` positions each window covers, (windows, length) bool."""
    start = step * torch.arange(math.ceil((length - size) / step) + 1)[:, None]
    position = torch.arange(length)
    return (position >= start) & (position < start + size)
