"""Folders for tests of pushing and fetching, and what is expected of them."""

from __future__ import annotations

import json
import traceback
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from cxr_estimator.checksums import sha256_of, write_sums
from cxr_estimator.errors import HubError
from tests.hub.connection import OTHER, READ, WRITE

WEIGHTS = "/storage/.*signed=get"  # the request for the weights
CARD = "---\nlicense: mit\nlibrary_name: cxr_estimator\n---\n# A model\n"
CONFIG = {"format": "cxr_estimator", "parameters": {"image_size": 32, "backbone": "plain_cnn"}, "classes": ["a", "b"]}


def write_model(folder: Path, *, config=CONFIG, card=CARD, seed=0, extra=()) -> Path:
    """A folder of the form of a saved model, with weights that mean nothing; write it anew to change it."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "config.json": json.dumps(config).encode(),
        "model.safetensors": np.random.default_rng(seed).bytes(20_000),
        "README.md": card.encode(),
        **dict(extra),
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    write_sums(folder, {name: sha256_of(folder / name) for name in files})
    return folder


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def is_whole(folder: Path, model: Path) -> bool:
    return names(folder) == names(model) and all(
        (folder / name).read_bytes() == (model / name).read_bytes() for name in names(model)
    )


@contextmanager
def refused(match, error=HubError):
    """Expect an error that shows no token, neither in its message nor in what is printed of its causes."""
    with pytest.raises(error, match=match) as caught:
        yield caught
    shown = "".join(traceback.format_exception(caught.value))
    assert not any(token in shown for token in (WRITE, READ, OTHER))
