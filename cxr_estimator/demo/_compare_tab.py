"""The page that shows one radiograph to two models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import gradio as gr

from cxr_estimator._wording import escaped
from cxr_estimator.demo._analysis import Question
from cxr_estimator.demo._background import Background, Stopped
from cxr_estimator.demo._compare import (
    NAMES,
    Compared,
    agreement,
    alternative,
    compare,
    side_by_side,
    six_panels,
    verification,
)
from cxr_estimator.demo._controls import (
    ModelControls,
    figure_image,
    method_control,
    model_controls,
    radiograph_control,
    target_control,
)
from cxr_estimator.demo._examples import example_file
from cxr_estimator.demo._running import Outcome, Turn, cancel_button, run_button
from cxr_estimator.demo._shared import App, told
from cxr_estimator.demo._uploads import read_upload
from cxr_estimator.demo._words import html, notice

_INTRODUCTION = (
    "One radiograph (PNG, JPEG, TIFF or DICOM), two models or two operating points, one method of explanation. Numbers "
    "say how far decisions, probabilities and heat maps agree. Agreement does not make either right."
)


class _Page(NamedTuple):
    turn: gr.State
    upload: gr.File
    example: gr.Button
    first: ModelControls
    second: ModelControls
    target: gr.Dropdown
    method: gr.Dropdown
    run: gr.Button
    outcome: Outcome
    words: gr.Markdown
    figure: gr.Image
    table: gr.HTML
    alike: gr.HTML
    cards: gr.HTML


def add(app: App) -> None:
    """Fill the tab."""
    page = _laid_out(app)

    @told
    def compare_two(
        turn: Turn, number: int, path: Any, a: str, at_a: Any, b: str, at_b: Any, target: str, method: str
    ) -> Iterator[Any]:
        questions = Question(point=at_a or None, target=target), Question(point=at_b or None)
        yield from _compared(app, turn, number, path, (a, b), questions, method)

    inputs = [page.upload, *page.first, *page.second, page.target, page.method]
    outputs = [page.outcome.status, page.words, page.figure, page.table, page.alike, page.cards]
    run_button(app, page.run, page.turn, compare_two, inputs, outputs, page.outcome)
    page.example.click(lambda: example_file("With an opacity"), None, page.upload, api_visibility="private")


def _laid_out(app: App) -> _Page:
    gr.Markdown(_INTRODUCTION)
    turn = gr.State(Turn())
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            upload = radiograph_control()
            example = gr.Button("Take a synthetic radiograph", size="sm")
            first = model_controls(app, label="Model A")
            second = model_controls(app, label="Model B", is_second=True)
            target = target_control(app, first.model)
            method = method_control(app, first.model)
            run = gr.Button("Compare", variant="primary")
        with gr.Column(scale=2, min_width=300):
            status = gr.HTML(notice("Nothing compared yet."), elem_id="compare-status", padding=False)
            cancel = cancel_button(turn, "compare")
            with gr.Column(visible=False) as results:
                words = gr.Markdown(elem_id="compare-words")
                figure = figure_image("Six panels")
                table = gr.HTML(elem_id="compare-table", padding=False)
                alike = gr.HTML(padding=False)
                with gr.Accordion("Trust cards: how far to believe each heat map", open=False):
                    cards = gr.HTML(padding=False)
    outcome = Outcome(status, cancel, results)
    return _Page(turn, upload, example, first, second, target, method, run, outcome, words, figure, table, alike, cards)


def _compared(
    app: App,
    turn: Turn,
    number: int,
    path: str | None,
    names: tuple[str, str],
    questions: tuple[Question, Question],
    method: str,
) -> Iterator[Any]:
    """Yield status, words, figure, table, agreement and cards as the work of this number goes on."""
    same = [gr.skip()] * 5
    # nothing of another image is left where this one cannot be compared
    yield notice("Reading the image …", share=0), "", gr.update(value=None, visible=False), "", "", ""
    image = read_upload(path)
    models = app.models.get(names[0]).held(), app.models.get(names[1]).held()
    try:
        with Background(lambda progress: compare(models, image, questions, method, progress=progress)) as work:
            for share in turn.watched(work, number):
                yield notice("Explaining", share=share), *same
            found = work.result()
    except Stopped as stopped:
        if str(stopped):
            yield notice(str(stopped)), *same
        return
    yield notice("Done."), *_results(found, (questions[0].point, questions[1].point))


def _results(found: Compared, points: tuple[str | None, str | None]) -> tuple[Any, ...]:
    """Return words, figure, table, agreement and cards."""
    words = "\n\n".join([f"### {escaped(found.sentences[0])}", *map(escaped, found.sentences[1:])])
    figure, cards = gr.update(value=None, visible=False), notice("There are no heat maps to trust.")
    if found.shown is not None:
        figure = gr.update(value=six_panels(found), visible=True, alt_text=alternative(found))
        cards = "".join(html("card", card=one.card, whose=name) for name, one in zip(NAMES, found.shown, strict=True))
    alike = _table(verification(found)) + _table(agreement(found))
    return words, figure, _table(side_by_side(found, points)), alike, cards


def _table(rows: list[list[str]]) -> str:
    return html("table", head=rows[0], rows=rows[1:]) if rows else ""
