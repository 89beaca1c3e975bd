"""The tables of a report as text, Markdown and HTML: the same ones in each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from cxr_estimator._outputs import Task
from cxr_estimator._pages import fragment, page
from cxr_estimator._wording import DISCLAIMER, cell, escaped, markdown_table, words
from cxr_estimator.evaluation._figures import FIGURES
from cxr_estimator.evaluation.plots import PLOTS, draw, plots_of
from cxr_estimator.statistics import Estimate

if TYPE_CHECKING:
    from markupsafe import Markup

    from cxr_estimator.evaluation._report import EvaluationReport

TITLE = "Evaluation"
_WITHOUT_THRESHOLD, _ALL_LABELS = "Without a threshold", "All labels, each at its operating point"
INTERVALS = "Brackets hold 95% intervals over patients."


class Section(NamedTuple):
    """A table of text cells with its title; `of_points` where it is about operating points."""

    title: str
    table: pd.DataFrame
    of_points: bool = False


def sections(report: EvaluationReport) -> Iterator[Section]:
    """Yield the tables of a report."""
    rows = [(words(name), cell(one), FIGURES[name].summary) for name, one in report.overall.items()]
    several = report.task is Task.MULTILABEL
    yield Section(
        _ALL_LABELS if several else _WITHOUT_THRESHOLD, pd.DataFrame(rows, columns=["figure", "value", "meaning"])
    )
    yield Section("Operating points", _points(report), of_points=True)
    for name, one in report.decisions.items():
        table = pd.DataFrame(one.confusion.astype(str), columns=[f"decided {label}" for label in one.classes])
        table.insert(0, "", [f"true {label}" for label in one.classes])
        yield Section(f"Confusion matrix at {name}", table, of_points=True)
    if any(one.transfer for one in report.decisions.values()):
        yield Section("Promised where a point was chosen, and observed here", _transfer(report), of_points=True)
    if report.per_class:
        yield Section("Classes", _classes(report))
    if len(report.subgroups):
        yield Section("Subgroups", _subgroups(report.subgroups))


def text(report: EvaluationReport) -> str:
    """Return the report for a terminal."""
    parts = [_summary(report), report.heading, INTERVALS, *report.notes]
    for section in sections(report):
        table = section.table
        if section.title in (_WITHOUT_THRESHOLD, _ALL_LABELS):  # lines of a terminal are short
            table = table.drop(columns="meaning")
        parts += ["", section.title, report.heading, table.to_string(index=False)]
    return "\n".join(parts)


def markdown(report: EvaluationReport) -> str:
    """Return the report in Markdown (GitHub's tables)."""
    parts = [f"# {TITLE}\n", f"{_summary(report)}. {INTERVALS} {DISCLAIMER}\n"]
    parts += [f"- {escaped(note)}" for note in report.notes]
    for section in sections(report):
        parts += [f"\n## {escaped(section.title)}\n", f"{escaped(report.heading)}\n", markdown_table(section.table)]
    return "\n".join(parts) + "\n"


def html(report: EvaluationReport) -> str:
    """Return the report as one page, with the pictures inside."""
    return page(TITLE, body(report))


def body(report: EvaluationReport, *, level: int = 2, points: bool = True) -> Markup:
    """Return what a page holds of it, under headings of a level, with or without the tables of operating points."""
    return fragment(
        "evaluation/body.html.jinja",
        summary=_summary(report),
        intervals=INTERVALS,
        report=report,
        sections=[one for one in sections(report) if points or not one.of_points],
        pictures=[(PLOTS[name].title, draw(report, name)) for name in plots_of(report)],
        level=level,
    )


def _summary(report: EvaluationReport) -> str:
    return f"{report.n_images} images of {report.n_patients} patients; {report.n_unreadable} unreadable"


def _points(report: EvaluationReport) -> pd.DataFrame:
    """Return a row for each figure and a column for each operating point."""
    found = report.decisions
    names = dict.fromkeys(figure for one in found.values() for figure in one.estimates)
    columns: dict[str, list[str]] = {"figure": ["chosen by", "decides", "from a probability of", *map(words, names)]}
    for name, one in found.items():
        threshold = "" if one.threshold is None else f"{one.threshold:.3g}"
        label = "" if one.label is None else str(one.label)
        figures = [cell(one.estimates[figure]) if figure in one.estimates else "" for figure in names]
        columns[f" {name}" if name in columns else name] = [one.rule, label, threshold, *figures]
    table = pd.DataFrame(columns)
    return table[(table.drop(columns="figure") != "").any(axis=1)]


def _classes(report: EvaluationReport) -> pd.DataFrame:
    """Return a row for each of several classes."""
    figures = next(iter(report.per_class.values()))
    rows = [
        (str(label), str(report.support[label]), *map(cell, found.values()))
        for label, found in report.per_class.items()
    ]
    return pd.DataFrame(rows, columns=["class", "support", *map(words, figures)])


def _transfer(report: EvaluationReport) -> pd.DataFrame:
    rows = [
        (
            name,
            one.figure,
            cell(one.promised),
            cell(one.observed),
            cell(one.gap, sign="+"),
            one.verdict,
        )
        for name, decisions in report.decisions.items()
        for one in decisions.transfer
    ]
    columns = ["operating point", "figure", "promised", "observed", "gap", "verdict"]
    return pd.DataFrame(rows, columns=columns)


def _subgroups(found: pd.DataFrame) -> pd.DataFrame:
    """Return the table with each figure and its interval in one cell."""
    table = found[["subgroup", "value"]].astype(str)
    table["images"], table["patients"] = found["n_images"].astype(str), found["n_patients"].astype(str)
    if "prevalence" in found:
        table["prevalence"] = [f"{share:.1%}" for share in found["prevalence"]]
    for figure in [str(name).removesuffix("_low") for name in found if str(name).endswith("_low")]:
        ends = found[[figure, f"{figure}_low", f"{figure}_high"]].to_numpy()
        cells = [cell(Estimate(*row)) for row in ends]
        few = [figure in names.split(", ") for names in found["too_few"]]
        table[words(figure)] = ["too few patients" if none else one for one, none in zip(cells, few, strict=True)]
    return table
