"""The reliability diagram: how often what has a probability is true."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cxr_estimator._figure_style import DPI, FIRST, MUTED, legend
from cxr_estimator.statistics import wilson

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = 5.6, 4.6  # inches
TITLE = "Reliability diagram"


class Bins(NamedTuple):
    """One line of the diagram, B bins.

    Attributes
    ----------
    mean_proba, observed : ndarray (B,)
        Mean probability of the images of each bin, and the share of them that have the label.
    counts : ndarray (B,)
        How many independent cases each bin has, for its interval: patients where they are known.
    """

    mean_proba: np.ndarray
    observed: np.ndarray
    counts: np.ndarray

    @property
    def bars(self) -> np.ndarray:
        """How far Wilson's 95% interval of each share reaches down and up, (2, B)."""
        ends = [wilson(share, n) for share, n in zip(self.observed, self.counts, strict=True)]
        low, high = np.array(ends).T
        return np.maximum([self.observed - low, high - self.observed], 0.0)


class Line(NamedTuple):
    """Bins with their name; `is_before` where a calibration follows: hollow, without bars."""

    name: str
    bins: Bins
    colour: str = FIRST
    is_before: bool = False


def new_axes() -> Axes:
    """Return the axes of a new figure of the usual size (840 x 690 pixels)."""
    from matplotlib.figure import Figure

    return Figure(figsize=SIZE, dpi=DPI, layout="constrained").subplots()


def draw_reliability(ax: Axes, lines: Iterable[Line]) -> None:
    """Draw the observed share over the mean probability of each bin."""
    ax.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=":", label="perfectly calibrated")
    for line in lines:
        x, y, _ = line.bins
        if line.is_before:
            style: dict[str, Any] = {"linestyle": "--", "marker": "o", "markerfacecolor": "white", "markersize": 4}
            ax.plot(x, y, color=line.colour, linewidth=0.9, label=line.name, **style)
        else:
            style = {"marker": "o", "markersize": 4, "capsize": 2, "elinewidth": 0.9}
            ax.errorbar(x, y, line.bins.bars, color=line.colour, label=line.name, **style)
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="mean probability", ylabel="observed frequency")
    legend(ax, "upper left")
