"""Findings as text, Markdown and HTML: the same words and tables in each."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pandas as pd

from cxr_estimator._figure_style import method_title
from cxr_estimator._pages import fragment, page
from cxr_estimator._wording import DISCLAIMER, SHOWS_RADIOGRAPHS, escaped, images_of, markdown_table, words
from cxr_estimator.findings._buckets import FIGURES, Bucket, Difference, figure_cell
from cxr_estimator.findings._describing import WORDS
from cxr_estimator.statistics import FEWEST_PATIENTS
from cxr_estimator.verdicts import SIGNS

if TYPE_CHECKING:
    from markupsafe import Markup

    from cxr_estimator.findings._report import Findings

TITLE = "Findings"
_WEIGHT = {
    "evidence": "what in it speaks for the explained class",
    "sensitivity": "how much small changes of the pixels move the score, in either direction",
    "features": "what the network responds to, the same for every class",
}
_READ = (
    "Images were drawn at random, not chosen. Places are told by the lungs as far as they were found (blue outline; "
    "green: what is called the diaphragm, their lower edge), and no finer than the map: of many networks a cell of "
    "Grad-CAM is as large as a heart. That a map lies somewhere says that the model responds there, not why."
)
_HYPOTHESES = (
    "What the maps suggest is a guess until something tests it. The audit changes images and looks whether decisions "
    "follow, on all images, not on those of a bucket alone: supported means that the model does so, contradicted that "
    "it does not beyond what the check allows, undecided that the interval leaves both open."
)
_NO_HYPOTHESES = "The maps of no bucket show a pattern that suggests one beyond chance."


def summary(report: Findings) -> str:
    """Return what was looked at, in two sentences."""
    unreadable = f" ({report.n_unreadable} more could not be read)" if report.n_unreadable else ""
    explained = {"predicted": "what the model decided", "margin": "the margin to the operating point"}
    positive = "" if report.positive is None else f"; {report.positive} is the positive label"
    return (
        f"{images_of(report.n_images, report.n_patients)}{unreadable}; classes {', '.join(report.classes)}{positive}. "
        f"Each map ({method_title(report.method)}) explains {explained.get(report.target, report.target)}; its weight "
        f"is {_WEIGHT[report.shows]}."
    )


def standing_out(report: Findings) -> list[str]:
    """Return sentences on how wrong decisions differ from right ones."""
    said = [one.summary(report.n_images) for one in report.buckets if not one.n_in_all]
    said += [one.sentence for one in report.differences if one.is_sure]
    pairs: dict[tuple[str, str], list[Difference]] = {}
    for one in report.differences:
        pairs.setdefault((one.bucket, one.reference), []).append(one)
    named = {one.name: one for one in report.buckets}
    for (first, second), found in pairs.items():
        own, reference = named[first], named[second]
        if min(own.n_patients, reference.n_patients) < FEWEST_PATIENTS:
            said.append(
                f"{own.title.capitalize()} ({own.n_explained}) are not compared with {reference.title} "
                f"({reference.n_explained}): that takes {FEWEST_PATIENTS} patients on each side."
            )
        elif not any(each.is_sure for each in found):
            title = own.title.capitalize()
            said.append(f"{title} differ from {reference.title} in nothing that chance does not explain.")
    said += [_not_compared(one, named["TP"]) for one in report.buckets if _explains_other(one, report)]
    n = sum(not math.isnan(one.p_value) for one in report.differences)
    if n > 1:
        said.append(f"p-values are corrected for all {n} comparisons (Holm), intervals are not: this explores.")
    return said


def _explains_other(bucket: Bucket, report: Findings) -> bool:
    compared = {one.bucket for one in report.differences}
    return bucket.name in ("FP", "FN") and bucket.n_explained > 0 and bucket.name not in compared


def _not_compared(one: Bucket, other: Bucket) -> str:
    if not other.n_explained:
        return f"There are no maps of {other.title} to compare those of {one.title} with."
    return (
        f"{one.title.capitalize()} are not compared with {other.title}: their maps explain {', '.join(one.explained)}, "
        f"those of {other.title} {', '.join(other.explained)}."
    )


def figures_table(report: Findings) -> pd.DataFrame:
    """Return a row for each figure and word, and a column for each bucket that has maps."""
    columns: dict[str, list[str]] = {"": ["maps", *FIGURES.values()]}
    columns[""] += [f"{words(kind)}: {word}" for kind, word in _words(report)]
    for one in (each for each in report.buckets if each.n_explained):
        counts = [one.counts.get(kind, {}).get(word, 0) for kind, word in _words(report)]
        figures = [figure_cell(name, one.figures[name]) for name in FIGURES]
        columns[one.title] = [str(one.n_explained), *figures, *(f"{count} of {one.n_explained}" for count in counts)]
    return pd.DataFrame(columns)


def _words(report: Findings) -> Iterator[tuple[str, str]]:
    """Yield the words that any map has, by kind."""
    verdicts = sorted({word for one in report.buckets for word in one.counts["verdict"]})
    for kind, known in {**WORDS, "verdict": tuple(verdicts)}.items():
        yield from ((kind, word) for word in known if any(word in one.counts[kind] for one in report.buckets))


def caption(report: Findings, row: int) -> list[str]:
    """Return what is told of one image, in lines."""
    one = report.table.iloc[row]
    of = one["decision"] if report.positive is None else report.positive
    return [
        f"Decided {one['decision']}, true {one['truth']}; probability of {of} {one['probability']:.1%}",
        one["description"],
        f"{SIGNS[one['verdict']]} {one['verdict']}: {one['why']}",
    ]


def hypotheses_table(report: Findings) -> pd.DataFrame:
    """Return a row for each hypothesis."""
    rows = [(one.meaning, one.status, " ".join(one.seen), one.reason) for one in report.hypotheses]
    return pd.DataFrame(rows, columns=["hypothesis", "status", "seen", "what the audit says"])


def text(report: Findings) -> str:
    """Return the report for a terminal."""
    parts = [summary(report), *report.notes, ""]
    for bucket in report.buckets:
        parts += [f"{bucket.title}: {bucket.summary(report.n_images)}"]
        parts += [f"  {report.table['description'].iloc[row]}" for _, row in report.shown(bucket.name)]
    parts += ["", figures_table(report).to_string(index=False), "", *standing_out(report), ""]
    for one in report.hypotheses:
        parts += [f"{one.status}: {one.meaning}", *(f"  {said}" for said in one.seen), f"  {one.reason}"]
    return "\n".join([*parts, *([] if report.hypotheses else [_NO_HYPOTHESES]), "", DISCLAIMER])


def markdown(report: Findings, *, pictures: bool) -> str:
    """Return the report in Markdown (GitHub's tables), with links to pictures beside it or without."""
    parts: list[Any] = [f"# {TITLE}", SHOWS_RADIOGRAPHS if pictures else DISCLAIMER]
    parts += [escaped(summary(report)), *(f"- {escaped(note)}" for note in report.notes)]
    parts += ["## What stands out", *(f"- {escaped(said)}" for said in standing_out(report))]
    parts += ["## What may be behind it", escaped(_HYPOTHESES)]
    parts.append(markdown_table(hypotheses_table(report)) if report.hypotheses else escaped(_NO_HYPOTHESES))
    parts += ["## All maps", markdown_table(figures_table(report)), "## Images", escaped(_READ)]
    for bucket in report.buckets:
        parts += [f"### {escaped(bucket.title.capitalize())}", escaped(bucket.summary(report.n_images))]
        for name, row in report.shown(bucket.name):
            link = f"![radiograph and overlay]({name})\n\n" if pictures else ""
            parts.append(f"{link}{'<br>'.join(escaped(line) for line in caption(report, row))}")
    return "\n\n".join(parts) + "\n"


def html(report: Findings) -> str:
    """Return the report as one page, with the pictures inside."""
    return page(TITLE, body(report), SHOWS_RADIOGRAPHS)


def body(report: Findings, *, level: int = 2) -> Markup:
    """Return what a page holds of it, under headings of a level; it shows radiographs."""
    return fragment(
        "findings/body.html.jinja",
        report=report,
        summary=summary(report),
        standing_out=standing_out(report),
        about_hypotheses=_HYPOTHESES,
        no_hypotheses=_NO_HYPOTHESES,
        how_to_read=_READ,
        figures=figures_table(report),
        buckets=[(one, list(_cards(report, one))) for one in report.buckets],
        level=level,
    )


def _cards(report: Findings, bucket: Bucket) -> Iterator[tuple[Any, list[str]]]:
    """Yield the picture and the lines below it of each image that is shown."""
    for _, row in report.shown(bucket.name):
        yield report.picture(row), caption(report, row)
