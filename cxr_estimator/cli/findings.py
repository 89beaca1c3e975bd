"""`cxr findings`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    as_target,
    check_outside,
    collect_skipped,
    label_columns,
    load_data,
    load_model,
    report_skipped,
)
from cxr_estimator.cli.evaluate import default_split
from cxr_estimator.errors import DataError

if TYPE_CHECKING:
    from cxr_estimator.audit import AuditReport
    from cxr_estimator.classifier import CXRClassifier
    from cxr_estimator.datasets import ImageDataset

_BUCKETS = 4  # at most
_AUDIT_MAPS = 12  # of an audit that is made on the way: few, for hypotheses rest on its exchanges of all images


def findings(
    data: DataOption,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for findings.html, findings.md and findings.json.")
    ],
    model: ModelOption = None,
    split: TestSplitOption = None,
    patient_column: PatientColumnOption = None,
    label_pattern: LabelPatternOption = None,
    label_column: LabelColumnOption = None,
    method: Annotated[str, typer.Option(help="Attribution method.")] = "grad_cam",
    target: Annotated[
        str,
        typer.Option(
            help="A class label, predicted, or margin. A label makes the maps of false negatives comparable with those "
            "of true positives."
        ),
    ] = "predicted",
    per_bucket: Annotated[int, typer.Option(help="How many images of each bucket are shown.")] = 6,
    maps: Annotated[int, typer.Option(help="How many of each are explained and measured, these among them.")] = 24,
    audit: Annotated[
        Path | None, typer.Option("--audit", help="A folder of `cxr audit`, or its audit.json. Default: a short audit.")
    ] = None,
    no_audit: Annotated[
        bool, typer.Option("--no-audit", help="Make no audit: what the maps suggest remains untested.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of what is drawn at random.")] = 0,
    device: DeviceOption = "auto",
    jobs: JobsOption = -1,
    quiet: QuietOption = False,
) -> None:
    """Find what the heat maps of right and wrong decisions have in common, and what may be behind it.

    True positives, false positives, false negatives and random cases, drawn at random: overlays, descriptions, how
    faithful the maps are, and hypotheses beside the checks of an audit. The pages show radiographs.
    """
    from cxr_estimator._progress import bar, told_how_far
    from cxr_estimator.findings import findings as find
    from cxr_estimator.serialization import writable_folder

    if audit is not None and no_audit:
        raise DataError("--audit and --no-audit: give one of them.")
    check_outside(output, [data])
    writable_folder(output)
    report = None if audit is None else _saved(audit)
    clf = load_model(model, device, quiet=quiet)
    clf.set_params(on_error="skip", n_jobs=jobs, verbose=0 if quiet else 1)
    columns = label_columns(clf, label_column)
    found = load_data(data, split or default_split(data), patient_column, label_pattern, columns)
    asked: dict[str, Any] = {
        "method": method,
        "target": as_target(clf, target),
        "n_per_bucket": per_bucket,
        "n_maps": maps,
        "random_state": seed,
    }
    with collect_skipped() as skipped:
        if report is None and not no_audit:
            report = _short_audit(clf, found, asked, quiet=quiet)
        most = len(found.X) + min(_BUCKETS * max(maps, per_bucket), len(found.X))
        with bar(most, "finding", not quiet) as advance:
            told = find(
                clf,
                found.X,
                found.y,
                found.groups,
                audit=report,
                progress=told_how_far(advance, None, caller="findings"),
                **asked,
            )
    told.save(output)
    typer.echo(str(told))
    typer.echo(f"findings.html, findings.md with its pictures, and findings.json in {output}")
    report_skipped(list(dict.fromkeys(skipped)))  # the audit met them, too


def _saved(path: Path) -> AuditReport:
    from cxr_estimator.audit import AuditReport

    return AuditReport.load(path)


def _short_audit(clf: CXRClassifier, data: ImageDataset, asked: dict[str, Any], *, quiet: bool) -> AuditReport:
    """Return an audit of those checks that hypotheses rest on."""
    from cxr_estimator._progress import bar, told_how_far
    from cxr_estimator.audit import audit as examine
    from cxr_estimator.findings._findings import check_request
    from cxr_estimator.findings._hypotheses import USED_CHECKS

    check_request(clf, data.X, **asked)  # before long work
    with bar(len(data.X) + min(_AUDIT_MAPS, len(data.X)), "auditing", not quiet) as advance:
        return examine(
            clf,
            data.X,
            data.y,
            data.groups,
            methods=[asked["method"]],
            checks=USED_CHECKS,
            n_maps=_AUDIT_MAPS,
            pictures=False,
            random_state=asked["random_state"],
            progress=told_how_far(advance, None, caller="audit"),
        )
