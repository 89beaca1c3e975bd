"""Where displays draw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cxr_estimator._validation import invalid, wrong_type
from cxr_estimator.classifier import CXRClassifier

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def check_inputs(clf: Any, ax: Any, display: type, *, divided: bool = False) -> None:
    """Raise, before the work begins, unless a display can be made of the classifier and drawn on (or in) `ax`."""
    if not isinstance(clf, CXRClassifier):
        raise wrong_type("clf", display.__name__, "a CXRClassifier", clf)
    if ax is not None:
        check_ax(ax, divided=divided)


def check_ax(ax: Any, *, divided: bool = False) -> Axes:
    """Return `ax`, or raise unless it is one, and can be divided if it is to be."""
    from matplotlib.axes import Axes

    if not isinstance(ax, Axes):
        raise wrong_type("ax", "plot", "None or the Axes of a figure", ax)
    if divided and ax.get_subplotspec() is None:
        raise invalid("ax", "plot", "one of figure.subplots(), which can be divided", ax)
    return ax


def new_figure(width: float, height: float) -> Figure:
    """Return a figure that notebooks and `plt.show()` know, as those of scikit-learn's displays."""
    import matplotlib.pyplot as plt

    return plt.figure(figsize=(width, height), layout="constrained")


def grid(ax: Axes | None, rows: int, columns: int) -> np.ndarray:
    """Return new axes (rows, columns) without ticks, in a new figure or in the place of `ax`."""
    if ax is None:
        axes = new_figure(2.2 * columns, 2.5 * rows + 0.3).subplots(rows, columns, squeeze=False)
    else:
        place: Any = check_ax(ax, divided=True).get_subplotspec()
        ax.set_axis_off()
        axes = place.subgridspec(rows, columns).subplots(squeeze=False)
    for one in axes.flat:
        one.set_axis_off()
    return axes
