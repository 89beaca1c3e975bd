"""The picture of the training: loss and AUROC over the epochs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cxr_estimator._figure_style import DPI, FIRST, LINES, MUTED, SECOND, bare, legend

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_NAMED = 5  # networks in a legend


def training_curves(histories: Sequence[pd.DataFrame]) -> Figure:
    """Return two panels (150 dpi): the loss of training and validation, and the AUROC of validation, by epoch.

    Parameters
    ----------
    histories : sequence of DataFrame
        `history_` of each network, one at least. Of several only validation is drawn, and training where there is none.
    """
    from matplotlib.figure import Figure

    is_validated = all(one["val_loss"].notna().any() for one in histories)
    figure = Figure(figsize=(9.6 if is_validated else 5.0, 3.4), dpi=DPI, layout="constrained")
    axes = figure.subplots(1, 2 if is_validated else 1, squeeze=False)[0]
    if len(histories) == 1:
        _of_one(axes, histories[0], is_validated=is_validated)
    else:
        _of_several(axes, histories, "val_loss" if is_validated else "train_loss")
    bare(axes[0], "Loss")
    if is_validated:
        bare(axes[1], "AUROC of validation")
    for ax in axes:
        ax.set_xlabel("epoch")
        ax.xaxis.get_major_locator().set_params(integer=True)
        if ax.get_legend_handles_labels()[0]:
            legend(ax, "best")
    return figure


def _of_one(axes: Sequence[Axes], history: pd.DataFrame, *, is_validated: bool) -> None:
    style: dict[str, Any] = {"marker": "o", "markersize": 3}
    axes[0].plot(history["epoch"], history["train_loss"], color=FIRST, label="training", **style)
    if is_validated:
        axes[0].plot(history["epoch"], history["val_loss"], color=SECOND, label="validation", **style)
        axes[1].plot(history["epoch"], history["val_auroc"], color=SECOND, **style)
    chosen = history.loc[history["best"].astype(bool), "epoch"]
    for ax in axes:
        for epoch in chosen.tolist():
            ax.axvline(epoch, color=MUTED, linewidth=0.9, linestyle=":", label="epoch that was kept")


def _of_several(axes: Sequence[Axes], histories: Sequence[pd.DataFrame], loss: str) -> None:
    for number, history in enumerate(histories):
        style: dict[str, Any] = {"color": LINES[number % len(LINES)], "linewidth": 1.1}
        if len(histories) <= _MOST_NAMED:
            style["label"] = f"member {number}"
        axes[0].plot(history["epoch"], history[loss], **style)
        if len(axes) > 1:
            axes[1].plot(history["epoch"], history["val_auroc"], **style)
