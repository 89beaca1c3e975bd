"""Tables of a model card from what its author gives: an evaluation, a benchmark of explanations."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cxr_estimator._figure_style import method_title
from cxr_estimator._heat_table import bucket_rows, number_format
from cxr_estimator._wording import Markdown, images_of, markdown_table, words
from cxr_estimator.card._facts import Table

if TYPE_CHECKING:
    import pandas as pd

    from cxr_estimator.evaluation import EvaluationReport

_MOST_ROWS, _MOST_COLUMNS = 30, 12  # of a table of an evaluation


def evaluation_tables(report: EvaluationReport) -> list[tuple[str, Markdown, int]]:
    """Return title, table and number of rows left out, without what is too wide or too long for a card."""
    found, n_confusions = [], 0
    for title, table in report.tables().items():
        n_confusions += title.startswith("Confusion")
        one_of_many = title.startswith("Confusion") and (n_confusions > 1 or report.task == "multilabel")
        if not one_of_many and len(table.columns) <= _MOST_COLUMNS:
            found.append((title, markdown_table(table[:_MOST_ROWS]), max(len(table) - _MOST_ROWS, 0)))
    return found


def explanations_table(table: pd.DataFrame) -> dict[str, Any]:
    """Return a row for each method and a column for each metric, and on how many images."""
    rows = bucket_rows(table, "all", caller="ModelCard")
    metrics = list(dict.fromkeys(rows["metric"]))
    head, columns = ["method"], []
    for metric in metrics:
        of_metric = rows[rows["metric"] == metric].set_index("method")
        show = number_format(of_metric["value"].to_numpy())
        first = of_metric.iloc[0]
        arrow = "\u2191" if first["greater_is_better"] else "\u2193"
        head.append(f"{words(metric)}{' gain' * bool(first['is_gain'])} {arrow}")
        columns.append({name: _measured(one, show) for name, one in of_metric.iterrows()})
    methods = list(dict.fromkeys(rows["method"]))
    cells = [(method_title(name), *(column.get(name, "not measured") for column in columns)) for name in methods]
    n_images, n_patients = int(rows["n_images"].max()), int(rows["n_patients"].max())
    return {"table": Table(tuple(head), cells), "on": images_of(n_images, n_patients)}


def _measured(one: pd.Series, show: Callable[[float], str]) -> str:
    if one["value"] != one["value"]:
        return "undefined"
    interval = f" ({show(one['low'])} to {show(one['high'])})" if one["low"] == one["low"] else ""
    undefined = f", {one['n_undefined']} undefined" * bool(one["n_undefined"])
    return f"{show(one['value'])}{interval}{undefined}"
