"""`cxr pull`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cxr_estimator.cli._common import RevisionOption, collect_skipped
from cxr_estimator.cli.push import RepositoryArgument


def pull(
    repo_id: RepositoryArgument,
    folder: Annotated[Path, typer.Argument(help="Folder for the model. An unchanged model there is replaced.")],
    revision: RevisionOption = None,
) -> None:
    """Fetch a model from the Hugging Face Hub into a folder, whole or not at all, and say which commit it is."""
    from cxr_estimator.hub import pull as receive

    with collect_skipped():
        source = receive(repo_id, folder, revision=revision)
    typer.echo(f"{folder}: {repo_id} at commit {source.name}")
