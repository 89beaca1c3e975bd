"""Reference images: what stands for "nothing to see"."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cxr_estimator._validation import check_choice, invalid
from cxr_estimator.attribution._problem import Problem

BASELINES = ("black", "mean", "blur", "background")


class Baseline(NamedTuple):
    """Reference images (n, C, H, W) in the units of `Problem.x`, and what they are."""

    images: Tensor
    name: str


def baseline(problem: Problem, kind: Any, *, caller: str) -> Baseline:
    """Return the baseline of each image.

    Parameters
    ----------
    kind : {"black", "mean", "blur", "background"}, array or None
        "black": pixels of 0 (before normalisation). "mean": each image's own mean per channel. "blur": the image under
        a Gaussian of a tenth of its side. "background": the mean of the background images. An array holds pixels in
        [0, 1], (H, W) or (C, H, W), at the size that the network sees, and serves all images. None: "background" where
        there is one, else "blur". On phantoms that finds lesions best by far: what is missing then looks like the
        average chest, where a patch of one grey looks like nothing the network has seen.
    """
    if kind is None:
        kind = "blur" if problem.background is None else "background"
    if not isinstance(kind, str):
        return Baseline(problem.normalised(_given(problem, kind, caller)).expand_as(problem.x), "array")
    check_choice("baseline", kind, BASELINES, caller=caller)
    if kind == "black":
        return Baseline(problem.normalised(torch.zeros_like(problem.x)), kind)
    if kind == "mean":
        return Baseline(problem.x.mean(dim=(2, 3), keepdim=True).expand_as(problem.x), kind)
    if kind == "blur":
        return Baseline(blurred(problem.x), kind)
    return Baseline(problem.references.mean(dim=0, keepdim=True).expand_as(problem.x), kind)


def blurred(x: Tensor) -> Tensor:
    """Return images (n, C, H, W) under a Gaussian whose standard deviation is a tenth of the longer side."""
    sigma = max(x.shape[2:]) / 10
    reach = min(int(3 * sigma), *(side - 1 for side in x.shape[2:]))
    offsets = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = (kernel / kernel.sum()).view(1, 1, -1, 1)
    planes = x.reshape(-1, 1, *x.shape[2:])
    planes = F.conv2d(F.pad(planes, (0, 0, reach, reach), mode="reflect"), kernel)
    planes = F.conv2d(F.pad(planes, (reach, reach, 0, 0), mode="reflect"), kernel.transpose(2, 3))
    return planes.reshape(x.shape)


def _given(problem: Problem, values: Any, caller: str) -> Tensor:
    shape = tuple(problem.x.shape[1:])
    try:
        unit = torch.as_tensor(np.asarray(values, dtype=np.float32)).to(problem.x.device)
    except (TypeError, ValueError) as error:
        raise invalid("baseline", caller, f"one of {', '.join(map(repr, BASELINES))} or an array", values) from error
    if tuple(unit.shape) not in (shape, shape[1:]):
        constraint = f"an array of shape {shape[1:]} or {shape}, as the network sees an image"
        raise invalid("baseline", caller, constraint, f"shape {tuple(unit.shape)}")
    if not bool(((unit >= 0) & (unit <= 1)).all()):
        raise invalid("baseline", caller, "an array of pixels in [0, 1]", f"values from {unit.min()} to {unit.max()}")
    return unit
