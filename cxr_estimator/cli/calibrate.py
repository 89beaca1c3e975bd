"""`cxr calibrate`."""

from __future__ import annotations

from typing import Annotated

import typer

from cxr_estimator.cli._common import (
    AugmentOption,
    CopiesOption,
    DataOption,
    DeviceOption,
    JobsOption,
    LabelColumnOption,
    LabelPatternOption,
    ModelOption,
    NewModelOption,
    PatientColumnOption,
    QuietOption,
    UnseenSplitOption,
    adjust,
)


def calibrate(
    data: DataOption,
    model: ModelOption = None,
    method: Annotated[str, typer.Option(help="temperature, platt or isotonic.")] = "temperature",
    prevalence: Annotated[
        float | None, typer.Option(help="Share of the positive label where the model will be used, if not as here.")
    ] = None,
    augment: AugmentOption = None,
    copies: CopiesOption = 4,
    split: UnseenSplitOption = None,
    patient_column: PatientColumnOption = None,
    label_pattern: LabelPatternOption = None,
    label_column: LabelColumnOption = None,
    output: NewModelOption = None,
    device: DeviceOption = "auto",
    jobs: JobsOption = -1,
    quiet: QuietOption = False,
) -> None:
    """Make a model's probabilities agree with the frequencies in labelled images that did not train it."""
    source = data, split, patient_column, label_pattern, label_column
    with adjust(model, source, output, device=device, jobs=jobs, quiet=quiet) as (clf, images):
        clf.calibrate(
            images.X,
            images.y,
            groups=images.groups,
            method=method,
            prevalence=prevalence,
            augment=augment,
            copies=copies,
        )
        typer.echo(f"calibrated by {method!r}")
        for name, threshold in clf.thresholds_.items():
            typer.echo(f"operating point {name!r}: from a probability of {threshold:.3f} on")
