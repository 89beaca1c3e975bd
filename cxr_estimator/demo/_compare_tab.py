"""The page that shows one radiograph to two models."""

from __future__ import annotations

import io
import tempfile
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import gradio as gr
from PIL import Image

from cxr_estimator._wording import escaped
from cxr_estimator.demo._analysis import Question
from cxr_estimator.demo._background import Background
from cxr_estimator.demo._card_text import card_text
from cxr_estimator.demo._compare import NAMES, Compared, agreement, alternative, compare, side_by_side
from cxr_estimator.demo._controls import ModelControls, method_control, model_controls, progress_bar, target_control
from cxr_estimator.demo._running import cancel_button, run_button
from cxr_estimator.demo._shared import App, told
from cxr_estimator.demo._synthetic import write_phantoms
from cxr_estimator.demo._uploads import read_upload
from cxr_estimator.errors import DataError
from cxr_estimator.figures import plot_comparison

_INTRODUCTION = (
    "One radiograph (PNG, JPEG, TIFF or DICOM), two models or two operating points, one method of explanation. Numbers "
    "say how far decisions, probabilities and heat maps agree. Agreement does not make either right."
)


class _Page(NamedTuple):
    stop: gr.State
    upload: gr.File
    example: gr.Button
    first: ModelControls
    second: ModelControls
    target: gr.Dropdown
    method: gr.Dropdown
    run: gr.Button
    cancel: gr.Button
    status: gr.HTML
    words: gr.Markdown
    figure: gr.Image
    table: gr.Markdown
    alike: gr.Markdown
    cards: gr.Markdown


def add(app: App) -> None:
    """Fill the tab."""
    page = _laid_out(app)

    @told
    def compare_two(path: Any, a: str, at_a: Any, b: str, at_b: Any, target: str, method: str) -> Iterator[Any]:
        questions = Question(point=at_a or None, target=target), Question(point=at_b or None)
        yield from _compared(app, path, (a, b), questions, method)

    inputs = [page.upload, *page.first, *page.second, page.target, page.method]
    outputs = [page.stop, page.status, page.words, page.figure, page.table, page.alike, page.cards]
    run_button(app, page.run, compare_two, inputs, outputs, status=page.status)
    cancel_button(page.cancel, page.stop)
    page.example.click(_example, None, page.upload, api_visibility="private")


def _laid_out(app: App) -> _Page:
    gr.Markdown(_INTRODUCTION)
    stop = gr.State(None, time_to_live=app.settings.keep_seconds)
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            upload = gr.File(label="Radiograph", type="filepath", height=140)
            example = gr.Button("Take a synthetic radiograph", size="sm")
            first = model_controls(app, label="Model A")
            second = model_controls(app, label="Model B", is_second=True)
            target = target_control(app, first.model)
            method = method_control(app, first.model)
            run = gr.Button("Compare", variant="primary")
            cancel = gr.Button("Cancel", elem_id="cancel-compare")
        with gr.Column(scale=2, min_width=320):
            status = gr.HTML(progress_bar(0, "Nothing compared yet."), elem_id="compare-status")
            words = gr.Markdown(elem_id="compare-words")
            figure = gr.Image(
                label="Six panels",
                show_label=False,
                format="png",
                interactive=False,
                visible=False,
                elem_classes="cxr-figure",
                buttons=["download", "fullscreen"],
            )
            table = gr.Markdown(elem_classes="cxr-wide", elem_id="compare-table")
            alike = gr.Markdown(elem_classes="cxr-wide")
            with gr.Accordion("Trust cards: how far to believe each heat map", open=False):
                cards = gr.Markdown(elem_classes="cxr-wide")
    return _Page(
        stop, upload, example, first, second, target, method, run, cancel, status, words, figure, table, alike, cards
    )  # fmt: skip


def _compared(
    app: App, path: str | None, names: tuple[str, str], questions: tuple[Question, Question], method: str
) -> Iterator[Any]:
    """Yield stop, status, words, figure, table, agreement and cards as the work goes on."""
    asked, same = threading.Event(), [gr.skip()] * 5
    yield asked, progress_bar(0, "Reading the image …"), *same
    image = read_upload(path)
    models = app.models.get(names[0]), app.models.get(names[1])
    with Background(lambda progress: compare(models, image, questions, method, progress=progress)) as work:
        for share in work:
            if asked.is_set():
                break
            yield gr.skip(), progress_bar(share, f"Explaining: {share:.0%}"), *same
        else:
            found = work.result()
            asked.set()
            points = questions[0].point, questions[1].point
            yield gr.skip(), progress_bar(1, "Done."), *_results(found, points)
            return
    yield gr.skip(), progress_bar(0, "Cancelled."), *same


def _example() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        yield write_phantoms(folder, 3)[2]


def _results(found: Compared, points: tuple[str | None, str | None]) -> tuple[Any, ...]:
    """Return words, figure, table, agreement and cards."""
    words = "\n\n".join([f"### {escaped(found.sentences[0])}", *map(escaped, found.sentences[1:])])
    figure, cards = gr.update(value=None, visible=False), "There are no heat maps to trust."
    if found.shown is not None:
        picture = gr.update(value=draw(found), visible=True, alt_text=alternative(found))
        figure = picture
        cards = "\n\n".join(
            card_text(one, name[:1].upper() + name[1:]) for name, one in zip(NAMES, found.shown, strict=True)
        )
    return words, figure, side_by_side(found, points), agreement(found), cards


def draw(found: Compared) -> Image.Image:
    """Return the six panels.

    Raises
    ------
    DataError
        There are no maps.
    """
    if found.shown is None:
        raise DataError(found.obstacle)
    names = [
        f"{name[:1].upper()}{name[1:]}: {one.served.name}" for name, one in zip(NAMES, found.judgements, strict=True)
    ]
    buffer = io.BytesIO()
    plot_comparison(
        found.shown[0].explanation,
        found.shown[1].explanation,
        names=(names[0], names[1]),
        withheld=found.withheld,
    ).savefig(buffer, format="png")
    return Image.open(buffer)
