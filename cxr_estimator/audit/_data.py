"""Checks of the data that a model is judged on."""

from __future__ import annotations

import numpy as np

from cxr_estimator._outputs import Task
from cxr_estimator.audit._evidence import UNDEFINED, Evidence
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
    return [Finding(_share(len(wrong), n), said)]


def seen_in_training(evidence: Evidence) -> list[Finding]:
    """Share of the images here that trained the model or chose its epoch, as samples of those go."""
    provenance = evidence.clf.provenance_
    if provenance is None:
        return [Finding(UNDEFINED, "The model does not know which images it was trained on.")]
    sides = [one for one in (provenance.training, provenance.validation) if one is not None]
    ids, known = evidence.seen.content_ids, sum(len(one.fingerprint) for one in sides)
    shares = [share_seen(one.fingerprint, ids) for one in sides]
    counts = [round(share * len(one.fingerprint)) for share, one in zip(shares, sides, strict=True)]
    # each one of a sample stands for as many
    parts = [
        np.array(_share(count, len(one.fingerprint))) * one.n_images for count, one in zip(counts, sides, strict=True)
    ]
    found = Estimate(*np.minimum(np.sum(parts, axis=0) / len(ids), 1.0).tolist())
    said = (
        f"Of a sample of {known} of the {sum(one.n_images for one in sides)} images that trained the model or chose "
        f"its epoch {sum(counts)} are among these, pixel by pixel"
    )
    said += f": as the sample goes, {found.value:.0%} of these images were seen before." if sum(counts) else "."
    return [Finding(found, said)]


def patient_overlap(evidence: Evidence) -> list[Finding]:
    """Share of the patients that are also among those that the model was trained on, where these are given."""
    if evidence.shared_patients is None:
        return [Finding(UNDEFINED, "The patients of the training images were not given (training_groups).")]
    shared = evidence.shared_patients
    said = f"{int(shared.sum())} of {len(shared)} patients are among those of the training images, too."
    return [Finding(_share(int(shared.sum()), len(shared)), said)]


def label_order(evidence: Evidence) -> list[Finding]:
    """AUROC; below 0.5 the labels, or their order, are turned round."""
    found = evidence.auroc(evidence.seen.logits)
    said = f"The model tells the classes with AUROC {found.value:.2f}."
    if found.high < 0.5:
        said += " It ranks them the wrong way round: the labels, or their order, are probably exchanged."
    return [Finding(found, said)]


def prevalence(evidence: Evidence) -> list[Finding]:
    """Largest difference of the share of a class from that in training."""
    provenance, n = evidence.clf.provenance_, len(evidence.seen.target)
    if provenance is None or evidence.clf.task_ is Task.MULTILABEL:
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
