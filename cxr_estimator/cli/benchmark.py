"""`cxr benchmark`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cxr_estimator.cli._common import (
    DeviceOption,
    JobsOption,
    LabelColumnOption,
    LabelPatternOption,
    ModelOption,
    PatientColumnOption,
    QuietOption,
    as_target,
    check_outside,
    collect_skipped,
    find_images,
    label_columns,
    load_data,
    load_model,
    report_skipped,
)
from cxr_estimator.cli.explain import chosen_methods, number_or_text
from cxr_estimator.errors import DataError

if TYPE_CHECKING:
    import pandas as pd


def benchmark(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the tables; also to take up a run.")],
    model: ModelOption = None,
    images: Annotated[
        list[Path] | None, typer.Argument(help="Images without labels: files, or folders that are searched.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Instead: a folder with one sub-folder per class, or a CSV file with path and label."),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="Of --data: train, val, test or all. Default: val, so that test is left for the end."),
    ] = None,
    patient_column: PatientColumnOption = None,
    label_pattern: LabelPatternOption = None,
    label_column: LabelColumnOption = None,
    methods: Annotated[
        str | None,
        typer.Option(help="Attribution methods with commas, or 'all' that the network supports. Default: four kinds."),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(help="Metrics with commas, or 'all' (takes long). Default: deletion, insertion and sparsity."),
    ] = None,
    target: Annotated[str, typer.Option(help="A class label, predicted, true (with --data) or margin.")] = "predicted",
    raw: Annotated[
        bool, typer.Option("--raw", help="Faithfulness as it is, not as a gain over the maps shifted and flipped.")
    ] = False,
    background: Annotated[
        Path | None, typer.Option(help="Folder of images that SHAP methods compare with, instead of the model's own.")
    ] = None,
    batch_size: Annotated[str | None, typer.Option(help="Images at once, or auto.")] = None,
    device: DeviceOption = "auto",
    jobs: JobsOption = -1,
    quiet: QuietOption = False,
) -> None:
    """Measure how good the explanations of several methods are, side by side.

    Writes table.csv and heat_table.png. A run that was stopped is taken up by the same command. Seconds are those of
    explaining; what several methods share counts for the first of them.
    """
    from cxr_estimator.benchmark import DEFAULT_METHODS, DEFAULT_METRICS
    from cxr_estimator.benchmark import benchmark as compare
    from cxr_estimator.figures import plot_benchmark
    from cxr_estimator.serialization import writable_folder

    check_outside(output, [path for path in (*(images or []), data, background) if path is not None])
    clf = load_model(model, device, quiet=quiet)
    clf.set_params(on_error="skip", n_jobs=jobs, verbose=0 if quiet else 1)
    X, y, patients = _data(images, data, split, patient_column, label_pattern, label_columns(clf, label_column))
    request: dict[str, Any] = {
        "methods": DEFAULT_METHODS
        if methods is None
        else chosen_methods(clf, methods, has_background=background is not None),
        "metrics": DEFAULT_METRICS if metrics is None else chosen_metrics(metrics),
        "relative": not raw,
        "target": as_target(clf, target),
        "batch_size": number_or_text(batch_size),
        "background": None if background is None else find_images([background]),
    }
    writable_folder(output)
    with collect_skipped() as skipped:
        try:
            table = compare(clf, X, y, groups=patients, folder=output / "parts", **request)
        except KeyboardInterrupt:
            typer.echo(f"The same command takes the work up where it stopped; {output / 'parts'} keeps it.", err=True)
            raise
    table.to_csv(output / "table.csv", index=False)
    plot_benchmark(table).savefig(output / "heat_table.png")
    typer.echo(_text(table))
    typer.echo(f"table.csv and heat_table.png in {output}")
    report_skipped(skipped)


def _data(
    images: list[Path] | None,
    data: Path | None,
    split: str | None,
    patient_column: str | None,
    label_pattern: str | None,
    columns: Sequence[str] | None,
) -> tuple[Any, Any, Any]:
    """Return images, labels and patients; None for what is not known."""
    if bool(images) == (data is not None):
        raise DataError("Give either image files and folders, or --data with labelled images.")
    if data is not None:
        found = load_data(data, split or _default_split(data), patient_column, label_pattern, columns)
        return found.X, found.y, found.groups
    if any(option is not None for option in (split, patient_column, label_pattern)):
        raise DataError("--split, --patient-column and --label-pattern are for --data.")
    return find_images(images or []), None, None


def _default_split(data: Path) -> str:
    """Return "val" for a folder with splits: methods are chosen by a benchmark, for which the test part is not."""
    from cxr_estimator.datasets.folder import split_folders

    splits = split_folders(data) if data.is_dir() else {}
    if splits and "val" not in splits:
        raise DataError(
            f"{data}: has no validation part. Choose one of {', '.join(splits)} with --split: methods that are chosen "
            "on the test part cannot be judged on it, and the network was trained on the train part."
        )
    return "val" if splits else "all"


def chosen_metrics(names: str) -> list[str]:
    """Return the metrics that `names` asks for; of "all" those are left out, and named, that need more than images."""
    from cxr_estimator.benchmark import metrics_of

    if names != "all":
        return [name.strip() for name in names.split(",")]
    lacks = metrics_of(has_masks=False)
    for name, wanted in lacks.items():
        if wanted is not None:
            typer.echo(f"left out: {name}: needs {wanted}", err=True)
    return [name for name, wanted in lacks.items() if wanted is None]


def _text(table: pd.DataFrame) -> str:
    """Return the rows of all images, the best method of each metric first."""
    part = table[table["bucket"] == "all"].copy()
    part["metric"] += part["is_gain"].map({True: ": gain over the maps shifted and flipped", False: ""})
    part["metric"] += part["greater_is_better"].map({True: " (greater is better)", False: " (less is better)"})
    lines = [f"{part['n_images'].iloc[0]} images, mean [95% interval over patients]"]
    for metric, rows in part.groupby("metric", sort=False):
        lines += ["", str(metric)]
        for _, row in rows.sort_values("rank", kind="stable").iterrows():
            value = f"{row['value']:.4g}" if row["n_undefined"] < row["n_images"] else "undefined"
            if row["low"] == row["low"]:  # not NaN, as for a few patients
                value += f" [{row['low']:.4g}, {row['high']:.4g}]"
            lines.append(f"  {row['method']:<22} {value:<32} {row['seconds_per_image']:.3g} s per image")
    return "\n".join(lines)
