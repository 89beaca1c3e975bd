"""The page about models, data, limits and privacy."""

from __future__ import annotations

import gradio as gr

from cxr_estimator.demo._about import data_text, model_html, privacy_text, use_text
from cxr_estimator.demo._controls import first_model, model_control, on_model
from cxr_estimator.demo._shared import App, told


def add(app: App) -> None:
    """Fill the tab."""
    gr.Markdown(data_text())
    gr.Markdown(privacy_text(app.settings))
    gr.Markdown(use_text())
    gr.Markdown("### The card of a model")
    model = model_control(app)
    with gr.Accordion("Model card, as its author wrote it", open=False):
        card = gr.HTML(model_html(first_model(app)), elem_id="model-card")

    @told
    def follow(name: str) -> str:
        return model_html(app.models.get(name))

    on_model(app, model, follow, card)
