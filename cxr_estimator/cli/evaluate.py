"""`cxr evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cxr_estimator.cli._common import (
    DataOption,
    DeviceOption,
    JobsOption,
    LabelColumnOption,
    LabelPatternOption,
    ModelOption,
    OutputOption,
    PatientColumnOption,
    QuietOption,
    TestSplitOption,
    check_output,
    collect_skipped,
    label_columns,
    load_data,
    load_model,
    report_skipped,
    write_text,
)
from cxr_estimator.errors import DataError

if TYPE_CHECKING:
    import numpy as np

    from cxr_estimator.evaluation import EvaluationReport


class ReportFormat(StrEnum):
    """How the report is written."""

    text = "text"
    json = "json"
    csv = "csv"
    markdown = "markdown"
    html = "html"


_FORMATS = {
    ".json": ReportFormat.json,
    ".csv": ReportFormat.csv,
    ".md": ReportFormat.markdown,
    ".html": ReportFormat.html,
}


def default_split(data: Path) -> str:
    """Return "test" for a folder with splits: a model is not judged on what trained it unless one asks for that."""
    from cxr_estimator.datasets.folder import split_folders

    return "test" if data.is_dir() and split_folders(data) else "all"


def evaluate(
    data: DataOption,
    model: ModelOption = None,
    split: TestSplitOption = None,
    patient_column: PatientColumnOption = None,
    label_pattern: LabelPatternOption = None,
    label_column: LabelColumnOption = None,
    subgroup: Annotated[
        list[str] | None,
        typer.Option(help="Column of a CSV file, such as sex: a row of figures for each value. May be repeated."),
    ] = None,
    format: Annotated[
        ReportFormat | None,
        typer.Option("--format", help="Format of the report. Default: as --output ends (.json, .md, ...), else text."),
    ] = None,
    output: OutputOption = None,
    device: DeviceOption = "auto",
    jobs: JobsOption = -1,
    quiet: QuietOption = False,
) -> None:
    """Measure a saved model on labelled images, its own test part or those of another hospital.

    All operating points are measured, with intervals over patients. An html report holds pictures as well.
    """
    from cxr_estimator.evaluation import evaluate as measure

    check_output(output)
    clf = load_model(model, device, quiet=quiet)
    clf.set_params(on_error="skip", n_jobs=jobs, verbose=0 if quiet else 1)
    attributes = subgroup_columns(data, subgroup or [])
    columns = label_columns(clf, label_column)
    images = load_data(data, split or default_split(data), patient_column, label_pattern, columns)
    with collect_skipped() as skipped:
        report = measure(clf, images.X, images.y, images.groups, subgroups=attributes)
    write_text(_written(report, format or _format_of(output)), output)
    report_skipped(skipped)


def subgroup_columns(data: Path, columns: Sequence[str]) -> dict[str, np.ndarray] | None:
    """Return the columns of a CSV file that name a group of each image; None where none is asked for."""
    from cxr_estimator.datasets.table import read_columns

    if not columns:
        return None
    if data.suffix.lower() != ".csv":
        raise DataError("--subgroup is for a CSV file, whose columns it names.")
    return read_columns(data, columns)


def _format_of(output: Path | None) -> ReportFormat:
    return ReportFormat.text if output is None else _FORMATS.get(output.suffix.lower(), ReportFormat.text)


def _written(report: EvaluationReport, format: ReportFormat) -> str:
    if format is ReportFormat.text:
        return f"{report}\n"
    return str(getattr(report, f"to_{format}")())
