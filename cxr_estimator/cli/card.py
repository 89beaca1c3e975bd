"""`cxr card`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cxr_estimator.cli._common import (
    DeviceOption,
    JobsOption,
    LabelColumnOption,
    LabelPatternOption,
    PatientColumnOption,
    QuietOption,
    TestSplitOption,
    collect_skipped,
    label_columns,
    load_data,
    report_skipped,
)
from cxr_estimator.cli.evaluate import default_split
from cxr_estimator.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from cxr_estimator.audit import AuditReport
    from cxr_estimator.classifier import CXRClassifier
    from cxr_estimator.evaluation import EvaluationReport


def card(
    model: Annotated[Path, typer.Option("--model", help="A model folder.")],
    title: Annotated[str | None, typer.Option(help="Heading of the card.")] = None,
    repo_id: Annotated[str | None, typer.Option(help="Where it will be shared, USER/MODEL.")] = None,
    license: Annotated[
        str | None, typer.Option(help="Identifier of the Hub, such as mit or cc-by-4.0; 'other' needs a name.")
    ] = None,
    license_name: Annotated[str | None, typer.Option(help="Of a licence that the Hub has no identifier for.")] = None,
    license_link: Annotated[str | None, typer.Option(help="Address of its text.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Data it was trained on, as the Hub names them.")] = None,
    dataset_name: Annotated[str | None, typer.Option(help="Their name for people.")] = None,
    population: Annotated[
        str | None, typer.Option(help="Where the images come from: institutions, years, devices, ages, views.")
    ] = None,
    attribution: Annotated[str | None, typer.Option(help="Of the data, and of weights it began with.")] = None,
    citation: Annotated[Path | None, typer.Option(help="File with BibTeX or text.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Evaluate on a folder with one sub-folder per class, or a CSV file with path and label."),
    ] = None,
    split: TestSplitOption = None,
    evaluation_name: Annotated[
        str | None, typer.Option(help="Name of --data, where they are not of the data set it was trained on.")
    ] = None,
    patient_column: PatientColumnOption = None,
    label_pattern: LabelPatternOption = None,
    label_column: LabelColumnOption = None,
    benchmark: Annotated[
        Path | None, typer.Option(help="Folder of `cxr benchmark`: the table of explanation quality goes in.")
    ] = None,
    audit: Annotated[
        Path | None,
        typer.Option(help="Folder of `cxr audit`: what it found goes in, until the model is saved anew."),
    ] = None,
    device: DeviceOption = "auto",
    jobs: JobsOption = -1,
    quiet: QuietOption = False,
) -> None:
    """Write the model card, README.md, of a saved model, with what only its author knows.

    What the model knows itself (data, training, operating points, calibration) is there without any option. A README
    that was edited by hand is kept, and so is what an earlier call said, unless an option says otherwise.
    """
    from cxr_estimator.audit import AuditReport
    from cxr_estimator.card import CARD_NAME, ModelCard
    from cxr_estimator.classifier import CXRClassifier

    if data is None and any(one is not None for one in (split, patient_column, label_pattern, evaluation_name)):
        raise DataError("--split, --patient-column, --label-pattern and --evaluation-name are for --data.")
    parts: dict[str, Any] = {
        "title": title,
        "repo_id": repo_id,
        "license": license,
        "license_name": license_name,
        "license_link": license_link,
        "dataset": dataset,
        "dataset_name": dataset_name,
        "population": population,
        "attribution": attribution,
        "citation": None if citation is None else _text(citation),
        "evaluation_name": evaluation_name,
        "explanations": None if benchmark is None else benchmark_table(benchmark),
        "audit": None if audit is None else AuditReport.load(audit),
    }
    ModelCard(**parts)  # bad ones fail now
    with collect_skipped() as skipped:
        clf = CXRClassifier.load(model, device=device)
        if audit is None:
            parts["audit"] = _kept_audit(model)
        if data is not None:
            split = split or default_split(data)
            images = load_data(data, split, patient_column, label_pattern, label_columns(clf, label_column))
            parts["evaluation"] = _evaluated(clf, images, jobs=jobs, quiet=quiet)
            parts["evaluation_split"] = None if split == "all" else split
        given = {name: value for name, value in parts.items() if value is not None}
        clf.save(model, card=replace(clf.card_ or ModelCard(), **given))
    typer.echo(f"model card in {model / CARD_NAME}")
    report_skipped(skipped)


def _evaluated(clf: CXRClassifier, images: Any, *, jobs: int, quiet: bool) -> EvaluationReport:
    """Return the report, and leave the classifier as it was."""
    from cxr_estimator.evaluation import evaluate

    before = {name: getattr(clf, name) for name in ("on_error", "n_jobs", "verbose")}
    clf.set_params(on_error="skip", n_jobs=jobs, verbose=0 if quiet else 1)
    report = evaluate(clf, images.X, images.y, images.groups)
    clf.set_params(**before)
    return report


def _kept_audit(model: Path) -> AuditReport | None:
    """Return what an earlier call wrote; any other saving of the model deletes it."""
    from cxr_estimator.audit import AuditReport
    from cxr_estimator.card import AUDIT_NAME
    from cxr_estimator.checksums import SUMS_NAME, read_sums

    is_kept = (model / SUMS_NAME).is_file() and AUDIT_NAME in read_sums(model) and (model / AUDIT_NAME).is_file()
    return AuditReport.load(model) if is_kept else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as text ({getattr(error, 'strerror', None) or error}).") from error


def benchmark_table(path: Path) -> pd.DataFrame:
    """Return what `cxr benchmark` wrote, from its folder or the table itself."""
    import pandas as pd

    path = path if path.suffix.lower() == ".csv" else path / "table.csv"
    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: is no table of `cxr benchmark` ({error}).") from error
