"""`cxr similar`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cxr_estimator._validation import check_number
from cxr_estimator.cli._common import (
    DeviceOption,
    Format,
    FormatOption,
    JobsOption,
    LabelPatternOption,
    ModelOption,
    OutputOption,
    QuietOption,
    check_output,
    collect_skipped,
    load_data,
    load_model,
    report_skipped,
    write_rows,
    write_text,
)
from cxr_estimator.cli.curate import AnySplitOption, LabelOption, NamesOption, check_split

if TYPE_CHECKING:
    import pandas as pd


def similar(
    image: Annotated[Path, typer.Argument(help="The image file to find similar cases of.")],
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            envvar="CXR_DATA_DIR",
            help="The known cases, as for the other commands.",
        ),
    ],
    model: ModelOption = None,
    k: Annotated[int, typer.Option("-k", "--number", help="So many cases.")] = 5,
    exclude_same: Annotated[bool, typer.Option(help="Leave out known cases with the very same pixels.")] = False,
    split: AnySplitOption = "all",
    label_pattern: LabelPatternOption = None,
    label_column: LabelOption = None,
    names: NamesOption = False,
    format: FormatOption = Format.csv,
    output: OutputOption = None,
    device: DeviceOption = "auto",
    jobs: JobsOption = -1,
    quiet: QuietOption = False,
) -> None:
    """Find the labelled cases that look to a model most like an image.

    Writes a table with the paths of the cases; an output file that ends in .html gets thumbnails.
    """
    from cxr_estimator.curation import SimilarCases

    check_output(output)
    check_split(data, split)
    columns = [label_column] if label_column else None
    known = load_data(data, split, None, label_pattern, columns, patient_pattern=None)
    check_number("k", k, caller="cxr similar", low=1, high=len(known.X), integer=True)
    clf = load_model(model, device, quiet=quiet)
    clf.set_params(n_jobs=jobs, verbose=0 if quiet else 1, on_error="raise")
    files = [str(image)]
    clf._embed(files)  # fails now rather than after the known cases
    clf.set_params(on_error="skip")
    with collect_skipped() as skipped:
        cases = SimilarCases(clf, known.X, known.y)
    found = cases.query(files, k=k, exclude_same=exclude_same)
    if output is not None and output.suffix.lower() == ".html":
        write_text(_page(files, known.X, found, names), output)
    else:
        root = data if data.is_dir() else data.parent
        rows = [
            {
                **{str(name): value for name, value in row.items()},
                "path": os.path.relpath(known.X[row["position"]], root),
            }
            for row in found.drop(columns="query").to_dict("records")
        ]
        write_rows(rows, output, format)
    report_skipped(skipped)


def _page(files: list[str], known: Any, found: pd.DataFrame, show_names: bool) -> str:
    from cxr_estimator.curation._writing import Card, Shown, similar_page, thumbnail
    from cxr_estimator.images import as_images

    shown = Shown(as_images(known), show_names)
    neighbours = [
        shown.card(row["position"], row["label"], f"{row['similarity']:.3f} alike", "same pixels" * row["same_image"])
        for row in found.astype({"label": str}).to_dict("records")
    ]
    name = os.path.basename(files[0]) if show_names else "the case"
    return similar_page(Card(thumbnail(as_images(files), 0), [name]), neighbours)
