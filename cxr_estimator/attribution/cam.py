"""Class activation maps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cxr_estimator._validation import invalid
from cxr_estimator.attribution._target import TargetRule
from cxr_estimator.attribution._types import Attribution
from cxr_estimator.backbones import capture, default_cam_layer, to_grid


def grad_cam(model: nn.Module, x: Tensor, rule: TargetRule, *, layer: str | None = None) -> Attribution:
    """Weight the channels of a layer by their mean gradient, sum, and keep what is positive.

    L = ReLU(sum_k a_k A^k),  a_k = mean over positions of d score / d A^k  (Selvaraju et al., eq. 1 and 2),
    resized bilinearly to the image; not normalised. Values are >= 0: evidence for the target.

    The backbone runs forward once and gradients only pass through what follows the layer.

    Parameters
    ----------
    layer : str, optional
        Name of a layer with a spatial map or patch tokens; default `backbones.default_cam_layer`.

    References
    ----------
    Selvaraju et al. (2017), Grad-CAM, ICCV, doi:10.1109/ICCV.2017.74
    """
    layer = default_cam_layer(model, x) if layer is None else layer
    with torch.enable_grad(), capture(model, layer) as captured:
        logits = model(x).float()
    if not captured:
        raise invalid("layer", type(model).__name__, "a layer that runs when the network does", layer)
    activation = to_grid(model, captured[-1].detach()).float()
    score = rule.resolve(logits).score(logits)
    (gradient,) = torch.autograd.grad(score.sum(), captured[-1])
    weights = to_grid(model, gradient).float().mean(dim=(2, 3), keepdim=True)
    values = F.relu((weights * activation).sum(dim=1, keepdim=True))
    values = F.interpolate(values, size=x.shape[2:], mode="bilinear", align_corners=False)
    return Attribution(values[:, 0], logits.detach(), layer)
