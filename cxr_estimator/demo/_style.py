"""How the app looks, in light and in dark. Every pair of colours has a contrast of 4.5 at least (WCAG AA)."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

THEME = gr.themes.Soft(
    primary_hue="teal", secondary_hue="teal", neutral_hue="slate", radius_size="md",
    font=["system-ui", "sans-serif"], font_mono=["monospace"],
).set(
    body_background_fill="*neutral_50",
    body_text_color_subdued="*neutral_600",
    body_text_color_subdued_dark="*neutral_300",
    block_info_text_color="*neutral_600",
    block_info_text_color_dark="*neutral_300",
    block_label_text_color="*primary_800",
    block_label_text_color_dark="*primary_100",
    block_title_text_color="*primary_800",
    block_title_text_color_dark="*primary_100",
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover_dark="*primary_800",
    checkbox_label_background_fill_selected="*primary_700",
    checkbox_label_background_fill_selected_dark="*primary_700",
    checkbox_background_color_selected="*primary_700",
    checkbox_background_color_selected_dark="*primary_700",
    link_text_color="*primary_700",
    link_text_color_hover="*primary_800",
    link_text_color_visited="*primary_700",
    link_text_color_dark="*primary_300",
    link_text_color_hover_dark="*primary_200",
    link_text_color_visited_dark="*primary_300",
    button_secondary_background_fill_hover_dark="*neutral_600",
    block_label_background_fill_dark="*primary_900",
    block_title_background_fill_dark="*primary_900",
    checkbox_border_color="*neutral_500",
    checkbox_border_color_dark="*neutral_400",
    slider_color="*primary_700",
    slider_color_dark="*primary_400",
)  # fmt: skip
_FOLDER = Path(__file__).parent
# the parts are in the downloaded page as well
CSS = "\n".join((_FOLDER / name).read_text("utf-8") for name in ("parts.css", "page.css"))
