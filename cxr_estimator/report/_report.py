"""`ModelReport`: what is to be known of a model, as one HTML page, text and JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxr_estimator._validation import check_path, plain
from cxr_estimator._wording import DISCLAIMER
from cxr_estimator.audit import AuditReport
from cxr_estimator.errors import DataError
from cxr_estimator.evaluation import EvaluationReport
from cxr_estimator.report._examples import Examples
from cxr_estimator.report._facts import Facts
from cxr_estimator.report._points import shares
from cxr_estimator.report._summary import before_use, sentences
from cxr_estimator.serialization import atomic_write, writable_folder
from cxr_estimator.versions import package_versions

FORMAT, VERSION = "cxr_estimator.report", 1


@dataclass(frozen=True, eq=False, repr=False)
class ModelReport:
    """All that `report` gathered. But for `examples` and the pictures of the audit nothing shows an image.

    Nothing names a patient or a file.

    Attributes
    ----------
    facts : Facts
        What the model knows of its data and its training.
    evaluation : EvaluationReport
    explanations : Examples or None
        A few images of each outcome with their heat maps.
    benchmark : DataFrame or None
    benchmark_of : str or None
        What the maps of the benchmark explain; None where it was made before.
    audit : AuditReport or None
    made_before : tuple of str
        Those of benchmark and audit that were given.
    missing : dict of str to str
        Why a part is None.
    seed : int
    versions : dict of str to str
        Of Python and of the packages that made it.
    """

    facts: Facts
    evaluation: EvaluationReport
    explanations: Examples | None
    benchmark: pd.DataFrame | None
    benchmark_of: str | None
    audit: AuditReport | None
    made_before: tuple[str, ...]
    missing: dict[str, str]
    seed: int
    versions: dict[str, str] = field(default_factory=package_versions)

    @property
    def summary(self) -> str:
        """What the model is, what it was judged on, its figures, and the verdict of the audit, in a few sentences."""
        return " ".join(sentences(self))

    @property
    def before_use(self) -> tuple[str, ...]:
        """What must be known before the model is used."""
        return tuple(before_use(self))

    def to_dict(self) -> dict[str, Any]:
        """Return everything but images, maps and pictures as JSON types; NaN becomes None."""
        facts = self.facts
        content = {
            "format": FORMAT,
            "version": VERSION,
            "title": facts.title,
            "summary": self.summary,
            "before_use": list(self.before_use),
            "model": {name: getattr(facts, name) for name in ("answer", "network", "calibration", "doubts")},
            "data": {"origin": facts.origin, "counts": _records(facts.data), "seen": facts.seen},
            "training": {
                "recipe": {row[0]: row[1] for row in facts.recipe.rows},
                "changed": _records(facts.changed),
                "members": None if facts.members is None else _records(facts.members),
                "history": [one.to_dict("records") for one in facts.histories],
            },
            "evaluation": self.evaluation.to_dict(),
            "operating_points": {
                "chosen": facts.points,
                "of_1000_images": [
                    {**one._asdict(), "found": one.found._asdict(), "false_alarms": one.false_alarms._asdict()}
                    for one in shares(self.evaluation)
                ],
            },
            "explanations": None if self.explanations is None else _examples(self.explanations),
            "benchmark": None if self.benchmark is None else self.benchmark.to_dict("records"),
            "audit": None if self.audit is None else self.audit.to_dict(),
            "made_before": self.made_before,
            "missing": self.missing,
            "seed": self.seed,
            "versions": self.versions,
            "disclaimer": DISCLAIMER,
        }
        found: dict[str, Any] = _json(content)
        return found

    def to_json(self) -> str:
        """Return `to_dict` as text."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n"

    def to_html(self, *, show_images: bool = True) -> str:
        """Return one page that needs no other file.

        Parameters
        ----------
        show_images : bool, default=True
            Show radiographs and overlays. Without them the page can be published.
        """
        from cxr_estimator.report._page import html

        return html(self, show_images=show_images)

    def save(self, path: str | Path, *, show_images: bool = True) -> Path:
        """Write the page to a file that ends in .html, and return its path; folders are made if need be."""
        path = checked_file(path)
        text = self.to_html(show_images=show_images)
        with atomic_write(path) as file:
            file.write(text.encode())
        return path

    def __str__(self) -> str:
        lines = [self.facts.title, "", *sentences(self), "", "Before use:", *(f"- {one}" for one in self.before_use)]
        return "\n".join([*lines, "", DISCLAIMER])

    __repr__ = __str__


def checked_file(path: str | Path) -> Path:
    """Return the path of a page that can be written, its folder made if need be; raise before any work is lost."""
    file = check_path("path", path, caller="report")
    if file.suffix.lower() != ".html":
        raise DataError(f"{file}: the report is one page; name a file that ends in .html.")
    if file.is_dir():
        raise DataError(f"{file}: is a folder, but a file is to be written.")
    writable_folder(file.parent)
    return file


def _records(table: Any) -> list[dict[str, str]]:
    return [dict(zip(table.head, row, strict=True)) for row in table.rows]


def _examples(found: Examples) -> dict[str, Any]:
    images = []
    for i, (outcome, truth) in enumerate(zip(found.outcomes, found.truth, strict=True)):
        first = next(iter(found.explanations.values()))
        maps = {
            name: {"verdict": cards[i].verdict, "sentence": cards[i].sentence} for name, cards in found.cards.items()
        }
        explained = {"decision": first.prediction.label[i], "explained": first.target[i]}
        images.append({"outcome": outcome, "true": truth, **explained, "maps": maps})
    return {"counts": found.counts, "methods": list(found.explanations), "images": images}


def _json(value: Any) -> Any:
    """Return the same in JSON types."""
    if isinstance(value, dict):
        return {str(name): _json(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_json(one) for one in value]
    value = plain(value)
    return None if isinstance(value, float) and not np.isfinite(value) else value
