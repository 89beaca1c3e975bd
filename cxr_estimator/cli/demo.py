"""`cxr demo`."""

from __future__ import annotations

import socket
from typing import Annotated

import typer

from cxr_estimator.cli._common import DeviceOption, collect_skipped
from cxr_estimator.errors import DataError


def demo(
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="A model folder, or one on the Hugging Face Hub: user/model or user/model@revision; may be repeated. "
            "They are offered beside the model that comes with the package."
        ),
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen at; 0.0.0.0: for other machines too. Default: this one only.")
    ] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Default: a free one from 7860 on.")] = None,
    open_browser: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    no_hub: Annotated[bool, typer.Option("--no-hub", help="Visitors may not name other models of the Hub.")] = False,
    device: DeviceOption = "auto",
) -> None:
    """Start the app: upload a radiograph, see the decision, the evidence, and how far to trust it.

    It runs until Ctrl-C. What is uploaded is not kept.
    """
    from cxr_estimator._optional import needed

    needed("gradio", "gradio", extra="demo", caller="cxr demo")
    from cxr_estimator.demo import Settings, launch

    _check_free(host or "127.0.0.1", port or 0)
    settings = Settings(models=tuple(model or ()), allow_hub=not no_hub, device=device)
    with collect_skipped():
        app = launch(settings, host=host, port=port, open_browser=open_browser, prevent_thread_lock=True)
    typer.echo(f"app: {app.local_url} (Ctrl-C ends it)")
    app.block_thread()


def _check_free(host: str, port: int) -> None:
    """Raise if nothing can listen there; gradio would try for long, and then speak of ports whatever was wrong."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: one that just ended may linger
            tried.bind(place)
    except OSError as error:
        where = f"port {port} of {host!r}" if port else repr(host)
        told = f"Nothing can listen at {where} ({error.strerror or error}); name another by --port or --host."
        raise DataError(told) from error
