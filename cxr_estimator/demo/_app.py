"""The app: its pages, put together and started with every limit set."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from cxr_estimator._wording import DISCLAIMER
from cxr_estimator.demo import _about_tab, _analyse_tab, _api, _batch_tab, _benchmark_tab, _compare_tab
from cxr_estimator.demo._folder import private_folder, sweeping
from cxr_estimator.demo._guard import Guard
from cxr_estimator.demo._models import Models
from cxr_estimator.demo._settings import Settings
from cxr_estimator.demo._shared import App
from cxr_estimator.demo._style import CSS, THEME
from cxr_estimator.errors import DataError

TITLE = "cxr_estimator: chest radiographs, classified and explained"
# Each fills the tab of its title.
TABS: dict[str, Callable[[App], None]] = {
    "Analyse": _analyse_tab.add,
    "Compare": _compare_tab.add,
    "Batch": _batch_tab.add,
    "Benchmark": _benchmark_tab.add,
    "About": _about_tab.add,
}


def build(settings: Settings | None = None) -> gr.Blocks:
    """Return the app; the first model on offer is loaded now, so that the first visitor need not wait."""
    settings = settings or Settings()
    private_folder()  # before any component is made
    app = App(settings, Models(settings))
    app.models.get(app.models.names[0])
    # uploads and results are deleted when they are older than the second number, looked for every so often
    blocks = gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(60, settings.keep_seconds))
    with blocks:
        gr.Markdown(f"# {TITLE}\n**{DISCLAIMER}**")
        with gr.Tabs():
            for title, add in TABS.items():
                with gr.Tab(title):
                    add(app)
        gr.HTML(f"<footer class='cxr-foot'>{DISCLAIMER}</footer>", padding=False)
        _api.add(app)
    # so many requests compute at once, however many there are; others wait in line and are told their place
    blocks.queue(api_open=False, max_size=settings.waiting, default_concurrency_limit=settings.at_once)
    return blocks


def launch(
    settings: Settings | None = None,
    *,
    host: str | None = None,
    port: int | None = None,
    open_browser: bool = False,
    prevent_thread_lock: bool = False,
) -> gr.Blocks:
    """Start the app, and return when it ends, or at once with `prevent_thread_lock`.

    Parameters
    ----------
    settings : Settings, optional
    host : str, optional
        Default: GRADIO_SERVER_NAME, or this machine alone.
    port : int, optional
        Default: GRADIO_SERVER_PORT, or the first free one from 7860 on.
    open_browser : bool, default=False
    prevent_thread_lock : bool, default=False

    Raises
    ------
    DataError
        The port cannot be had.
    """
    settings = settings or Settings()
    blocks = build(settings)
    options: dict[str, Any] = {
        "max_file_size": settings.max_file_bytes,
        "max_threads": 40,
        "state_session_capacity": 200,
        "run_history": False,  # which would keep what was analysed in the visitor's browser
        "enable_monitoring": False,
        "mcp_server": True,
        "app_kwargs": {
            "lifespan": sweeping(settings.keep_seconds),
            "middleware": [Middleware(Guard, settings=settings)],
        },
        "ssr_mode": False,  # needs Node
        "footer_links": ["api"],
        "strict_cors": True,
        "share": False,
        "show_error": False,  # messages are made for visitors; what is unforeseen stays in the log
        "theme": THEME,
        "css": CSS,
        "quiet": True,
    }
    _end_when_told()
    try:
        blocks.launch(
            server_name=host,
            server_port=port,
            inbrowser=open_browser,
            prevent_thread_lock=prevent_thread_lock,
            **options,
        )
    except OSError as error:
        raise DataError(f"The app cannot be started at port {port or '7860 to 7959'}: {error}") from error
    return blocks


def _end_when_told() -> None:
    """Let SIGTERM end the process as the end of a program does, which deletes the uploads."""
    is_ours = threading.current_thread() is threading.main_thread()
    if is_ours and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


@contextlib.contextmanager
def running(settings: Settings | None = None, **options: Any) -> Any:
    """Run the app within the block, in threads of this process; yields it."""
    blocks = launch(settings, prevent_thread_lock=True, **options)
    try:
        yield blocks
    finally:
        blocks.close()
