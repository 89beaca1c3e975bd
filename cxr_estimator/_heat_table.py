"""The table of a benchmark as a picture: methods by metrics."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from cxr_estimator._figure_style import DPI, INK, caption, method_title, short, write
from cxr_estimator._validation import check_choice, invalid, wrong_type

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_NUMBERS = ("value", "low", "high", "rank", "n_images", "n_undefined", "n_patients")  # columns
_LABEL = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}  # behind text on a pattern


def plot_benchmark(table: pd.DataFrame, *, bucket: str = "all") -> Figure:
    """Return a table of methods by metrics (150 dpi): each value with its interval, the darker the better its rank.

    Parameters
    ----------
    table : DataFrame
        As `benchmark` returns it.
    bucket : str, default="all"
        One of the column "bucket".
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    part = bucket_rows(table, bucket, caller="plot_benchmark")
    methods, metrics = (list(dict.fromkeys(part[name])) for name in ("method", "metric"))
    names = [short(method_title(method), 28) for method in methods]
    width = max(1.4 * len(metrics) + 0.3 + 0.09 * max(map(len, names)), 4.0)
    figure = Figure(figsize=(width, 0.56 * len(methods) + 1.5), dpi=DPI, layout="constrained")
    ax = figure.subplots()
    ax.set(xlim=(0, len(metrics)), ylim=(len(methods), 0))
    ax.spines[:].set_visible(False)
    ax.xaxis.tick_top()
    ax.tick_params(length=0, labelcolor=INK)
    for column, metric in enumerate(metrics):
        of_metric = part[part["metric"] == metric]
        show, last = number_format(of_metric["value"].to_numpy()), max(of_metric["rank"].max() - 1, 1)
        for _, cell in of_metric.iterrows():
            row = methods.index(cell["method"])
            if np.isnan(cell["value"]):
                ax.add_patch(Rectangle((column, row), 1, 1, facecolor="white", edgecolor="#d5d5d5", hatch="///"))
                write(ax, column + 0.5, row + 0.5, "n/a", ha="center", va="center", fontsize=9, bbox=_LABEL)
                continue
            strength = 1 - (cell["rank"] - 1) / last
            colour = mpl.colormaps["Blues"](0.08 + 0.72 * strength)
            ax.add_patch(Rectangle((column, row), 1, 1, facecolor=colour, edgecolor="white", linewidth=2))
            ink = "white" if strength > 0.75 else INK
            has_interval = not np.isnan(cell["low"])  # not of a few patients
            lines = [f"[{show(cell['low'])}, {show(cell['high'])}]"] if has_interval else []
            lines += [f"{cell['n_undefined']} undefined"] if cell["n_undefined"] else []
            write(ax, column + 0.5, row + 0.3, show(cell["value"]), ha="center", va="center", fontsize=9.5, color=ink)
            small = "\n".join(lines)
            write(ax, column + 0.5, row + 0.52, small, ha="center", va="top", fontsize=6, color=ink, linespacing=1.1)
    better = part.groupby("metric", sort=False)["greater_is_better"].first()
    is_gain = part.groupby("metric", sort=False)["is_gain"].first()
    titles = [
        _column_title(f"{metric} gain" if is_gain[metric] else metric, arrow="↑" if better[metric] else "↓")
        for metric in metrics
    ]
    ax.set_xticks(np.arange(len(metrics)) + 0.5, titles, fontsize=8.5, parse_math=False)
    ax.set_yticks(np.arange(len(methods)) + 0.5, names, fontsize=9, parse_math=False)
    n_images, n_patients = part["n_images"].max(), part["n_patients"].max()
    shown = "" if bucket == "all" else f"{bucket}: "
    caption(
        figure,
        f"{shown}{n_images} images of {n_patients} patients; mean [95% interval over patients]. The darker, the better "
        "among the methods; ↑ greater is better, ↓ less is better. Gain: over the same maps shifted and flipped.",
    )
    return figure


def bucket_rows(table: Any, bucket: str, *, caller: str, name: str = "table") -> pd.DataFrame:
    """Return the rows of a bucket, or raise an error for what is no table of one benchmark."""
    import pandas as pd

    needed = {"method", "metric", "bucket", "greater_is_better", "is_gain", *_NUMBERS}
    if not isinstance(table, pd.DataFrame) or not needed <= set(table.columns):
        raise wrong_type(name, caller, "a DataFrame as benchmark returns it", table)
    if table.empty:
        raise invalid(name, caller, "a table of one method at least", "no rows")
    for column in _NUMBERS:
        if not pd.api.types.is_numeric_dtype(table[column]):
            raise wrong_type(name, caller, f"a DataFrame with numbers in {column}", table[column].iloc[0])
    check_choice("bucket", bucket, table["bucket"].unique(), caller=caller)
    part = table[table["bucket"] == bucket]
    if part.duplicated(["method", "metric"]).any():
        raise invalid(name, caller, "of one benchmark: a method has a metric once", f"{len(part)} rows")
    return part


def number_format(values: np.ndarray) -> Callable[[float], str]:
    """Return what writes numbers with three significant digits of the largest, all with as many decimals."""
    largest = np.nanmax(np.abs(values), initial=0.0)
    if largest and not 1e-3 <= largest < 1e5:
        return lambda value: f"{value:.2e}"
    decimals = 3 if not largest else max(0, 2 - int(np.floor(np.log10(largest))))
    return lambda value: f"{round(value, decimals) + 0.0:.{decimals}f}"  # + 0.0: no "-0.000"


def _column_title(metric: str, *, arrow: str) -> str:
    """Return the name in at most three lines that fit a column."""
    lines = textwrap.wrap(metric.replace("_", " "), 16, max_lines=3, placeholder=" …")
    return "\n".join([*lines[:-1], f"{lines[-1] if lines else ''} {arrow}"])
