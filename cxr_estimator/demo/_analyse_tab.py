"""The page that judges and explains one radiograph: controls left, results right."""

from __future__ import annotations

import gradio as gr

from cxr_estimator.demo import _analyse_events, _break_panel
from cxr_estimator.demo._analyse_parts import add_controls, add_results
from cxr_estimator.demo._shared import App


def add(app: App) -> None:
    """Fill the tab."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=300):
            controls = add_controls(app)
        with gr.Column(scale=7, min_width=300, elem_id="cxr-result"):
            results = add_results(app)
            with results.rest:
                broken = _break_panel.add()
    _analyse_events.connect(app, controls, results)
    _break_panel.connect(app, broken, results)
