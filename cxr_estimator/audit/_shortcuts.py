"""Checks for shortcuts: does the model decide by what tells nothing of the disease."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from cxr_estimator.audit._evidence import UNDEFINED, Evidence
from cxr_estimator.audit._pictures import Pictures, pair, shown
from cxr_estimator.audit._types import Finding, Picture
from cxr_estimator.statistics import FEWEST_PATIENTS, Estimate, share_difference

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
        if min(len(np.unique(seen.patient[seen.target == k])) for k in np.unique(seen.target)) < FEWEST_PATIENTS:
            return [Finding(UNDEFINED, f"Of a class there are less than {FEWEST_PATIENTS} patients to exchange with.")]
        other, own = ((after == donor)[known] for after in (with_other, with_own))
        resampling = {"n_resamples": evidence.n_resamples, "random_state": evidence.seed}
        estimate = share_difference(other, own, seen.patient[known], **resampling)
        said = (
            f"Of {known.sum()} images {other.mean():.1%} get another class with {_PARTS[kind]} of an image of that "
            f"class, {own.mean():.1%} with those of an image of their own class: {estimate.value:+.1%} of the "
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
            found.append(Picture(f"a decision that follows {_PARTS[kind]}, before and after.", pair(*changed)))
    return tuple(found)


def border_alone(evidence: Evidence) -> list[Finding]:
    """AUROC of the model on images of which only the border is left, in either order; 0.5 where that tells nothing."""
    found = _turned_up(evidence.auroc(evidence.seen.alone["border_alone"]))
    said = f"From the border alone, all else grey, it tells the classes with AUROC {_of(found)}."
    return [Finding(found, said, pictures=_parts(evidence, "border_alone"))]


def lungs_alone(evidence: Evidence) -> list[Finding]:
    """AUROC of the model on images of which only the lungs are left, lower is worse."""
    logits = evidence.seen.alone["lungs_alone"]
    known = ~np.isnan(logits).any(axis=1)
    found = evidence.auroc(logits)
    said = f"From the lungs alone it tells the classes with AUROC {_of(found)} ({known.sum()} of {len(known)} images"
    said += "; in the others the lungs were not found)."
    return [Finding(found, said, pictures=_parts(evidence, "lungs_alone"))]


def _parts(evidence: Evidence, part: str) -> Pictures:
    known = np.flatnonzero(~np.isnan(evidence.seen.alone[part]).any(axis=1))
    return shown(evidence, known, "what is left of an image.", lambda position: evidence.looking.alone(position, part))


def one_feature(evidence: Evidence) -> list[Finding]:
    """AUROC of each of a few features that show no disease, turned so that it is 0.5 or more."""
    seen, K = evidence.seen, len(evidence.clf.classes_)
    values = {name: [one] * K for name, one in seen.features.items() if np.ptp(one) > 0}
    if evidence.sources is not None:
        values["source"] = [_of_source(evidence, k) for k in range(K)]
    found = []
    for name, of_classes in values.items():
        for k in [1] if K == 2 else range(K):
            area = _turned_up(evidence.ranking(of_classes[k], seen.target == k))
            said = f"The {name} of an image alone tells the classes with AUROC {_of(area)}, without the model."
            ends = np.argsort(of_classes[k], kind="stable")[[0, -1]]
            pictures = shown(evidence, ends, partial(_end, name, ends[0]))
            found += [] if np.isnan(area.low) else [Finding(area, said, pictures=pictures)]
    return found or [Finding(UNDEFINED, "No feature could be compared with the classes.")]


def _end(name: str, least: int, row: int) -> str:
    return f"the image with the {'least' if row == least else 'most'} {name}."


def _of_source(evidence: Evidence, k: int) -> np.ndarray:
    """Return how much larger the share of a class is at an image's source, among patients of other folds."""
    seen, sources = evidence.seen, evidence.sources[evidence.seen.index]  # type: ignore[index]
    positive = seen.target == k
    shares = np.zeros(len(positive))
    fewest = min(len(np.unique(seen.patient[positive == side])) for side in (True, False))
    if fewest < FEWEST_PATIENTS:
        return shares
    splitter = StratifiedGroupKFold(FEWEST_PATIENTS, shuffle=True, random_state=evidence.seed)
    for others, own in splitter.split(shares, positive, seen.patient):
        for source in np.unique(sources[own]):
            known = others[sources[others] == source]
            if len(known):  # beside all others of the fold, so that one source tells nothing
                shares[own[sources[own] == source]] = positive[known].mean() - positive[others].mean()
    return shares


def _turned_up(found: Estimate) -> Estimate:
    """Return an AUROC as that of the opposite order if it is below 0.5."""
    return Estimate(1 - found.value, 1 - found.high, 1 - found.low) if found.value < 0.5 else found


def _of(found: Estimate) -> str:
    return "undefined" if np.isnan(found.value) else f"{found.value:.2f}"
