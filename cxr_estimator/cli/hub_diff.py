"""`cxr hub-diff`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cxr_estimator.cli._common import RevisionOption, collect_skipped
from cxr_estimator.cli.push import RepositoryArgument

_LONGEST = 100  # characters of a value


def hub_diff(
    repo_id: RepositoryArgument,
    model: Annotated[Path, typer.Option("--model", help="Folder of a model or an ensemble.")],
    revision: RevisionOption = None,
) -> None:
    """Say how a model folder differs from a repository on the Hugging Face Hub, without fetching weights."""
    from cxr_estimator.hub import differences

    with collect_skipped():
        found = differences(model, repo_id, revision=revision)
    typer.echo(f"{model} (here) and {repo_id} at commit {found.commit} (there): {len(found.same)} files are the same")
    rows = {"changed": found.changed, "only here": found.only_here, "only there": found.only_there}
    for what, names in rows.items():
        for name in names:
            typer.echo(f"{what}: {name}")
    for change in found.config:
        typer.echo(f"config.json: {change.key}: here {_shown(change.here)}, there {_shown(change.there)}")


def _shown(value: str | None) -> str:
    if value is None:
        return "missing"
    return value if len(value) <= _LONGEST else f"{value[:_LONGEST]}... ({len(value):,} characters)"
