"""`cxr explain`."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cxr_estimator.cli._common import (
    DeviceOption,
    Format,
    FormatOption,
    ImagesArgument,
    JobsOption,
    ModelOption,
    QuietOption,
    as_target,
    check_outside,
    collect_skipped,
    find_images,
    load_model,
    pinned_model,
    report_skipped,
    write_rows,
)
from cxr_estimator.errors import DataError

if TYPE_CHECKING:
    from cxr_estimator.classifier import CXRClassifier
    from cxr_estimator.explanation import Explanation


def explain(
    images: ImagesArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the figures and the table.")],
    model: ModelOption = None,
    method: Annotated[
        str,
        typer.Option(help="Attribution method, several with commas, or 'all' that the network supports (takes long)."),
    ] = "grad_cam",
    target: Annotated[str, typer.Option(help="A class label, predicted, or margin.")] = "predicted",
    option: Annotated[
        list[str] | None,
        typer.Option(help="Option of the methods, or random_state, such as n_samples=64; may be given several times."),
    ] = None,
    background: Annotated[
        Path | None, typer.Option(help="Folder of images that SHAP methods compare with, instead of the model's own.")
    ] = None,
    error_bars: Annotated[bool, typer.Option("--error-bars", help="Repeat, and keep the spread (see --maps).")] = False,
    batch_size: Annotated[str | None, typer.Option(help="Images at once, or auto.")] = None,
    cmap: Annotated[
        str | None, typer.Option(help="Colour map of matplotlib, such as jet. Default: colour-blind safe.")
    ] = None,
    maps: Annotated[bool, typer.Option(help="Also write each map as .npz and .json.")] = False,
    receipts: Annotated[
        bool,
        typer.Option("--receipts", help="Also write what `cxr replay` repeats each map from. Takes images one by one."),
    ] = False,
    format: FormatOption = Format.csv,
    device: DeviceOption = "auto",
    jobs: JobsOption = -1,
    quiet: QuietOption = False,
) -> None:
    """Draw the figure of each image, and write a table of what was explained.

    One method gives the four-panel figure, several give a sheet with one overlay each.
    """
    from cxr_estimator._progress import bar, told_how_far
    from cxr_estimator.figures import colormap, plot_methods
    from cxr_estimator.receipts import receipt_of
    from cxr_estimator.serialization import writable_folder

    chosen = dict(map(_parse_option, option or []))
    if cmap is not None:
        colormap(cmap)  # raises now rather than after the first images
    files = find_images(images)
    check_outside(output, [*images, *([] if background is None else [background])])
    if receipts and background is not None:
        raise DataError("--receipts: a receipt holds no images, so that a map with --background cannot be repeated.")
    model, name, revision = pinned_model(model) if receipts else (model, "", None)
    clf = load_model(model, device, quiet=quiet)
    clf.set_params(on_error="skip", n_jobs=jobs)
    request: dict[str, Any] = {
        "method": chosen_methods(clf, method, has_background=background is not None),
        "target": as_target(clf, target),
        "error_bars": error_bars,
        "batch_size": number_or_text(batch_size),
        "background": None if background is None else find_images([background]),
        **chosen,
    }
    writable_folder(output)
    rows = []
    with collect_skipped() as skipped, bar(len(files), "explaining", not quiet) as advance:
        explain_parts = _one_by_one if receipts else _in_batches
        for part in explain_parts(clf, files, told_how_far(advance, None), request):
            first = next(iter(part.values()))
            for i, source in enumerate(first.names):
                stem = f"{first.index[i] + 1:04d}_{Path(source).stem[:80]}"
                figure = first.plot(i, cmap=cmap) if len(part) == 1 else plot_methods(part, i, cmap=cmap)
                figure.savefig(output / f"{stem}.png")
                for key, explanation in part.items():
                    place = output / (stem if len(part) == 1 else f"{stem}.{key}")
                    if maps:
                        explanation[i].save(place)
                    if receipts:
                        made = receipt_of(
                            clf, explanation, i, model_name=name, revision=revision, batch_size=request["batch_size"]
                        )
                        made.save(place.with_name(f"{place.name}.receipt.json"))
                    rows.append(_row(explanation, i, f"{stem}.png"))
    if not rows:
        raise DataError(
            "None of the images could be read: " + "; ".join(f"{s.source}: {s.reason}" for s in skipped[:5])
        )
    table = output / f"explanations.{format.value}"
    write_rows(rows, table, format)
    typer.echo(f"{len({row['figure'] for row in rows})} figures and {table.name} in {output}")
    report_skipped(skipped)


_Progress = Callable[[float, int], Any]


def _in_batches(
    clf: CXRClassifier, files: Sequence[str], progress: _Progress, request: dict[str, Any]
) -> Iterator[dict[str, Explanation]]:
    return clf.iter_explain(files, progress=progress, **request)


def _one_by_one(
    clf: CXRClassifier, files: Sequence[str], progress: _Progress, request: dict[str, Any]
) -> Iterator[dict[str, Explanation]]:
    """Yield the explanations of each image, made as `replay` makes them: in a batch the last bits are other ones."""
    for number, file in enumerate(files):

        def told(done: float, total: int, before: int = number) -> None:
            progress(before + done, len(files))

        for part in clf.iter_explain([file], progress=told, **request):
            yield {key: replace(one, index=one.index + number) for key, one in part.items()}


def chosen_methods(clf: CXRClassifier, names: str, *, has_background: bool) -> list[str]:
    """Return the methods that `names` asks for; of "all" those are left out, and named, that cannot work."""
    from cxr_estimator.attribution import METHODS

    if names != "all":
        return [name.strip() for name in names.split(",")]
    chosen = []
    for name, method in METHODS.items():
        obstacle = method.obstacle(clf.model_)
        if obstacle is None and method.needs_background and not has_background and clf.background_ is None:
            obstacle = "the model has no background; see --background"
        if obstacle is None:
            chosen.append(name)
        else:
            typer.echo(f"left out: {name}: {obstacle}", err=True)
    return chosen


def _row(explanation: Any, i: int, figure: str) -> dict[str, Any]:
    said = explanation.prediction
    return {
        "image": explanation.names[i],
        "figure": figure,
        "method": explanation.method,
        "decision": said.label[i].item(),
        **{f"p_{label}": float(said.proba[i, k]) for k, label in enumerate(said.classes)},
        "explained": explanation.target[i].item(),
        "score": float(explanation.score[i]),
        "evaluations": int(explanation.evaluations[i]),
    }


def _parse_option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise DataError(f"--option must be NAME=VALUE, such as n_samples=64. Got {text!r}.")
    if name in _reserved():
        is_flag = name in inspect.signature(explain).parameters
        remedy = f": use --{name.replace('_', '-')}" if is_flag else ""
        raise DataError(f"--option cannot set {name!r}{remedy}.")
    return name, number_or_text(value)


def _reserved() -> set[str]:
    """Return the parameters of `CXRClassifier.explain` that are no options of methods, except the seed."""
    from cxr_estimator.classifier import CXRClassifier

    return set(inspect.signature(CXRClassifier.explain).parameters) - {"random_state", "options"}


def number_or_text(text: str | None) -> Any:
    """Return what the text is in JSON (numbers, lists, true, null), or the text itself."""
    try:
        return text if text is None else json.loads(text)
    except ValueError:
        return text
