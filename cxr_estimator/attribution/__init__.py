"""Attribution methods. `METHODS` is the one list of them: a new method is one function and one line here."""

from __future__ import annotations

from functools import partial

from torch import nn

from cxr_estimator.attribution import (
    attention,
    cam,
    deep_shap,
    ensemble,
    gradient,
    gradient_shap,
    guided,
    kernel_shap,
    lime,
    lrp,
    partition_shap,
    perturbation,
    score_cam,
)
from cxr_estimator.attribution._baselines import baseline as baseline_images
from cxr_estimator.attribution._problem import Problem
from cxr_estimator.attribution._repeats import REPEATS, repeated
from cxr_estimator.attribution._superpixels import superpixels
from cxr_estimator.attribution._target import Target, TargetRule
from cxr_estimator.attribution._types import SPEEDS, Attribution, Method
from cxr_estimator.errors import UnsupportedMethodError

_row = partial(Method, signed=False, localises=False, complete=False)
_cam = partial(
    _row, family="CAM", localises=True, needs_gradients=True, bf16_safe=True, cost="1 forward, head backward"
)
_gradient = partial(_row, family="gradient", needs_gradients=True, cost="1 forward, 1 backward")
_magnitude = partial(_gradient, shows="sensitivity")
_shap = partial(_row, family="SHAP", signed=True)
_perturbation = partial(_row, family="perturbation", signed=True, localises=True)
_propagation = partial(_row, family="propagation", localises=True, needs_gradients=True, cost="1 forward, 1 backward")

METHODS: dict[str, Method] = {
    "grad_cam": _cam(cam.grad_cam),
    "grad_cam_plus_plus": _cam(cam.grad_cam_plus_plus),
    "x_grad_cam": _cam(cam.x_grad_cam),
    "hi_res_cam": _cam(cam.hi_res_cam, signed=True),
    "layer_cam": _cam(cam.layer_cam),
    "score_cam": _cam(
        score_cam.score_cam,
        needs_gradients=False,
        bf16_safe=False,
        cost="1 forward per channel of the layer",
        speed="slow",
    ),
    "eigen_cam": _cam(cam.eigen_cam, shows="features", needs_gradients=False, cost="1 forward"),
    "saliency": _magnitude(gradient.saliency),
    "input_x_gradient": _gradient(gradient.input_x_gradient, signed=True, localises=True),
    "smooth_grad": _magnitude(gradient.smooth_grad, random=True, cost="50 forward, 50 backward", speed="moderate"),
    "var_grad": _magnitude(
        gradient.var_grad, random=True, bf16_safe=True, cost="50 forward, 50 backward", speed="moderate"
    ),
    "integrated_gradients": _gradient(
        gradient.integrated_gradients,
        signed=True,
        localises=True,
        complete=True,
        bf16_safe=True,
        cost="64 forward, 64 backward",
        speed="moderate",
    ),
    "guided_backprop": _magnitude(guided.guided_backprop, obstacle=guided.no_relu),
    "guided_grad_cam": _magnitude(guided.guided_grad_cam, localises=True, obstacle=guided.no_relu),
    "deep_shap": _shap(
        deep_shap.deep_shap,
        localises=True,
        complete=True,
        needs_gradients=True,
        needs_background=True,
        cost="2 forward, 1 backward per background image",
        speed="moderate",
    ),
    "gradient_shap": _shap(
        gradient_shap.gradient_shap,
        localises=True,
        needs_gradients=True,
        needs_background=True,
        random=True,
        bf16_safe=True,
        cost="64 forward, 64 backward",
        speed="moderate",
    ),
    "partition_shap": _shap(
        partition_shap.partition_shap, localises=True, complete=True, cost="500 forward", speed="slow"
    ),
    "kernel_shap": _shap(
        kernel_shap.kernel_shap,
        localises=True,
        complete=True,
        random=True,
        bf16_safe=True,
        cost="1000 forward",
        speed="slow",
    ),
    "lime": _perturbation(lime.lime, family="LIME", random=True, bf16_safe=True, cost="1000 forward", speed="slow"),
    "occlusion": _perturbation(perturbation.occlusion, cost="225 forward", speed="moderate"),
    "superpixel_occlusion": _perturbation(perturbation.superpixel_occlusion, cost="50 forward", speed="moderate"),
    "rise": _perturbation(perturbation.rise, random=True, bf16_safe=True, cost="1000 forward", speed="slow"),
    "lrp": _propagation(lrp.lrp, signed=True, complete=True, obstacle=lrp.without_rules),
    "attention_rollout": _propagation(
        attention.attention_rollout,
        shows="features",
        needs_gradients=False,
        bf16_safe=True,
        cost="1 forward",
        obstacle=attention.without_token_attention,
    ),
    "gradient_attention": _propagation(
        attention.gradient_attention, bf16_safe=True, obstacle=attention.without_attention
    ),
    "ensemble": _row(
        ensemble.ensemble,
        family="combination",
        localises=True,
        needs_gradients=True,
        random=True,
        cost="that of its methods",
        speed="moderate",
    ),
}


def check_supported(name: str, model: nn.Module) -> None:
    """Raise unless the method works on this network; the error names those that do."""
    obstacle = METHODS[name].obstacle(model)
    if obstacle is not None:
        others = ", ".join(other for other, method in METHODS.items() if method.obstacle(model) is None)
        raise UnsupportedMethodError(f"{name} does not work on this network: {obstacle}. Methods that do: {others}.")


__all__ = [
    "METHODS", "REPEATS", "SPEEDS", "Attribution", "Method", "Problem", "Target", "TargetRule", "baseline_images",
    "check_supported", "repeated", "superpixels",
]  # fmt: skip
