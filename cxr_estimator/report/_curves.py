"""The pictures of the training: loss and AUROC over the epochs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cxr_estimator._figure_style import FIRST, LINES, MUTED, SECOND, bare, legend
from cxr_estimator._reliability import new_axes

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_NAMED = 5  # networks in a legend
_TITLES = {"loss": "Loss by epoch", "auroc": "AUROC of validation by epoch"}
_DOTS: dict[str, Any] = {"marker": "o", "markersize": 3}


def training_curves(histories: Sequence[pd.DataFrame]) -> dict[str, Figure]:
    """Return the loss of training and validation and, if there was any, the AUROC of validation, by their titles.

    Parameters
    ----------
    histories : sequence of DataFrame
        `history_` of each network. Of several only validation is drawn, and training where one has none.
    """
    from matplotlib.ticker import MaxNLocator

    if not histories:
        return {}
    is_validated = all(one["val_loss"].notna().any() for one in histories)
    found = {}
    for what in ("loss", "auroc") if is_validated else ("loss",):
        ax, title = new_axes(), _TITLES[what]
        if len(histories) == 1:
            _of_one(ax, histories[0], what, is_validated=is_validated)
        else:
            _of_several(ax, histories, f"val_{what}" if is_validated else "train_loss")
            ax.set_ylabel("validation" if is_validated else "training")
        bare(ax, title)
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        if ax.get_legend_handles_labels()[0]:
            legend(ax, "best")
        figure: Any = ax.get_figure(root=True)
        found[title] = figure
    return found


def _of_one(ax: Axes, history: pd.DataFrame, what: str, *, is_validated: bool) -> None:
    if what == "loss":
        ax.plot(history["epoch"], history["train_loss"], color=FIRST, label="training", **_DOTS)
    if is_validated:
        column = "val_loss" if what == "loss" else "val_auroc"
        ax.plot(history["epoch"], history[column], color=SECOND, label="validation", **_DOTS)
    for epoch in history.loc[history["best"].astype(bool), "epoch"].tolist():
        ax.axvline(epoch, color=MUTED, linewidth=0.9, linestyle=":", label="epoch that was kept")


def _of_several(ax: Axes, histories: Sequence[pd.DataFrame], column: str) -> None:
    for number, history in enumerate(histories):
        name: dict[str, Any] = {"label": f"member {number}"} if len(histories) <= _MOST_NAMED else {}
        ax.plot(history["epoch"], history[column], color=LINES[number % len(LINES)], **name, **_DOTS)
