"""The reliability diagram: how often what has a probability is true."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cxr_estimator._figure_style import DPI, MUTED, legend
from cxr_estimator.provenance import Bin

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = 5.6, 4.6  # inches
TITLE = "Reliability diagram"


class Line(NamedTuple):
    """A line of the diagram: bins with their name; `is_before` where a calibration follows: hollow, without bars."""

    name: str
    bins: Sequence[Bin]
    colour: str
    is_before: bool = False


def new_axes() -> Axes:
    """Return the axes of a new figure of the usual size (840 x 690 pixels)."""
    from matplotlib.figure import Figure

    return Figure(figsize=SIZE, dpi=DPI, layout="constrained").subplots()


def draw_reliability(ax: Axes, lines: Iterable[Line]) -> None:
    """Draw the observed share over the mean probability of each bin, with its interval."""
    ax.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=":", label="perfectly calibrated")
    for line in lines:
        x, y, low, high, _ = np.array(line.bins).T
        if line.is_before:
            style: dict[str, Any] = {"linestyle": "--", "marker": "o", "markerfacecolor": "white", "markersize": 4}
            ax.plot(x, y, color=line.colour, linewidth=0.9, label=line.name, **style)
        else:
            bars = np.maximum([y - low, high - y], 0.0)  # rounding may leave an end on the wrong side
            style = {"marker": "o", "markersize": 4, "capsize": 2, "elinewidth": 0.9}
            ax.errorbar(x, y, bars, color=line.colour, label=line.name, **style)
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="mean probability", ylabel="observed frequency")
    legend(ax, "upper left")
