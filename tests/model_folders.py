"""What tests do to model folders."""

from __future__ import annotations

import json
from pathlib import Path

from cxr_estimator.checksums import read_sums, sha256_of, write_sums


def seal(folder: Path) -> None:
    """Make SHA256SUMS agree with what lies in the folder now, as somebody would who means to deceive."""
    write_sums(folder, {name: sha256_of(folder / name) for name in read_sums(folder) if (folder / name).exists()})


def edit_config(folder: Path, change, *, top: Path | None = None) -> None:
    """Let `change` work on the configuration, and seal the folder, or the one at `top` that holds it."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))
    seal(top or folder)


def contents(folder: Path) -> dict[str, bytes]:
    """Return all files by relative name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
