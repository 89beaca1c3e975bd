"""`cxr report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

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
from cxr_estimator.cli.card import benchmark_table
from cxr_estimator.cli.evaluate import default_split, subgroup_columns
from cxr_estimator.errors import DataError


def report(
    data: DataOption,
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write, a file that ends in .html.")],
    model: ModelOption = None,
    split: TestSplitOption = None,
    patient_column: PatientColumnOption = None,
    label_pattern: LabelPatternOption = None,
    label_column: LabelColumnOption = None,
    subgroup: Annotated[
        list[str] | None,
        typer.Option(help="Column of a CSV file, such as sex: a row of figures for each value. May be repeated."),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(help="Attribution method; may be repeated. Default: grad_cam and integrated_gradients."),
    ] = None,
    n_examples: Annotated[int, typer.Option("--examples", help="Images of each outcome that are shown.")] = 2,
    n_maps: Annotated[
        int, typer.Option("--maps", help="Images whose heat maps the benchmark measures and the audit checks.")
    ] = 24,
    audit: Annotated[
        Path | None, typer.Option("--audit", help="Folder of `cxr audit`, which is not made again.")
    ] = None,
    no_audit: Annotated[bool, typer.Option("--no-audit", help="Leave the audit out.")] = False,
    benchmark: Annotated[
        Path | None,
        typer.Option("--benchmark", help="Folder or table.csv of `cxr benchmark`, which is not made again."),
    ] = None,
    no_benchmark: Annotated[bool, typer.Option("--no-benchmark", help="Leave the benchmark out.")] = False,
    images: Annotated[
        bool, typer.Option(help="Show radiographs and heat maps. Without them the page can be published.")
    ] = True,
    seed: Annotated[int, typer.Option(help="Of what is drawn at random.")] = 0,
    device: DeviceOption = "auto",
    jobs: JobsOption = -1,
    quiet: QuietOption = False,
) -> None:
    """Write one page on a model: data, training, evaluation, operating points, explanations, benchmark, audit.

    Images that trained the model, or chose its thresholds, cannot judge it.
    """
    from cxr_estimator._progress import bar, told_how_far
    from cxr_estimator.audit import AuditReport
    from cxr_estimator.report import PARTS, planned_images
    from cxr_estimator.report import report as gather
    from cxr_estimator.report._report import checked_file

    left_out = _left_out(audit, benchmark, no_audit=no_audit, no_benchmark=no_benchmark)
    check_outside(output, [data])
    checked_file(output)
    given: dict[str, Any] = {
        "audit": None if audit is None else AuditReport.load(audit),
        "benchmark": None if benchmark is None else benchmark_table(benchmark),
    }
    attributes = subgroup_columns(data, subgroup or [])
    clf = load_model(model, device, quiet=quiet)
    clf.set_params(on_error="skip", n_jobs=jobs, verbose=0 if quiet else 1)
    columns = label_columns(clf, label_column)
    found = load_data(data, split or default_split(data), patient_column, label_pattern, columns)
    parts = [name for name in PARTS if name not in left_out]
    made = [name for name in parts if given.get(name) is None]
    total = planned_images(len(found.X), made, n_examples=max(n_examples, 0), n_maps=max(n_maps, 0))
    request: dict[str, Any] = {} if not method else {"methods": method}
    with collect_skipped() as skipped, bar(total, "reporting", not quiet) as advance:
        made_report = gather(
            clf,
            found.X,
            found.y,
            found.groups,
            subgroups=attributes,
            n_examples=n_examples,
            n_maps=n_maps,
            parts=parts,
            random_state=seed,
            progress=told_how_far(advance, None, caller="report"),
            **request,
            **given,
        )
    made_report.save(output, show_images=images)
    typer.echo(str(made_report))
    shows = " (it shows radiographs: keep it as you keep them)" if images else ""
    typer.echo(f"{output}, {output.stat().st_size / 1e6:.1f} MB{shows}")
    report_skipped(skipped)


def _left_out(audit: Path | None, benchmark: Path | None, *, no_audit: bool, no_benchmark: bool) -> list[str]:
    """Return the parts that are not wanted."""
    for name, given, unwanted in (("audit", audit, no_audit), ("benchmark", benchmark, no_benchmark)):
        if given is not None and unwanted:
            raise DataError(f"--{name} and --no-{name}: give one of them.")
    return [name for name, unwanted in (("audit", no_audit), ("benchmark", no_benchmark)) if unwanted]
