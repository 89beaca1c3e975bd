"""The page that compares methods of explanation by metrics."""

from __future__ import annotations

import contextlib
import io
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
import pandas as pd
from PIL import Image

from cxr_estimator._figure_style import method_title
from cxr_estimator._wording import escaped, words
from cxr_estimator.demo._archives import Limits
from cxr_estimator.demo._background import Background
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
    first_model,
    method_choices,
    model_control,
    on_model,
    progress_bar,
    target_control,
)
from cxr_estimator.demo._models import Served
from cxr_estimator.demo._offers import methods_on_offer
from cxr_estimator.demo._running import cancel_button, run_button
from cxr_estimator.demo._shared import App, told
from cxr_estimator.figures import plot_benchmark
from cxr_estimator.metrics import METRICS

PHANTOMS, UPLOAD = "phantoms", "upload"


class _Page(NamedTuple):
    stop: gr.State
    model: gr.Dropdown
    source: gr.Radio
    upload: gr.File
    n: gr.Slider
    target: gr.Dropdown
    methods: gr.Dropdown
    metrics: gr.Dropdown
    run: gr.Button
    cancel: gr.Button
    status: gr.HTML
    notes: gr.Markdown
    table: gr.Dataframe
    figure: gr.Image
    download: gr.DownloadButton


def add(app: App) -> None:
    """Fill the tab."""
    page = _laid_out(app)

    @told
    def measure(
        name: str, source: str, path: str | None, n: float, target: str, methods: list[str], metrics: list[str]
    ) -> Iterator[Any]:
        served = app.models.get(name)
        images = (
            uploaded_images(served, path, int(n), Limits.of(app.settings))
            if source == UPLOAD
            else contextlib.nullcontext(phantom_images(served, int(n)))
        )
        yield from _measured(served, images, methods, metrics, target)

    @told
    def follow_model(name: str) -> Any:
        return gr.update(**_methods(app.models.get(name)))

    @told
    def follow_source(source: str, metrics: list[str]) -> Any:
        return gr.update(visible=source == UPLOAD), gr.update(**_metrics(source, metrics))

    inputs = [page.model, page.source, page.upload, page.n, page.target, page.methods, page.metrics]
    outputs = [page.stop, page.status, page.notes, page.table, page.figure, page.download]
    run_button(app, page.run, measure, inputs, outputs, status=page.status)
    cancel_button(page.cancel, page.stop)
    on_model(app, page.model, follow_model, page.methods)
    page.source.change(
        follow_source, [page.source, page.metrics], [page.upload, page.metrics], queue=False, api_visibility="private"
    )


def _laid_out(app: App) -> _Page:
    gr.Markdown(
        "Which method explains this model best? Each is measured on the same images; faithfulness is the gain over "
        f"the same maps moved elsewhere. **{CAUTION}**"
    )
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            controls = _controls(app)
        with gr.Column(scale=3, min_width=320):
            results = _results()
    return _Page(gr.State(None, time_to_live=app.settings.keep_seconds), *controls, *results)


def _controls(app: App) -> tuple[Any, ...]:
    """Add what is asked for: model, source, upload, n, target, methods, metrics, run and cancel."""
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
    return model, source, upload, n, target, methods, metrics, run_it, gr.Button("Cancel", elem_id="cancel-benchmark")


def _results() -> tuple[Any, ...]:
    """Add what is shown: status, notes, table, figure and download."""
    status = gr.HTML(progress_bar(0, "Nothing measured yet."), elem_id="benchmark-status")
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
    figure = gr.Image(
        label="Heat table",
        show_label=False,
        format="png",
        interactive=False,
        visible=False,
        elem_classes="cxr-figure",
        buttons=["download", "fullscreen"],
    )
    download = gr.DownloadButton("Download the table (CSV)", interactive=False, elem_id="benchmark-csv")
    return status, notes, table, figure, download


def _measured(
    served: Served,
    source: contextlib.AbstractContextManager[Images],
    methods: list[str],
    metrics: list[str],
    target: str,
) -> Iterator[Any]:
    """Yield stop, status, notes, table, figure and download as the work goes on."""
    asked, tables, seen = threading.Event(), list[pd.DataFrame](), 0
    yield asked, progress_bar(0, "Reading the images …"), "", _empty(), *_nothing()
    with source as images:

        def work(progress: Any) -> pd.DataFrame:
            return run(served, images, methods, metrics, target=target, on_table=tables.append, progress=progress)

        notes = _notes(images)
        with Background(work) as running:
            for share in running:
                if asked.is_set():
                    break
                done = len(tables)
                fresh = wide(tables[-1]) if done > seen else gr.skip()
                seen = done
                said = f"{done} of {len(methods)} methods, {share:.0%}"
                yield gr.skip(), progress_bar(share, said), notes, fresh, gr.skip(), gr.skip()
            else:
                running.result()
    finished = not asked.is_set()
    asked.set()
    yield from _ended(tables, len(methods), finished=finished)


def _ended(tables: list[pd.DataFrame], n_methods: int, *, finished: bool) -> Iterator[Any]:
    """Yield what there is when the work has ended, by itself or because somebody wished it."""
    said = "Done" if finished else "Cancelled"
    bar = progress_bar(len(tables) / max(n_methods, 1), f"{said}: {len(tables)} of {n_methods} methods measured.")
    if not tables:
        yield gr.skip(), bar, gr.skip(), gr.skip(), *_nothing()
        return
    with tempfile.TemporaryDirectory() as folder:
        csv = Path(folder) / "benchmark.csv"
        tables[-1].to_csv(csv, index=False)
        picture = gr.update(value=_drawn(tables[-1]), visible=True, alt_text=_alternative(tables[-1]))
        yield gr.skip(), bar, gr.skip(), wide(tables[-1]), picture, gr.update(value=str(csv), interactive=True)


def _drawn(table: pd.DataFrame) -> Image.Image:
    buffer = io.BytesIO()
    plot_benchmark(table).savefig(buffer, format="png")
    return Image.open(buffer)


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


def _nothing() -> tuple[Any, Any]:
    """Return no figure and no file."""
    return gr.update(value=None, visible=False), gr.update(value=None, interactive=False)
