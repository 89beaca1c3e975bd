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
from cxr_estimator.attribution.gradient import (
    input_x_gradient,
    integrated_gradients,
    saliency,
    smooth_grad,
    var_grad,
)
from cxr_estimator.attribution.guided import guided_backprop, guided_grad_cam, no_relu
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
_gradient = partial(
    Method,
    family="gradient",
    signed=False,
    localises=False,
    complete=False,
    needs_gradients=True,
    cost="1 forward + backward",
)

METHODS: dict[str, Method] = {
    "grad_cam": _cam(grad_cam),
    "grad_cam_plus_plus": _cam(grad_cam_plus_plus),
    "x_grad_cam": _cam(x_grad_cam),
    "hi_res_cam": _cam(hi_res_cam, signed=True),
    "layer_cam": _cam(layer_cam),
    "eigen_cam": _cam(eigen_cam, needs_gradients=False, cost="1 forward"),
    "saliency": _gradient(saliency),
    "input_x_gradient": _gradient(input_x_gradient, signed=True, localises=True),
    "smooth_grad": _gradient(smooth_grad, random=True, cost="n_samples forward + backward"),
    "var_grad": _gradient(var_grad, random=True, cost="n_samples forward + backward"),
    "integrated_gradients": _gradient(
        integrated_gradients, signed=True, localises=True, complete=True, cost="n_steps forward + backward"
    ),
    "guided_backprop": _gradient(guided_backprop, obstacle=no_relu),
    "guided_grad_cam": _gradient(guided_grad_cam, localises=True, obstacle=no_relu),
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
