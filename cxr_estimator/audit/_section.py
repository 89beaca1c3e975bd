"""What a model card says of an audit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cxr_estimator._figure_style import method_title
from cxr_estimator._wording import Markdown, cell, escaped, images_of, markdown_rows
from cxr_estimator.audit._checks import passes
from cxr_estimator.audit._types import FAMILIES, AuditCheck
from cxr_estimator.card import AUDIT_NAME
from cxr_estimator.statistics import Estimate
from cxr_estimator.verdicts import NO_DATA, SIGNS

if TYPE_CHECKING:
    from cxr_estimator.audit._report import AuditReport

_HEAD = ("verdict", "value (95% interval)", "passes", "what was found")
_TITLES = {"maps": "heat maps"}  # of families that are called something else for people
_READ = (
    "A check passes where its value keeps the limit of its row. It fails where the whole 95% interval lies beyond what "
    "is allowed at most, which is a wider limit for most checks; in between it is doubtful. Passing says that nothing "
    "of this was found here, not that the model is right."
)


def section(report: AuditReport) -> Markdown:
    """Return the section as Markdown, without a heading."""
    return Markdown("\n\n".join(_parts(report)))


def _parts(report: AuditReport) -> Iterator[str]:
    unreadable = f"; {report.n_unreadable:,} more could not be read" if report.n_unreadable else ""
    note = "" if report.note is None else f" {escaped(report.note)}"
    yield f"On {images_of(report.n_images, report.n_patients)}{unreadable}.{note}"
    yield f"{escaped(report.summary)} {_READ}"
    maps = [(method_title(name), _signed(one.verdict), one.reason) for name, one in report.maps.items()]
    yield markdown_rows(("heat maps of", "verdict", "why"), maps)
    measured = [one for one in report.checks if one.verdict != NO_DATA]
    for family in FAMILIES:
        rows = [_row(one) for one in measured if one.family == family]
        if rows:
            yield markdown_rows((_TITLES.get(family, family), *_HEAD), rows)
    missing = dict.fromkeys(one.title for one in report.checks if one.verdict == NO_DATA)
    if missing:
        yield f"Not enough data (`{AUDIT_NAME}` says why): {escaped('; '.join(missing))}."


def _row(one: AuditCheck) -> tuple[str, ...]:
    return one.title, _signed(one.verdict), cell(Estimate(one.value, *one.interval)), passes(one), one.sentence


def _signed(verdict: str) -> str:
    return f"{SIGNS[verdict]} {verdict}"
