"""`cxr quickstart`: the main job from end to end."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cxr_estimator.cli._common import LabelPatternOption, QuietOption


def quickstart(
    data: Annotated[
        Path | None, typer.Option("--data", help="Real radiographs, one sub-folder per class. Default: synthetic ones.")
    ] = None,
    label_pattern: LabelPatternOption = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the model, figures and summary.")] = Path(
        "cxr-quickstart"
    ),
    backbone: Annotated[
        str | None, typer.Option(help="Default: plain_cnn on phantoms, mobilenetv3_small_100 on real radiographs.")
    ] = None,
    image_size: Annotated[int | None, typer.Option(help="Default: 96 on phantoms, 128 on real radiographs.")] = None,
    epochs: Annotated[int | None, typer.Option(help="At most so many epochs.")] = None,
    images: Annotated[int, typer.Option(help="Number of phantoms to make.")] = 1200,
    seed: Annotated[int, typer.Option(help="Seed of data, split and training.")] = 0,
    quiet: QuietOption = False,
) -> None:
    """Train, choose a threshold, evaluate, explain, check the heat maps, and write figures and a summary.

    Without --data it works on synthetic radiographs ("phantoms") made on the spot: no download, under 3 minutes.
    """
    from cxr_estimator.quickstart import run

    summary = run(
        data,
        output,
        label_pattern=label_pattern,
        backbone=backbone,
        image_size=image_size,
        max_epochs=epochs,
        n_phantoms=images,
        seed=seed,
        verbose=not quiet,
    )
    typer.echo(summary)
