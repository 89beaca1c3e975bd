"""`cxr evaluate`."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

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
    check_output,
    collect_skipped,
    label_columns,
    load_data,
    report_skipped,
    write_text,
)


class ReportFormat(StrEnum):
    """How the report is written."""

    text = "text"
    json = "json"
    csv = "csv"


def default_split(data: Path) -> str:
    """Return "test" for a folder with splits: a model is not judged on what trained it unless one asks for that."""
    from cxr_estimator.datasets.folder import split_folders

    return "test" if data.is_dir() and split_folders(data) else "all"


def evaluate(
    model: ModelOption,
    data: DataOption,
    split: Annotated[
        str | None, typer.Option(help="train, val, test or all. Default: test where the folder has it.")
    ] = None,
    patient_column: PatientColumnOption = None,
    label_pattern: LabelPatternOption = None,
    label_column: LabelColumnOption = None,
    format: Annotated[ReportFormat, typer.Option("--format", help="Format of the report.")] = ReportFormat.text,
    output: OutputOption = None,
    device: DeviceOption = "auto",
    jobs: JobsOption = -1,
    quiet: QuietOption = False,
) -> None:
    """Measure a saved model on labelled images, with intervals over patients."""
    from cxr_estimator.classifier import CXRClassifier
    from cxr_estimator.evaluation import evaluate as measure

    check_output(output)
    clf = CXRClassifier.load(model, device=device)
    clf.set_params(on_error="skip", n_jobs=jobs, verbose=0 if quiet else 1)
    columns = label_columns(clf, label_column)
    images = load_data(data, split or default_split(data), patient_column, label_pattern, columns)
    with collect_skipped() as skipped:
        report = measure(clf, images.X, images.y, images.groups)
    if format is ReportFormat.json:
        text = json.dumps(report.to_dict(), indent=1) + "\n"
    elif format is ReportFormat.csv:
        text = report.to_frame().to_csv(index=False)
    else:
        text = f"{report}\n"
    write_text(text, output)
    report_skipped(skipped)
