"""The page of a report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from cxr_estimator._figure_style import method_title
from cxr_estimator._heat_table import plot_benchmark
from cxr_estimator._outputs import Task
from cxr_estimator._pages import fragment, page
from cxr_estimator._wording import DISCLAIMER, SHOWS_RADIOGRAPHS, number_of, words
from cxr_estimator.audit import _page as audit_page
from cxr_estimator.card._facts import Table
from cxr_estimator.card._tables import explanations_table
from cxr_estimator.evaluation import FIGURES
from cxr_estimator.evaluation import _writing as evaluation_page
from cxr_estimator.explanation import Explanation
from cxr_estimator.figures import decision, overlay, rgb
from cxr_estimator.metrics import METRICS
from cxr_estimator.report._curves import training_curves
from cxr_estimator.report._points import per_thousand
from cxr_estimator.report._summary import audited, headline, model_and_images, reading
from cxr_estimator.verdicts import WITHHOLD

if TYPE_CHECKING:
    from cxr_estimator.audit import AuditReport
    from cxr_estimator.report._examples import Examples
    from cxr_estimator.report._report import ModelReport

SECTIONS = {
    "summary": "Summary",
    "data": "Data",
    "training": "Training",
    "evaluation": "Evaluation",
    "operating-points": "Operating points",
    "explanations": "Explanations",
    "benchmark": "Benchmark",
    "audit": "Audit",
    "making": "How this page was made",
}
_COLOURS = {  # what they say, by what a map shows
    "signed": "orange spoke for the explained class, violet against it",
    "evidence": "bright places raised the score of the explained class, dark ones had little to do with it",
    "sensitivity": "where it is bright, small changes of the pixels move the score most, for or against",
    "features": "bright places are what the network responds to most, whatever the class",
}
_MEASURES = {  # what the families of metrics ask
    "faithfulness": "does the answer of the model depend on what a map marks?",
    "complexity": "on how small a part of the image does a map rest?",
    "robustness": "does a map stay the same when the image hardly changes?",
    "sanity": "does a map depend on what the network has learnt?",
    "localisation": "does a map lie where the truth does?",
    "agreement": "do different maps mark the same places?",
}


class Map(NamedTuple):
    """A heat map on the page: `picture` is None where it is withheld, verdict and sentence where it was not checked."""

    method: str
    verdict: str | None
    sentence: str | None
    picture: np.ndarray | None


class Shown(NamedTuple):
    """An image on the page."""

    decision: str
    radiograph: np.ndarray
    maps: list[Map]


class Outcome(NamedTuple):
    """The images of an outcome on the page."""

    title: str
    n_images: int
    images: list[Shown]


def html(report: ModelReport, *, show_images: bool) -> str:
    """Return one HTML page that needs no other file."""
    outcomes = [] if report.explanations is None else list(_outcomes(report, report.explanations))
    shows_radiographs = show_images and bool(outcomes or report.audit is not None)
    body = fragment(
        "report/body.html.jinja",
        report=report,
        facts=report.facts,
        show_images=show_images,
        contents=SECTIONS,
        sentences=[model_and_images(report), audited(report)],
        headline=headline(report),
        number_of=number_of,
        reading=reading(report),
        frame=_frame,
        curves=training_curves(report.facts.histories),
        evaluation=evaluation_page.body(report.evaluation, level=3, points=False),
        points=_points(report),
        figures=_meanings(report),
        outcomes=outcomes,
        shows_radiographs=shows_radiographs,
        explained=None
        if report.explanations is None
        else next(iter(report.explanations.explanations.values())).target[0],
        colours={} if report.explanations is None else _colours(report.explanations),
        benchmark=None if report.benchmark is None else _benchmark(report.benchmark),
        audit=None if report.audit is None else _audit(report.audit, show_images=show_images),
    )
    disclaimer = SHOWS_RADIOGRAPHS if shows_radiographs else DISCLAIMER
    return page(f"Report on a model. {report.facts.title}", body, disclaimer)


def _frame(table: Table) -> pd.DataFrame:
    return pd.DataFrame(list(map(list, table.rows)), columns=list(table.head))


def _points(report: ModelReport) -> dict[str, pd.DataFrame]:
    """Return the tables of the operating points by their titles."""
    titles = {"Operating points": "What each decides"}
    found = [one for one in evaluation_page.sections(report.evaluation) if one.of_points]
    tables = {titles.get(one.title, one.title): one.table for one in found}
    counts = per_thousand(report.evaluation)
    return tables | ({"Of 1,000 images like these": counts} if len(counts) else {})


def _meanings(report: ModelReport) -> dict[str, str]:
    """Return what each figure of the operating points is, by its name for people."""
    names = dict.fromkeys(name for one in report.evaluation.decisions.values() for name in one.estimates)
    return {words(name): FIGURES[name].summary for name in names}


def _outcomes(report: ModelReport, found: Examples) -> Iterator[Outcome]:
    first = _first(found)
    for outcome, n_images in found.counts.items():
        rows = [i for i, one in enumerate(found.outcomes) if one == outcome]
        images = [Shown(_decision(first, i), rgb(_seen(first, i)), list(_maps(found, i))) for i in rows]
        yield Outcome(_title(outcome, report, first), n_images, images)


def _first(found: Examples) -> Explanation:
    return next(iter(found.explanations.values()))


def _title(outcome: str, report: ModelReport, first: Explanation) -> str:
    if report.evaluation.task is Task.MULTICLASS:
        return {"right": "Right decisions", "wrong": "Wrong decisions"}[outcome]
    if report.evaluation.task is Task.MULTILABEL:
        positive = str(first.target[0])
        negative = f"not {positive}"
    else:
        positive = str(report.evaluation.pos_label)
        negative = next(str(one) for one in report.evaluation.classes if str(one) != positive)
    return {
        "TP": f"True positives: {positive}, and decided so",
        "FN": f"Missed: {positive}, decided {negative}",
        "FP": f"False alarms: {negative}, decided {positive}",
        "TN": f"True negatives: {negative}, and decided so",
    }[outcome]


def _decision(explanation: Explanation, i: int) -> str:
    """Return what was decided, with the probability that the operating point compares."""
    said = explanation.prediction
    if said.threshold is None:
        return decision(explanation, i)
    share = said.proba[i, list(map(str, said.classes)).index(str(said.pos_label))]
    return (
        f"decision: {said.label[i]}; probability of {said.pos_label}: {share:.1%} (counts from {said.threshold:.1%} on)"
    )


def _maps(found: Examples, i: int) -> Iterator[Map]:
    for method, explanation in found.explanations.items():
        card = found.cards[method][i] if method in found.cards else None
        is_withheld = card is not None and card.verdict == WITHHOLD
        picture = None if is_withheld else overlay(explanation, i, opacity=0.75)
        yield Map(
            method, None if card is None else card.verdict, None if card is None else _why(card.sentence), picture
        )


def _why(sentence: str) -> str:
    """Return the sentence of a card without the verdict, which stands before it."""
    first, _, rest = sentence.partition(". ")
    return rest if rest and ("withheld" in first or "shown" in first) else sentence


def _seen(explanation: Explanation, i: int) -> Any:
    return explanation.images[i] if explanation.images is not None else np.zeros((1, 1), np.uint8)


def _colours(found: Examples) -> dict[str, str]:
    return {
        method_title(name): _COLOURS["signed" if one.signed else one.shows] for name, one in found.explanations.items()
    }


def _benchmark(table: pd.DataFrame) -> dict[str, Any]:
    """Return the table with the seconds, what each metric is, and the picture."""
    found = explanations_table(table)
    frame = _frame(found["table"])
    rows = table[table["bucket"] == "all"]
    if "seconds_per_image" in rows:
        seconds = rows.drop_duplicates("method")["seconds_per_image"]
        frame["seconds per map"] = [f"{one:.2g}" for one in seconds]
    measures: dict[str, list[str]] = {}
    for name in dict.fromkeys(rows["metric"]):
        if name in METRICS:
            measures.setdefault(METRICS[name].family, []).append(words(name))
    meanings = {f"{family} ({', '.join(names)})": _MEASURES[family] for family, names in measures.items()}
    has_gain = bool(rows["is_gain"].any())
    return {
        "table": frame, "on": found["on"], "meanings": meanings, "has_gain": has_gain, "picture": plot_benchmark(table)
    }  # fmt: skip


def _audit(audit: AuditReport, *, show_images: bool) -> Any:
    if not show_images:
        audit = replace(audit, checks=tuple(one._replace(pictures=()) for one in audit.checks))
    return audit_page.body(audit, level=3)
