"""Where `benchmark` keeps the values of the images that are done, so that a run that was stopped is taken up there."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxr_estimator._digest import digest_of
from cxr_estimator.errors import DataError
from cxr_estimator.serialization import atomic_write, read_json, writable_folder

COLUMNS = ["index", "image_id", "bucket", "method", "metric", "value", "seconds"]
_NUMBERS = {"index": np.int64, "value": np.float64, "seconds": np.float64}
_KEY = ["index", "method", "metric"]


class Kept:
    """The values of the batches that are done, in memory and, if wanted, in a folder: one file per batch.

    Parameters
    ----------
    folder : path or None
    description : dict of str to anything
        What the values follow from; a folder whose values follow from something else is refused.
    n_images : int
    cells : sequence of (method, metric)
        Those of each image.
    """

    def __init__(
        self,
        folder: str | Path | None,
        description: Mapping[str, Any],
        n_images: int,
        cells: Sequence[tuple[str, str]],
    ) -> None:
        self._parts: list[pd.DataFrame] = []
        self._folder = None if folder is None else writable_folder(folder)
        if self._folder is None:
            return
        digests = {name: digest_of(value) for name, value in description.items()}
        self._description = {"format": "cxr_estimator.benchmark", "version": 3, **digests}
        paths = sorted(path for path in self._folder.iterdir() if re.fullmatch(r"part-\d{6}\.csv", path.name))
        self._next = int(paths[-1].stem[-6:]) + 1 if paths else 0
        if paths:  # without any, the description is that of a request which came to nothing
            _check_description(self._folder / "benchmark.json", self._description)
        self._parts = [_read(path, n_images, cells) for path in paths]

    @property
    def done(self) -> np.ndarray:
        """Positions of the images that are done."""
        return np.concatenate([np.array([], dtype=np.int64), *(part["index"].to_numpy() for part in self._parts)])

    def add(self, part: pd.DataFrame) -> None:
        """Keep the values of a batch."""
        if self._folder is not None:
            if not self._parts:  # not before, so that a request that fails leaves nothing behind
                with atomic_write(self._folder / "benchmark.json") as file:
                    file.write(json.dumps(self._description, indent=1).encode())
            with atomic_write(self._folder / f"part-{self._next:06d}.csv") as file:
                file.write(part.to_csv(index=False, na_rep="nan").encode())
            self._next += 1
        self._parts.append(part)

    def frame(self) -> pd.DataFrame:
        """Return all values, one row per image, method and metric."""
        if not self._parts:
            raise DataError("benchmark: none of the images could be read.")
        return pd.concat(self._parts, ignore_index=True).drop_duplicates(_KEY, ignore_index=True)


def _check_description(path: Path, description: Mapping[str, Any]) -> None:
    there = read_json(path) if path.exists() else {}
    different = [name for name, value in description.items() if there.get(name) != value]
    if different:
        raise DataError(
            f"benchmark: {path.parent} holds another benchmark (of other {', '.join(different)}). Choose another "
            "folder, or delete it."
        )


def _read(path: Path, n_images: int, cells: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Return the values of a batch, or raise unless all of each image are there."""
    try:
        part = pd.read_csv(path, dtype=str, keep_default_na=False).astype(_NUMBERS)  # a label may be "NA" or "5"
        found = part[_KEY].groupby("index")
        is_whole = (
            list(part.columns) == COLUMNS
            and part["index"].between(0, n_images - 1).all()
            and not part.duplicated(_KEY).any()
            and all(set(zip(one["method"], one["metric"], strict=True)) == set(cells) for _, one in found)
        )
    except (ValueError, KeyError, OSError):  # what pandas makes of damage
        is_whole = False
    if not is_whole:
        raise DataError(f"{path}: is damaged. Delete it, and its images are explained anew.")
    return part
