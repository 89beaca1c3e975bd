"""The picture of a model card: how well probabilities agree with what was observed."""

from __future__ import annotations

import io
import itertools
from typing import TYPE_CHECKING, Any

from cxr_estimator._figure_style import DPI, LINES, bare, legend_name
from cxr_estimator._reliability import TITLE, Line, draw_reliability, new_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cxr_estimator.evaluation import EvaluationReport
    from cxr_estimator.provenance import Provenance


def calibration_picture(clf: Any, evaluation: EvaluationReport | None) -> bytes | None:
    """Return a PNG file of 840 x 690 pixels, the same for the same model; None where nothing was observed.

    It is of the images of the evaluation, else of those of the internal validation split, before any calibration. The
    members of an ensemble have a split each, and so there is none for the whole.
    """
    members = clf._members()
    seen: Provenance | None = members[0].provenance_ if len(members) == 1 else None
    if evaluation is None and (seen is None or not any(one.reliability for one in seen.validated)):
        return None
    import matplotlib.style

    buffer = io.BytesIO()
    with matplotlib.style.context("default"):  # whatever the user has set
        figure = _of_validation(clf, seen) if evaluation is None else evaluation.plot("reliability")
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})  # no version of matplotlib
    return buffer.getvalue()


def _of_validation(clf: Any, seen: Any) -> Figure:
    ax = new_axes()
    judged = (one for one in seen.validated if one.reliability)
    colours = itertools.cycle(LINES)
    draw_reliability(ax, [Line(legend_name(one.label), one.reliability, next(colours)) for one in judged])
    calibrated = "" if clf.calibration_ is None else ", before calibration"
    bare(ax, f"{TITLE}{calibrated}\n{seen.validation.n_images} images of the internal validation split")
    figure: Any = ax.get_figure(root=True)
    return figure
