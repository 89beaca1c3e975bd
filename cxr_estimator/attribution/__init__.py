"""Attribution methods. `METHODS` is the one list of them: a new method is one function and one line here."""

from __future__ import annotations

from functools import partial

from torch import nn

from cxr_estimator.attribution import lime, score_cam
from cxr_estimator.attribution._problem import Problem
from cxr_estimator.attribution._repeats import REPEATS, repeated
from cxr_estimator.attribution._target import Target, TargetRule
from cxr_estimator.attribution._types import Attribution, Method
from cxr_estimator.attribution.attention import (
    attention_rollout,
    gradient_attention,
    without_attention,
    without_token_attention,
)
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
from cxr_estimator.attribution.lrp import lrp, without_rules
from cxr_estimator.attribution.partition_shap import partition_shap
from cxr_estimator.attribution.perturbation import occlusion, rise, superpixel_occlusion
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
_perturbation = partial(Method, family="perturbation", signed=True, localises=True, complete=False)

_shap = partial(Method, family="SHAP", signed=True)
_propagation = partial(Method, family="propagation", localises=True, needs_gradients=True)

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
    "kernel_shap": _shap(kernel_shap, localises=True, complete=True, random=True, cost="1000 forward"),
    "partition_shap": _shap(partition_shap, localises=True, complete=True, cost="500 forward"),
    "score_cam": _cam(score_cam.score_cam, needs_gradients=False, bf16_safe=False, cost="1 forward per channel"),
    "lime": _perturbation(lime.lime, family="LIME", random=True, cost="1000 forward (n_samples)"),
    "occlusion": _perturbation(occlusion, cost="225 forward (windows)"),
    "superpixel_occlusion": _perturbation(superpixel_occlusion, cost="50 forward (n_segments)"),
    "rise": _perturbation(rise, random=True, cost="1000 forward (n_masks)"),
    "lrp": _propagation(lrp, signed=True, complete=True, cost="2 forward, 1 backward", obstacle=without_rules),
    "attention_rollout": _propagation(
        attention_rollout,
        signed=False,
        complete=False,
        needs_gradients=False,
        bf16_safe=True,
        cost="1 forward",
        obstacle=without_token_attention,
    ),
    "gradient_attention": _propagation(
        gradient_attention, signed=False, complete=False, cost="1 forward, 1 backward", obstacle=without_attention
    ),
}


def check_supported(name: str, model: nn.Module) -> None:
    """Raise unless the method works on this network; the error names those that do."""
    obstacle = METHODS[name].obstacle(model)
    if obstacle is not None:
        others = ", ".join(other for other, method in METHODS.items() if method.obstacle(model) is None)
        raise UnsupportedMethodError(f"{name} does not work on this network: {obstacle}. Methods that do: {others}.")


__all__ = [
    "METHODS", "REPEATS", "Attribution", "Method", "Problem", "Target", "TargetRule", "check_supported", "repeated",
]  # fmt: skip
