"""Relevance passed backwards through the layers of a convolutional network; see `lrp`.

Relevance is kept as x * m, a multiplier m for each value x, so that it passes backwards as a gradient does. What is
piecewise linear without a constant (ReLU, pooling, sums of branches, concatenation, flattening) then needs no rule:
its derivative is the rule. Only convolutions, dense layers and batch norms get one, through `Override`, so that neither
in-place operations nor reused modules do harm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cxr_estimator.attribution._override import Replacement

# A rule: the relevance of the outputs and the sums of their positive and negative contributions -> the factors by
# which each positive and each negative contribution is multiplied.
Rule = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
_LEAST = 1e-12  # sum of all contributions to an output, below which there is nobody to share its bias


def gamma_rule(R: Tensor, positive: Tensor, negative: Tensor, *, gamma: float, epsilon: float) -> tuple[Tensor, Tensor]:
    """Favour the contributions that have the sign of the output; with gamma = 0, the epsilon rule."""
    z = positive + negative
    boosted = torch.where(z >= 0, positive, negative)
    share = R / _away_from_zero(z + gamma * boosted, epsilon)
    more = (1 + gamma) * share
    return torch.where(z >= 0, more, share), torch.where(z >= 0, share, more)


def alpha_beta_rule(
    R: Tensor, positive: Tensor, negative: Tensor, *, beta: float, epsilon: float
) -> tuple[Tensor, Tensor]:
    """Treat what speaks for the output and what speaks against it apart."""
    return (1 + beta) * R / (positive + epsilon), -beta * R / (negative - epsilon)


def box_rule(R: Tensor, positive: Tensor, negative: Tensor, *, epsilon: float) -> tuple[Tensor, Tensor]:
    """Count the distance of each input from the corner of the box that is least for the output: all is positive."""
    return R / (positive + epsilon), torch.zeros_like(R)


def _away_from_zero(z: Tensor, epsilon: float) -> Tensor:
    return torch.where(z >= 0, z + epsilon, z - epsilon)


class _Affine(NamedTuple):
    """A call y = apply(x, weight) + bias of the function `name`, and the state of the tensor y that it returned."""

    name: str
    x: Tensor
    weight: Tensor
    bias: Tensor
    apply: Callable[[Tensor, Tensor], Tensor]
    version: int = 0


@dataclass(frozen=True)
class LayerRule:
    """How relevance passes through one kind of layer; `box` holds the least and the largest input, (2, C, 1, 1)."""

    rule: Rule
    shares_bias: bool
    box: Tensor | None = None

    def backward(self, affine: _Affine, x: Tensor, multiplier: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the parts of x that are >= 0 and <= 0, and the multipliers of each; all of the shape of x."""
        above, below = (x.clamp(min=0), x.clamp(max=0)) if self.box is None else (x - self.box[0], x - self.box[1])
        gains, losses = affine.weight.clamp(min=0), affine.weight.clamp(max=0)
        with torch.enable_grad():
            above, below = above.requires_grad_(), below.requires_grad_()
            positive, negative = affine.apply(above, gains), affine.apply(above, losses)
            if bool((below < 0).any()):  # never behind a ReLU: half the work
                positive = positive + affine.apply(below, losses)
                negative = negative + affine.apply(below, gains)
        if self.box is None:
            gain, loss = affine.bias.clamp(min=0), affine.bias.clamp(max=0)
            speaks_for, speaks_against = positive.detach() + gain, negative.detach() + loss
            y = speaks_for + speaks_against  # to the last bit as the rule sees it, since it is divided by that
        else:  # compared with a corner of the box, where the bias cancels out
            gain = loss = torch.zeros_like(affine.bias)
            speaks_for, speaks_against = positive.detach(), negative.detach()
            y = affine.apply(x, affine.weight) + affine.bias
        a, b = self.rule(multiplier * y, speaks_for, speaks_against)
        if self.shares_bias:
            share = _share(a * gain + b * loss, (positive - negative).detach(), affine)
            a, b = a + share, b - share
        up, down = torch.autograd.grad((positive, negative), (above, below), (a, b), materialize_grads=True)
        return above.detach(), below.detach(), up, down


