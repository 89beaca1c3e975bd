"""`EvaluationReport`: what `evaluate` found, as tables, text, JSON, Markdown, HTML and pictures."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cxr_estimator._outputs import Task
from cxr_estimator._wording import number_of
from cxr_estimator.errors import DataError
from cxr_estimator.evaluation._figures import FIGURES
from cxr_estimator.evaluation._points import Decisions
from cxr_estimator.serialization import writable_folder
from cxr_estimator.statistics import FEWEST_PATIENTS, Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_LARGEST = 0.25  # of the images that one of five patients or more may have before intervals over patients fail


@dataclass(frozen=True, eq=False)
class Judged:
    """What pictures are drawn from: numbers only, no image, no patient and no file name.

    Attributes
    ----------
    scores : ndarray (N, K)
        Log-odds of each class or label, before calibration: what operating points decide by, and what ranks images.
    proba : ndarray (N, K)
        Columns in the order of the classes.
    uncalibrated : ndarray (N, K) or None
        Before calibration, where there is one.
    target : ndarray (N,), int, or (N, K)
        True classes as columns; of several labels 1, 0 or NaN (unknown).
    patients : ndarray (N,), int
        Numbers from 0 that only tell which images are of one patient.
    """

    scores: np.ndarray
    proba: np.ndarray
    uncalibrated: np.ndarray | None
    target: np.ndarray
    patients: np.ndarray


@dataclass(frozen=True, eq=False, repr=False)
class EvaluationReport:
    """Figures for one data set. Nothing in it names a patient or a file.

    Attributes
    ----------
    task : Task
        "binary", "multiclass" or "multilabel".
    classes : tuple
        In the order of all tables; of several labels per image their names.
    n_images, n_patients, n_unreadable : int
        Unreadable images are counted but not evaluated. Without `groups` each image counts as one patient.
    prevalence : dict of label to float
        Share of each class among the evaluated images, or of each label among those it is known of.
    pos_label, threshold : label and float, or None
        Of the active operating point; None for several classes.
    overall : dict of str to Estimate
        Figures that need no decision, with 95% intervals; `FIGURES` describes each.
    decisions : dict of str to Decisions
        Figures and confusion matrix of each operating point, the active ones first; of several classes first those of
        "likeliest_class".
    per_class : dict of label to dict of str to Estimate
        Each of several classes against the rest, or each of several labels; empty for two classes.
    subgroups : DataFrame
        See `evaluate`; empty without subgroups.
    notes : tuple of str
        What to know before a figure is believed: what is undefined, and what fell short of its promise.
    judged : Judged
        What pictures are drawn from.
    """

    task: Task
    classes: tuple[Any, ...]
    n_images: int
    n_patients: int
    n_unreadable: int
    prevalence: dict[Any, float]
    pos_label: Any
    threshold: float | None
    overall: dict[str, Estimate]
    decisions: dict[str, Decisions]
    per_class: dict[Any, dict[str, Estimate]]
    subgroups: pd.DataFrame
    notes: tuple[str, ...]
    judged: Judged

    @property
    def support(self) -> dict[Any, int]:
        """How many images each class or label has."""
        if self.task is Task.MULTILABEL:
            present = np.nansum(self.judged.target, axis=0).astype(int)
            return dict(zip(self.classes, present.tolist(), strict=True))
        counts = np.bincount(self.judged.target, minlength=len(self.classes))
        return dict(zip(self.classes, counts.tolist(), strict=True))

    @property
    def metrics(self) -> dict[str, Estimate]:
        """All figures at the active operating point by name; those of a class as "recall_LABEL"."""
        each = {f"{name}_{label}": one for label, found in self.per_class.items() for name, one in found.items()}
        decided = {} if self.task is Task.MULTILABEL else self._active.estimates
        return {**self.overall, **decided, **each}

    @property
    def confusion(self) -> np.ndarray:
        """The confusion matrix (K, K) at the active operating point: rows true, columns decided, as in `classes`.

        Of several labels per image one for each, absent before present, (K, 2, 2).
        """
        if self.task is not Task.MULTILABEL:
            return self._active.confusion
        first: dict[Any, np.ndarray] = {}  # of each label the active point, which comes before its others
        for one in self.decisions.values():
            first.setdefault(one.label, one.confusion)
        return np.stack([first[label] for label in self.classes])

    @property
    def _active(self) -> Decisions:
        return next(iter(self.decisions.values()))

    @property
    def heading(self) -> str:
        """Class order and prevalence, which head every table."""
        shares = ", ".join(
            f"{label} unknown" if math.isnan(share) else f"{label} {share:.1%} ({self.support[label]})"
            for label, share in self.prevalence.items()
        )
        if self.task is Task.MULTILABEL:
            return f"labels, each among the images it is known of: {shares}"
        positive = "" if self.pos_label is None else f"; positive label: {self.pos_label}"
        return f"classes in order: {shares}{positive}"

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return the tables that all written forms show, of text for people, by their titles."""
        from cxr_estimator.evaluation._writing import sections

        return {section.title: section.table for section in sections(self)}

    def to_frame(self) -> pd.DataFrame:
        """Return operating_point, class, figure, value, low and high, a row for each figure.

        The first rows hold the prevalence of the classes in their order. `operating_point` and `class` are empty for
        figures that belong to none.
        """
        nothing = math.nan, math.nan
        rows: list[tuple[Any, ...]] = [
            ("", label, "prevalence", share, *nothing) for label, share in self.prevalence.items()
        ]
        rows += [("", "", name, *one) for name, one in self.overall.items()]
        rows += [
            (point, "", name, *one) for point, its in self.decisions.items() for name, one in its.estimates.items()
        ]
        for label, found in self.per_class.items():
            rows += [("", label, "support", float(self.support[label]), *nothing)]
            rows += [("", label, name, *one) for name, one in found.items()]
        return pd.DataFrame(rows, columns=["operating_point", "class", "figure", "value", "low", "high"])

    def to_dict(self) -> dict[str, Any]:
        """Return everything but `judged` as JSON types; NaN becomes None."""
        return {
            "task": self.task.value,
            "classes": list(self.classes),
            "n_images": self.n_images,
            "n_patients": self.n_patients,
            "n_unreadable": self.n_unreadable,
            "prevalence": {str(label): _or_none(share) for label, share in self.prevalence.items()},
            "support": {str(label): number for label, number in self.support.items()},
            "pos_label": self.pos_label,
            "threshold": self.threshold,
            "metrics": _plain(self.metrics),
            "confusion": self.confusion.tolist(),
            "operating_points": {name: _decisions(one) for name, one in self.decisions.items()},
            "per_class": {str(label): _plain(found) for label, found in self.per_class.items()},
            "subgroups": [
                {key: _or_none(value) for key, value in row.items()} for row in self.subgroups.to_dict("records")
            ],
            "notes": list(self.notes),
        }

    def to_json(self) -> str:
        """Return `to_dict` as text."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n"

    def to_csv(self) -> str:
        """Return `to_frame` as text."""
        return self.to_frame().to_csv(index=False)

    def to_markdown(self) -> str:
        """Return all tables in Markdown."""
        from cxr_estimator.evaluation._writing import markdown

        return markdown(self)

    def to_html(self) -> str:
        """Return one page with all tables and pictures, which needs no other file."""
        from cxr_estimator.evaluation._writing import html

        return html(self)

    def __str__(self) -> str:
        from cxr_estimator.evaluation._writing import text

        return text(self)

    __repr__ = __str__  # what a notebook shows

    def plot(self, name: str, ax: Axes | None = None) -> Figure:
        """Draw one picture: a key of `evaluation.plots.PLOTS` such as "roc".

        Parameters
        ----------
        name : str
        ax : Axes, optional
            Default: those of a new figure.
        """
        from cxr_estimator.evaluation.plots import draw

        return draw(self, name, ax)

    def save(self, path: str | Path) -> Path:
        """Write the report and return the path.

        Parameters
        ----------
        path : path
            A file that ends in .html, .md, .json, .csv or .txt; anything else is a folder, made if need be, for
            report.html, report.md, report.json, report.csv, subgroups.csv and a PNG file of each picture.
        """
        from cxr_estimator.evaluation.plots import plots_of

        path = Path(path)
        if path.suffix.lower() in _WRITERS:
            writable_folder(path.parent)
            if path.is_dir():
                raise DataError(f"{path}: is a folder, but a file is to be written.")
            path.write_text(_WRITERS[path.suffix.lower()](self), encoding="utf-8")
            return path
        writable_folder(path)
        for suffix in (".html", ".md", ".json", ".csv"):
            self.save(path / f"report{suffix}")
        if len(self.subgroups):
            self.subgroups.to_csv(path / "subgroups.csv", index=False)
        for name in plots_of(self):
            self.plot(name).savefig(path / f"{name}.png")
        return path


_WRITERS = {
    ".html": EvaluationReport.to_html,
    ".md": EvaluationReport.to_markdown,
    ".json": EvaluationReport.to_json,
    ".csv": EvaluationReport.to_csv,
    ".txt": lambda report: f"{report}\n",
}


def notes_on(report: EvaluationReport, *, patients_known: bool) -> Iterator[str]:
    """Yield what to know before a figure is believed."""
    if not patients_known:
        yield "Patients are unknown: each image counts as one of its own, which makes the intervals too narrow."
    elif report.n_patients < FEWEST_PATIENTS:
        yield f"With {number_of(report.n_patients, 'patient')} no interval means much."
    elif (largest := np.bincount(report.judged.patients).max() / report.n_images) > _LARGEST:
        yield (
            f"One patient has {largest:.0%} of the images, which makes intervals over patients too narrow, that of the "
            "AUROC above all."
        )
    if report.n_unreadable:
        yield f"{report.n_unreadable} images could not be read and are left out."
    unknown = [label for label, share in report.prevalence.items() if math.isnan(share)]
    if unknown:
        yield f"Of no image it is known whether it has {', '.join(map(str, unknown))}."
    groups = {"": report.overall, **{f" of {label}": found for label, found in report.per_class.items()}}
    groups |= {f" at {name!r}": one.estimates for name, one in report.decisions.items()}
    for where, found in groups.items():
        for name, one in found.items():
            if math.isnan(one.value) and not any(where == f" of {label}" for label in unknown):
                yield f"{name}{where} is undefined (NaN): {FIGURES[name].undefined}."
    for point, decisions in report.decisions.items():
        for check in decisions.transfer:
            if check.flagged:
                yield (
                    f"{check.figure} at {point!r} is {check.verdict} than where the point was chosen: "
                    f"{check.observed} instead of {check.promised}, a gap of {check.gap}."
                )
    if len(report.subgroups) and (report.subgroups["too_few"] != "").any():
        n = int((report.subgroups["too_few"] != "").sum())
        yield f"{n} of {len(report.subgroups)} subgroups have fewer than {FEWEST_PATIENTS} patients for some figures."


def _plain(found: dict[str, Estimate]) -> dict[str, dict[str, float | None]]:
    return {name: {key: _or_none(number) for key, number in one._asdict().items()} for name, one in found.items()}


def _or_none(value: Any) -> Any:
    return None if value != value else value


def _decisions(one: Decisions) -> dict[str, Any]:
    return {
        "rule": one.rule,
        "label": one.label,
        "threshold": one.threshold,
        "figures": _plain(one.estimates),
        "classes": list(one.classes),
        "confusion": one.confusion.tolist(),
        "transfer": [
            {
                "figure": part.figure,
                **_plain({"promised": part.promised, "observed": part.observed, "gap": part.gap}),
                "verdict": part.verdict,
            }
            for part in one.transfer
        ],
    }
