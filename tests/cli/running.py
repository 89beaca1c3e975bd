"""Commands run in the process of the tests."""

from __future__ import annotations

from typer.testing import CliRunner

from cxr_estimator.cli import app
from cxr_estimator.errors import CXRError


def cxr(*arguments) -> str:
    """What a command says; the error of one that fails."""
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    if isinstance(done.exception, CXRError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output
