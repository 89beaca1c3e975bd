"""Checks of the data that a model is judged on."""

from __future__ import annotations

import numpy as np

from cxr_estimator._operating import origins
from cxr_estimator.audit._evidence import UNDEFINED, Evidence
from cxr_estimator.audit._pictures import contradicted, shown
from cxr_estimator.audit._types import Finding
from cxr_estimator.fingerprints import share_seen
from cxr_estimator.statistics import Estimate, wilson


def duplicates(evidence: Evidence) -> list[Finding]:
    """Share of the images that are there again under another patient or another label."""
    doubles = evidence.doubles
    differ = [name for name in ("labels_differ", "patients_differ") if name in doubles]
    wrong = doubles[doubles[differ].any(axis=1)] if differ else doubles
    wrong = doubles if not evidence.knows_patients else wrong
    n = len(evidence.seen.target)
    where = "under other patients or labels" if evidence.knows_patients else "(patients are unknown)"
    said = f"{len(wrong)} of {n} images are there more than once {where}: the same picture, maybe changed a little."
    pictures = shown(evidence, wrong["position"], "it is there more than once.")
    return [Finding(_share(len(wrong), n), said, pictures=pictures)]


def seen_in_training(evidence: Evidence) -> list[Finding]:
    """Share of the images here that trained the model, or chose or calibrated something, as samples of those go."""
    found, ids = [], evidence.seen.content_ids
    for what, origin in origins(evidence.clf).items():
        sample = len(origin.fingerprint)
        count = round(share_seen(origin.fingerprint, ids) * sample)
        here = (origin.n_images or sample) / len(ids)  # images here for each one of theirs
        share = Estimate(*(min(1.0, one * here) for one in _share(count, sample)))
        said = f"Of a sample of {sample} of the images that {what} {count} are among these, pixel by pixel"
        said += f": as it goes, {share.value:.0%} of the images here were seen before." if count else "."
        again = [row for row, one in enumerate(ids) if share_seen(origin.fingerprint, [one])]
        found.append(Finding(share, said, pictures=shown(evidence, again, f"it is among those that {what}.")))
    return found or [Finding(UNDEFINED, "The model does not know which images it was trained on.")]


def patient_overlap(evidence: Evidence) -> list[Finding]:
    """Share of the patients that are also among those that the model was trained on, where these are given."""
    if evidence.shared_patients is None:
        return [Finding(UNDEFINED, "The patients were not given, here (groups) or of the training (training_groups).")]
    shared = evidence.shared_patients
    said = f"{int(shared.sum())} of {len(shared)} patients are among those of the training images, too."
    theirs = np.flatnonzero(shared[evidence.seen.patient])
    pictures = shown(evidence, theirs, "the model was trained on images of this patient.")
    return [Finding(_share(int(shared.sum()), len(shared)), said, pictures=pictures)]


def label_order(evidence: Evidence) -> list[Finding]:
    """AUROC; below 0.5 the labels, or their order, are turned round."""
    found = evidence.auroc(evidence.seen.logits)
    if np.isnan(found.value):
        return [Finding(found, "Of a class there are too few patients for an AUROC.")]
    said = f"The model tells the classes with AUROC {found.value:.2f}."
    if found.high < 0.5:
        said += " It ranks them the wrong way round: the labels, or their order, are probably exchanged."
    return [Finding(found, said, pictures=contradicted(evidence))]


def prevalence(evidence: Evidence) -> list[Finding]:
    """Largest difference of the share of a class from that in training."""
    provenance, n = evidence.clf.provenance_, len(evidence.seen.target)
    if provenance is None:
        return [Finding(UNDEFINED, "The model does not know the shares of the classes in training.")]
    counts = np.array([one.n_images for one in provenance.training.classes], dtype=float)
    trained, here = counts / counts.sum(), np.bincount(evidence.seen.target, minlength=len(counts)) / n
    k = int(np.abs(here - trained).argmax())
    gap = abs(float(here[k] - trained[k]))
    low, high = wilson(float(here[k]), n)
    ends = sorted(abs(end - float(trained[k])) for end in (low, high))
    inside = low <= trained[k] <= high
    said = f"{evidence.clf.classes_[k]}: {here[k]:.1%} of the images here, {trained[k]:.1%} in training."
    return [Finding(Estimate(gap, 0.0 if inside else ends[0], ends[1]), said)]


def _share(count: int, n: int) -> Estimate:
    """Return a share with Wilson's interval, whose lower end is exactly 0 where there is none."""
    low, high = wilson(count / n, n)
    return Estimate(count / n, low if count else 0.0, high)
