"""Faithfulness over random subsets: does what a map gives to pixels add up to what hiding them changes."""

from __future__ import annotations

from typing import Any, NamedTuple, Unpack

import numpy as np
import torch
from torch import Tensor

from cxr_estimator._validation import check_number
from cxr_estimator.explanation import Explanation
from cxr_estimator.metrics._perturbing import Perturbing
from cxr_estimator.metrics._types import Context

_STREAM = 0x5AB5


class _Subsets(NamedTuple):
    """For each image and subset: the attribution in the subset, and what hiding it takes from the output, (n, m)."""

    attribution: np.ndarray
    drop: np.ndarray


def infidelity(
    explanation: Explanation,
    context: Context,
    *,
    n_subsets: int = 50,
    share: float = 0.25,
    normalise: bool = True,
    **how: Unpack[Perturbing],
) -> np.ndarray:
    """Mean over subsets S of (b sum of the map in S - (f(x) - f(x without S)))^2, from 0 on; lower is better.

    b >= 0 scales the map so that the error is smallest, since many maps have no unit (a negative b would forgive a map
    of the wrong sign); `normalise=False` takes b = 1. A subset is a random `share` of the units (patches by default),
    the same for every map.

    References
    ----------
    Yeh et al. (2019), On the (in)fidelity and sensitivity of explanations, NeurIPS, doi:10.48550/arXiv.1901.09392
    (definition 2.1, with the square removal of section 2.2; the scaling is captum's)
    """
    found = _drops("infidelity", explanation, context, n_subsets, share, **how)
    scale = np.ones((len(found.drop), 1))
    if normalise:
        square = (found.attribution**2).mean(axis=1, keepdims=True)
        product = (found.attribution * found.drop).mean(axis=1, keepdims=True)
        scale = np.divide(product, square, out=np.zeros_like(square), where=square > 0).clip(min=0)
    return ((scale * found.attribution - found.drop) ** 2).mean(axis=1)


def sensitivity_n(
    explanation: Explanation,
    context: Context,
    *,
    n_subsets: int = 50,
    share: float = 0.25,
    **how: Unpack[Perturbing],
) -> np.ndarray:
    """Correlation over subsets S of the map's sum in S with f(x) - f(x without S), in [-1, 1]; higher is better.

    All subsets hold the same number n of units, a random `share` of them. NaN where the map does not vary; 0 where the
    output does not, since then nothing follows it.

    References
    ----------
    Ancona et al. (2018), Towards better understanding of gradient-based attribution methods, ICLR,
    doi:10.48550/arXiv.1711.06104 (section 4)
    """
    found = _drops("sensitivity_n", explanation, context, n_subsets, share, **how)
    a, b = (values - values.mean(axis=1, keepdims=True) for values in found)
    a_norm, b_norm = (np.sqrt((values**2).sum(axis=1)) for values in (a, b))
    undefined = np.where(a_norm > 0, 0.0, np.nan)
    return np.divide((a * b).sum(axis=1), a_norm * b_norm, out=undefined, where=(a_norm > 0) & (b_norm > 1e-6))


def _drops(
    caller: str,
    explanation: Explanation,
    context: Context,
    n_subsets: int,
    share: float,
    *,
    baseline: Any = "mean",
    unit: str = "patch",
    n_units: int = 196,
    output: str = "score",
) -> _Subsets:
    check_number("n_subsets", n_subsets, caller=caller, low=2, high=100_000, integer=True)
    check_number("share", share, caller=caller, low=0, high=1, open_low=True, open_high=True)
    perturbed = context.perturbed
    units = perturbed.units(unit, n_units, caller)
    chosen = torch.zeros(len(units), n_subsets, int(units.max()) + 1, dtype=torch.bool)
    for row, each in enumerate(units):
        count = int(each.max()) + 1
        chosen[row, :, :count] = _chosen(perturbed.problem.generator(row, _STREAM), count, n_subsets, share)

    def hidden(owner: Tensor, number: Tensor) -> Tensor:
        rows = owner.cpu()
        which = chosen[rows, number.cpu()].gather(1, units[rows].flatten(1))
        return which.view(len(rows), *units.shape[1:]).to(owner.device)

    keys = [("subset", unit, n_units, share, number) for number in range(n_subsets)]
    left = perturbed.hiding(keys, hidden, baseline=baseline, output=output, caller=caller)
    values = torch.from_numpy(np.nan_to_num(explanation.values)).double().flatten(1)
    sums = values.new_zeros(len(values), chosen.shape[2]).scatter_add(1, units.flatten(1), values)
    attribution = (chosen.double() @ sums[:, :, None])[:, :, 0].numpy()
    return _Subsets(attribution, perturbed.original(output, caller)[:, None] - left)


def _chosen(rng: np.random.Generator, count: int, n_subsets: int, share: float) -> Tensor:
    """Return which of `count` units are in each subset, (n_subsets, count) bool: `share` of them, one at least."""
    size = min(max(round(share * count), 1), count)
    return torch.from_numpy(rng.random((n_subsets, count)).argsort(axis=1) < size)
