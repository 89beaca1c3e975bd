"""`cxr explain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cxr_estimator.cli._common import (
    DeviceOption,
    Format,
    FormatOption,
    ImagesArgument,
    JobsOption,
    ModelOption,
    QuietOption,
    collect_skipped,
    find_images,
    report_skipped,
    write_rows,
)
from cxr_estimator.errors import DataError


def explain(
    images: ImagesArgument,
    model: ModelOption,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the figures and the table.")],
    method: Annotated[str, typer.Option(help="Attribution method, such as grad_cam.")] = "grad_cam",
    target: Annotated[str, typer.Option(help="A class label, predicted, or margin.")] = "predicted",
    cmap: Annotated[
        str | None, typer.Option(help="Colour map of matplotlib, such as jet. Default: colour-blind safe.")
    ] = None,
    maps: Annotated[bool, typer.Option(help="Also write each map as .npz and .json.")] = False,
    format: FormatOption = Format.csv,
    device: DeviceOption = "auto",
    jobs: JobsOption = -1,
    quiet: QuietOption = False,
) -> None:
    """Draw the four-panel figure of each image, and write a table of what was explained."""
    from cxr_estimator._progress import bar
    from cxr_estimator.classifier import CXRClassifier
    from cxr_estimator.serialization import writable_folder

    clf = CXRClassifier.load(model, device=device)
    clf.set_params(on_error="skip", n_jobs=jobs)
    labels = {str(label): label for label in clf.classes_.tolist()}
    files = find_images(images)
    writable_folder(output)
    rows = []
    with collect_skipped() as skipped, bar(len(files), "explaining", not quiet) as progress:
        for part in clf.iter_explain(files, method=method, target=labels.get(target, target)):
            for i, name in enumerate(part.names):
                stem = f"{part.index[i] + 1:04d}_{Path(name).stem[:80]}"
                part.plot(i, cmap=cmap).savefig(output / f"{stem}.png")
                if maps:
                    part[i].save(output / stem)
                rows.append(
                    {
                        "image": name,
                        "figure": f"{stem}.png",
                        "decision": part.prediction.label[i].item(),
                        **{f"p_{label}": float(part.prediction.proba[i, k]) for k, label in enumerate(labels)},
                        "explained": part.target[i].item(),
                        "score": float(part.score[i]),
                    }
                )
                progress(1)
    if not rows:
        raise DataError(
            "None of the images could be read: " + "; ".join(f"{s.source}: {s.reason}" for s in skipped[:5])
        )
    table = output / f"explanations.{format.value}"
    write_rows(rows, table, format)
    typer.echo(f"{len(rows)} figures and {table.name} in {output}")
    report_skipped(skipped)
