"""`cxr push`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cxr_estimator.cli._common import collect_skipped

RepositoryArgument = Annotated[str, typer.Argument(metavar="USER/MODEL", help="Repository on the Hugging Face Hub.")]


def push(
    repo_id: RepositoryArgument,
    model: Annotated[Path, typer.Option("--model", help="Folder of a model or an ensemble, with its card.")],
    private: Annotated[
        bool | None, typer.Option("--private/--public", help="Of a new repository. Default: as the account has it.")
    ] = None,
    branch: Annotated[str | None, typer.Option(help="Made if need be. Default: main.")] = None,
    message: Annotated[str | None, typer.Option("--message", "-m", help="Of the commit.")] = None,
    create_pr: Annotated[bool, typer.Option("--create-pr", help="Propose the change as a pull request.")] = False,
) -> None:
    """Share a model folder on the Hugging Face Hub, as one commit; unchanged files are not sent again.

    Log in first, with `hf auth login` or a token that may write in HF_TOKEN.
    """
    from cxr_estimator.hub import push as send

    with collect_skipped():
        done = send(model, repo_id, private=private, branch=branch, commit_message=message, create_pr=create_pr)
    for name in done.changed:
        typer.echo(f"changed: {name}")
    typer.echo(f"{'pushed' if done.changed else 'nothing new; the same files are in'}: {done.url}")
    if done.pull_request:
        typer.echo(f"pull request: {done.pull_request}")
