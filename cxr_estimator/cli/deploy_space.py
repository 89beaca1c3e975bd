"""`cxr deploy-space`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cxr_estimator.cli._common import RevisionOption, collect_skipped
from cxr_estimator.errors import DataError

if TYPE_CHECKING:
    from cxr_estimator.hub import Located


def deploy_space(
    repo_id: Annotated[
        str | None, typer.Argument(metavar="USER/SPACE", help="Space on the Hugging Face Hub; made if need be.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="A model on the Hub: user/model or user/model@revision; the Space keeps to its commit of now. "
            "Default: only the model that comes with the package."
        ),
    ] = None,
    revision: RevisionOption = None,
    private: Annotated[
        bool | None, typer.Option("--private/--public", help="Of a new Space. Default: as the account has it.")
    ] = None,
    message: Annotated[str | None, typer.Option("--message", "-m", help="Of the commit.")] = None,
    no_hub: Annotated[bool, typer.Option("--no-hub", help="Visitors may not name other models of the Hub.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Take over a Space that this command did not make, or that was edited.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the Space to this new folder, and push nothing.")
    ] = None,
) -> None:
    """Show a model in a Space on the Hugging Face Hub: the app of `cxr demo`, with the source that it needs.

    Log in first, with `hf auth login` or a token that may write in HF_TOKEN.
    """
    from cxr_estimator._optional import needed

    needed("gradio", "gradio", extra="demo", caller="cxr deploy-space")
    from cxr_estimator.demo._deploying import deploy
    from cxr_estimator.demo._space import write_space
    from cxr_estimator.hub import check_repo_id

    if repo_id is not None:
        check_repo_id(repo_id, caller="deploy-space")
    elif output is None:
        raise DataError("Name the Space: user/space; or a folder for it by --output.")
    located = _located(model, revision)
    if output is not None:
        write_space(output, model=located, allow_hub=not no_hub)
        typer.echo(f"{output}: a Space; `python app.py` starts it there")
        return
    with collect_skipped():
        done = deploy(
            str(repo_id),
            model=located,
            allow_hub=not no_hub,
            private=private,
            commit_message=message,
            overwrite=overwrite,
        )
    for name in done.pushed.changed:
        typer.echo(f"changed: {name}")
    typer.echo(f"{'pushed' if done.pushed.changed else 'nothing new; the same files are in'}: {done.pushed.url}")
    typer.echo(f"Space: {done.url}")


def _located(model: str | None, revision: str | None) -> Located | None:
    """Return the model on the Hub that is named, or None for the bundled one."""
    from cxr_estimator.hub import locate

    if model is None:
        if revision is not None:
            raise DataError("--revision is for a model on the Hub, which --model names.")
        return None
    if Path(model).is_dir():
        raise DataError(
            f"{model}: is a folder here, but a Space takes its model from the Hub. Share it first: "
            f"cxr push user/model --model {model}"
        )
    repo_id, _, named = model.partition("@")
    if named and revision is not None:
        raise DataError(f"--model names the revision {named!r} and --revision {revision!r}; leave one of them out.")
    located = locate(repo_id, revision=named or revision, caller="deploy-space")
    if located.is_restricted:
        typer.echo(
            f"warning: {repo_id} is private or gated: the Space needs a token that may read it, as the secret HF_TOKEN "
            "in its settings; all its visitors can then use the model.",
            err=True,
        )
    return located
