"""The sentences at the top: what the model is, how good, what the audit says, what must be known before it is used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cxr_estimator._figure_style import method_title
from cxr_estimator._outputs import Task
from cxr_estimator._wording import cell, images_of, number_of, words
from cxr_estimator.card._facts import listed
from cxr_estimator.statistics import FEWEST_PATIENTS, Estimate
from cxr_estimator.verdicts import DOUBTFUL, FAIL, NO_DATA, PASS, WITHHOLD

if TYPE_CHECKING:
    from cxr_estimator.report._report import ModelReport

_FIGURES = {  # of the headline: those without a decision, those of the decisions
    Task.BINARY: (("auroc",), ("sensitivity", "specificity")),
    Task.MULTICLASS: (("macro_auroc",), ("accuracy", "balanced_accuracy")),
    Task.MULTILABEL: (("macro_auroc", "macro_recall"), ()),
}

_MOST_FAILED = 3  # checks that are told one by one


def headline(report: ModelReport) -> dict[str, Estimate]:
    """Return the figures that say most by their names for people."""
    found = report.evaluation
    overall, decided = _FIGURES[found.task]
    figures = {words(name): found.overall[name] for name in overall}
    point, one = next(iter(found.decisions.items()))
    where = "" if found.task is Task.MULTICLASS else f" at “{point}”"
    return figures | {f"{words(name)}{where}": one.estimates[name] for name in decided}


def reading(report: ModelReport) -> str:
    """Return what the figures of the headline mean."""
    task = report.evaluation.task
    auroc = "how often, of two images with and without the label, the one that has it scores higher (by chance 0.5)"
    if task is Task.BINARY:
        rest = (
            "Sensitivity: share of the images with the positive label that are found. Specificity: share of the others "
            "that raise no alarm."
        )
        return f"AUROC: {auroc}. {rest} In brackets 95% intervals over patients."
    of = "classes" if task is Task.MULTICLASS else "labels"
    rest = "" if task is Task.MULTICLASS else " Macro recall: mean over the labels of the share that is found."
    return f"Macro AUROC: {auroc}, as the mean over the {of}.{rest} In brackets 95% intervals over patients."


def sentences(report: ModelReport) -> Iterator[str]:
    """Yield what is said first."""
    yield model_and_images(report)
    figures = "; ".join(f"{name} {cell(one)}" for name, one in headline(report).items())
    yield f"Figures, with 95% intervals over patients: {figures}."
    yield audited(report)


def model_and_images(report: ModelReport) -> str:
    """Return what the model is, and what it was judged on."""
    facts, found = report.facts, report.evaluation
    unread = f"; {number_of(found.n_unreadable, 'more image')} could not be read" if found.n_unreadable else ""
    images = images_of(found.n_images, found.n_patients if facts.patients_known else None)
    return f"{facts.answer} The network: {facts.network}. It was judged on {images}{unread}; {found.heading}."


def audited(report: ModelReport) -> str:
    """Return what the audit says, with what failed; or why there is none."""
    if report.audit is None:
        return f"It was not audited. {report.missing['audit']}"
    failed = report.audit.failed()
    said = [f"Failed: {one.title}. {one.sentence}" for one in failed[:_MOST_FAILED]]
    said += [f"And {number_of(len(failed) - _MOST_FAILED, 'more check')} failed."] * (len(failed) > _MOST_FAILED)
    counts = {name: sum(one.verdict == name for one in report.audit.checks) for name in (DOUBTFUL, PASS, NO_DATA)}
    others = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
    said += [f"{'Other checks' if failed else 'Checks'}: {others}."] * bool(others)
    said += [f"Heat maps by {method_title(name)}: {one.verdict}." for name, one in report.audit.maps.items()]
    return " ".join([f"Verdict of the audit: {report.audit.verdict}.", *said])


def before_use(report: ModelReport) -> Iterator[str]:
    """Yield what must be known before the model is used."""
    facts, found = report.facts, report.evaluation
    if facts.overlaps:
        yield "Some of these images trained, chose or calibrated the model (see Data): the figures are too good."
    if not facts.patients_known:
        yield "Patients are unknown: each image counts as one of its own, which makes the intervals too narrow."
    elif found.n_patients < FEWEST_PATIENTS:
        yield f"It was judged on {number_of(found.n_patients, 'patient')} only: no figure tells much."
    absent = [str(label) for label, share in found.prevalence.items() if not share > 0]
    if absent:
        yield f"No image here is known to be {listed(absent)}: how well it finds that was not seen."
    for name, one in found.decisions.items():
        for check in one.transfer:
            if check.flagged:
                yield (
                    f"At “{name}” {check.figure} is {check.verdict} than promised: {cell(check.observed)} "
                    f"instead of {cell(check.promised)}."
                )
    yield from _of_maps(report)
    if report.made_before:
        were = f"The {' and the '.join(report.made_before)} {'were' if len(report.made_before) > 1 else 'was'}"
        yield f"{were} made before. Nothing tells whether of this model and of these images."
    if facts.calibration is None:
        yield "Its probabilities were not calibrated: read them as scores, and decide by an operating point."
    yield (
        "It was judged on these images only. Other hospitals, devices, ages and views may give other figures; where a "
        "label is rarer than here, fewer of its alarms are right."
    )
    for name, reason in report.missing.items():
        if name != "audit":
            yield f"{name.capitalize()}: none. {reason}"


def _of_maps(report: ModelReport) -> Iterator[str]:
    if report.audit is None:
        yield "It was not audited: whether it looks at the disease, and whether its heat maps tell the truth, is open."
        return
    if report.audit.verdict == FAIL:
        yield "The audit failed: read it before anything else is believed."
    withheld = [method_title(name) for name, one in report.audit.maps.items() if one.verdict == WITHHOLD]
    if withheld:
        yield f"Maps of {', '.join(withheld)} are no evidence of what the model uses: the audit withholds them."
