"""Faithfulness: does the output of the network follow the map when pixels are hidden in its order.

In every formula f is the probability of the explained class (or the explained score, with `output="score"`), x the
image, x_k the image with the fraction k / n of its pixels hidden, the most relevant first; x'_k with the least relevant
first. All channels of a pixel are hidden together. For the options besides `steps` see `_perturbing.Perturbing`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import numpy as np

from cxr_estimator._validation import check_number, invalid
from cxr_estimator.explanation import Explanation
from cxr_estimator.metrics._perturbing import IMPUTED, Curves, Perturbing
from cxr_estimator.metrics._types import Context

STEPS = 20
BINS = (0.01, 0.05, 0.1, 0.2, 0.5)  # DeYoung et al.
SHARES = (0.2, 0.4, 0.6, 0.8)  # fewer than the paper: imputing takes longer than the network


def deletion_auc(
    explanation: Explanation, context: Context, *, steps: int = STEPS, **how: Unpack[Perturbing]
) -> np.ndarray:
    """Area under f(x_k) over the fraction hidden, both ends included, in [0, 1]; lower is better.

    Trapezoid rule. The default baseline is each image's mean; the paper hides with the mean of the training images.

    References
    ----------
    Petsiuk et al. (2018), RISE, BMVC, doi:10.48550/arXiv.1806.07421
    """
    curves = _curves("deletion_auc", explanation, context, how)
    return area_under(curves.most_relevant_hidden(fractions(steps, "deletion_auc")))


def insertion_auc(
    explanation: Explanation, context: Context, *, steps: int = STEPS, **how: Unpack[Perturbing]
) -> np.ndarray:
    """Area under f over the fraction shown, the most relevant pixels first, in [0, 1]; higher is better.

    Starts from a blurred image by default, as in the paper, since showing pixels on black makes edges.

    References
    ----------
    Petsiuk et al. (2018), RISE, BMVC, doi:10.48550/arXiv.1806.07421
    """
    curves = _curves("insertion_auc", explanation, context, {"baseline": "blur", **how})
    return area_under(curves.most_relevant_shown(fractions(steps, "insertion_auc")))


def aopc(explanation: Explanation, context: Context, *, steps: int = STEPS, **how: Unpack[Perturbing]) -> np.ndarray:
    """Mean over k = 0, ..., n of f(x) - f(x_k), in [-1, 1]; higher is better.

    The paper hides regions of 9 x 9 pixels and stops after 100 of them (`unit="patch"` hides patches); here all of the
    image is hidden in the end.

    References
    ----------
    Samek et al. (2017), Evaluating the visualization of what a deep neural network has learned, IEEE TNNLS 28,
    doi:10.1109/TNNLS.2016.2599820 (eq. 12)
    """
    curves = _curves("aopc", explanation, context, how)
    return _drop(curves, curves.most_relevant_hidden(fractions(steps, "aopc")))


def aopc_lerf(
    explanation: Explanation, context: Context, *, steps: int = STEPS, **how: Unpack[Perturbing]
) -> np.ndarray:
    """Mean over k = 0, ..., n of f(x) - f(x'_k), the least relevant pixels first, in [-1, 1]; lower is better.

    References
    ----------
    Samek et al. (2017), Evaluating the visualization of what a deep neural network has learned, IEEE TNNLS 28,
    doi:10.1109/TNNLS.2016.2599820
    """
    curves = _curves("aopc_lerf", explanation, context, how)
    return _drop(curves, curves.least_relevant_hidden(fractions(steps, "aopc_lerf")))


def abpc(explanation: Explanation, context: Context, *, steps: int = STEPS, **how: Unpack[Perturbing]) -> np.ndarray:
    """Mean over k = 0, ..., n of f(x'_k) - f(x_k): the area between both curves, in [-1, 1]; higher is better.

    References
    ----------
    Schulz et al. (2020), Restricting the flow: information bottlenecks for attribution, ICLR,
    doi:10.48550/arXiv.2001.00396 (which calls it the degradation score)
    """
    curves, at = _curves("abpc", explanation, context, how), fractions(steps, "abpc")
    return (curves.least_relevant_hidden(at) - curves.most_relevant_hidden(at)).mean(axis=1)


def probability_degradation(
    explanation: Explanation, context: Context, *, steps: int = STEPS, **how: Unpack[Perturbing]
) -> np.ndarray:
    """Share of f that is lost: mean over k = 1, ..., n of 1 - f(x_k) / f(x), at most 1; higher is better.

    NaN where f(x) is 0. `deletion_curve` gives the curve. A weak metric: not bounded below, so that a few images whose
    f(x) is small (the class is not the decided one) outweigh all others.

    References
    ----------
    Samek et al. (2017), Evaluating the visualization of what a deep neural network has learned, IEEE TNNLS 28,
    doi:10.1109/TNNLS.2016.2599820 (relative to f(x))
    """
    name = "probability_degradation"
    if how.get("output", "proba") != "proba":  # a share of what can be negative says nothing
        raise invalid("output", name, "'proba'", how["output"])
    curves = _curves(name, explanation, context, how)
    hidden, original = curves.most_relevant_hidden(fractions(steps, name)[1:]).mean(axis=1), curves.original
    return 1.0 - np.divide(hidden, original, out=np.full(len(original), np.nan), where=original != 0)


def top_k_deletion(
    explanation: Explanation, context: Context, *, k: float = 25, **how: Unpack[Perturbing]
) -> np.ndarray:
    """Drop f(x) - f(x without the k% most relevant pixels), in [-1, 1]; higher is better.

    References
    ----------
    Samek et al. (2017), Evaluating the visualization of what a deep neural network has learned, IEEE TNNLS 28,
    doi:10.1109/TNNLS.2016.2599820 (one point of the curve)
    """
    check_number("k", k, caller="top_k_deletion", low=0, high=100, open_low=True)
    curves = _curves("top_k_deletion", explanation, context, how)
    return curves.original - curves.most_relevant_hidden([k / 100])[:, 0]


def comprehensiveness(explanation: Explanation, context: Context, **how: Unpack[Perturbing]) -> np.ndarray:
    """Mean drop of f when the most relevant 1, 5, 10, 20 and 50% are hidden, in [-1, 1]; higher is better.

    References
    ----------
    DeYoung et al. (2020), ERASER, ACL, doi:10.18653/v1/2020.acl-main.408 (eq. 1 and section 4.2)
    """
    curves = _curves("comprehensiveness", explanation, context, how)
    return _drop(curves, curves.most_relevant_hidden(BINS))


def sufficiency(explanation: Explanation, context: Context, **how: Unpack[Perturbing]) -> np.ndarray:
    """Mean drop of f when only the most relevant 1, 5, 10, 20 and 50% are shown, in [-1, 1]; lower is better.

    References
    ----------
    DeYoung et al. (2020), ERASER, ACL, doi:10.18653/v1/2020.acl-main.408 (eq. 2 and section 4.2)
    """
    curves = _curves("sufficiency", explanation, context, how)
    return _drop(curves, curves.most_relevant_shown(BINS))


def road(explanation: Explanation, context: Context, **how: Unpack[Perturbing]) -> np.ndarray:
    """Half the mean of f(x'_k) - f(x_k) with 20, 40, 60 and 80% imputed, in [-0.5, 0.5]; higher is better.

    What is hidden is filled from the pixels around, so that the shape of the hole tells the network less. A weak metric
    where findings are smooth: then what is imputed looks like what was there, and differences are small. Deviations:
    both orders are joined, as in pytorch-grad-cam; and no noise is added, so that the value repeats.

    References
    ----------
    Rong et al. (2022), A consistent and efficient evaluation strategy for attribution methods (ROAD), ICML,
    doi:10.48550/arXiv.2202.00449
    """
    curves = _curves("road", explanation, context, {"baseline": IMPUTED, **how})
    least, most = curves.least_relevant_hidden(SHARES), curves.most_relevant_hidden(SHARES)
    return (least - most).mean(axis=1) / 2


def deletion_curve(
    explanation: Explanation, context: Context, *, steps: int = STEPS, **how: Unpack[Perturbing]
) -> np.ndarray:
    """Return f(x_0), ..., f(x_n), (N, steps + 1), for figures."""
    curves = _curves("deletion_curve", explanation, context, how)
    return curves.most_relevant_hidden(fractions(steps, "deletion_curve"))


def insertion_curve(
    explanation: Explanation, context: Context, *, steps: int = STEPS, **how: Unpack[Perturbing]
) -> np.ndarray:
    """Return f with 0, 1 / n, ..., 1 of the pixels shown, the most relevant first, (N, steps + 1), for figures."""
    curves = _curves("insertion_curve", explanation, context, {"baseline": "blur", **how})
    return curves.most_relevant_shown(fractions(steps, "insertion_curve"))


def fractions(steps: Any, caller: str) -> list[float]:
    """Return 0, 1 / steps, ..., 1."""
    check_number("steps", steps, caller=caller, low=1, high=100_000, integer=True)
    return [number / steps for number in range(steps + 1)]


def _curves(caller: str, explanation: Explanation, context: Context, how: Perturbing) -> Curves:
    return Curves(explanation.values, context.perturbed, caller, **how)


def area_under(curve: np.ndarray) -> np.ndarray:
    """Return the area (N,) under curves (N, points) over [0, 1], by the trapezoid rule."""
    return (curve[:, 1:] + curve[:, :-1]).mean(axis=1) / 2


def _drop(curves: Curves, hidden: np.ndarray | Sequence[float]) -> np.ndarray:
    return curves.original - np.mean(hidden, axis=1)
