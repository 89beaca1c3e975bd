"""Checks for shortcuts: does the model decide by what tells nothing of the disease."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cxr_estimator.audit._evidence import UNDEFINED, Evidence
from cxr_estimator.audit._pictures import pair
from cxr_estimator.audit._types import Finding, Picture
from cxr_estimator.statistics import FEWEST_PATIENTS, Estimate

_PARTS = {
    "border": "the border",
    "corners": "the corners",
    "markers": "the side markers and letters",
    "brightness": "brightness and contrast",
    "sharpness": "the strength of fine detail",
}
_PICTURES = 2


def exchange(kind: str) -> Callable[[Evidence], list[Finding]]:
    """Return a check: how many decisions follow a part of the image rather than the rest.

    The value is the share of images that are given the class of a donor of another class together with its part, less
    the share that are given that class with the part of a donor of their own class: in [-1, 1], 0 where the part tells
    nothing.
    """

    def check(evidence: Evidence) -> list[Finding]:
        seen = evidence.seen
        donor = seen.donor[kind]
        with_own, with_other = (evidence.decided(logits) for logits in seen.exchanged[kind])
        known = (donor >= 0) & (with_own >= 0) & (with_other >= 0)
        if len(np.unique(seen.patient[known])) < FEWEST_PATIENTS:
            return [Finding(UNDEFINED, f"Too few images have {_PARTS[kind]} that could be exchanged.")]
        told = [(after == donor)[known].astype(float) for after in (with_other, with_own)]
        estimate = evidence.mean(told[0] - told[1], seen.patient[known])
        said = (
            f"Of {known.sum()} images {told[0].mean():.1%} are given another class together with {_PARTS[kind]} of an "
            f"image of it, {told[1].mean():.1%} with those of an image of their own: {estimate.value:+.1%} of the "
            f"decisions follow {_PARTS[kind]}."
        )
        turned = known & (with_other == donor) & (with_own != donor)
        return [Finding(estimate, said, pictures=lambda: _turned(evidence, kind, turned))]

    return check


def _turned(evidence: Evidence, kind: str, turned: np.ndarray) -> tuple[Picture, ...]:
    """Return images whose decision follows the part, before and after."""
    found = []
    for position in evidence.seen.index[turned][:_PICTURES].tolist():
        changed = evidence.looking.exchange(position, kind)
        if changed is not None:
            found.append(Picture(f"A decision that follows {_PARTS[kind]}: before and after.", pair(*changed)))
    return tuple(found)


def border_alone(evidence: Evidence) -> list[Finding]:
    """AUROC of the model on images of which only the border is left; 0.5 where that tells nothing."""
    found = evidence.auroc(evidence.seen.alone["border_alone"])
    return [Finding(found, f"From the border alone, all else grey, it tells the classes with AUROC {_of(found)}.")]


def lungs_alone(evidence: Evidence) -> list[Finding]:
    """AUROC of the model on images of which only the lungs are left, lower is worse."""
    logits = evidence.seen.alone["lungs_alone"]
    known = ~np.isnan(logits).any(axis=1)
    found = evidence.auroc(logits)
    said = f"From the lungs alone it tells the classes with AUROC {_of(found)} ({known.sum()} of {len(known)} images"
    return [Finding(found, f"{said}; in the others the lungs were not found).")]


def one_feature(evidence: Evidence) -> list[Finding]:
    """AUROC of the best of a few features that show no disease, turned so that it is 0.5 or more."""
    seen = evidence.seen
    features = {name: values for name, values in seen.features.items() if np.ptp(values) > 0}
    areas = {name: _oriented(evidence, values) for name, values in features.items()}
    areas |= {"source": _of_source(evidence)} if evidence.sources is not None else {}
    areas = {name: one for name, one in areas.items() if not np.isnan(one.low)}
    if not areas:
        return [Finding(UNDEFINED, "No feature could be compared with the classes.")]
    name, best = max(areas.items(), key=lambda item: item[1].low)
    return [Finding(best, f"The {name} of an image alone tells the classes with AUROC {_of(best)}, without the model.")]


def _oriented(evidence: Evidence, values: np.ndarray) -> Estimate:
    """Return the AUROC of a feature for the last class against the rest, turned to 0.5 or more."""
    K = len(evidence.clf.classes_)
    found = [evidence.ranking(values, evidence.seen.target == k) for k in ([1] if K == 2 else range(K))]
    turned = [one if one.value >= 0.5 else Estimate(1 - one.value, 1 - one.high, 1 - one.low) for one in found]
    return max(turned, key=lambda one: one.value)


def _of_source(evidence: Evidence) -> Estimate:
    """Return the AUROC of the share of a class among the other patients of the same source."""
    seen, sources = evidence.seen, evidence.sources[evidence.seen.index]  # type: ignore[index]
    positive = (seen.target == len(evidence.clf.classes_) - 1).astype(float)
    shares = np.full(len(positive), positive.mean())
    for row, source in enumerate(sources):
        others = (sources == source) & (seen.patient != seen.patient[row])
        if others.any():
            shares[row] = positive[others].mean()
    return evidence.ranking(shares, positive == 1)


def _of(found: Estimate) -> str:
    return "undefined" if np.isnan(found.value) else f"{found.value:.2f}"