def _share(taken: Tensor, total: Tensor, affine: _Affine) -> Tensor:
    """Return the relevance that biases have taken, per unit of the absolute contributions of the inputs."""
    if affine.name == "batch_norm" and total.ndim > 2:
        # A pixel that stands alone with a bias, and is nearly 0, would get it all; and a bias has no place.
        taken, total = (values.flatten(2).sum(dim=2)[..., None, None] for values in (taken, total))
    return torch.where(total > _LEAST, taken / total.clamp(min=_LEAST), 0.0)


class _Multiplier(torch.autograd.Function):
    """What `compute` returns; backwards, multipliers pass by `rule` instead of by the derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, compute: Callable[[], Tensor], rule: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        ctx.save_for_backward(x)
        ctx.rule = rule
        return compute()

    @staticmethod
    def backward(ctx: Any, *multiplier: Tensor) -> tuple[Tensor, None, None]:
        with torch._C.DisableTorchFunction():  # the rules call what `Override` would replace
            return ctx.rule(*ctx.saved_tensors, *multiplier), None, None


class RelevanceFlow:
    """The replacements of torch's functions, for one kind of layer each, and for the layer that reads the image.

    The latter passes on relevance, since a black pixel has some although no multiplier of 0 gives it. `has_read_image`
    says that there was one, and so that the gradient of the image is its relevance, no multiplier.
    """

    def __init__(self, image: LayerRule, layers: dict[str, LayerRule]) -> None:
        self.image = image
        self.layers = layers
        self.has_read_image = False

    @property
    def replacements(self) -> dict[str, Replacement]:
        """For `Override`."""
        return {"conv2d": self.conv2d, "linear": self.linear, "batch_norm": self.batch_norm}

    def conv2d(self, function: Any, x: Tensor, weight: Tensor, bias: Tensor | None = None, *args: Any, **kwargs: Any):
        offset = weight.new_zeros(1) if bias is None else bias.view(-1, 1, 1)
        affine = _Affine("conv2d", x, weight, offset, lambda x, weight: function(x, weight, None, *args, **kwargs))
        return self._run(affine, lambda: function(x, weight, bias, *args, **kwargs))

    def linear(self, function: Any, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        affine = _Affine("linear", x, weight, weight.new_zeros(1) if bias is None else bias, function)
        return self._run(affine, lambda: function(x, weight, bias))

    def batch_norm(
        self,
        function: Any,
        x: Tensor,
        running_mean: Tensor,
        running_var: Tensor,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        scale = torch.rsqrt(running_var + eps) * (1.0 if weight is None else weight)
        shift = (0.0 if bias is None else bias) - running_mean * scale
        scale, shift = (values.view(-1, *[1] * (x.ndim - 2)) for values in (scale, shift))

        def compute() -> Tensor:
            return function(x, running_mean, running_var, weight, bias, training, momentum, eps)

        before: _Affine | None = getattr(x, "_affine", None)
        if before is None or before.version != x._version:
            return self._run(_Affine("batch_norm", x, scale, shift, torch.mul), compute)
        merged = before.weight * scale.view(-1, *[1] * (before.weight.ndim - 1))
        return self._run(before._replace(weight=merged, bias=before.bias * scale + shift), compute)

    def _run(self, affine: _Affine, compute: Callable[[], Tensor]) -> Tensor:
        is_image = affine.x.is_leaf and affine.x.requires_grad
        self.has_read_image = self.has_read_image or is_image
        layer, passed = (self.image, _relevance) if is_image else (self.layers[affine.name], _multiplier)
        y: Any = _Multiplier.apply(affine.x, compute, partial(passed, layer, affine))
        y._affine = affine._replace(version=y._version)  # for a batch norm that may follow
        return y


def _relevance(layer: LayerRule, affine: _Affine, x: Tensor, multiplier: Tensor) -> Tensor:
    """Return the relevance of x."""
    above, below, up, down = layer.backward(affine, x, multiplier)
    return above * up + below * down


def _multiplier(layer: LayerRule, affine: _Affine, x: Tensor, multiplier: Tensor) -> Tensor:
    """Return the multiplier of x, 0 where x is, which then has no relevance."""
    above, below, up, down = layer.backward(affine, x, multiplier)
    return torch.where(above > 0, up, torch.where(below < 0, down, 0.0))
