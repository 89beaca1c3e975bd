"""Checks of the model: does it keep here what it promised where it was made."""

from __future__ import annotations

import numpy as np

from cxr_estimator.audit._evidence import UNDEFINED, Evidence
from cxr_estimator.audit._pictures import contradicted, shown
from cxr_estimator.audit._types import Finding
from cxr_estimator.statistics import Estimate, difference, proportion


def auroc_drop(evidence: Evidence) -> list[Finding]:
    """How much lower the AUROC is than on the images that validated the model."""
    provenance = evidence.clf.provenance_
    promised = [] if provenance is None else [one.auroc for one in provenance.validated]
    if len(promised) != 1:
        return [Finding(UNDEFINED, "There is no single AUROC of the validation images to compare with.")]
    here = evidence.auroc(evidence.seen.logits)
    drop = difference(promised[0], here)
    said = f"AUROC {here.value:.3f} here, {promised[0].value:.3f} on the validation images."
    return [Finding(drop, said, pictures=contradicted(evidence))]


def calibration(evidence: Evidence) -> list[Finding]:
    """Measure the expected calibration error beyond what chance alone gives with as many images.

    The interval is by what chance gives: that of the error itself would not cover, see `evaluation`.
    """
    overall = evidence.report.overall
    error, chance = overall["calibration_error"].value, overall["calibration_error_by_chance"]
    beyond = Estimate(error - chance.value, error - chance.high, error - chance.low)
    said = f"The expected calibration error is {error:.3f}; chance alone gives about {chance.value:.3f} of it."
    return [Finding(beyond, said, pictures=contradicted(evidence))]


def transfer(evidence: Evidence) -> list[Finding]:
    """Shortfall of each sensitivity and specificity from what the active operating point promised."""
    active = evidence.clf.active_points_
    gaps = [(name, one) for name in active for one in evidence.report.decisions[name].transfer]
    gaps = [(name, one) for name, one in gaps if not np.isnan(one.gap.low)]
    if not gaps:
        return [Finding(UNDEFINED, "The active operating point promises no sensitivity or specificity.")]
    return [
        Finding(
            Estimate(-one.gap.value, -one.gap.high, -one.gap.low),
            f"“{name}” promised a {one.figure} of {one.promised.value:.1%} and has {one.observed.value:.1%} here.",
            pictures=contradicted(evidence),
        )
        for name, one in gaps
    ]


def ood_share(evidence: Evidence) -> list[Finding]:
    """Share of images that are unlike those of training, beyond the false alarms that were asked for."""
    if evidence.clf.ood_ is None:
        return [Finding(UNDEFINED, "The model cannot tell whether an image is unlike those of its training.")]
    check = evidence.unusual
    options = {"n_resamples": evidence.n_resamples, "random_state": evidence.seed}
    share = proportion(check.is_unusual, evidence.seen.patient, **options)
    rate = check.false_alarm_rate
    said = f"{share.value:.1%} of the images are unlike those of training; {rate:.0%} are called so by mistake."
    strangest = np.argsort(-check.score, kind="stable")[: int(np.sum(check.is_unusual))]
    pictures = shown(evidence, strangest, lambda row: f"unlike those of training in its {check.reason[row]}.")
    return [Finding(Estimate(*(one - rate for one in share)), said, pictures=pictures)]


def subgroup_gap(evidence: Evidence) -> list[Finding]:
    """Gap of the AUROC of each subgroup to that of all others."""
    seen, found = evidence.seen, []
    for name, values in evidence.subgroups.items():
        here = values[seen.index]
        for value in np.unique(here):
            inside = here == value
            others, own = (evidence.auroc(np.where(rows[:, None], seen.logits, np.nan)) for rows in (~inside, inside))
            if not np.isnan([others.low, own.low]).any():
                said = f"AUROC {own.value:.3f} for {name} {value}, {others.value:.3f} for the others."
                found.append(Finding(difference(others, own), said, pictures=contradicted(evidence, inside)))
    return found or [Finding(UNDEFINED, "No subgroups with enough patients of each class were given.")]
