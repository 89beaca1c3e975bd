"""Class activation maps: the channels of a layer, weighted and summed.

In every formula A^k is channel k of the layer, g^k = d score / d A^k, and sums without an index run over positions. The
backbone runs forward once, and gradients only pass through what follows the layer. Maps are resized bilinearly to the
image and not normalised. `layer` names a layer with a spatial map or patch tokens (default:
`backbones.default_cam_layer`), or several: their maps are averaged after each was divided by its largest absolute
value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cxr_estimator._validation import close_matches, invalid, wrong_type
from cxr_estimator.attribution._problem import Problem
from cxr_estimator.attribution._types import Attribution
from cxr_estimator.backbones import default_cam_layer, spatial_layers

_MAX_LISTED = 30  # layers in a message
_EPSILON = 1e-7  # keeps quotients finite where a channel is zero


def grad_cam(problem: Problem, *, layer: str | Sequence[str] | None = None) -> Attribution:
    """Weight each channel by its mean gradient and keep what is positive.

    L = ReLU(sum_k a_k A^k),  a_k = mean g^k  (eq. 1 and 2). Values are >= 0: evidence for the target.

    Use it for: a first look: cheap, coarse, insensitive to noise, and the map most readers know.
    Fails: where the classes differ by fine structure (maps have the resolution of the layer); opposing gradients
    average out, so that places that count can stay dark.

    References
    ----------
    Selvaraju et al. (2017), Grad-CAM, ICCV, doi:10.1109/ICCV.2017.74
    """
    return _map(problem, layer, lambda A, g: F.relu(_weighted(A, _mean(g))))


def grad_cam_plus_plus(problem: Problem, *, layer: str | Sequence[str] | None = None) -> Attribution:
    """Weight each channel by its positive gradients, each counted for as many objects as the channel shows.

    L = ReLU(sum_k w_k A^k),  w_k = sum a^k ReLU(g^k),  a^k = (g^k)^2 / (2 (g^k)^2 + (sum A^k) (g^k)^3)  (eq. 5, 7 and
    19, for the exponential of the score). Values are >= 0. pytorch-grad-cam adds 1e-6 to the denominator, which
    outweighs it where gradients are below 1e-3, as they often are.

    Use it for: several separate findings in one image, of which grad_cam shows the largest only.
    Fails: where negative gradients matter: they are cut off, so maps of different classes look alike.

    References
    ----------
    Chattopadhay et al. (2018), Grad-CAM++, WACV, doi:10.1109/WACV.2018.00097
    """

    def combine(A: Tensor, g: Tensor) -> Tensor:
        denominator = 2 + _sum(A) * g  # divided by g^2, which is tiny: a constant beside it would outweigh it
        share = 1 / torch.where(denominator.abs() > _EPSILON, denominator, 1.0)
        return F.relu(_weighted(A, _sum(share * F.relu(g))))

    return _map(problem, layer, combine)


def x_grad_cam(problem: Problem, *, layer: str | Sequence[str] | None = None) -> Attribution:
    """Weight each channel by its gradients where it is active, so that the map comes nearest to summing to the score.

    L = ReLU(sum_k w_k A^k),  w_k = sum (g^k A^k) / sum A^k  (eq. 8). Values are >= 0.

    Use it for: a Grad-CAM that comes nearer to summing to the score.
    Fails: where channels sum to almost zero, as behind a batch norm without ReLU: the weights blow up.

    References
    ----------
    Fu et al. (2020), Axiom-based Grad-CAM, BMVC, doi:10.48550/arXiv.2008.02312
    """
    return _map(problem, layer, lambda A, g: F.relu(_weighted(A, _sum(g * A) / (_sum(A) + _EPSILON))))


def hi_res_cam(problem: Problem, *, layer: str | Sequence[str] | None = None) -> Attribution:
    """Multiply every position of every channel by its own gradient, so that nothing is averaged away.

    L = sum_k g^k A^k  (eq. 5). Signed: below 0 is evidence against the target.

    Use it for: maps that are faithful by construction where pooling and one linear layer follow the layer.
    Fails: like all last-layer maps at fine structure; with more than a linear layer behind, it is no decomposition.

    References
    ----------
    Draelos & Carin (2020), Use HiResCAM instead of Grad-CAM, doi:10.48550/arXiv.2011.08891
    """
    return _map(problem, layer, lambda A, g: _weighted(A, g))


def layer_cam(problem: Problem, *, layer: str | Sequence[str] | None = None) -> Attribution:
    """Weight every position of every channel by its own positive gradient; also fit for early, finer layers.

    L = ReLU(sum_k ReLU(g^k) A^k)  (eq. 4 and 5). Values are >= 0.

    Use it for: early layers, whose maps are finer, and averages over several layers.
    Fails: with late layers it hardly differs from grad_cam; negative evidence is cut off.

    References
    ----------
    Jiang et al. (2021), LayerCAM, IEEE TIP 30, doi:10.1109/TIP.2021.3089943
    """
    return _map(problem, layer, lambda A, g: F.relu(_weighted(A, F.relu(g))))


def eigen_cam(problem: Problem, *, layer: str | Sequence[str] | None = None) -> Attribution:
    """Show what the channels have most in common: their first principal component. The target plays no part.

    L = ReLU(M v),  M the positions x channels, centred over the positions, v its first right singular vector. Values
    are >= 0.

    Two deviations from the paper: the centring, as pytorch-grad-cam has it, and the sign of v, which a decomposition
    leaves open. It is chosen so that the map goes with the mean activation.

    Use it for: seeing what dominates the features, without any gradient or class.
    Fails: as an explanation of a decision: the map is the same for every class, and often is the body's outline.

    References
    ----------
    Muhammad & Yeasin (2020), Eigen-CAM, IJCNN, doi:10.1109/IJCNN48605.2020.9206626
    """
    names = layer_names(problem, layer)
    return combined(problem, names, [F.relu(_first_component(A)) for A in problem.activations(names)])


def _first_component(A: Tensor) -> Tensor:
    M = A.flatten(2).transpose(1, 2).cpu().double()  # (n, h * w, channels); not every device has float64
    M = M - M.mean(dim=1, keepdim=True)
    if M.shape[1] <= M.shape[2]:  # of the two products the smaller one, which is much faster than to decompose M
        values, vectors = torch.linalg.eigh(M @ M.mT)
        component = vectors[:, :, -1] * values[:, -1:].clamp(min=0).sqrt()
    else:
        component = (M @ torch.linalg.eigh(M.mT @ M).eigenvectors[:, :, -1:])[:, :, 0]
    mean = M.mean(dim=2)
    sign = torch.where((component * mean).sum(dim=1, keepdim=True) < 0, -1.0, 1.0)
    return (sign * component).view(len(A), *A.shape[2:]).to(A)


def _mean(values: Tensor) -> Tensor:
    return values.mean(dim=(2, 3), keepdim=True)


def _sum(values: Tensor) -> Tensor:
    return values.sum(dim=(2, 3), keepdim=True)


def _weighted(A: Tensor, weights: Tensor) -> Tensor:
    return (weights * A).sum(dim=1)


def _map(
    problem: Problem, layer: str | Sequence[str] | None, combine: Callable[[Tensor, Tensor], Tensor]
) -> Attribution:
    """Return the map that `combine` makes of activations and gradients, both (n, channels, h, w)."""
    names = layer_names(problem, layer)
    return combined(problem, names, [combine(*at) for at in problem.at_layers(names)])


def layer_names(problem: Problem, layer: str | Sequence[str] | None) -> list[str]:
    """Return the layers that the option `layer` names; the default one for None."""
    if layer is None:
        return [default_cam_layer(problem.model, problem.x)]
    names = [layer] if isinstance(layer, str) else layer
    caller, known = type(problem.model).__name__, dict(problem.model.named_modules())
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise wrong_type("layer", caller, _layers_there_are(problem, layer), layer)
    unknown = [name for name in names if name not in known or not name]  # "" is the network itself
    if unknown or not names:
        value = unknown[0] if unknown else layer
        raise invalid("layer", caller, _layers_there_are(problem, value), value)
    return list(names)


def _layers_there_are(problem: Problem, value: Any) -> str:
    """Return the layers that may be named: all, or of many those that are like `value`, or else the outermost."""
    layers = spatial_layers(problem.model, problem.x)
    constraint = "a layer with a spatial map, or a list of one at least"
    if len(layers) <= _MAX_LISTED:
        return f"{constraint}: {', '.join(map(repr, layers))}"
    near = close_matches(value, layers, n=8, cutoff=0.5) or sorted(layers, key=lambda name: name.count("."))[:8]
    return f"{constraint}, such as {', '.join(map(repr, near))} (model_.named_modules() has all {len(layers)})"


def combined(problem: Problem, names: Sequence[str], maps: Sequence[Tensor]) -> Attribution:
    """Return the attribution that the maps (n, h, w) of the layers in `names` make at the size of the image."""
    return Attribution(_averaged([resized(one, problem.x.shape[2:]) for one in maps]), layer=", ".join(names))


def resized(values: Tensor, size: Sequence[int]) -> Tensor:
    """Return maps (n, h, w) at the `size` of the image, bilinearly."""
    return F.interpolate(values[:, None], size=tuple(size), mode="bilinear", align_corners=False)[:, 0]


def _averaged(maps: list[Tensor]) -> Tensor:
    if len(maps) == 1:
        return maps[0]
    tops = [one.abs().amax(dim=(1, 2), keepdim=True) for one in maps]
    return torch.stack([one / torch.where(top > 0, top, 1.0) for one, top in zip(maps, tops, strict=True)]).mean(dim=0)
