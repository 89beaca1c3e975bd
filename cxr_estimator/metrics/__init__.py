"""Metrics of explanation quality. `METRICS` is the one list: a new metric is one function and one line here."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from cxr_estimator._validation import check_choice, check_number, invalid
from cxr_estimator.explanation import Explanation
from cxr_estimator.metrics import agreement, complexity, faithfulness, localisation, robustness, sanity, subsets
from cxr_estimator.metrics._maps import usable
from cxr_estimator.metrics._reference import references
from cxr_estimator.metrics._types import Context, Metric

N_REFERENCES = 5
_INFINITY = float("inf")
_faithfulness = partial(Metric, family="faithfulness", greater_is_better=True, range=(-1.0, 1.0), needs=("problem",))
_complexity = partial(Metric, family="complexity", greater_is_better=False, range=(0.0, 1.0))
_anew = partial(Metric, range=(-1.0, 1.0), needs=("problem", "explain"))
_robustness = partial(_anew, family="robustness", greater_is_better=True)
_sanity = partial(_anew, family="sanity", greater_is_better=False)
_localisation = partial(Metric, family="localisation", greater_is_better=True, range=(0.0, 1.0), needs=("mask",))
_shortcut = partial(Metric, family="localisation", greater_is_better=False, range=(0.0, 1.0))
_agreement = partial(Metric, family="agreement", greater_is_better=True, range=(-1.0, 1.0), needs=("other",))

METRICS: dict[str, Metric] = {
    "deletion_auc": _faithfulness(
        faithfulness.deletion_auc, greater_is_better=False, range=(0.0, 1.0), reference="Petsiuk et al. 2018"
    ),
    "insertion_auc": _faithfulness(faithfulness.insertion_auc, range=(0.0, 1.0), reference="Petsiuk et al. 2018"),
    "aopc": _faithfulness(faithfulness.aopc, reference="Samek et al. 2017"),
    "aopc_lerf": _faithfulness(faithfulness.aopc_lerf, greater_is_better=False, reference="Samek et al. 2017"),
    "abpc": _faithfulness(faithfulness.abpc, reference="Schulz et al. 2020"),
    "probability_degradation": _faithfulness(
        faithfulness.probability_degradation, range=(-_INFINITY, 1.0), reference="Samek et al. 2017"
    ),
    "top_k_deletion": _faithfulness(faithfulness.top_k_deletion, reference="Samek et al. 2017"),
    "road": _faithfulness(faithfulness.road, range=(-0.5, 0.5), reference="Rong et al. 2022"),
    "infidelity": _faithfulness(
        subsets.infidelity, greater_is_better=False, range=(0.0, _INFINITY), reference="Yeh et al. 2019"
    ),
    "sufficiency": _faithfulness(faithfulness.sufficiency, greater_is_better=False, reference="DeYoung et al. 2020"),
    "comprehensiveness": _faithfulness(faithfulness.comprehensiveness, reference="DeYoung et al. 2020"),
    "sensitivity_n": _faithfulness(subsets.sensitivity_n, reference="Ancona et al. 2018"),
    "sparsity_90": _complexity(complexity.sparsity_90, reference="Hurley & Rickard 2009"),
    "gini": _complexity(complexity.gini, greater_is_better=True, reference="Chalasani et al. 2020"),
    "entropy": _complexity(complexity.entropy, range=(0.0, _INFINITY), reference="Bhatt et al. 2020"),
    "max_sensitivity": _robustness(
        robustness.max_sensitivity, greater_is_better=False, range=(0.0, _INFINITY), reference="Yeh et al. 2019"
    ),
    "seed_stability": _robustness(robustness.seed_stability, reference="Visani et al. 2020"),
    "augmentation_consistency": _robustness(
        robustness.augmentation_consistency, reference="Crabbé & van der Schaar 2023"
    ),
    "parameter_randomisation": _sanity(sanity.parameter_randomisation, reference="Adebayo et al. 2018"),
    "pointing_game": _localisation(localisation.pointing_game, reference="Zhang et al. 2018"),
    "relevance_mass": _localisation(localisation.relevance_mass, reference="Arras et al. 2022"),
    "relevance_rank": _localisation(localisation.relevance_rank, reference="Arras et al. 2022"),
    "iou": _localisation(localisation.iou, reference="Zhou et al. 2016"),
    "border_mass": _shortcut(localisation.border_mass, reference="DeGrave et al. 2021"),
    "corner_mass": _shortcut(localisation.corner_mass, reference="Zech et al. 2018"),
    "rank_correlation": _agreement(agreement.rank_correlation, reference="Adebayo et al. 2018"),
    "top_k_overlap": _agreement(agreement.top_k_overlap, range=(0.0, 1.0), reference="Ghorbani et al. 2019"),
    "ssim": _agreement(agreement.ssim, reference="Adebayo et al. 2018"),
}

__all__ = ["METRICS", "N_REFERENCES", "Context", "Metric", "Request", "checked", "measure", "measure_all"]


class Request(NamedTuple):
    """A metric and its options."""

    metric: str
    options: Mapping[str, Any] = {}


def measure(
    metric: str,
    explanation: Explanation,
    context: Context,
    *,
    relative: bool = True,
    n_references: int = N_REFERENCES,
    **options: Any,
) -> np.ndarray:
    """Return a metric of `METRICS` for each explained image, (N,) float64; NaN where it is undefined.

    A map that holds NaN or infinity has no value. A map of zeros has no raw value, but a gain of 0: moved, it is the
    same map. So methods that find nothing in some images are compared on the same images as the others.

    Parameters
    ----------
    metric : str
    explanation : Explanation of N images
    context : Context
        What the metric needs: the network and the images, a mask, ... (`Metric.needs`).
    relative : bool, default=True
        For metrics of faithfulness: how much better the map does than the same map shifted and flipped, on average
        over `n_references` draws. Greater is better then, whatever the metric. False: the raw value.
    n_references : int, default=5
    **options
        Of the metric.

    Raises
    ------
    InvalidParameterError
        Unknown metric or option, a context without what the metric needs, or a mask of another shape than the maps.
    """
    request = {metric: checked(Request(metric, options))}
    return measure_all(request, explanation, context, relative=relative, n_references=n_references)[metric]


def measure_all(
    requests: Mapping[str, Request],
    explanation: Explanation,
    context: Context,
    *,
    relative: bool = True,
    n_references: int = N_REFERENCES,
) -> dict[str, np.ndarray]:
    """Return several metrics of the same explanation by label; see `measure`."""
    check_number("n_references", n_references, caller="measure", low=1, integer=True)
    _check_context(requests, explanation, context)
    defined = usable(explanation)
    found = {label: _values(request, explanation, context, defined) for label, request in requests.items()}
    with_reference = {
        label: request for label, request in requests.items() if relative and METRICS[request.metric].has_reference_maps
    }
    if with_reference:
        is_empty = (explanation.values == 0).all(axis=(1, 2))
        by_draw = [
            {label: _values(one, reference, context, defined) for label, one in with_reference.items()}
            for reference in references(explanation, context.perturbed.problem, n_references)
        ]
        for label, request in with_reference.items():
            gain = found[label] - np.mean([values[label] for values in by_draw], axis=0)
            found[label] = np.where(is_empty, 0.0, gain if METRICS[request.metric].greater_is_better else -gain)
    return found


def checked(request: Request) -> Request:
    """Return the request, or raise where there is no such metric or it takes no such option."""
    metric = METRICS[check_choice("metric", request.metric, METRICS, caller="measure")]
    for name in request.options:
        if not metric.options:
            raise invalid(f"options of {request.metric}", "measure", "empty", name)
        check_choice(f"options of {request.metric}", name, metric.options, caller="measure")
    return request


def _values(request: Request, explanation: Explanation, context: Context, defined: np.ndarray) -> np.ndarray:
    """Return the raw values (N,); NaN for maps that hold nothing or no numbers."""
    values = METRICS[request.metric].function(explanation, context, **request.options)
    return np.where(defined, values.astype(np.float64), np.nan)


def _check_context(requests: Mapping[str, Request], explanation: Explanation, context: Context) -> None:
    for request in requests.values():
        for name in METRICS[request.metric].needs:
            if getattr(context, name) is None:
                raise invalid(name, request.metric, "given in the context", None)
    shape = explanation.values.shape
    if context.problem is not None and (len(context.problem), *context.problem.x.shape[2:]) != shape:
        expected = f"about images of the shape {shape} of the maps"
        raise invalid("problem", "measure", expected, tuple(context.problem.x.shape))
    if context.other is not None and context.other.values.shape != shape:
        raise invalid("other", "measure", f"of the shape {shape} of the maps", context.other.values.shape)
    if context.mask is not None:
        mask = context.mask
        if not isinstance(mask, np.ndarray) or mask.shape != shape or mask.dtype != bool:
            expected = f"a bool array of shape {shape} (see Geometry.mask_to_model)"
            got = f"{mask.dtype} of shape {mask.shape}" if isinstance(mask, np.ndarray) else mask
            raise invalid("mask", "measure", expected, got)
