"""`cxr curate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cxr_estimator.cli._common import (
    DeviceOption,
    JobsOption,
    LabelPatternOption,
    PatientColumnOption,
    QuietOption,
    collect_skipped,
    load_data,
    load_model,
    report_skipped,
)
from cxr_estimator.errors import DataError

if TYPE_CHECKING:
    import numpy as np

    from cxr_estimator.datasets import ImageDataset

DataArgument = Annotated[
    Path, typer.Argument(help="A folder with one sub-folder per class, or a CSV file with path and label.")
]
AnySplitOption = Annotated[str, typer.Option("--split", help="train, val, test or all.")]
LabelOption = Annotated[
    str | None, typer.Option("--label-column", help="Column of a CSV file that holds the label; default: label.")
]
NamesOption = Annotated[bool, typer.Option("--names", help="Show file names on the page; they may identify patients.")]


def curate(
    data: DataArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the page and the tables.")],
    model: Annotated[
        Path | None,
        typer.Option(help="A model folder: the out-of-fold networks are built and trained as this model was."),
    ] = None,
    split: AnySplitOption = "all",
    split_column: Annotated[
        str | None, typer.Option(help="Column of a CSV file that names the split; splits are compared.")
    ] = None,
    patient_column: PatientColumnOption = None,
    patient_pattern: Annotated[
        str | None,
        typer.Option(help="Regular expression on the file names of a folder whose group is the patient."),
    ] = None,
    label_pattern: LabelPatternOption = None,
    label_column: LabelOption = None,
    folds: Annotated[int, typer.Option(help="So many networks are trained, each on the other folds.")] = 5,
    backbone: Annotated[str, typer.Option(help="A timm model, or plain_cnn. Not with --model.")] = "plain_cnn",
    image_size: Annotated[int, typer.Option(help="Height and width of the input. Not with --model.")] = 64,
    epochs: Annotated[int, typer.Option(help="At most so many epochs. Not with --model.")] = 6,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate. Not with --model.")] = 3e-3,
    cache_dir: Annotated[
        Path | None, typer.Option(help="Folder for decoded images, so that folds read them only once.")
    ] = None,
    names: NamesOption = False,
    device: DeviceOption = "auto",
    jobs: JobsOption = -1,
    seed: Annotated[int, typer.Option(help="The same seed gives the same folds and networks.")] = 0,
    quiet: QuietOption = False,
) -> None:
    """Look for wrong labels, duplicates, overlap between splits and unreadable files.

    Writes curation.html with thumbnails, curation.json, and label_issues.csv, duplicates.csv, overlap.csv and
    unreadable.csv with the paths of the images: these files are for the owner of the data.
    """
    from cxr_estimator.classifier import CXRClassifier
    from cxr_estimator.curation import curate as search
    from cxr_estimator.serialization import writable_folder

    writable_folder(output)
    columns = [label_column] if label_column else None
    check_split(data, split, split_column)
    images = load_data(data, split, patient_column, label_pattern, columns, patient_pattern=patient_pattern or "auto")
    images, splits = _splits(data, images, split, split_column)
    if model is None:
        clf = CXRClassifier(backbone, image_size=image_size, max_epochs=epochs, learning_rate=learning_rate)
    else:
        clf = load_model(model, device, quiet=quiet).set_params(pos_label=None, threshold=0.5, checkpoint_dir=None)
    clf.set_params(device=device, n_jobs=jobs, verbose=0 if quiet else 1, random_state=seed, on_error="skip")
    if cache_dir is not None:
        clf.set_params(cache_dir=cache_dir)
    with collect_skipped():  # unreadable images are listed by the report, under their position among all
        report = search(clf, images.X, images.y, groups=images.groups, splits=splits, cv=folds)
    report.save(output, root=data if data.is_dir() else data.parent, show_names=names)
    typer.echo(str(report))
    typer.echo(f"saved to {output}")
    report_skipped(report.unreadable)


def check_split(data: Path, split: str, split_column: str | None = None) -> None:
    """Raise where `--split` is asked of a CSV file whose splits nobody named."""
    if data.suffix.lower() == ".csv" and split != "all" and split_column is None:
        raise DataError(f"--split {split}: a CSV file has splits only where --split-column names their column.")


def _splits(data: Path, images: ImageDataset, split: str, column: str | None) -> tuple[ImageDataset, np.ndarray | None]:
    """Return the images of the split, of a CSV file too, and the split of each; None where there is one only."""
    import numpy as np

    from cxr_estimator.datasets import ImageDataset
    from cxr_estimator.datasets.folder import split_folders
    from cxr_estimator.datasets.table import read_columns

    if data.suffix.lower() == ".csv":
        if column is None:
            return images, None
        names = read_columns(data, [column])[column]
        if split == "all":
            return images, names
        kept = np.flatnonzero(names == split)
        if not len(kept):
            found = sorted(set(map(str, names)))
            raise DataError(f"{data}: column {column!r} names no split {split!r}; it has {found!r:.500}.")
        groups = None if images.groups is None else images.groups[kept]
        return ImageDataset(images.X[kept], images.y[kept], groups), None
    if column is not None:
        raise DataError("--split-column is for a CSV file; in a folder, sub-folders are the splits.")
    folders = split_folders(data)
    names = np.array(
        [next((name for name, one in folders.items() if Path(path).is_relative_to(one)), "") for path in images.X]
    )
    return images, names if len(set(names)) > 1 else None
