"""Pages of curation: tables, and thumbnails in groups, in one HTML file."""

from __future__ import annotations

import base64
import io
import os
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from cxr_estimator._pages import fragment
from cxr_estimator._pages import page as framed
from cxr_estimator._wording import SHOWS_RADIOGRAPHS
from cxr_estimator.curation._report import anonymous
from cxr_estimator.errors import ImageError
from cxr_estimator.images import ImageSequence
from cxr_estimator.preprocessing import Preprocessing

if TYPE_CHECKING:
    from cxr_estimator.curation._report import CurationReport

_SHOWN = 60  # thumbnails or groups of a section
_GROUP = 12  # thumbnails of one group
_SIDE = 160  # pixels
_KINDS = {"patient": "same patient", "image": "same pixels"}


class Card(NamedTuple):
    """One thumbnail (base64 JPEG, or None) and the lines below it."""

    picture: str | None
    lines: list[str]


class Group(NamedTuple):
    """Thumbnails that belong together."""

    title: str
    cards: list[Card]


class Section(NamedTuple):
    """A part of a page: some words, a table, groups of thumbnails."""

    title: str
    text: str
    table: pd.DataFrame | None = None
    groups: tuple[Group, ...] = ()


def report_page(report: CurationReport, *, show_names: bool) -> str:
    """Return the page of a report."""
    shown = Shown(report.images, show_names)
    counts = report.counts.astype(str)
    sections = [
        Section("Images", f"{report.n_images} in all.", table=counts),
        _labels(report, shown),
        _duplicates(report.duplicates, shown),
    ]
    if len(report.overlap):
        sections.append(_overlap(report.overlap, shown))
    if report.unreadable:
        rows = [(shown.name(one.position), one.reason if show_names else anonymous(one)) for one in report.unreadable]
        sections.append(Section("Unreadable", "", table=pd.DataFrame(rows, columns=["image", "reason"], dtype=object)))
    facts = [(name.replace("_", " "), str(number)) for name, number in report.summary.items()]
    return page("Curation", facts, report.notes, sections)


def similar_page(case: Card, neighbours: list[Card]) -> str:
    """Return the page of a case and its neighbours."""
    groups = (Group("The case", [case]), Group("The most similar known cases", neighbours))
    text = (
        "Alike to the network, by the cosine of embeddings: what it was not trained to tell apart may stand together."
    )
    return page("Similar cases", [], (), [Section("", text, groups=groups)])


def page(title: str, facts: list[tuple[str, str]], notes: tuple[str, ...], sections: list[Section]) -> str:
    """Return one HTML page that needs no other file; all text is escaped."""
    body = fragment("curation/body.html.jinja", facts=facts, notes=notes, sections=sections)
    return framed(title, body, SHOWS_RADIOGRAPHS)


class Shown:
    """Thumbnails and names of images: their file names, or, unless these may be shown, positions."""

    def __init__(self, images: ImageSequence, show_names: bool) -> None:
        self._images, self._show_names = images, show_names

    def name(self, position: int) -> str:
        """Return what an image is called on the page."""
        path = self._images.path(int(position)) if self._show_names else None
        return f"#{position}" if path is None else f"#{position} {os.path.basename(path)}"

    def card(self, position: int, *lines: str) -> Card:
        """Return the thumbnail of an image, with its name as the first line."""
        return Card(thumbnail(self._images, int(position)), [self.name(position), *lines])


def thumbnail(images: ImageSequence, position: int) -> str | None:
    """Return a small JPEG as base64; None where the image cannot be read any more."""
    try:
        image = images[position]
        intensity = None if image.pixels.dtype == np.uint8 else "minmax"
        channels = 3 if image.pixels.ndim == 3 else 1
        pixels = Preprocessing(_SIDE, channels, "pad", intensity).pixels(image)
    except ImageError:
        return None
    eight = pixels if pixels.dtype == np.uint8 else (pixels // 257).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(eight[0] if channels == 1 else np.moveaxis(eight, 0, 2)).save(buffer, "JPEG", quality=80)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _labels(report: CurationReport, shown: Shown) -> Section:
    table = report.label_issues
    suspects = table[table["suspected"]]
    text = (
        f"{len(suspects)} suspects among {len(table)} labels, the least believed first{_limited(len(suspects))}. "
        f"Probabilities are of networks that had not seen the {report.unseen}."
    )
    cards = [
        shown.card(
            row.position,
            f"given: {row.label} ({row.p_label:.1%})",
            f"suggested: {row.suggested} ({row.p_suggested:.1%})",
        )
        for row in _rows(suspects.head(_SHOWN))
    ]
    return Section("Suspected labels", text, groups=(Group("", cards),) if cards else ())


def _duplicates(table: pd.DataFrame, shown: Shown) -> Section:
    """Show groups that differ in something first: there somebody must act."""
    flags = [name for name in ("labels_differ", "patients_differ", "splits_differ") if name in table]
    number = table["group"].nunique()
    order = table.assign(flagged=table[flags].any(axis=1)).groupby("group")["flagged"].first()
    chosen = order.sort_values(ascending=False, kind="stable").index[:_SHOWN]
    groups = tuple(_duplicate_group(table[table["group"] == group], flags, shown) for group in chosen)
    text = f"{number} groups{_limited(number)}; those that differ in label, patient or split first."
    return Section("Duplicates", text, groups=groups)


def _duplicate_group(rows: pd.DataFrame, flags: list[str], shown: Shown) -> Group:
    cards = []
    for row in _rows(rows.head(_GROUP)):
        how = "same pixels" if row.kind == "exact" else f"{row.similarity:.3f} alike, {row.hash_distance} bits apart"
        known = [str(getattr(row, name)) for name in ("label", "split") if hasattr(row, name)]
        cards.append(shown.card(row.position, how, ", ".join(known)))
    differing = [flag.replace("_", " ") for flag in flags if rows[flag].iloc[0]]
    more = f", {len(rows)} images, {_GROUP} shown" if len(rows) > _GROUP else ""
    return Group(f"Group {rows['group'].iloc[0]}{more}{''.join(f', {one}' for one in differing)}", cards)


def _overlap(table: pd.DataFrame, shown: Shown) -> Section:
    """Return a row, and thumbnails, for each patient or image that stands in several splits."""
    rows: list[tuple[str, ...]] = []
    groups: list[Group] = []
    for (kind, number), part in table.groupby(["kind", "group"], sort=False):
        where = [
            f"{split}: {', '.join(map(shown.name, one['position']))}"
            for split, one in part.groupby("split", sort=False)
        ]
        rows.append((_KINDS[str(kind)], str(number), "; ".join(where), "differ" if part["labels_differ"].any() else ""))
        if len(groups) < _SHOWN:
            more = f", {len(part)} images, {_GROUP} shown" if len(part) > _GROUP else ""
            cards = [shown.card(row.position, f"{row.label}, {row.split}") for row in _rows(part.head(_GROUP))]
            groups.append(Group(f"{_KINDS[str(kind)].capitalize()} {number}{more}", cards))
    found = pd.DataFrame(rows[:_SHOWN], columns=["what", "number", "where", "labels"], dtype=object)
    return Section("Overlap between splits", f"{len(rows)} shared{_limited(len(rows))}.", found, tuple(groups))


def _limited(number: int) -> str:
    return f" ({_SHOWN} shown, all in the tables)" if number > _SHOWN else ""


def _rows(table: pd.DataFrame) -> Any:
    return table.itertuples(index=False)
