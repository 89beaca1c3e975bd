"""`cxr compare`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cxr_estimator.cli._common import (
    DeviceOption,
    JobsOption,
    LabelPatternOption,
    PatientColumnOption,
    QuietOption,
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

_SIMILAR = 5
_FIGURES = 4  # of the images whose maps are least alike


def compare(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for figures and comparison.json.")],
    model: Annotated[list[Path], typer.Option("--model", help="A model folder or user/model; two or more, in order.")],
    image: Annotated[
        Path | None, typer.Option(help="One image. Without it and --data one of CXR_DATA_DIR, or a synthetic one.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="A folder with one sub-folder per class, or a CSV file with path and label.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Of --data: train, val, test or all. Default: test where the folder has it.")
    ] = None,
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
    and the images whose maps are least alike.
    """
    from cxr_estimator.serialization import writable_folder

    if image is not None and data is not None:
        raise DataError("--image and --data: give one of them.")
    if len(model) < 2:
        raise DataError("--model: give it twice at least, once for each model.")
    check_outside(output, [one for one in (image, data) if one is not None])
    writable_folder(output)
    models = _models(model, device, quiet=quiet)
    for clf in models.values():
        clf.set_params(on_error="raise" if data is None else "skip", n_jobs=jobs)
    options: dict[str, Any] = {"method": method, "random_state": seed}
    if data is None:
        X, told = _one_image(image, seed)
        typer.echo(told)
        cases = None if known is None else load_data(known, "all", None, label_pattern, patient_pattern=None)
        _of_image(models, X, cases, options, output)
        return
    found = load_data(data, split or default_split(data), patient_column, label_pattern, None)
    from cxr_estimator.comparison import compare as compared

    with collect_skipped() as skipped:
        report = compared(models, found.X, found.y, found.groups, n_maps=maps, **options)
    _save(report, output)
    typer.echo(str(report))
    typer.echo(f"comparison.json, images.csv and figures of the maps that are least alike in {output}")
    report_skipped(skipped)


def _models(paths: list[Path], device: str, *, quiet: bool) -> dict[str, Any]:
    """Return the models by names that differ."""
    names = [path.name for path in paths]
    names = [name if names.count(name) == 1 else f"{chr(65 + k)}: {name}" for k, name in enumerate(names)]
    return {name: load_model(path, device, quiet=quiet) for name, path in zip(names, paths, strict=True)}


def _one_image(image: Path | None, seed: int) -> tuple[Any, str]:
    """Return one image as X, and what to tell of it."""
    import numpy as np

    from cxr_estimator.datasets import load_image_folder, make_phantoms
    from cxr_estimator.datasets.folder import split_folders

    if image is not None:
        return [str(image)], f"image: {image}"
    root = os.environ.get("CXR_DATA_DIR")
    if root is None:
        return make_phantoms(1, 224, random_state=seed).X, "image: a synthetic radiograph (CXR_DATA_DIR is not set)"
    files = load_image_folder(root, split="test" if "test" in split_folders(Path(root)) else "all").X
    chosen = files[int(np.random.default_rng(seed).integers(len(files)))]
    return [chosen], f"image: {chosen} (drawn at random)"


def _of_image(
    models: dict[str, Any], X: Any, known: ImageDataset | None, options: dict[str, Any], output: Path
) -> None:
    """Tell of one image, for each pair of models, and write the figures."""
    from cxr_estimator.comparison import compare as compared

    report = compared(models, X, n_maps=1, **options)
    unusual = {
        name: check.sentences[0]
        for name, clf in models.items()
        if clf.ood_ is not None and (check := clf.check_images(X)).is_unusual[0]
    }
    similar = {} if known is None else {name: _similar(clf, known, X) for name, clf in models.items()}
    found = {}
    for pair in report.pairs:
        typer.echo(f"\n{' and '.join(pair.names)}")
        items = report.checklist(
            0,
            pair.names,
            unusual={name: said for name, said in unusual.items() if name in pair.names},
            similar={name: cases for name, cases in similar.items() if name in pair.names},
        )
        for sentence in pair.comparison.sentences(names=pair.names)[:2]:
            typer.echo(f"  {sentence}")
        for one in items:
            typer.echo(f"  {one.verdict:<15} {one.name}: {one.sentence}")
        name = _figure_name(pair.names, report)
        report.plot(0, pair.names).savefig(output / name)
        found[" and ".join(pair.names)] = {"figure": name, "checklist": [one._asdict() for one in items]}
    _write({**report.to_dict(), "verify": found}, output)
    typer.echo(f"\ncomparison.json and the figures of six panels in {output}")


def _similar(clf: Any, known: ImageDataset, X: Any) -> pd.DataFrame:
    from cxr_estimator.curation import SimilarCases

    with collect_skipped():
        return SimilarCases(clf, known.X, known.y).query(X, k=min(_SIMILAR, len(known.X) - 1), exclude_same=True)


def _save(report: ModelComparison, output: Path) -> None:
    _write(report.to_dict(), output)
    report.images.to_csv(output / "images.csv", index=False)
    for pair in report.pairs:
        for rank, row in enumerate(report.moved(*pair.names)["row"][:_FIGURES].tolist(), 1):
            report.plot(row, pair.names).savefig(output / _figure_name(pair.names, report, f"_{rank}"))


def _write(found: dict[str, Any], output: Path) -> None:
    (output / "comparison.json").write_text(json.dumps(found, indent=1, allow_nan=False), encoding="utf-8")


def _figure_name(names: tuple[str, str], report: ModelComparison, end: str = "") -> str:
    """Return a name that says which pair it is, without their own names, which may hold any character."""
    order = list(report.explanations)
    return f"models_{order.index(names[0]) + 1}_and_{order.index(names[1]) + 1}{end}.png"
