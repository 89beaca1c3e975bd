"""How the app looks, in light and in dark."""

from __future__ import annotations

import gradio as gr

THEME = gr.themes.Soft(
    primary_hue="teal", neutral_hue="slate", font=["system-ui", "sans-serif"], font_mono=["monospace"]
)
CSS = """
.disclaimer { font-weight: 600; }
"""
HEAD = ""
