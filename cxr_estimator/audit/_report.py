"""`AuditReport`: what an audit found, as tables, text, JSON, Markdown and HTML."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from cxr_estimator._figure_style import method_title
from cxr_estimator._wording import DISCLAIMER
from cxr_estimator.audit._types import FAMILIES, AuditCheck
from cxr_estimator.card import AUDIT_NAME
from cxr_estimator.serialization import write_report
from cxr_estimator.verdicts import DOUBTFUL, FAIL, NO_DATA, PASS, SHOW, WARN, WITHHOLD
from cxr_estimator.versions import package_versions

_ORDER = (FAIL, DOUBTFUL, NO_DATA, PASS)
FORMAT, VERSION = "cxr_estimator.audit", 1


class MapVerdict(NamedTuple):
    """Whether heat maps of a method may be shown: "show", "show with warning" or "withhold", and the reason."""

    verdict: str
    reason: str


@dataclass(frozen=True, eq=False, repr=False)
class AuditReport:
    """The outcome of all checks. Without the pictures nothing in it names a patient or a file, or shows an image.

    Attributes
    ----------
    checks : tuple of AuditCheck
    classes, methods : tuple of str
    n_images, n_unreadable : int
        Images that were looked at, and those that could not be read.
    n_patients : int or None
        None where patients are unknown.
    evaluations : int
        Images that were put through the network.
    note : str or None
        What else must be known of the images, such as that they trained the model; `dataclasses.replace` adds it.
    versions : dict of str to str
        Of Python and of the packages that made it.
    """

    checks: tuple[AuditCheck, ...]
    classes: tuple[str, ...]
    methods: tuple[str, ...]
    n_images: int
    n_patients: int | None
    n_unreadable: int
    evaluations: int
    note: str | None = None
    versions: dict[str, str] = field(default_factory=package_versions)

    @property
    def table(self) -> pd.DataFrame:
        """One row per check: name, family, method, value, low, high, threshold, verdict, sentence."""
        rows = [{**one._asdict(), "low": one.interval[0], "high": one.interval[1]} for one in self.checks]
        columns = ["name", "family", "method", "value", "low", "high", "threshold", "verdict", "sentence"]
        return pd.DataFrame(rows, columns=columns)

    @property
    def verdict(self) -> str:
        """The worst verdict of all checks that had enough data."""
        return min((one.verdict for one in self.checks if one.verdict != NO_DATA), key=_ORDER.index, default=NO_DATA)

    def failed(self) -> list[AuditCheck]:
        """Return the checks that failed."""
        return self._with(FAIL)

    def _with(self, verdict: str) -> list[AuditCheck]:
        return [one for one in self.checks if one.verdict == verdict]

    @property
    def summary(self) -> str:
        """What failed and what is doubtful, in one line."""
        parts = []
        for said, verdict in (("Failed", FAIL), ("Doubtful", DOUBTFUL)):
            names = "; ".join(one.title for one in self._with(verdict))
            parts += [f"{said}: {names}."] if names else []
        for said, verdict in (("Passed", PASS), ("Not enough data", NO_DATA)):
            count = len(self._with(verdict))
            parts += [f"{said}: {count}."] if count else []
        return " ".join(parts)

    @property
    def maps(self) -> dict[str, MapVerdict]:
        """Whether heat maps of each method may be shown, with the reason."""
        return {method: self._of_maps(method) for method in self.methods}

    def _of_maps(self, method: str) -> MapVerdict:
        from cxr_estimator.audit._checks import CHECKS

        own = [one for one in self.checks if one.method == method]
        bad = [one for one in own if one.verdict == FAIL and CHECKS[one.name].withholds]
        if bad:
            return MapVerdict(WITHHOLD, bad[0].sentence)
        # what the model looks at is a matter of all maps
        shortcuts = [one for one in self.checks if one.family == "shortcuts" and one.method is None]
        doubts = [one for one in own if one.verdict in (FAIL, DOUBTFUL)]
        doubts += [one for one in shortcuts if one.verdict == FAIL]
        if doubts:
            return MapVerdict(WARN, min(doubts, key=lambda one: _ORDER.index(one.verdict)).sentence)
        if not any(one.verdict == PASS and CHECKS[one.name].withholds for one in own):
            return MapVerdict(WARN, "No check that would withhold them had enough data.")
        return MapVerdict(SHOW, "Every check of its maps that could be made was passed.")

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the pictures as JSON types."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "n_images": self.n_images,
            "n_patients": self.n_patients,
            "n_unreadable": self.n_unreadable,
            "classes": list(self.classes),
            "verdict": self.verdict,
            "maps": {method: one._asdict() for method, one in self.maps.items()},
            "checks": [_finite(one.to_dict()) for one in self.checks],
            "evaluations": self.evaluations,
            "note": self.note,
            "versions": self.versions,
            "disclaimer": DISCLAIMER,
        }

    def to_json(self) -> str:
        """Return everything but the pictures as JSON."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)

    def to_markdown(self) -> str:
        """Return what a model card says of it, without a heading."""
        from cxr_estimator.audit._section import section

        return section(self)

    def to_html(self) -> str:
        """Return one page that needs no other file, with the pictures of checks that did not pass."""
        from cxr_estimator.audit._page import html

        return html(self)

    def save(self, folder: str | Path) -> Path:
        """Write audit.json and audit.html into a folder; the page shows radiographs, so mind who sees it."""
        return write_report(folder, {AUDIT_NAME: self.to_json().encode(), "audit.html": self.to_html().encode()})

    @classmethod
    def load(cls, path: str | Path) -> AuditReport:
        """Read what `save` wrote, without the pictures. Nothing is unpickled or executed.

        Verdicts of checks are those that were written; whether maps may be shown follows from them.

        Parameters
        ----------
        path : path
            The folder, or audit.json.

        Raises
        ------
        DataError
            It is no audit of this version: not there, too large, not JSON, with other fields, checks or verdicts.
        """
        from cxr_estimator.audit._reading import read_fields

        return cls(**read_fields(path))

    def __str__(self) -> str:
        patients = "unknown patients" if self.n_patients is None else f"{self.n_patients} patients"
        unreadable = f"; {self.n_unreadable} more could not be read" if self.n_unreadable else ""
        lines = [f"Audit on {self.n_images} images of {patients}{unreadable}: {self.verdict}", ""]
        lines += [self.summary, ""] + ([] if self.note is None else [self.note, ""])
        for family in FAMILIES:
            lines += [f"{family}:"] * any(one.family == family for one in self.checks)
            lines += [f"  {one.verdict:<16} {one.title}: {one.sentence}" for one in self.checks if one.family == family]
        lines += ["", "heat maps:"]
        lines += [f"  {method_title(name)}: {one.verdict}. {one.reason}" for name, one in self.maps.items()]
        return "\n".join([*lines, "", DISCLAIMER])

    __repr__ = __str__


def _finite(value: Any) -> Any:
    """Return JSON types in which an infinite number, which JSON has not, is a text."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return str(value) if isinstance(value, float) and math.isinf(value) else value
