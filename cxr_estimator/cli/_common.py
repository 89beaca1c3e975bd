"""What the commands share: exit codes, options, finding images, writing tables."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cxr_estimator._validation import check_path
from cxr_estimator.errors import (
    CXRError,
    DataError,
    HubError,
    PatientLeakWarning,
    SkippedImage,
    SkippedImagesWarning,
)

if TYPE_CHECKING:
    from cxr_estimator.classifier import CXRClassifier
    from cxr_estimator.datasets import ImageDataset

EXIT_FAILED, EXIT_BAD_INPUT, EXIT_UNREADABLE, EXIT_INTERRUPTED = 1, 2, 3, 130
_NO_PATIENTS = (
    "No patients are known, so images of one patient may be on both sides of a split. A CSV file can name them: "
    "--data table.csv --patient-column patient."
)


class Format(StrEnum):
    """How tables are written."""

    csv = "csv"
    json = "json"


DataOption = Annotated[
    Path,
    typer.Option(
        "--data",
        envvar="CXR_DATA_DIR",
        help="A folder with one sub-folder per class, or a CSV file with path and label.",
    ),
]
ModelOption = Annotated[
    Path | None,
    typer.Option(
        "--model",
        help="A model folder, or one on the Hugging Face Hub: user/model or user/model@revision. Default: the model "
        "that comes with the package.",
    ),
]
RevisionOption = Annotated[
    str | None, typer.Option(help="Branch, tag or commit of the repository. Default: its main branch.")
]
ImagesArgument = Annotated[list[Path], typer.Argument(help="Image files, or folders that are searched for images.")]
FormatOption = Annotated[Format, typer.Option("--format", help="Format of the table.")]
OutputOption = Annotated[Path | None, typer.Option("--output", "-o", help="File to write; default: standard output.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, ...")]
JobsOption = Annotated[int, typer.Option(help="Threads that read images; -1: one per core.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars, nor which model is used.")]
NewModelOption = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", help="Folder for the new model; default: it replaces the old one. Needed without --model."
    ),
]
UnseenSplitOption = Annotated[
    str | None,
    typer.Option("--split", help="train, val, test or all: images that did not train. Default: val if there is one."),
]
TestSplitOption = Annotated[
    str | None,
    typer.Option("--split", help="Of --data: train, val, test or all. Default: test where the folder has it."),
]
AugmentOption = Annotated[
    str | None,
    typer.Option(help="light, strong or robust: let randomly changed copies of each image count as much as itself."),
]
CopiesOption = Annotated[int, typer.Option(help="With --augment: how many copies of each image.")]
PatientColumnOption = Annotated[str | None, typer.Option(help="Column of a CSV file that names the patient.")]

LabelPatternOption = Annotated[
    str | None,
    typer.Option(
        help="Regular expression on the file names of a folder whose group is the label, such as '_(bacteria|virus)_'; "
        "where it does not match, the sub-folder's name is."
    ),
]

LabelColumnOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Column of a CSV file that holds the label; default: label. Given several times: labels that may go "
        "together, with 1, 0 or nothing (unknown) in each column."
    ),
]


def load_model(model: Path | None, device: str, *, quiet: bool) -> CXRClassifier:
    """Return the bundled model, that of a folder, or where there is no such folder, that of a repository on the Hub.

    Unless `quiet`, standard error tells which one it is.
    """
    clf = _load_model(model, device)
    if not quiet:
        typer.echo(f"model: {_bundled_model(clf) if model is None else model}", err=True)
    return clf


def pinned_model(model: Path | None) -> tuple[Path | None, str, str | None]:
    """Return what `load_model` is to load, with the commit of a repository on the Hub, and its name and revision.

    The name is that of receipts: "bundled", "folder" or "user/model", never where a folder lies.
    """
    from cxr_estimator.hub import fetch
    from cxr_estimator.receipts import BUNDLED, FOLDER

    if model is None:
        return None, BUNDLED, None
    if check_path("--model", model, caller="cxr").is_dir():
        return model, FOLDER, None
    repo_id, _, revision = model.as_posix().partition("@")
    try:
        with collect_skipped():
            commit = fetch(repo_id, revision=revision or None).name
    except CXRError as error:
        raise _no_such_model(model, error) from error
    return Path(f"{repo_id}@{commit}"), repo_id, commit


def as_target(clf: CXRClassifier, text: str) -> Any:
    """Return the label that is written so, or the text itself: "predicted", say."""
    return {str(label): label for label in clf.classes_.tolist()}.get(text, text)


def _no_such_model(model: Path, error: CXRError) -> HubError:
    return HubError(f"{model}: there is no such model folder here, and on the Hub: {error}")


def _bundled_model(clf: CXRClassifier) -> str:
    from cxr_estimator import __version__

    labels = ", ".join(map(str, clf.classes_))
    return f"the one that comes with cxr_estimator {__version__} ({labels}); --model names another"


def _load_model(model: Path | None, device: str) -> CXRClassifier:
    from cxr_estimator.classifier import CXRClassifier

    if model is None or check_path("--model", model, caller="cxr").is_dir():
        with collect_skipped():
            return CXRClassifier.from_pretrained(model, device=device)
    repo_id, _, revision = model.as_posix().partition("@")
    try:
        with collect_skipped():
            return CXRClassifier.from_pretrained(repo_id, revision=revision or None, device=device)
    except HubError as error:
        raise _no_such_model(model, error) from error


def load_data(
    data: Path,
    split: str,
    patient_column: str | None = None,
    label_pattern: str | None = None,
    label_columns: Sequence[str] | None = None,
    *,
    patient_pattern: str | None = "auto",
) -> ImageDataset:
    """Return the images of a folder or of a CSV file; several label columns give y (N, K).

    With `patient_pattern=None` the patients of a folder are left unknown, for commands that do not need them.
    """
    from cxr_estimator.datasets import load_image_folder, load_image_table
    from cxr_estimator.datasets.folder import split_folders

    if data.suffix.lower() == ".csv":
        if label_pattern is not None:
            raise DataError("--label-pattern is for a folder of images; a CSV file has a column of labels.")
        if patient_pattern not in ("auto", None):
            raise DataError("--patient-pattern is for a folder of images; for a CSV file use --patient-column.")
        columns = list(label_columns or ["label"])
        label = columns if len(columns) > 1 else columns[0]
        return load_image_table(data, label_column=label, patient_column=patient_column)
    if label_columns:
        raise DataError("--label-column is for a CSV file; in a folder, sub-folders and file names are the labels.")
    found = load_image_folder(data, split=split, label_pattern=label_pattern, patient_pattern=patient_pattern)
    if split == "auto":
        split = "train" if split_folders(data) else "all"
    typer.echo(f"{len(found.X)} images, split {split!r} of {data}", err=True)
    return found


def label_columns(clf: CXRClassifier, given: Sequence[str] | None) -> Sequence[str] | None:
    """Return the columns of a CSV file that hold labels: those given, or those of a model of several labels."""
    return given or (list(map(str, clf.classes_)) if clf.task_ == "multilabel" else None)


def number_or_text(text: str) -> float | str:
    """Return a number where the text is one."""
    try:
        return float(text)
    except ValueError:
        return text


def label_of(text: str | None, labels: Any) -> Any:
    """Return the label that is written like `text`, so that `--pos-label 1` finds the number 1."""
    matching = [label for label in set(labels.ravel().tolist()) if str(label) == text]
    return matching[0] if matching else text


@contextlib.contextmanager
def adjust(
    model: Path | None,
    source: tuple[Path, str | None, str | None, str | None, Sequence[str] | None],
    output: Path | None,
    *,
    device: str,
    jobs: int,
    quiet: bool,
) -> Iterator[tuple[CXRClassifier, ImageDataset]]:
    """Give a saved model and labelled images to the block, and save the model when it ends well.

    Only a folder is changed in place: a model on the Hub and the bundled one need an `output`. `source`: the data, the
    split (default: val where the folder has it), and the options of `load_data`.
    """
    from cxr_estimator.datasets.folder import split_folders
    from cxr_estimator.serialization import writable_folder

    data, split, patient_column, label_pattern, columns = source
    target = output or model
    if target is None:
        raise DataError(
            "The model that comes with the package stays as it is; name a folder for a new one by --output."
        )
    if output is None and not target.is_dir():
        raise DataError(f"{model}: there is no such model folder; for a model on the Hub, name a new one by --output.")
    clf = load_model(model, device, quiet=quiet)
    writable_folder(target)
    if split is None:
        split = "val" if data.is_dir() and "val" in split_folders(data) else "all"
    images = load_data(data, split, patient_column, label_pattern, label_columns(clf, columns))
    on_error = clf.on_error
    clf.set_params(on_error="skip", n_jobs=jobs, verbose=0 if quiet else 1)
    with collect_skipped() as skipped:
        yield clf, images
    clf.set_params(on_error=on_error)
    clf.save(target)
    report_skipped(skipped)


def find_images(paths: Sequence[Path]) -> list[str]:
    """Return the files among `paths` as they are, and all images inside the folders among them, sorted."""
    from cxr_estimator.images import EXTENSIONS

    found: list[str] = []
    for path in paths:
        if not path.is_dir():
            found.append(str(path))
            continue
        inside = sorted(
            os.path.join(parent, name)
            for parent, _, names in os.walk(path)
            for name in names
            if name.lower().endswith(EXTENSIONS) and not name.startswith(".")
        )
        if not inside:
            raise DataError(f"{path}: holds no {', '.join(EXTENSIONS)} files.")
        found += inside
    return found


@contextlib.contextmanager
def collect_skipped() -> Iterator[list[SkippedImage]]:
    """Collect the images that are skipped within the block; our other warnings are shown at once, in one line.

    What other packages warn of is for developers, and not shown.
    """
    skipped: list[SkippedImage] = []

    def show(message: Warning | str, *details: Any, **more: Any) -> None:
        if isinstance(message, SkippedImagesWarning):
            skipped.extend(message.skipped)
        elif isinstance(message, PatientLeakWarning):  # whose own words are about arguments of Python
            typer.echo(f"warning: {_NO_PATIENTS}", err=True)
        elif type(message).__module__ == SkippedImagesWarning.__module__:
            typer.echo(f"warning: {message}", err=True)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show
        try:
            yield skipped
        except CXRError:
            list_skipped(skipped)  # they may be why
            raise


def list_skipped(skipped: Sequence[SkippedImage]) -> None:
    """Name every skipped image on standard error."""
    for item in skipped:
        typer.echo(f"unreadable: {item.source}: {item.reason}", err=True)


def report_skipped(skipped: Sequence[SkippedImage]) -> None:
    """Name every skipped image on standard error and end with the exit code that says so."""
    list_skipped(skipped)
    if skipped:
        raise typer.Exit(EXIT_UNREADABLE)


def write_rows(rows: Sequence[dict[str, Any]], output: Path | None, format: Format) -> None:
    """Write rows of equal keys as CSV or JSON to a file or to standard output."""
    if format is Format.json:
        text = json.dumps(rows, indent=1) + "\n"
    else:
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        text = buffer.getvalue()
    write_text(text, output)


def write_text(text: str, output: Path | None) -> None:
    """Write to a file or to standard output; bytes of names that are no UTF-8 are written as escapes."""
    from cxr_estimator._wording import printable

    text = printable(text)
    if output is None:
        typer.echo(text, nl=False)
        return
    output.write_text(text, encoding="utf-8")


def check_outside(output: Path, searched: Iterable[Path]) -> None:
    """Raise if `output` lies inside one of the folders that are searched for images."""
    for folder in searched:
        if folder.is_dir() and output.resolve().is_relative_to(folder.resolve()):
            raise DataError(f"{output}: lies inside {folder}, so that a second run would take its figures for images.")


def check_output(output: Path | None) -> None:
    """Raise now if `output` cannot be written later; its folder is made if need be."""
    from cxr_estimator.serialization import writable_folder

    if output is not None:
        writable_folder(output.parent)
        if output.is_dir():
            raise DataError(f"{output}: is a folder, but a file is to be written.")
