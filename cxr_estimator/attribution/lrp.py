"""Layer-wise relevance propagation: the score is handed back from layer to layer until it lies on the pixels."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from cxr_estimator._validation import check_choice, check_number
from cxr_estimator.attribution._override import Override
from cxr_estimator.attribution._problem import Problem
from cxr_estimator.attribution._relevance import LayerRule, RelevanceFlow, alpha_beta_rule, box_rule, gamma_rule
from cxr_estimator.attribution._types import Attribution

_RULES = ("composite", "epsilon", "alpha_beta")
_BIASES = ("share", "absorb")


def lrp(
    problem: Problem,
    *,
    rule: str = "composite",
    epsilon: float = 1e-6,
    gamma: float = 0.25,
    beta: float = 1.0,
    bias: str = "share",
) -> Attribution:
    """Hand the score back from layer to layer, to each input of a layer in proportion to what it contributed.

    With the contributions c_ij = x_i w_ij, their positive and negative parts, and z_j = sum_i c_ij + b_j:

    - epsilon: R_i = sum_j c_ij R_j / (z_j + epsilon sign z_j)  (Bach, eq. 58)
    - gamma: the same, after contributions of the sign of z_j were multiplied by 1 + gamma  (Montavon, section 10.2.1,
      for z_j > 0; here for both signs, since the branches of a residual network end without a ReLU)
    - alpha-beta: R_i = sum_j ((1 + beta) c+_ij / z+_j - beta c-_ij / z-_j) R_j  (Bach, eq. 60)
    - box: R_i = sum_j (c_ij - l w+_ij - h w-_ij) R_j / sum_i (c_ij - l w+_ij - h w-_ij), for pixels between l (black)
      and h (white)  (Montavon, table 10.1)

    Relevance starts as the score. A batch norm behind a convolution is merged into it; any other is a layer with one
    input and one bias per output. Where branches are added, each gets what it contributed.

    Parameters
    ----------
    rule : {"composite", "epsilon", "alpha_beta"}
        "composite": box for the layer that reads the image, gamma for the other convolutions, epsilon for dense layers.
        The others: one rule for all layers, but a batch norm that is not merged always has epsilon. "epsilon" is
        noisy in deep networks, and close to input x gradient.
    epsilon : float, default=1e-6
        Added to denominators, 1e-12 to 100. Larger values (0.1) suppress weak and contradictory relevance.
    gamma : float, default=0.25
        0 to 100. Larger values favour what speaks for the outcome of a neuron.
    beta : float, default=1
        Weight of what speaks against, 0 to 100; alpha is 1 + beta. With 0, maps of different classes are nearly the
        same.
    bias : {"share", "absorb"}
        What happens to the relevance of the biases b_j: it goes to the inputs in proportion to |c_ij|, so that the map
        sums to the score (for a batch norm that is not merged: in proportion over all positions of the channel); or it
        is lost, as in the papers, and the map may sum to anything.

    Use it for: fine maps of a plain convolutional network that sum to the score.

    Fails: on networks with other layers (attention, layer norm, gates). Rules that favour positive contributions
    depend little on the class and on the weights of late layers (Sixt et al. 2020, doi:10.48550/arXiv.1912.09818).

    References
    ----------
    Bach et al. (2015), On pixel-wise explanations by layer-wise relevance propagation, PLoS ONE,
    doi:10.1371/journal.pone.0130140
    Montavon et al. (2019), Layer-wise relevance propagation: an overview, doi:10.1007/978-3-030-28954-6_10
    """
    check_choice("rule", rule, _RULES, caller="lrp")
    check_choice("bias", bias, _BIASES, caller="lrp")
    check_number("epsilon", epsilon, caller="lrp", low=1e-12, high=100)
    check_number("gamma", gamma, caller="lrp", low=0, high=100)
    check_number("beta", beta, caller="lrp", low=0, high=100)
    shares = bias == "share"
    plain = LayerRule(partial(gamma_rule, gamma=0.0, epsilon=epsilon), shares)
    image = conv = dense = plain
    if rule == "alpha_beta":
        image = conv = dense = LayerRule(partial(alpha_beta_rule, beta=beta, epsilon=epsilon), shares)
    elif rule == "composite":
        conv = LayerRule(partial(gamma_rule, gamma=gamma, epsilon=epsilon), shares)
        box = problem.normalised(torch.tensor([0.0, 1.0], device=problem.x.device).view(2, 1, 1, 1))
        image = LayerRule(partial(box_rule, epsilon=epsilon), shares, box)
    flow = RelevanceFlow(image, {"conv2d": conv, "linear": dense, "batch_norm": plain})
    values = torch.empty_like(problem.x[:, 0])
    for owner, _ in problem.chunks(1):
        x = problem.x[owner]
        with Override(flow.replacements):
            _, found = problem.gradients(x, owner)
        values[owner] = (found if flow.has_read_image else x * found).sum(dim=1)
    return Attribution(values, difference=_start(problem))


def without_rules(model: nn.Module) -> str | None:
    """Say which layers of a network have no rule, if any."""
    layers = [module for module in model.modules() if not list(module.children()) or module._parameters]
    unknown = sorted({type(layer).__name__ for layer in layers if not isinstance(layer, _known())})
    return f"it has layers without a propagation rule: {', '.join(unknown)}" if unknown else None


def _known() -> tuple[type[nn.Module], ...]:
    from timm.layers import DropPath
    from timm.layers.adaptive_avgmax_pool import FastAdaptiveAvgPool

    affine = nn.Conv2d, nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d
    homogeneous = nn.ReLU, nn.LeakyReLU, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d
    inert = nn.Identity, nn.Flatten, nn.Dropout, nn.Dropout2d, DropPath
    return (*affine, *homogeneous, FastAdaptiveAvgPool, *inert)


def _start(problem: Problem) -> Tensor:
    """Return the relevance (n,) of the logits: the score, but for the constant of a margin."""
    with torch.enable_grad():
        logits = problem.logits.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(problem.target.score(logits).sum(), logits)
    return (problem.logits * gradient).sum(dim=1)
