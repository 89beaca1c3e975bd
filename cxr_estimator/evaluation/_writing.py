"""The tables of a report as text, Markdown and HTML: the same ones in each."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from cxr_estimator._outputs import Task
from cxr_estimator.evaluation._figures import FIGURES
from cxr_estimator.evaluation.plots import PLOTS, draw, plots_of
from cxr_estimator.statistics import Estimate

if TYPE_CHECKING:
    from cxr_estimator.evaluation._report import EvaluationReport

TITLE = "Evaluation"
DISCLAIMER = "Research and education only, not a medical device."
_WITHOUT_THRESHOLD, _ALL_LABELS = "Without a threshold", "All labels, each at its operating point"
_SHORT = {"auroc", "auprc", "npv", "f1", "mcc"}
INTERVALS = "Brackets hold 95% intervals over patients."


class Section(NamedTuple):
    """A table of text cells with its title."""

    title: str
    table: pd.DataFrame


def sections(report: EvaluationReport) -> Iterator[Section]:
    """Yield the tables of a report."""
    rows = [(_words(name), _cell(one), FIGURES[name].summary) for name, one in report.overall.items()]
    several = report.task is Task.MULTILABEL
    yield Section(
        _ALL_LABELS if several else _WITHOUT_THRESHOLD, pd.DataFrame(rows, columns=["figure", "value", "meaning"])
    )
    yield Section("Operating points", _points(report))
    for name, one in report.decisions.items():
        table = pd.DataFrame(one.confusion.astype(str), columns=[f"decided {label}" for label in one.classes])
        table.insert(0, "", [f"true {label}" for label in one.classes])
        yield Section(f"Confusion matrix at {name}", table)
    if any(one.transfer for one in report.decisions.values()):
        yield Section("Promised where a point was chosen, and observed here", _transfer(report))
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
    parts += [f"- {_escaped(note)}" for note in report.notes]
    for section in sections(report):
        parts += [f"\n## {_escaped(section.title)}\n", f"{_escaped(report.heading)}\n", _markdown_table(section.table)]
    return "\n".join(parts) + "\n"


def html(report: EvaluationReport) -> str:
    """Return the report as one page, with the pictures inside."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("cxr_estimator", "evaluation")
    page = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    pictures = [(PLOTS[name].title, _png(draw(report, name))) for name in plots_of(report)]
    return page.get_template("report.html.jinja").render(
        title=TITLE,
        summary=_summary(report),
        intervals=INTERVALS,
        disclaimer=DISCLAIMER,
        report=report,
        sections=list(sections(report)),
        pictures=pictures,
    )


def _summary(report: EvaluationReport) -> str:
    return f"{report.n_images} images of {report.n_patients} patients; {report.n_unreadable} unreadable"


def _points(report: EvaluationReport) -> pd.DataFrame:
    """Return a row for each figure and a column for each operating point."""
    found = report.decisions
    names = dict.fromkeys(figure for one in found.values() for figure in one.estimates)
    columns: dict[str, list[str]] = {"figure": ["chosen by", "decides", "from a probability of", *map(_words, names)]}
    for name, one in found.items():
        threshold = "" if one.threshold is None else f"{one.threshold:.3g}"
        label = "" if one.label is None else str(one.label)
        figures = [_cell(one.estimates[figure]) if figure in one.estimates else "" for figure in names]
        columns[f" {name}" if name in columns else name] = [one.rule, label, threshold, *figures]
    table = pd.DataFrame(columns)
    return table[(table.drop(columns="figure") != "").any(axis=1)]


def _classes(report: EvaluationReport) -> pd.DataFrame:
    """Return a row for each of several classes."""
    figures = next(iter(report.per_class.values()))
    rows = [
        (str(label), str(report.support[label]), *map(_cell, found.values()))
        for label, found in report.per_class.items()
    ]
    return pd.DataFrame(rows, columns=["class", "support", *map(_words, figures)])


def _transfer(report: EvaluationReport) -> pd.DataFrame:
    rows = [
        (name, one.figure, _cell(one.promised), _cell(one.observed), _cell(one.gap, sign="+"), one.verdict)
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
        cells = [_cell(Estimate(*row)) for row in ends]
        few = [figure in names.split(", ") for names in found["too_few"]]
        table[_words(figure)] = ["too few patients" if none else cell for cell, none in zip(cells, few, strict=True)]
    return table


def _words(name: Any) -> str:
    """Return a name for people: "macro_auroc" is "macro AUROC"."""
    return " ".join(word.upper() if word in _SHORT else word for word in str(name).split("_")).replace("brier", "Brier")


def _cell(one: Estimate, sign: str = "") -> str:
    """Return "0.912 (0.880 to 0.940)", "undefined", or without brackets where there is no interval."""
    if np.isnan(one.value):
        return "undefined"
    if np.isnan(one.low) or one.low == one.high:
        return f"{one.value:{sign}.3f}"
    return f"{one.value:{sign}.3f} ({one.low:{sign}.3f} to {one.high:{sign}.3f})"


def _escaped(text: str) -> str:
    """Return text in which no character means anything to Markdown or HTML, in one line."""
    plain = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#~])", r"\\\1", plain)


def _markdown_table(table: pd.DataFrame) -> str:
    rows = [table.columns.astype(str).tolist(), *table.to_numpy().tolist()]
    head, *body = [[_escaped(cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *body))


def _png(figure: Any) -> str:
    """Return a picture as base64."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return base64.b64encode(buffer.getvalue()).decode("ascii")
