"""Buttons that start long work and end it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import gradio as gr

from cxr_estimator.demo._controls import progress_bar
from cxr_estimator.demo._shared import MODEL_QUEUE, App


def run_button(
    app: App, button: gr.Button, work: Callable[..., Any], inputs: Any, outputs: Any, *, status: gr.HTML
) -> None:
    """Let a button start a generator, in the line of everything that computes; an error leaves a word in `status`."""
    started = button.click(
        work,
        inputs,
        outputs,
        concurrency_id=MODEL_QUEUE,
        concurrency_limit=app.settings.at_once,
        show_progress="hidden",
        api_visibility="private",
    )
    started.failure(_failed, None, status, queue=False, api_visibility="private")


def cancel_button(button: gr.Button, stop: gr.State) -> None:
    """Let a button set the event that the state holds while something runs; the work shows what it has, and ends."""
    button.click(_cancel, stop, None, queue=False, api_visibility="private")


def _failed() -> str:
    return progress_bar(0, "Stopped; the message says why.")


def _cancel(asked: threading.Event | None) -> None:
    if asked is None or asked.is_set():
        gr.Info("Nothing is running here.")
    else:
        asked.set()
