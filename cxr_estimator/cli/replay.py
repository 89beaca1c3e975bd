"""`cxr replay`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cxr_estimator.cli._common import (
    EXIT_FAILED,
    DeviceOption,
    QuietOption,
    collect_skipped,
    load_model,
    write_text,
)


def replay(
    receipt: Annotated[Path, typer.Argument(help="A receipt, as `cxr explain --receipts` writes it.")],
    image: Annotated[Path, typer.Option(help="The image that was explained.")],
    model: Annotated[
        Path | None,
        typer.Option(
            help="Where the model is: a folder, user/model or user/model@revision. It must be the one of the receipt. "
            "Default: the bundled one, or that on the Hub which the receipt names."
        ),
    ] = None,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
) -> None:
    """Explain an image again as a receipt says, and tell whether the same comes out.

    Exit code 0: exactly, or within the tolerance that is stated; 1: it differs by more; 2: another image or model.
    """
    from cxr_estimator.receipts import Receipt
    from cxr_estimator.receipts import replay as repeat

    read = Receipt.load(receipt)
    if model is None and not quiet:
        typer.echo(f"model: {read.model}", err=True)
    clf = None if model is None else load_model(model, device, quiet=quiet)
    with collect_skipped():
        done = repeat(read, str(image), clf=clf, device=device)
    lines = [one.sentence for one in done.differences]
    write_text("\n".join([*lines, done.sentence]) + "\n", None)
    if not done.within_tolerance:
        raise typer.Exit(EXIT_FAILED)
