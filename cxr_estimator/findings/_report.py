"""`Findings`: what the maps of right and wrong decisions have in common, as tables, text, JSON, Markdown and HTML."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxr_estimator._wording import DISCLAIMER
from cxr_estimator.explanation import Explanation
from cxr_estimator.findings._buckets import Bucket, Difference
from cxr_estimator.findings._hypotheses import Hypothesis
from cxr_estimator.serialization import write_report
from cxr_estimator.statistics import Estimate
from cxr_estimator.versions import package_versions

FORMAT, VERSION = "cxr_estimator.findings", 1
_PICTURES = "pictures"


@dataclass(frozen=True, eq=False, repr=False)
class Findings:
    """What the heat maps of right and wrong decisions have in common. Nothing in it names a patient or a file.

    Attributes
    ----------
    classes : tuple of str
    positive : str or None
        The positive label of two classes.
    method, target : str
        Of explanation.
    shows : str
        What values of the method stand for, see `Explanation.shows`.
    n_images, n_unreadable : int
        Images that were judged, and those that could not be read.
    n_patients : int or None
        None where patients are unknown.
    table : DataFrame
        A row for each map of each bucket, in the order they were drawn in: `bucket`, `position` in X, whether it is
        `shown`, `truth`, `decision`, `probability` (of the positive label; of several classes, of the decision),
        `explained` class, `gain` of the deletion curve over moved copies of the map, how many of these it has `beaten`,
        `verdict` and `why` of its trust card, `number` in `explanation`, and what `describe` says.
    buckets : tuple of Bucket
    differences : tuple of Difference
        Of wrong decisions from right ones.
    hypotheses : tuple of Hypothesis
    notes : tuple of str
        What else must be known.
    explanation : Explanation
        The maps of all drawn images, with these at model size. Never written as arrays.
    lungs : tuple of ndarray (H, W), bool, or None
        Of these images.
    versions : dict of str to str
        Of Python and of the packages that made it.
    """

    classes: tuple[str, ...]
    positive: str | None
    method: str
    target: str
    shows: str
    n_images: int
    n_patients: int | None
    n_unreadable: int
    table: pd.DataFrame
    buckets: tuple[Bucket, ...]
    differences: tuple[Difference, ...]
    hypotheses: tuple[Hypothesis, ...]
    notes: tuple[str, ...]
    explanation: Explanation
    lungs: tuple[np.ndarray | None, ...]
    versions: dict[str, str] = field(default_factory=package_versions)

    def of(self, bucket: str) -> pd.DataFrame:
        """Return the rows of the table of one bucket."""
        return self.table[self.table["bucket"] == bucket]

    def picture(self, row: int) -> np.ndarray:
        """Return an image (h, w, 3), uint8, of a row of the table: the radiograph beside its overlay."""
        from cxr_estimator.findings._pictures import picture

        number = int(self.table["number"].iloc[row])
        return picture(self.explanation, number, self.lungs[number])

    def shown(self, bucket: str) -> Iterator[tuple[str, int]]:
        """Yield the name of the picture of each image of a bucket that is shown, and its row in the table."""
        rows = np.flatnonzero(((self.table["bucket"] == bucket) & self.table["shown"]).to_numpy())
        for place, row in enumerate(rows.tolist(), 1):
            yield f"{_PICTURES}/{bucket.lower()}_{place}.png", row

    def to_dict(self) -> dict[str, Any]:
        """Return everything but images and maps as JSON types; NaN becomes None."""
        plain = {
            name: getattr(self, name)
            for name in ("classes", "positive", "method", "target", "shows", "n_images", "n_patients", "n_unreadable")
        }
        return _as_json(
            {
                "format": FORMAT,
                "version": VERSION,
                **plain,
                "buckets": [one._asdict() for one in self.buckets],
                "differences": [{**one._asdict(), "sentence": one.sentence} for one in self.differences],
                "hypotheses": [one.to_dict() for one in self.hypotheses],
                "images": self.table.drop(columns="number").to_dict("records"),
                "notes": self.notes,
                "versions": self.versions,
                "disclaimer": DISCLAIMER,
            }
        )

    def to_json(self) -> str:
        """Return everything but images and maps as JSON."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)

    def to_markdown(self, *, pictures: bool = False) -> str:
        """Return the report in Markdown; with `pictures` it links to those that `save` writes beside it."""
        from cxr_estimator.findings._writing import markdown

        return markdown(self, pictures=pictures)

    def to_html(self) -> str:
        """Return one page that needs no other file. It shows radiographs, so mind who sees it."""
        from cxr_estimator.findings._writing import html

        return html(self)

    def save(self, folder: str | Path) -> Path:
        """Write findings.html, findings.md with its pictures, and findings.json; all but the last show radiographs.

        Pictures of earlier findings in the same folder are deleted.
        """
        from cxr_estimator._pages import png_file

        shown = [one for bucket in self.buckets for one in self.shown(bucket.name)]
        files = {
            **{name: png_file(self.picture(row)) for name, row in shown},
            "findings.html": self.to_html().encode(),
            "findings.md": self.to_markdown(pictures=True).encode(),
            "findings.json": self.to_json().encode(),
        }
        return write_report(folder, files, pictures=r"(tp|fp|fn|right|wrong|random)_\d+\.png")

    def __str__(self) -> str:
        from cxr_estimator.findings._writing import text

        return text(self)

    __repr__ = __str__


def _as_json(value: Any) -> Any:
    """Return JSON types: tuples as lists, estimates as their three numbers, NaN as None, labels as text."""
    if isinstance(value, dict):
        return {str(name): _as_json(one) for name, one in value.items()}
    if isinstance(value, Estimate | list | tuple):
        return [_as_json(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None if math.isnan(value) else str(value)
    return value if value is None or isinstance(value, bool | int | str) else str(value)
