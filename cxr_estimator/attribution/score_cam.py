"""Score-CAM: the channels of a layer, weighted by the score of what each lets through of the image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cxr_estimator._validation import check_number
from cxr_estimator.attribution._problem import Problem
from cxr_estimator.attribution._types import Attribution
from cxr_estimator.attribution.cam import combined, layer_names


def score_cam(
    problem: Problem, *, layer: str | Sequence[str] | None = None, channels: int | None = None
) -> Attribution:
    """Weight each channel by the score of the image seen through that channel; no gradients.

    L = ReLU(sum_k a_k A^k),  a = softmax over k of score(x * s(Up(A^k)))  (eq. 5 and 6, Algorithm 1), where s scales
    to [0, 1]. The paper's constant score of the baseline cancels in the softmax. As in the authors' code and in
    pytorch-grad-cam, the normalised image is multiplied: where a channel is silent it turns to the mean colour of
    the training data, not to black. Values are >= 0.

    Deviations: the score is a logit, and channels are upsampled with aligned corners, as in pytorch-grad-cam.

    Parameters
    ----------
    layer : str or list of str, optional
        A layer with a spatial map, or several, whose maps are averaged.
    channels : int, optional
        Take only that many channels, for each image those whose activation varies most over the positions; the others
        count for nothing, which deviates from the paper but saves time. Default: all of them.

    Use it for: a class activation map where gradients vanish or mislead.
    Fails: softmax of logits that differ by several units is almost one channel, and of nearly equal ones a mean over
    all, which no longer depends on the target; one pass per channel makes it slow.

    References
    ----------
    Wang et al. (2020), Score-CAM, CVPR Workshops, doi:10.1109/CVPRW50498.2020.00020
    """
    names = layer_names(problem, layer)
    if channels is not None:
        check_number("channels", channels, caller="score_cam", low=1, integer=True)
    chosen = [_most_varied(A, channels) for A in problem.activations(names)]
    total = sum(A.shape[1] for A in chosen)
    maps = [F.relu((torch.softmax(_scores(problem, A, total), dim=1)[..., None, None] * A).sum(dim=1)) for A in chosen]
    return combined(problem, names, maps)


def _most_varied(A: Tensor, channels: int | None) -> Tensor:
    """Return the `channels` of each image, all for None, whose activation has the largest variance."""
    if channels is None or channels >= A.shape[1]:
        return A
    top = A.flatten(2).var(dim=2, correction=0).topk(channels, dim=1).indices
    return A.gather(1, top[..., None, None].expand(-1, -1, *A.shape[2:]))


def _scores(problem: Problem, A: Tensor, total: int) -> Tensor:
    """Return the score (n, channels) of each image seen through each of its channels."""
    scores = A.new_empty(A.shape[:2])
    for owner, number in problem.chunks(A.shape[1], total=total):
        size = problem.x.shape[2:]
        mask = F.interpolate(A[owner, number][:, None], size=size, mode="bilinear", align_corners=True)
        mask = mask - mask.amin(dim=(2, 3), keepdim=True)
        mask = mask / mask.amax(dim=(2, 3), keepdim=True).clamp(min=1e-8)  # a silent channel shows nothing
        scores[owner, number] = problem.scores(problem.x[owner] * mask, owner)
    return scores
