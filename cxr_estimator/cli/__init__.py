"""The command `cxr`. Each command is one file; heavy imports wait until it runs, so that help is instant."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from typing import Annotated

import typer

from cxr_estimator.cli._common import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_INTERRUPTED
from cxr_estimator.cli.audit import audit
from cxr_estimator.cli.benchmark import benchmark
from cxr_estimator.cli.calibrate import calibrate
from cxr_estimator.cli.card import card
from cxr_estimator.cli.compare import compare
from cxr_estimator.cli.curate import curate
from cxr_estimator.cli.demo import demo
from cxr_estimator.cli.deploy_space import deploy_space
from cxr_estimator.cli.evaluate import evaluate
from cxr_estimator.cli.explain import explain
from cxr_estimator.cli.findings import findings
from cxr_estimator.cli.hub_diff import hub_diff
from cxr_estimator.cli.predict import predict
from cxr_estimator.cli.pull import pull
from cxr_estimator.cli.push import push
from cxr_estimator.cli.quickstart import quickstart
from cxr_estimator.cli.replay import replay
from cxr_estimator.cli.report import report
from cxr_estimator.cli.similar import similar
from cxr_estimator.cli.threshold import threshold
from cxr_estimator.cli.train import train
from cxr_estimator.errors import CXRError

app = typer.Typer(
    name="cxr",
    help="Train, evaluate and explain chest-radiograph classifiers. Research and education only, not a medical device.",
    epilog="Exit codes: 0 done, 1 failed, 2 bad input, 3 done but some images were unreadable, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
_COMMANDS: tuple[Callable[..., None], ...] = (
    quickstart, train, calibrate, threshold, evaluate, predict, explain, replay, benchmark, audit, findings, report,
    compare, card, curate, similar, push, pull, hub_diff, demo, deploy_space,
)  # fmt: skip
for command in _COMMANDS:
    app.command()(command)


def _show_version(wanted: bool) -> None:
    if wanted:
        from cxr_estimator import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Hold the options of `cxr` itself."""


def main() -> None:
    """Run the command line; every error ends in one message and an exit code, never in a traceback."""
    # OpenMP's threads wait actively, by default so long that training slows down many times once another process wants
    # a core. This much waiting costs nothing on an idle machine. It is read when torch is loaded, later than this.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    try:
        app()
    except CXRError as error:
        _fail(str(error), EXIT_BAD_INPUT)
    except SystemExit as end:
        if end.code == EXIT_INTERRUPTED:  # typer turns Ctrl-C into this
            typer.echo("cxr: interrupted", err=True)
        raise
    except Exception as error:  # noqa: BLE001 - the last resort of a program for people
        if isinstance(error.__cause__, KeyboardInterrupt):  # Python 3.11 wraps what comes while a class is made
            _fail("interrupted", EXIT_INTERRUPTED)
        if os.environ.get("CXR_DEBUG"):
            traceback.print_exc()
        _fail(f"{type(error).__name__}: {error} (CXR_DEBUG=1 shows where)", EXIT_FAILED)


def _fail(message: str, code: int) -> None:
    typer.echo(f"cxr: {message}", err=True)
    sys.exit(code)
