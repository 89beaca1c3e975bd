"""`cxr audit`."""

from __future__ import annotations

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
    PatientColumnOption,
    QuietOption,
    TestSplitOption,
    check_outside,
    collect_skipped,
    label_columns,
    load_data,
    load_model,
    report_skipped,
)
from cxr_estimator.cli.evaluate import default_split
from cxr_estimator.cli.explain import chosen_methods


def audit(
    data: DataOption,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for audit.json and audit.html.")],
    model: ModelOption = None,
    split: TestSplitOption = None,
    patient_column: PatientColumnOption = None,
    label_pattern: LabelPatternOption = None,
    label_column: LabelColumnOption = None,
    methods: Annotated[
        str | None, typer.Option(help="Attribution methods with commas. Default: grad_cam,integrated_gradients.")
    ] = None,
    n_maps: Annotated[int, typer.Option("--maps", help="How many images' heat maps are checked.")] = 24,
    pictures: Annotated[
        bool, typer.Option(help="Show in audit.html, with radiographs, what checks that do not pass have found.")
    ] = True,
    device: DeviceOption = "auto",
    jobs: JobsOption = -1,
    quiet: QuietOption = False,
) -> None:
    """Check whether a model looks at the disease, and whether its heat maps tell the truth.

    Images that trained the model, or chose its thresholds, cannot judge it.
    """
    from cxr_estimator._progress import bar, told_how_far
    from cxr_estimator.audit import audit as examine
    from cxr_estimator.audit._audit import DEFAULT_METHODS
    from cxr_estimator.serialization import writable_folder

    check_outside(output, [data])
    writable_folder(output)
    clf = load_model(model, device, quiet=quiet)
    clf.set_params(on_error="skip", n_jobs=jobs, verbose=0 if quiet else 1)
    chosen = DEFAULT_METHODS if methods is None else chosen_methods(clf, methods, has_background=False)
    columns = label_columns(clf, label_column)
    found = load_data(data, split or default_split(data), patient_column, label_pattern, columns)
    total = len(found.X) + max(min(n_maps, len(found.X)), 0)
    with collect_skipped() as skipped, bar(total, "auditing", not quiet) as advance:
        report = examine(
            clf,
            found.X,
            found.y,
            found.groups,
            methods=chosen,
            n_maps=n_maps,
            pictures=pictures,
            progress=told_how_far(advance, None, caller="audit"),
        )
    report.save(output)
    typer.echo(str(report))
    typer.echo(f"audit.json and audit.html in {output}")
    report_skipped(skipped)
