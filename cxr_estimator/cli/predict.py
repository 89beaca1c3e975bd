"""`cxr predict`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cxr_estimator.cli._common import (
    DeviceOption,
    Format,
    FormatOption,
    ImagesArgument,
    JobsOption,
    ModelOption,
    OutputOption,
    QuietOption,
    check_output,
    collect_skipped,
    find_images,
    load_model,
    report_skipped,
    write_rows,
)
from cxr_estimator.errors import DataError

if TYPE_CHECKING:
    from cxr_estimator.classifier import CXRClassifier
    from cxr_estimator.ood import ImageCheck

_SHOWN = 5  # unusual images that are explained on standard error


def predict(
    images: ImagesArgument,
    model: ModelOption = None,
    threshold: Annotated[
        float | None, typer.Option(help="Probability of the positive label to decide at; default: the model's own.")
    ] = None,
    operating_point: Annotated[
        str | None, typer.Option(help="Name of the operating point to decide by; default: the one set last.")
    ] = None,
    format: FormatOption = Format.csv,
    output: OutputOption = None,
    device: DeviceOption = "auto",
    jobs: JobsOption = -1,
    quiet: QuietOption = False,
) -> None:
    """Write a row for each image: decision and probabilities; an unreadable image is a row with the reason.

    Without --model it is the bundled one, for pneumonia in chest radiographs of children, that decides.

    Where the model knows what ordinary images are like, ood_p_value and unusual tell how strange each is.
    """
    import numpy as np

    from cxr_estimator._checking import FALSE_ALARM_RATE, check_images
    from cxr_estimator._decisions import decided, deciding_point

    check_output(output)
    clf = load_model(model, device, quiet=quiet)
    clf.set_params(on_error="skip", n_jobs=jobs, verbose=0 if quiet else 1)
    if threshold is not None and operating_point is not None:
        raise DataError("--threshold and --operating-point exclude each other.")
    if threshold is not None:
        clf.set_threshold(threshold)
    point = deciding_point(clf, operating_point, "cxr predict")
    files = find_images(images)
    with collect_skipped() as skipped:
        if clf.ood_ is None:
            logits, check = clf._logits(files), None
        else:
            logits, check = check_images(clf, files, FALSE_ALARM_RATE, with_logits=True)
    reasons = {item.position: item.reason for item in skipped}
    decisions, proba = decided(clf, np.nan_to_num(logits), point), clf._proba(logits)
    rows = [
        {
            "image": file,
            "decision": None if i in reasons else _decision(clf, decisions[i]),
            **{f"p_{label}": None if i in reasons else float(proba[i, k]) for k, label in enumerate(clf.classes_)},
            **_strangeness(check, i),
            "error": reasons.get(i),
        }
        for i, file in enumerate(files)
    ]
    write_rows(rows, output, format)
    _report_unusual(check, files)
    report_skipped(skipped)


def _decision(clf: CXRClassifier, decided: Any) -> Any:
    """Return the label; of several labels per image those that it has, with bars between them."""
    if decided.ndim == 0:
        return clf.classes_[decided].item()
    return "|".join(str(label) for label in clf.classes_[decided == 1])


def _strangeness(check: ImageCheck | None, number: int) -> dict[str, Any]:
    """Return the columns that tell how strange an image is; none for a model without statistics."""
    if check is None:
        return {}
    unusual = check.is_unusual[number]
    return {
        "ood_p_value": None if unusual is None else float(check.p_value[number]),
        "unusual": None if unusual is None else bool(unusual),
    }


def _report_unusual(check: ImageCheck | None, files: Sequence[str]) -> None:
    """Say on standard error how many images are unusual, and why the first few are."""
    unusual = [] if check is None else [number for number, found in enumerate(check.is_unusual) if found]
    if check is None or not unusual:
        return
    typer.echo(f"unusual: {len(unusual)} of {len(files)} images (expected: {check.false_alarm_rate:.0%})", err=True)
    for number in unusual[:_SHOWN]:
        typer.echo(f"unusual: {files[number]}: {check.sentences[number]}", err=True)
