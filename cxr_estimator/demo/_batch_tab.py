"""The page for many radiographs at once."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
import pandas as pd

from cxr_estimator.demo._analysis import Question
from cxr_estimator.demo._archives import Limits
from cxr_estimator.demo._background import Background
from cxr_estimator.demo._batch import ORDER, Row, caption, csv_of, judge_batch, number_of_files, ranked, table
from cxr_estimator.demo._card_text import SIGNS
from cxr_estimator.demo._controls import method_control, model_controls, progress_bar
from cxr_estimator.demo._offers import FAST
from cxr_estimator.demo._running import cancel_button, run_button
from cxr_estimator.demo._settings import MEBIBYTE, Settings
from cxr_estimator.demo._shared import App, told
from cxr_estimator.demo._synthetic import write_phantoms

_NUMBERS = ("probability", "low", "high", "gain")
_WIDTHS: list[str | int] = ["140px", "80px", "105px", "100px", "60px", "60px", "110px", "65px", "195px"]


class _Page(NamedTuple):
    stop: gr.State
    uploads: gr.File
    example: gr.Button
    model: gr.Dropdown
    point: gr.Dropdown
    method: gr.Dropdown
    run: gr.Button
    cancel: gr.Button
    status: gr.HTML
    rows: gr.Dataframe
    download: gr.DownloadButton
    gallery: gr.Gallery


def add(app: App) -> None:
    """Fill the tab."""
    page = _laid_out(app)

    @told
    def judge_all(paths: list[str] | None, name: str, point: str | None, method: str) -> Iterator[Any]:
        yield from _judged(app, paths or [], name, Question(point=point or None), method)

    inputs = [page.uploads, page.model, page.point, page.method]
    outputs = [page.stop, page.status, page.rows, page.download, page.gallery]
    run_button(app, page.run, judge_all, inputs, outputs, status=page.status)
    cancel_button(page.cancel, page.stop)
    page.example.click(_examples, None, page.uploads, api_visibility="private")


def _laid_out(app: App) -> _Page:
    gr.Markdown(_introduction(app.settings))
    stop = gr.State(None, time_to_live=app.settings.keep_seconds)
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            uploads = gr.File(label="Files", file_count="multiple", type="filepath", height=180)
            example = gr.Button("Take synthetic files, one of them broken", size="sm")
            model, point = model_controls(app)
            method = method_control(app, model, speeds=FAST)
            run = gr.Button("Judge all", variant="primary")
            cancel = gr.Button("Cancel", elem_id="cancel-batch")
        with gr.Column(scale=3, min_width=320):
            status = gr.HTML(progress_bar(0, "Nothing judged yet."), elem_id="batch-status")
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
            download = gr.DownloadButton("Download the table (CSV)", interactive=False, elem_id="batch-csv")
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
    return _Page(stop, uploads, example, model, point, method, run, cancel, status, rows, download, gallery)


def _judged(app: App, paths: list[str], name: str, question: Question, method: str) -> Iterator[Any]:
    """Yield stop, status, rows, download and gallery as the work goes on."""
    asked, rows, seen = threading.Event(), list[Row](), 0
    yield asked, progress_bar(0, "Reading the files …"), _for_people([]), _no_csv(), gr.update(visible=False)
    served, limits = app.models.get(name), Limits.of(app.settings)
    total = number_of_files(paths, limits)

    def work(progress: Any) -> list[Row]:
        return judge_batch(served, paths, question, method, limits, on_row=rows.append, progress=progress)

    with Background(work) as running:
        for share in running:
            if asked.is_set():
                break
            done = len(rows)
            fresh = _for_people(rows[:done]) if done > seen else gr.skip()
            seen = done
            yield gr.skip(), progress_bar(share, f"{done} of {total} files"), fresh, gr.skip(), gr.skip()
        else:
            running.result()
    if asked.is_set():
        bar = progress_bar(len(rows) / max(total, 1), f"Cancelled after {len(rows)} of {total} files.")
    else:
        judged = sum(row.is_judged for row in rows)
        bar = progress_bar(1, f"Done: {judged} of {len(rows)} files judged.")
    asked.set()
    with tempfile.TemporaryDirectory() as folder:
        csv = Path(folder) / "batch.csv"
        csv.write_bytes(csv_of(table(ranked(rows))))
        download = gr.update(value=str(csv), interactive=bool(rows))
        yield gr.skip(), bar, _labelled(rows), download, _pictures(rows)


def _examples() -> Iterator[list[str]]:
    with tempfile.TemporaryDirectory() as folder:
        broken = Path(folder) / "synthetic_broken.png"
        broken.write_bytes(b"\x89PNG\r\n\x1a\n and nothing else")
        yield [*write_phantoms(folder, 6), str(broken)]


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
    found["heat map"] = [SIGNS.get(verdict, "") for verdict in found["heat map"]]
    del found["class"]  # stands above the table
    for name in _NUMBERS:
        found[name] = found[name].round(3)
    return found.astype(object).where(found.notna(), None)


def _labelled(rows: Sequence[Row]) -> Any:
    """Return the table, called by the class that probabilities are of."""
    labels = {row.label for row in rows if row.is_judged}
    of = labels.pop() if len(labels) == 1 else "the explained class"
    return gr.update(value=_for_people(rows), label=f"Results: probability of {of}")


def _no_csv() -> Any:
    return gr.update(value=None, interactive=False)


def _pictures(rows: Sequence[Row]) -> Any:
    shown = [(row.picture, caption(row)) for row in ranked(rows) if row.picture is not None]
    return gr.update(value=shown, visible=bool(shown))
