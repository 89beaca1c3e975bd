"""Noisy linear imputation: hidden pixels as weighted means of their neighbours, visible or imputed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_STRAIGHT, _DIAGONAL = 1 / 6, 1 / 12  # weights of neighbours in the paper
_TOLERANCE, _MOST = 1e-4, 500  # relative residual, iterations


def imputed(x: Tensor, hidden: Tensor) -> Tensor:
    """Return images (n, C, H, W) whose `hidden` pixels (n, 1, H, W) solve x_i = sum_j w_ij x_j / sum_j w_ij.

    The neighbours j are the eight around, inside the image, with weights 1/6 (straight) and 1/12 (diagonal). The paper
    then adds noise, which this does not. The equations of each image are solved by conjugate gradients, from a start
    that fills holes from coarser and coarser versions of the image. Where all is hidden, the start is all there is.

    References
    ----------
    Rong et al. (2022), A consistent and efficient evaluation strategy for attribution methods (ROAD), ICML,
    doi:10.48550/arXiv.2202.00449 (section 4.3)
    """
    channels = x.shape[1]
    hidden = hidden.expand_as(x).to(x)
    weights = x.new_tensor(
        [[_DIAGONAL, _STRAIGHT, _DIAGONAL], [_STRAIGHT, 0.0, _STRAIGHT], [_DIAGONAL, _STRAIGHT, _DIAGONAL]]
    )
    kernel = weights.expand(channels, 1, 3, 3)
    degree = F.conv2d(torch.ones_like(x), kernel, padding=1, groups=channels)

    def residual_of(values: Tensor) -> Tensor:
        return hidden * (F.conv2d(values, kernel, padding=1, groups=channels) - degree * values)

    values = torch.where(hidden > 0, _filled_from_coarser(x, 1 - hidden), x)
    residual = residual_of(values)
    start = _dot(residual, residual)
    direction, size = residual, start
    for _ in range(_MOST):
        if bool((size <= _TOLERANCE**2 * start).all()) or bool((size < 1e-12).all()):
            break
        applied = -residual_of(direction)  # the matrix times the direction, which is 0 where pixels are visible
        step = size / _dot(direction, applied).clamp(min=1e-20)
        values = values + step * direction
        residual = residual - step * applied
        size, previous = _dot(residual, residual), size
        direction = residual + size / previous.clamp(min=1e-20) * direction
    return values


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(dim=(1, 2, 3), keepdim=True)


def _filled_from_coarser(x: Tensor, visible: Tensor) -> Tensor:
    """Return images whose invisible pixels have the mean of visible ones around, from coarser and coarser levels."""
    if min(x.shape[2:]) == 1:
        total = visible.sum(dim=(2, 3), keepdim=True)
        mean = (x * visible).sum(dim=(2, 3), keepdim=True) / total.clamp(min=1e-12)
        return torch.where(visible > 0, x, mean)
    share = F.avg_pool2d(visible, 2, ceil_mode=True)
    mean = F.avg_pool2d(x * visible, 2, ceil_mode=True) / share.clamp(min=1e-12)
    coarser = _filled_from_coarser(mean, (share > 0).to(x))
    wide = F.interpolate(coarser, size=x.shape[2:], mode="bilinear", align_corners=False)
    return torch.where(visible > 0, x, wide)
