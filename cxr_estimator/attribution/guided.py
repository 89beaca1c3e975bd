"""Gradients that only positive evidence may carry back through the ReLUs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from cxr_estimator.attribution._override import Override, Replacement
from cxr_estimator.attribution._problem import Problem
from cxr_estimator.attribution._types import Attribution
from cxr_estimator.attribution.cam import grad_cam
from cxr_estimator.attribution.gradient import input_gradient, magnitude


def guided_backprop(problem: Problem) -> Attribution:
    """Show the gradient that arrives at a pixel when negative ones are stopped at every ReLU.

    R_i = [f_i > 0] [R_{i+1} > 0] R_{i+1}  at each ReLU f = ReLU(.)  (section 3.4), the usual gradient elsewhere, and
    M = max_c |R_c|. Values are >= 0: a pixel may raise the score by becoming darker as well as brighter, so the sign
    would say nothing for or against the target. Only ReLUs are guided; other activations keep their gradient.

    Use it for: crisp pictures of the structures to which strongly active units respond.
    Fails: it is close to an edge detector. Maps hardly change with the class that is explained, nor when the weights
    of the upper layers are made random (Adebayo et al. 2018, doi:10.48550/arXiv.1810.03292), so they are no evidence
    of what the network has learned.

    References
    ----------
    Springenberg et al. (2015), Striving for simplicity, ICLR workshop, doi:10.48550/arXiv.1412.6806
    """
    return Attribution(magnitude(input_gradient(problem, around=lambda score, rows: Override(_RULES))))


def guided_grad_cam(problem: Problem, *, layer: str | Sequence[str] | None = None) -> Attribution:
    """Multiply guided backpropagation, which is sharp, by Grad-CAM, which knows the class.

    M = max_c |R_c| L,  R of `guided_backprop` and L of `grad_cam`, resized bilinearly to the image  (section 3.3).
    Values are >= 0.

    Parameters
    ----------
    layer : str or list of str, optional
        Layer of the Grad-CAM (default: `backbones.default_cam_layer`), or several, whose maps are averaged.

    Use it for: pictures of fine structure within the region that Grad-CAM shows.
    Fails: the fine structure is that of `guided_backprop`, close to an edge detector; only the region is explained.

    References
    ----------
    Selvaraju et al. (2017), Grad-CAM, ICCV, doi:10.1109/ICCV.2017.74
    """
    region = grad_cam(problem, layer=layer)
    return region._replace(values=region.values * guided_backprop(problem).values)


def no_relu(model: nn.Module) -> str | None:
    """Return why there is nothing to guide in a network, or None."""
    if any(isinstance(module, nn.ReLU) for module in model.modules()):
        return None
    return "it has no ReLU, whose gradient is what is guided"


def _guided(relu: Replacement, *args: Any, **kwargs: Any) -> Tensor:
    """Let `relu` do its work, and stop negative gradients where they reach its output; it stops those of units <= 0."""
    output: Tensor = relu(*args, **kwargs)
    if output.requires_grad:
        output.register_hook(lambda gradient: gradient.clamp(min=0))
    return output


_RULES = {"relu": _guided, "relu_": _guided}
