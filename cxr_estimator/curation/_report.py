"""`CurationReport`: what `curate` found, as tables, text, JSON and one HTML page with thumbnails."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.api.types import is_numeric_dtype

from cxr_estimator._wording import printable
from cxr_estimator.errors import SkippedImage
from cxr_estimator.images import ImageSequence
from cxr_estimator.serialization import writable_folder

TABLES = ("label_issues", "duplicates", "overlap")


@dataclass(frozen=True, eq=False, repr=False)
class CurationReport:
    """Suspects among images, labels and splits. Its tables name no patient and no file: they hold positions in X.

    Attributes
    ----------
    n_images : int
        Unreadable ones included.
    n_patients : int or None
        None where patients are unknown.
    counts : DataFrame
        Images and patients of each label (and split).
    label_issues, duplicates : DataFrame
        See the functions of these names.
    overlap : DataFrame
        See `split_overlap`; positions are those in X. Empty without splits.
    unreadable : tuple of SkippedImage
    notes : tuple of str
        What to know before the tables are acted on.
    images : ImageSequence
        What thumbnails are made of.
    """

    n_images: int
    n_patients: int | None
    counts: pd.DataFrame
    label_issues: pd.DataFrame
    duplicates: pd.DataFrame
    overlap: pd.DataFrame
    unreadable: tuple[SkippedImage, ...]
    notes: tuple[str, ...]
    images: ImageSequence

    @property
    def unseen(self) -> str:
        """What no network that judged a label had seen: "patient", or "image" where patients are unknown."""
        return "image" if self.n_patients is None else "patient"

    @property
    def summary(self) -> dict[str, int]:
        """How many there are of each kind; of splits only where they were compared."""
        groups = self.duplicates.groupby("group")
        is_exact = (self.duplicates["kind"] == "exact").groupby(self.duplicates["group"]).all()
        found = {
            "images": self.n_images,
            "unreadable": len(self.unreadable),
            "suspected_labels": int(self.label_issues["suspected"].sum()),
            "exact_duplicate_groups": int(is_exact.sum()),
            "near_duplicate_groups": int((~is_exact).sum()),
        }
        if "split" in self.counts:
            shared = self.overlap.groupby("kind")["group"].nunique()
            kinds = ("image",) if self.n_patients is None else ("patient", "image")
            found |= {f"{kind}s_in_several_splits": int(shared.get(kind, 0)) for kind in kinds}
        for what in ("labels", "patients", "splits"):
            if f"{what}_differ" in self.duplicates:
                found[f"duplicate_groups_whose_{what}_differ"] = int(groups[f"{what}_differ"].first().sum())
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the images as JSON types; images are named by their position."""
        return {
            "summary": self.summary,
            "n_patients": self.n_patients,
            "counts": _records(self.counts),
            **{name: _records(getattr(self, name)) for name in TABLES},
            "unreadable": [{"position": one.position, "reason": anonymous(one)} for one in self.unreadable],
            "notes": list(self.notes),
        }

    def to_json(self) -> str:
        """Return `to_dict` as text."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n"

    def to_html(self, *, show_names: bool = False) -> str:
        """Return one page with thumbnails, which needs no other file: for the owner of the images.

        Parameters
        ----------
        show_names : bool, default=False
            Show file names, which may identify patients; otherwise positions in X.
        """
        from cxr_estimator.curation._writing import report_page

        return report_page(self, show_names=show_names)

    def save(self, folder: str | Path, *, root: str | Path | None = None, show_names: bool = False) -> Path:
        """Write curation.html, curation.json and a CSV file of each table; return the folder.

        Parameters
        ----------
        folder : path
            Made if need be.
        root : path, optional
            Where given, the CSV tables get a column `path`, relative to it: without it nobody finds the files, but
            file names may identify patients.
        show_names : bool, default=False
            Show file names on the page, too.
        """
        folder = writable_folder(folder)
        for name in TABLES:
            _write(self._with_paths(getattr(self, name), root), folder / f"{name}.csv")
        unreadable = pd.DataFrame(json.loads(self.to_json())["unreadable"], columns=["position", "reason"])
        _write(self._with_paths(unreadable, root), folder / "unreadable.csv")
        (folder / "curation.json").write_text(self.to_json(), encoding="utf-8")
        (folder / "curation.html").write_text(self.to_html(show_names=show_names), encoding="utf-8")
        return folder

    def _with_paths(self, table: pd.DataFrame, root: str | Path | None) -> pd.DataFrame:
        if root is None:
            return table
        found = (self.images.path(position) for position in table["position"])
        paths = ["" if path is None else os.path.relpath(path, root) for path in found]
        # as objects: pyarrow, which pandas takes for text where it is installed, has none for names that are no UTF-8
        return table.assign(path=pd.Series(paths, index=table.index, dtype=object))

    def __str__(self) -> str:
        lines = [f"{name.replace('_', ' ')}: {number}" for name, number in self.summary.items()]
        return "\n".join([*lines, *(f"- {note}" for note in self.notes)])

    __repr__ = __str__  # what a notebook shows


def anonymous(one: SkippedImage) -> str:
    """Return why an image is unreadable, without its name: the system's messages may repeat it."""
    text = one.reason.replace(one.source, "the file") if one.source else one.reason
    name = os.path.basename(one.source)
    return re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "the file", text) if name else text


def _write(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path, index=False, errors="backslashreplace")  # of names that are no UTF-8


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    names = [str(name) for name in table if not is_numeric_dtype(table[name])]
    text = {name: [printable(one) if isinstance(one, str) else one for one in table[name]] for name in names}
    return json.loads(table.assign(**text).to_json(orient="records"))
