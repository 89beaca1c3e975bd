"""`cxr compare`."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cxr_estimator.cli._common import (
    DeviceOption,
    JobsOption,
    LabelPatternOption,
    PatientColumnOption,
    QuietOption,
    TestSplitOption,
    check_outside,
    collect_skipped,
    load_data,
    load_model,
    report_skipped,
)
from cxr_estimator.cli.evaluate import default_split
from cxr_estimator.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from cxr_estimator.comparison import ModelComparison
    from cxr_estimator.datasets import ImageDataset
    from cxr_estimator.errors import SkippedImage

_SIMILAR = 5


def compare(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the page, figures and tables.")],
    model: Annotated[list[Path], typer.Option("--model", help="A model folder or user/model; two or more, in order.")],
    image: Annotated[
        Path | None, typer.Option(help="One image. Without it and --data one of CXR_DATA_DIR, or a synthetic one.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="A folder with one sub-folder per class, or a CSV file with path and label.")
    ] = None,
    split: TestSplitOption = None,
    known: Annotated[
        Path | None, typer.Option(help="Labelled cases, as for --data, among which those like the image are sought.")
    ] = None,
    patient_column: PatientColumnOption = None,
    label_pattern: LabelPatternOption = None,
    method: Annotated[str, typer.Option(help="Attribution method.")] = "grad_cam",
    maps: Annotated[int, typer.Option(help="How many images of --data are explained.")] = 24,
    seed: Annotated[int, typer.Option(help="Of what is drawn at random.")] = 0,
    device: DeviceOption = "auto",
    jobs: JobsOption = -1,
    quiet: QuietOption = False,
) -> None:
    """Compare models: what they decide, how well, and what they look at.

    Of one image: six panels, and a checklist of what to verify. Of labelled data: agreement, paired tests, who flipped,
    and the images whose maps are least alike. The page comparison.html and the figures show radiographs.
    """
    from cxr_estimator.serialization import writable_folder

    if image is not None and data is not None:
        raise DataError("--image and --data: give one of them.")
    if known is not None and data is not None:
        raise DataError("--known: cases like one image are sought; leave out --data.")
    if len(model) < 2:
        raise DataError("--model: give it twice at least, once for each model.")
    root = os.environ.get("CXR_DATA_DIR") or None  # an empty one is none
    searched = [image, data, known, Path(root) if root and image is None and data is None else None]
    check_outside(output, [one for one in searched if one is not None])
    writable_folder(output)
    models = _models(model, device, quiet=quiet)
    for clf in models.values():
        clf.set_params(on_error="raise" if data is None else "skip", n_jobs=jobs, verbose=0 if quiet else 1)
    options: dict[str, Any] = {"method": method, "random_state": seed}
    if data is None:
        X, told = _one_image(image, root, seed)
        typer.echo(told)
        report, skipped = _of_image(models, X, known, label_pattern, options)
    else:
        found = load_data(data, split or default_split(data), patient_column, label_pattern, None)
        from cxr_estimator.comparison import compare as compared

        with collect_skipped() as skipped:
            report = compared(models, found.X, found.y, found.groups, n_maps=maps, **options)
        typer.echo(str(report))
    report.save(output)
    typer.echo(f"\ncomparison.html, comparison.json, images.csv and figures of six panels in {output}")
    report_skipped(list(dict.fromkeys(skipped)))  # once, whichever models could not read them


def _models(paths: list[Path], device: str, *, quiet: bool) -> dict[str, Any]:
    """Return the models by names that differ."""
    names = [path.resolve().name if path.is_dir() else path.name for path in paths]  # "." has a name, too
    names = [name if names.count(name) == 1 else f"{chr(65 + k)}: {name}" for k, name in enumerate(names)]
    return {name: load_model(path, device, quiet=quiet) for name, path in zip(names, paths, strict=True)}


def _one_image(image: Path | None, root: str | None, seed: int) -> tuple[Any, str]:
    """Return one image as X, and what to tell of it."""
    import numpy as np

    from cxr_estimator.datasets import load_image_folder, make_phantoms
    from cxr_estimator.datasets.folder import split_folders

    if image is not None:
        return [str(image)], f"image: {image}"
    if root is None:
        return make_phantoms(1, 224, random_state=seed).X, "image: a synthetic radiograph (CXR_DATA_DIR is not set)"
    if not Path(root).is_dir():
        raise DataError(f"CXR_DATA_DIR: there is no folder {root}. Name an image by --image, or unset it.")
    files = load_image_folder(root, split="test" if "test" in split_folders(Path(root)) else "all").X
    chosen = files[int(np.random.default_rng(seed).integers(len(files)))]
    return [chosen], f"image: {chosen} (drawn at random)"


def _of_image(
    models: dict[str, Any], X: Any, known: Path | None, label_pattern: str | None, options: dict[str, Any]
) -> tuple[ModelComparison, list[SkippedImage]]:
    """Tell of one image, for each pair of models; known cases that cannot be read are returned, too."""
    from cxr_estimator.comparison import compare as compared

    cases = None if known is None else _known(known, label_pattern, models)
    report = compared(models, X, n_maps=1, **options)
    skipped: list[SkippedImage] = []
    if cases is not None:
        with collect_skipped() as skipped:
            report = replace(report, similar={name: _similar(clf, cases, X) for name, clf in models.items()})
    for shown in report.least_alike:
        typer.echo(f"\n{' and '.join(shown.names)}")
        for sentence in shown.sentences:
            typer.echo(f"  {sentence}")
        for one in shown.items:
            typer.echo(f"  {one.verdict:<16} {one.name}: {one.sentence}")
    return report, skipped


def _known(known: Path, label_pattern: str | None, models: dict[str, Any]) -> ImageDataset:
    """Return the known cases, or raise unless their labels are classes of the models."""
    from cxr_estimator._validation import check_labels

    cases = load_data(known, "all", None, label_pattern, patient_pattern=None)
    check_labels(cases.y, len(cases.X), caller="--known", classes=next(iter(models.values())).classes_)
    return cases


def _similar(clf: Any, known: ImageDataset, X: Any) -> pd.DataFrame:
    """Return the known cases most like an image, without that image itself."""
    from cxr_estimator.curation import SimilarCases

    cases = SimilarCases(clf.set_params(on_error="skip"), known.X, known.y)
    found = cases.query(X, k=len(cases))
    return found[~found["same_image"]].head(_SIMILAR)
