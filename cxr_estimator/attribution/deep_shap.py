"""DeepSHAP: multipliers in place of derivatives, from the image back to reference images."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cxr_estimator.attribution._override import Override
from cxr_estimator.attribution._problem import Problem, Score, add_to
from cxr_estimator.attribution._types import Attribution

Rule = Callable[..., Any]  # what the call was given for the baseline, the function, its arguments -> its value

_SMALL = 1e-3  # share of the values below which a quotient of differences is worse than a derivative, in float32

_ELEMENTWISE = (
    "celu", "elu", "gelu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "logsigmoid", "mish", "prelu", "relu",
    "relu6", "selu", "sigmoid", "silu", "softplus", "softsign", "tanh",
)  # fmt: skip


def deep_shap(problem: Problem) -> Attribution:
    """Carry the difference to reference images back through the network, layer by layer (DeepLIFT's rescale rule).

    phi = mean_b sum_channels m_b (x - b) over the background images b. The multipliers m_b follow from the chain rule
    (DeepLIFT eq. 3), in which a non-linearity y(z) has (y(z_x) - y(z_b)) / (z_x - z_b) in place of its derivative
    (eq. 11 to 13); where the difference is below 0.1% of the values, and would drown in rounding, the derivative
    halfway stands for it. All that is linear passes gradients as usual. Values sum to score(x) - mean_b score(b).

    Maxima over windows give their difference to the winner of the larger one, as the shap library does. Beyond the
    paper, a product of two activations, such as a squeeze-and-excitation gate, shares its difference as the Shapley
    values of two players do: m_u = (v_x + v_b) / 2 and the reverse. Normalisation over an image's own values (layer
    norm), softmax and attention have no such rule and pass their gradient: there, values sum to less or more, and the
    completeness residual says by how much.

    Use it for: pixel-level evidence with an exact budget in convolutional networks with batch norm, at the price of a
    gradient and a forward pass per background image.

    Fails: on transformers and ConvNeXt the sum is off (see the residual); maps are as grainy as gradients; and the
    choice of the background decides what counts as evidence. It is not implementation invariant: two networks that
    compute the same function can have different multipliers.

    References
    ----------
    Shrikumar et al. (2017), DeepLIFT, ICML, doi:10.48550/arXiv.1704.02685
    Lundberg & Lee (2017), A unified approach to interpreting model predictions, NeurIPS, doi:10.48550/arXiv.1705.07874
    """
    difference = problem.score - problem.background_score
    background = problem.references
    values = torch.zeros_like(problem.x[:, 0])
    for owner, number in problem.chunks(len(background)):
        x, b = problem.x[owner], background[number]
        _, multipliers = problem.gradients(x, owner, partial(_rescaled, b))
        problem.evaluations += len(b)
        add_to(values, owner, (multipliers * (x - b)).sum(dim=1) / len(background))
    return Attribution(values, baseline="background", difference=difference)


@contextmanager
def _rescaled(baselines: Tensor, score: Score, rows: slice) -> Iterator[None]:
    """Within the block, gradients of the scores of images are multipliers with respect to `baselines[rows]`.

    The baselines run first and leave, call by call, what the non-linearities were given; the images meet the same
    calls in the same order. So it does not matter which module a call belongs to, or what is done in place later.
    """
    calls: deque[tuple[Any, ...]] = deque()

    def recorded(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        calls.append(tuple(value.clone() if isinstance(value, Tensor) else value for value in args))
        return function(*args, **kwargs)

    def with_multipliers(rule: Rule, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        before = calls.popleft()
        if any(isinstance(value, Tensor) and value.requires_grad for value in args):
            return rule(before, function, *args, **kwargs)
        return function(*args, **kwargs)

    with torch.no_grad(), Override(dict.fromkeys(_RULES, recorded)):
        score(baselines[rows])
    with Override({name: partial(with_multipliers, rule) for name, rule in _RULES.items()}):
        yield


def _elementwise(before: tuple[Any, ...], function: Callable[..., Any], z: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    z_b = before[0]
    y, y_b = (function(value.detach().clone(), *args, **kwargs) for value in (z, z_b))  # it may work in place
    middle = ((z.detach() + z_b) / 2).requires_grad_()
    (slope,) = torch.autograd.grad(function(middle.clone(), *args, **kwargs).sum(), middle)
    return _with_slope(y, (z, _quotient(y, y_b, z, z_b, slope)))


def _product(before: tuple[Any, ...], function: Callable[..., Any], u: Any, v: Any) -> Tensor:
    if not (isinstance(u, Tensor) and isinstance(v, Tensor)):
        return function(u, v)
    u_b, v_b = before
    return _with_slope(torch.mul(u, v), (u, (v + v_b) / 2), (v, (u + u_b) / 2))


def _max_pool(before: tuple[Any, ...], function: Callable[..., Any], z: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Give the difference of a window to the pixel that won it in the image or in the baseline, whichever is larger.

    So no multiplier leaves [0, 1]: where the image wins, the baseline is no larger there than its own maximum.
    """
    z_b, kwargs = before[0], {**kwargs, "return_indices": True}
    (y, won), (y_b, won_b) = (F.max_pool2d(value.detach(), *args, **kwargs) for value in (z, z_b))
    winner = torch.where(y >= y_b, won, won_b).flatten(2)

    def at_winner(value: Tensor) -> Tensor:
        return value.flatten(2).gather(2, winner).view_as(y)

    there = at_winner(z)
    difference = there.detach() - at_winner(z_b)
    return _with_slope(y, (there, torch.where(difference == 0, 1.0, (y - y_b) / difference)))


