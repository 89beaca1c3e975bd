"""The page that compares methods of explanation by metrics."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import gradio as gr
import pandas as pd

from cxr_estimator._figure_style import method_title
from cxr_estimator._wording import escaped, words
from cxr_estimator.demo._analysis import methods_on_offer
from cxr_estimator.demo._archives import Limits
from cxr_estimator.demo._background import Background, Stopped
from cxr_estimator.demo._batch import csv_of
from cxr_estimator.demo._benchmark import (
    CAUTION,
    DEFAULT_IMAGES,
    DEFAULT_METHODS,
    DEFAULT_METRICS,
    MOST_IMAGES,
    Images,
    metrics_on_offer,
    phantom_images,
    run,
    uploaded_images,
    wide,
)
from cxr_estimator.demo._controls import (
    csv_button,
    csv_file,
    figure_image,
    first_model,
    method_choices,
    model_control,
    on_model,
    target_control,
)
from cxr_estimator.demo._models import Served
from cxr_estimator.demo._pictures import pixels
from cxr_estimator.demo._running import Outcome, Turn, cancel_button, run_button
from cxr_estimator.demo._shared import App, told
from cxr_estimator.demo._words import notice
from cxr_estimator.figures import plot_benchmark
from cxr_estimator.metrics import METRICS

PHANTOMS, UPLOAD = "phantoms", "upload"


class _Page(NamedTuple):
    turn: gr.State
    model: gr.Dropdown
    source: gr.Radio
    upload: gr.File
    n: gr.Slider
    target: gr.Dropdown
    methods: gr.Dropdown
    metrics: gr.Dropdown
    run: gr.Button
    outcome: Outcome
    notes: gr.Markdown
    table: gr.Dataframe
    figure: gr.Image
    download: gr.DownloadButton


def add(app: App) -> None:
    """Fill the tab."""
    page = _laid_out(app)

    @told
    def measure(
        turn: Turn,
        number: int,
        name: str,
        source: str,
        path: Any,
        n: float,
        target: str,
        methods: list[str],
        metrics: list[str],
    ) -> Iterator[Any]:
        served = app.models.get(name).held()
        images = (
            uploaded_images(served, path, int(n), Limits.of(app.settings))
            if source == UPLOAD
            else contextlib.nullcontext(phantom_images(served, int(n)))
        )
        yield from _measured(turn, number, served, images, methods, metrics, target)

    @told
    def follow_model(name: str) -> Any:
        return gr.update(**_methods(app.models.get(name)))

    @told
    def follow_source(source: str, metrics: list[str]) -> Any:
        return gr.update(visible=source == UPLOAD), gr.update(**_metrics(source, metrics))

    inputs = [page.model, page.source, page.upload, page.n, page.target, page.methods, page.metrics]
    outputs = [page.outcome.status, page.notes, page.table, page.figure, page.download]
    run_button(app, page.run, page.turn, measure, inputs, outputs, page.outcome)
    on_model(app, page.model, follow_model, page.methods)
    page.source.change(
        follow_source, [page.source, page.metrics], [page.upload, page.metrics], queue=False, api_visibility="private"
    )


def _laid_out(app: App) -> _Page:
    gr.Markdown(
        "Which method explains this model best? Each is measured on the same images; faithfulness is the gain over "
        f"the same maps moved elsewhere. **{CAUTION}**"
    )
    turn = gr.State(Turn())
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            controls = _controls(app)
        with gr.Column(scale=3, min_width=300):
            results = _results(turn)
    return _Page(turn, *controls, *results)


def _controls(app: App) -> tuple[Any, ...]:
    """Add what is asked for: model, source, upload, n, target, methods, metrics and run."""
    model = model_control(app)
    source = gr.Radio(
        [("Phantoms: synthetic, the finding's place known", PHANTOMS), ("A zip file of mine", UPLOAD)],
        value=PHANTOMS,
        label="Images",
        info="A zip file needs one folder per class, called as the classes of the model.",
    )
    upload = gr.File(label="Zip file", file_types=[".zip"], type="filepath", height=140, visible=False)
    n = gr.Slider(
        1,
        MOST_IMAGES,
        value=DEFAULT_IMAGES,
        step=1,
        label="Number of images",
        info=f"At most {MOST_IMAGES} here; intervals need 5. For more, use the command cxr benchmark.",
    )
    target = target_control(app, model)
    methods = gr.Dropdown(label="Methods", multiselect=True, **_methods(first_model(app)))
    metrics = gr.Dropdown(label="Metrics", multiselect=True, **_metrics(PHANTOMS, list(DEFAULT_METRICS)))
    run_it = gr.Button("Measure", variant="primary")
    return model, source, upload, n, target, methods, metrics, run_it


def _results(turn: gr.State) -> tuple[Any, ...]:
    """Add what is shown: outcome, notes, table, figure and download."""
    status = gr.HTML(notice("Nothing measured yet."), elem_id="benchmark-status", padding=False)
    cancel = cancel_button(turn, "benchmark")
    with gr.Column(visible=False) as results:
        notes = gr.Markdown()
        table = gr.Dataframe(
            _empty(),
            label="Methods by metrics: mean [95% interval]; ↑ greater is better, ↓ less is better",
            interactive=False,
            wrap=True,
            elem_id="benchmark-table",
            elem_classes="cxr-table",
            buttons=["fullscreen"],
        )
        figure, download = figure_image("Heat table"), csv_button("benchmark")
    return Outcome(status, cancel, results), notes, table, figure, download


def _measured(
    turn: Turn,
    number: int,
    served: Served,
    source: contextlib.AbstractContextManager[Images],
    methods: list[str],
    metrics: list[str],
    target: str,
) -> Iterator[Any]:
    """Yield status, notes, table, figure and download as the work of this number goes on."""
    tables, seen, of = list[pd.DataFrame](), 0, len(methods)
    yield notice("Reading the images …", share=0), "", _empty(), *_drawn(None)
    with source as images:

        def work(progress: Any) -> pd.DataFrame:
            return run(served, images, methods, metrics, target=target, on_table=tables.append, progress=progress)

        notes, said = _notes(images), "Done."
        try:
            with Background(work) as running:
                for share in turn.watched(running, number):
                    done = len(tables)
                    fresh = wide(tables[-1]) if done > seen else gr.skip()
                    seen = done
                    yield notice(f"{done} of {of} methods", share=share), notes, fresh, gr.skip(), gr.skip()
                running.result()
        except Stopped as stopped:
            if not str(stopped):
                return
            said = str(stopped)
    table = tables[-1] if tables else None
    fresh = gr.skip() if table is None else wide(table)
    yield notice(f"{said} {len(tables)} of {of} methods measured."), gr.skip(), fresh, *_drawn(table)


def _drawn(table: pd.DataFrame | None) -> tuple[Any, Any]:
    """Return the updates of figure and file; None for neither."""
    if table is None:
        return gr.update(value=None, visible=False), csv_file("benchmark", None)
    picture = gr.update(value=pixels(plot_benchmark(table)), visible=True, alt_text=_alternative(table))
    return picture, csv_file("benchmark", csv_of(table))


def _alternative(table: pd.DataFrame) -> str:
    """Return what the heat table shows, for those who cannot see it."""
    best = table[(table["bucket"] == "all") & (table["rank"] == 1)]
    won = "; ".join(f"{words(row['metric'])}: {method_title(row['method'])}" for _, row in best.iterrows())
    return f"Table of methods by metrics with the best method of each metric the darkest. Best by {won}."


def _notes(images: Images) -> str:
    lines = [f"{len(images.X)} images."]
    if images.masks is not None:
        sick = sum(bool(mask.any()) for mask in images.masks)
        lines.append(f"{sick} have a finding; metrics of localisation are undefined for the others.")
    if images.left_out:
        named = "; ".join(f"{name}: {reason}" for name, reason in images.left_out[:10])
        lines.append(f"{len(images.left_out)} left out: {named}")
    return escaped(" ".join(lines))


def _methods(served: Served) -> dict[str, Any]:
    offered = methods_on_offer(served.clf)
    chosen = [name for name in DEFAULT_METHODS if name in offered] or offered[:1]
    return {"choices": method_choices(served), "value": chosen}


def _metrics(source: str, taken: list[str]) -> dict[str, Any]:
    offered = metrics_on_offer(has_masks=source == PHANTOMS)
    choices = [(f"{words(name)} ({METRICS[name].family})", name) for name in offered]
    return {"choices": choices, "value": [name for name in taken if name in offered]}


def _empty() -> pd.DataFrame:
    return pd.DataFrame({"method": []})
