"""Attribution methods. `METHODS` is the one list of them: a new method is one function and one line here."""

from __future__ import annotations

from functools import partial

from torch import nn

from cxr_estimator.attribution._problem import Problem
from cxr_estimator.attribution._repeats import REPEATS, repeated
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
from cxr_estimator.attribution.deep_shap import deep_shap
from cxr_estimator.attribution.gradient_shap import gradient_shap
from cxr_estimator.attribution.kernel_shap import kernel_shap
from cxr_estimator.attribution.partition_shap import partition_shap
from cxr_estimator.errors import UnsupportedMethodError

_cam = partial(
    Method,
    family="CAM",
    signed=False,
    localises=True,
    complete=False,
    needs_gradients=True,
    bf16_safe=True,
    cost="1 forward, head backward",
)

_shap = partial(Method, family="SHAP", signed=True)

METHODS: dict[str, Method] = {
    "grad_cam": _cam(grad_cam),
    "grad_cam_plus_plus": _cam(grad_cam_plus_plus),
    "x_grad_cam": _cam(x_grad_cam),
    "hi_res_cam": _cam(hi_res_cam, signed=True),
    "layer_cam": _cam(layer_cam),
    "eigen_cam": _cam(eigen_cam, needs_gradients=False, cost="1 forward"),
    "deep_shap": _shap(
        deep_shap,
        localises=False,
        complete=True,
        needs_gradients=True,
        needs_background=True,
        cost="2 forward, 1 backward per background image",
    ),
    "gradient_shap": _shap(
        gradient_shap,
        localises=False,
        complete=False,  # in expectation only
        needs_gradients=True,
        needs_background=True,
        random=True,
        cost="64 forward, 64 backward",
    ),
    "kernel_shap": _shap(kernel_shap, localises=True, complete=True, random=True, bf16_safe=True, cost="1000 forward"),
    "partition_shap": _shap(partition_shap, localises=True, complete=True, bf16_safe=True, cost="500 forward"),
}


def check_supported(name: str, model: nn.Module, backbone: str) -> None:
    """Raise unless the method works on this network; the error names those that do."""
    obstacle = METHODS[name].obstacle(model)
    if obstacle is not None:
        others = ", ".join(other for other, method in METHODS.items() if method.obstacle(model) is None)
        raise UnsupportedMethodError(f"{name} does not work on {backbone!r}: {obstacle}. Methods that do: {others}.")


__all__ = [
    "METHODS", "REPEATS", "Attribution", "Method", "Problem", "Target", "TargetRule", "check_supported", "repeated",
]  # fmt: skip