def _logsumexp(
    before: tuple[Any, ...], function: Callable[..., Any], z: Tensor, dim: int, keepdim: bool = False
) -> Tensor:
    """Rescale the exponential and the logarithm one after the other, so that a margin between classes is exact too."""
    y = function(z.detach(), dim, keepdim)
    z, z_b = (value.clamp(min=torch.finfo(value.dtype).min) for value in (z, before[0]))  # -inf - -inf is no number
    top = torch.maximum(z, z_b).detach().amax(dim, keepdim=True)
    e, e_b = (z.detach() - top).exp(), (z_b - top).exp()
    s, s_b = e.sum(dim, keepdim=True), e_b.sum(dim, keepdim=True)
    slope = _quotient(e, e_b, z, z_b, (e + e_b) / 2) * _quotient(s.log(), s_b.log(), s, s_b, 2 / (s + s_b))
    return y + (slope * (z - z.detach())).sum(dim, keepdim=keepdim)


def _quotient(y: Tensor, y_b: Tensor, z: Tensor, z_b: Tensor, slope: Tensor) -> Tensor:
    """Return (y - y_b) / (z - z_b), and `slope`, that of the function halfway, where rounding would show in it.

    Measured by the values, a difference is never small where they lie on both sides of 0, where ReLU has its kink.
    """
    z = z.detach()
    difference = z - z_b
    is_real = difference.abs() > _SMALL * (z.abs() + z_b.abs() + y.abs() + y_b.abs())
    return torch.where(is_real, (y - y_b) / torch.where(is_real, difference, 1.0), slope)


def _with_slope(y: Tensor, *terms: tuple[Tensor, Tensor]) -> Tensor:
    """Return the value `y` with other derivatives: for each pair, that with respect to the first is the second."""
    y = y.detach()
    for z, slope in terms:
        y = y + slope.detach() * (z - z.detach())
    return y


_RULES: dict[str, Rule] = {
    **{f"{name}{ending}": _elementwise for name in _ELEMENTWISE for ending in ("", "_")},
    **dict.fromkeys(("mul", "mul_", "multiply"), _product),
    "max_pool2d": _max_pool,
    "logsumexp": _logsumexp,
}
