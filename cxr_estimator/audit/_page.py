"""The page of a report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cxr_estimator._pages import fragment, page
from cxr_estimator._wording import cell
from cxr_estimator.audit._checks import passes
from cxr_estimator.audit._types import FAMILIES, AuditCheck
from cxr_estimator.statistics import Estimate

if TYPE_CHECKING:
    from markupsafe import Markup

    from cxr_estimator.audit._report import AuditReport

_TITLES = {
    "shortcuts": "Shortcuts: does it decide by what tells nothing of the disease",
    "maps": "Heat maps: do they tell what the model does",
    "data": "Data: can these images judge it",
    "model": "Model: does it keep here what it promised",
}


def html(report: AuditReport) -> str:
    """Return one HTML page that needs no other file."""
    return page("Audit of a chest-radiograph classifier", body(report))


def body(report: AuditReport, *, level: int = 2) -> Markup:
    """Return what a page holds of it, under headings of a level."""
    families = {_TITLES[name]: [one for one in report.checks if one.family == name] for name in FAMILIES}
    return fragment(
        "audit/body.html.jinja",
        report=report,
        families={title: found for title, found in families.items() if found},
        estimate=_estimate,
        passes=passes,
        level=level,
    )


def _estimate(one: AuditCheck) -> str:
    return cell(Estimate(one.value, *one.interval))
