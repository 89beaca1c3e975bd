"""The page for many radiographs at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import gradio as gr
import pandas as pd

from cxr_estimator.demo._analysis import FAST, Question, points_of
from cxr_estimator.demo._archives import Limits
from cxr_estimator.demo._background import Background, Stopped
from cxr_estimator.demo._batch import ORDER, Row, caption, csv_of, judge_batch, number_of_files, ranked, table
from cxr_estimator.demo._controls import csv_button, csv_file, method_control, model_controls
from cxr_estimator.demo._examples import phantom_files
from cxr_estimator.demo._folder import new_file
from cxr_estimator.demo._running import Outcome, Turn, cancel_button, run_button
from cxr_estimator.demo._settings import MEBIBYTE, Settings
from cxr_estimator.demo._shared import App, told
from cxr_estimator.demo._words import marked, notice

_NUMBERS = ("probability", "low", "high", "gain")
_WIDTHS: list[str | int] = ["140px", "80px", "105px", "100px", "60px", "60px", "110px", "65px", "195px"]


class _Page(NamedTuple):
    turn: gr.State
    uploads: gr.File
    example: gr.Button
    model: gr.Dropdown
    point: gr.Dropdown
    method: gr.Dropdown
    run: gr.Button
    outcome: Outcome
    rows: gr.Dataframe
    download: gr.DownloadButton
    gallery: gr.Gallery


def add(app: App) -> None:
    """Fill the tab."""
    page = _laid_out(app)

    @told
    def judge_all(
        turn: Turn, number: int, paths: list[str] | None, name: str, point: str | None, method: str
    ) -> Iterator[Any]:
        yield from _judged(app, turn, number, paths or [], name, Question(point=point or None), method)

    inputs = [page.uploads, page.model, page.point, page.method]
    outputs = [page.outcome.status, page.rows, page.download, page.gallery]
    run_button(app, page.run, page.turn, judge_all, inputs, outputs, page.outcome)
    page.example.click(_examples, None, page.uploads, api_visibility="private")


def _laid_out(app: App) -> _Page:
    gr.Markdown(_introduction(app.settings))
    turn = gr.State(Turn())
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            uploads = gr.File(label="Files", file_count="multiple", type="filepath", height=180)
            example = gr.Button("Take synthetic files, one of them broken", size="sm")
            model, point = model_controls(app)
            method = method_control(app, model, speeds=FAST)
            run = gr.Button("Judge all", variant="primary")
        with gr.Column(scale=3, min_width=300):
            status = gr.HTML(notice("Nothing judged yet."), elem_id="batch-status", padding=False)
            cancel = cancel_button(turn, "batch")
            with gr.Column(visible=False) as results:
                gr.Markdown(f"{ORDER} Click on the head of a column to sort by it.")
                rows = gr.Dataframe(
                    _for_people([]),
                    label="Results",
                    interactive=False,
                    wrap=True,
                    max_height=560,
                    elem_id="batch-table",
                    elem_classes="cxr-table",
                    datatype=["number" if name in _NUMBERS else "str" for name in _for_people([]).columns],
                    column_widths=_WIDTHS,
                    buttons=["fullscreen"],
                )
                download = csv_button("batch")
                gr.Markdown("#### Heat maps, the least trusted first")
                gallery = gr.Gallery(
                    label="Heat maps, the least trusted first",
                    show_label=False,
                    format="png",
                    columns=4,
                    object_fit="contain",
                    height="auto",
                    visible=False,
                    buttons=[],
                    elem_id="batch-gallery",
                    elem_classes="cxr-gallery",
                )
    outcome = Outcome(status, cancel, results)
    return _Page(turn, uploads, example, model, point, method, run, outcome, rows, download, gallery)


def _judged(
    app: App, turn: Turn, number: int, paths: list[str], name: str, question: Question, method: str
) -> Iterator[Any]:
    """Yield status, rows, download and gallery as the work of this number goes on."""
    rows, seen = list[Row](), 0
    yield notice("Reading the files …", share=0), _for_people([]), csv_file("batch", None), gr.update(visible=False)
    served, limits = app.models.get(name).held(), Limits.of(app.settings)
    total = number_of_files(paths, limits)

    def work(progress: Any) -> list[Row]:
        return judge_batch(served, paths, question, method, limits, on_row=rows.append, progress=progress)

    try:
        with Background(work) as running:
            for share in turn.watched(running, number):
                done = len(rows)
                fresh = _for_people(rows[:done]) if done > seen else gr.skip()
                seen = done
                yield notice(f"{done} of {total} files", share=share), fresh, gr.skip(), gr.skip()
            running.result()
    except Stopped as stopped:
        if not str(stopped):
            return
        said = f"{stopped} {len(rows)} of {total} files are ready."
    else:
        said = f"Done. {sum(row.is_judged for row in rows)} of {len(rows)} files judged."
    # which outlives what the page shows
    point = question.point or next(iter(points_of(served.clf)), "")
    asked_for = {"model": served.name, "revision": served.revision or "", "point": point, "method": method}
    csv = csv_of(table(ranked(rows)).assign(**asked_for)) if rows else None
    yield notice(said), _labelled(rows), csv_file("batch", csv), _pictures(rows)


def _examples() -> list[str]:
    broken = new_file("synthetic_broken.png")
    broken.write_bytes(b"\x89PNG\r\n\x1a\n and nothing else")
    return [*phantom_files(6), str(broken)]


def _introduction(settings: Settings) -> str:
    each, all_of_them = (f"{one / MEBIBYTE:,.0f} MiB" for one in (settings.max_file_bytes, settings.max_batch_bytes))
    return (
        f"Radiographs (PNG, JPEG, TIFF or DICOM): up to {settings.max_batch_files} files of at most {each} each, alone "
        f"or in a zip file ({all_of_them} unpacked). Rows appear as they are done. A file "
        "that cannot be read is a row with its reason; what is wrong with one changes nothing for the others."
    )


def _for_people(rows: Sequence[Row]) -> pd.DataFrame:
    """Return the rows in order, with verdicts that do not rest on colour, and numbers of few digits."""
    found = table(ranked(rows))
    found["heat map"] = [marked(verdict) for verdict in found["heat map"]]
    del found["class"]  # stands above the table
    for name in _NUMBERS:
        found[name] = found[name].round(3)
    return found.astype(object).where(found.notna(), None)


def _labelled(rows: Sequence[Row]) -> Any:
    """Return the table, called by the class that probabilities are of."""
    labels = {row.label for row in rows if row.is_judged}
    of = labels.pop() if len(labels) == 1 else "the explained class"
    return gr.update(value=_for_people(rows), label=f"Results: probability of {of}")


def _pictures(rows: Sequence[Row]) -> Any:
    shown = [(row.picture, caption(row)) for row in ranked(rows) if row.picture is not None]
    return gr.update(value=shown, visible=bool(shown))
