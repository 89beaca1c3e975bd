"""Attribution methods. `METHODS` is the one list of them: a new method is one function and one line here."""

from __future__ import annotations

from functools import partial

from cxr_estimator.attribution._target import Target, TargetRule
from cxr_estimator.attribution._types import Attribution, Method
from cxr_estimator.attribution.cam import (
    eigen_cam,
    grad_cam,
    grad_cam_plus_plus,
    hi_res_cam,
    layer_cam,
    x_grad_cam,
)

_cam = partial(Method, signed=False, localises=True, complete=False, bf16_safe=True, cost="1 forward, head backward")

METHODS: dict[str, Method] = {
    "grad_cam": _cam(grad_cam),
    "grad_cam_plus_plus": _cam(grad_cam_plus_plus),
    "x_grad_cam": _cam(x_grad_cam),
    "hi_res_cam": _cam(hi_res_cam, signed=True),
    "layer_cam": _cam(layer_cam),
    "eigen_cam": _cam(eigen_cam),
}

__all__ = ["METHODS", "Attribution", "Method", "Target", "TargetRule"]
