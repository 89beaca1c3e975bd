"""A comparison as text, Markdown and HTML: the same sections in each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from cxr_estimator._figure_style import method_title
from cxr_estimator._pages import fragment, page, png_file
from cxr_estimator._wording import (
    DISCLAIMER,
    SHOWS_RADIOGRAPHS,
    cell,
    escaped,
    images_of,
    markdown_rows,
    markdown_table,
    number_of,
    printable,
    words,
)
from cxr_estimator.comparison._explanations import agreement_words
from cxr_estimator.comparison._pairs import Pair
from cxr_estimator.statistics import Estimate
from cxr_estimator.verdicts import SIGNS

if TYPE_CHECKING:
    from markupsafe import Markup

    from cxr_estimator.comparison._report import ModelComparison, Shown

TITLE = "Models compared"
_FIGURES = (
    "auroc", "macro_auroc", "auprc", "brier", "calibration_error", "sensitivity", "specificity", "precision", "npv",
    "accuracy", "balanced_accuracy",
)  # fmt: skip
_MOST_FLIPS = 30  # rows of a table
INTERVALS = "Brackets hold 95% intervals over patients."


class Section(NamedTuple):
    """A part of the page: tables with words before them, and images with what to verify."""

    title: str
    tables: tuple[tuple[str, pd.DataFrame], ...] = ()
    shown: tuple[Shown, ...] = ()


def sections(report: ModelComparison) -> Iterator[Section]:
    """Yield the parts."""
    if _has_figures(report):
        yield Section("How well each model does", ((_heading(report), _figures(report)),))
    for pair in report.pairs:
        tables = () if len(report.images) == 1 else tuple(_tables(report, pair))
        yield Section(" and ".join(pair.names), tables, _shown(report, pair))


def text(report: ModelComparison) -> str:
    """Return it for a terminal, without checklists."""
    parts = [_summary(report), *(f"- {note}" for note in report.notes)]
    if _has_figures(report):
        parts += ["", _heading(report), _figures(report).to_string(index=False)]
    for pair in report.pairs:
        parts += ["", f"{pair.names[0]} beside {pair.names[1]}:", *(f"  {line}" for line in _lines(report, pair))]
    return "\n".join([*parts, "", DISCLAIMER])


def _lines(report: ModelComparison, pair: Pair) -> Iterator[str]:
    """Yield what to tell of two models on a terminal."""
    if len(report.images) == 1:
        yield from _shown(report, pair)[0].sentences
        return
    first, second = pair.names
    yield _decisions(pair)
    for one in pair.tests:
        p = "" if math.isnan(one.p_value) else f", p = {one.p_value:.3g}"
        less = f"{_named(one.figure)} of {first} less that of {second}: {cell(one.difference, '+')}"
        yield f"{less}{p}: {one.words}"
    alike = "; ".join(f"{title[:1].lower()}{title[1:]} {cell(one)}" for one, (title, _) in _agreement(pair))
    yield f"{_maps(report)}: {alike}"


def markdown(report: ModelComparison) -> str:
    """Return it in Markdown (GitHub's tables), without pictures."""
    parts = [f"# {TITLE}", f"{escaped(_summary(report))}. {DISCLAIMER}"]
    parts += ["\n".join(f"- {escaped(note)}" for note in report.notes)] if report.notes else []
    for section in sections(report):
        parts += [f"## {escaped(section.title)}"]
        for caption, table in section.tables:
            parts += [escaped(caption), *([markdown_table(table)] if len(table) else [])]
        for one in section.shown:
            rows = [(item.name, f"{SIGNS[item.verdict]} {item.verdict}", item.sentence) for item in one.items]
            parts += [f"### {escaped(_image(report, one))}", *map(escaped, one.sentences)]
            parts += [markdown_rows(("to verify", "verdict", "what was found"), rows)]
    return printable("\n\n".join(parts) + "\n")


def html(report: ModelComparison, drawn: Mapping[str, bytes] | None = None) -> str:
    """Return it as one page, with the pictures inside."""
    return page(TITLE, body(report, drawn=drawn), SHOWS_RADIOGRAPHS)


def body(report: ModelComparison, *, level: int = 2, drawn: Mapping[str, bytes] | None = None) -> Markup:
    """Return what a page holds of it, under headings of a level; the page must say that it shows radiographs."""
    return fragment(
        "comparison/body.html.jinja",
        summary=_summary(report),
        notes=report.notes,
        sections=list(sections(report)),
        drawn=pictures(report) if drawn is None else drawn,
        image=lambda one: _image(report, one),
        level=level,
    )


def pictures(report: ModelComparison) -> dict[str, bytes]:
    """Return the six panels of the images whose maps are least alike, as PNG files by name."""
    return {one.figure: png_file(report.plot(one.row, one.names)) for one in report.least_alike}


def _summary(report: ModelComparison) -> str:
    if len(report.images) == 1:
        return f"{len(report.explanations)} models on one image"
    unreadable = f"; {report.n_unreadable} more could not be read" if report.n_unreadable else ""
    return f"{len(report.explanations)} models on {images_of(len(report.images), report.n_patients)}{unreadable}"


def _shown(report: ModelComparison, pair: Pair) -> tuple[Shown, ...]:
    return tuple(one for one in report.least_alike if one.names == pair.names)


def _image(report: ModelComparison, one: Shown) -> str:
    which = "The image" if len(report.images) == 1 else f"Image {one.position}"
    return which if one.label is None else f"{which}, in truth {one.label}"


def _decisions(pair: Pair) -> str:
    kappa = "undefined, as both always decide the same class" if math.isnan(pair.kappa) else f"{pair.kappa:.2f}"
    return f"Both decide the same of {_percent(pair.same_decision)} of the images; Cohen's kappa {kappa}."


def _maps(report: ModelComparison) -> str:
    """Return which maps are compared."""
    whose, explanation = next(iter(report.explanations.items()))
    drawn = ", drawn at random," if len(explanation) < len(report.images) else ""
    number = f"{number_of(len(explanation), 'image')}{drawn}"
    return f"Maps by {method_title(explanation.method)} of {number} for the class that {whose} decides"


def _tables(report: ModelComparison, pair: Pair) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield tests, flips and agreement of the maps, each with the words before it."""
    first, second = pair.names
    rows: list[tuple[str, ...]] = [
        (_named(one.figure), cell(one.difference, "+"), _p_value(one.p_value), one.words) for one in pair.tests
    ]
    if rows:
        n_tests = sum(len(one.tests) for one in report.pairs)
        yield (
            "Tests by patient: DeLong's of areas, McNemar's exact one of the rest. Where nothing differs one of twenty "
            f"p-values is below 0.05 all the same; they are not adjusted for there being {n_tests} of them.",
            pd.DataFrame(rows, columns=["figure", f"{first} less {second}", "p", "in words"]),
        )
    flips = report.flips(first, second).sort_values("n_images", ascending=False, kind="stable")
    more = f" The {_MOST_FLIPS} most frequent kinds are shown." if len(flips) > _MOST_FLIPS else ""
    named = {"label": "in truth", "n_images": "images", "right": "right is"}
    named |= {f"decision {name}": f"{name} decides" for name in pair.names}
    flipped = f"{int(flips['n_images'].sum())} of {len(report.images)} images are decided differently"
    yield f"{_decisions(pair)} {flipped}.{more}", flips[:_MOST_FLIPS].rename(columns=named).astype(str)
    rows = [(title, cell(one), said) for one, (title, said) in _agreement(pair)]
    yield (
        f"{_maps(report)}; those least alike are shown below.",
        pd.DataFrame(rows, columns=["agreement", "mean", "meaning"]),
    )


def _has_figures(report: ModelComparison) -> bool:
    return bool(report.reports) and len(report.images) > 1


def _heading(report: ModelComparison) -> str:
    first = next(iter(report.reports.values()))
    return f"{_capital(first.heading)}. {INTERVALS}"


def _agreement(pair: Pair) -> list[tuple[Estimate, tuple[str, str]]]:
    return [(one, agreement_words(name)) for name, one in pair.maps.items()]


def _figures(report: ModelComparison) -> pd.DataFrame:
    """Return a row for each figure and a column for each model."""
    metrics = {name: one.metrics for name, one in report.reports.items()}
    first = next(iter(report.reports.values()))
    classes = [f"{figure}_{label}" for label in first.per_class for figure in ("auroc", "recall")]
    rows = [name for name in (*_FIGURES, *classes) if name in next(iter(metrics.values()))]
    titles = [_named(name.replace("_", " ", 1)) if name in classes else words(name) for name in rows]
    table = pd.DataFrame({name: [cell(found[row]) for row in rows] for name, found in metrics.items()})
    table.insert(0, "figure", titles, allow_duplicates=True)
    if first.threshold is not None:
        limits = [f"{one.threshold:.3g}" for one in report.reports.values()]
        table.loc[len(table)] = [f"{first.pos_label} from a probability of", *limits]
    return table


def _named(figure: str) -> str:
    """Return the name of a figure for people, that of its class left as it is."""
    name, *label = figure.split(" ", 1)
    return " ".join([words(name), *label])


def _percent(one: Estimate) -> str:
    between = "" if math.isnan(one.low) else f" ({one.low:.1%} to {one.high:.1%})"
    return f"{one.value:.1%}{between}"


def _p_value(p: float) -> str:
    if math.isnan(p):
        return "undefined"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _capital(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"
