"""The page of a report."""

from __future__ import annotations

import base64
import io
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from cxr_estimator._figure_style import method_title
from cxr_estimator._wording import DISCLAIMER, cell
from cxr_estimator.audit._checks import passes
from cxr_estimator.audit._types import FAMILIES, AuditCheck
from cxr_estimator.statistics import Estimate
from cxr_estimator.verdicts import SIGNS

if TYPE_CHECKING:
    from cxr_estimator.audit._report import AuditReport

_TITLES = {
    "shortcuts": "Shortcuts: does it decide by what tells nothing of the disease",
    "maps": "Heat maps: do they tell what the model does",
    "data": "Data: can these images judge it",
    "model": "Model: does it keep here what it promised",
}


def page(report: AuditReport) -> str:
    """Return one HTML page that needs no other file."""
    families = {_TITLES[name]: [one for one in report.checks if one.family == name] for name in FAMILIES}
    return str(
        _template().render(
            report=report, families={title: found for title, found in families.items() if found}, disclaimer=DISCLAIMER
        )
    )


@cache
def _template() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("cxr_estimator", "audit")
    pages = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    pages.filters.update(png=_png, estimate=_estimate, passes=passes, method_title=method_title)
    pages.globals.update(signs=SIGNS)
    return pages.get_template("page.html.jinja")


def _estimate(one: AuditCheck) -> str:
    return cell(Estimate(one.value, *one.interval))


def _png(pixels: np.ndarray) -> str:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode("ascii")
