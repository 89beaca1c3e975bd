"""Several methods, one map."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from cxr_estimator._validation import check_choice, invalid, wrong_type
from cxr_estimator.attribution._problem import Problem
from cxr_estimator.attribution._types import Attribution

DEFAULT = ("grad_cam", "integrated_gradients", "occlusion")


def ensemble(problem: Problem, *, methods: Sequence[str] = DEFAULT) -> Attribution:
    """Average what several methods find in favour of the target, each on its own scale.

    L = mean over m of ReLU(L_m) / max ReLU(L_m). Values are between 0 and 1. The spread is the pointwise standard
    deviation over the methods: where it is large, they disagree.

    Parameters
    ----------
    methods : sequence of str, default=("grad_cam", "integrated_gradients", "occlusion")
        Two at least of the other methods, each once, with their default options.

    Use it for: one map where no single method is trusted more than the others.
    Fails: where most of its methods fail in the same way; it has no unit, and is neither signed nor complete.

    References
    ----------
    Rieger & Hansen (2020), A simple defense against adversarial attacks on heatmap explanations,
    doi:10.48550/arXiv.2007.06381 (which averages normalised maps)
    """
    from cxr_estimator.attribution import METHODS, check_supported  # late: the table holds this function

    if not isinstance(methods, list | tuple):
        raise wrong_type("methods", "ensemble", "a list of two methods at least", methods)
    if len(methods) < 2:
        raise invalid("methods", "ensemble", "a list of two methods at least", methods)
    for name in methods:
        others = [other for other in METHODS if METHODS[other].function is not ensemble]
        check_supported(check_choice("methods", name, others, caller="ensemble"), problem.model)
        if METHODS[name].needs_background and problem.background is None:
            raise invalid("background", "explain", f"given for the method {name!r} of the ensemble", None)
    if len(set(methods)) < len(methods):
        raise invalid("methods", "ensemble", "a list of methods without duplicates", methods)
    parts = []
    for name in methods:
        with problem.portion(1 / len(methods)):
            values = METHODS[name].function(problem).values.clamp(min=0)
        top = values.amax(dim=(1, 2), keepdim=True)
        parts.append(values / torch.where(top > 0, top, 1.0))
    maps = torch.stack(parts)
    return Attribution(maps.mean(dim=0), spread=maps.std(dim=0))
