"""`ModelComparison`: what `compare` found, as tables, text, JSON, Markdown and HTML."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from cxr_estimator._validation import check_number, invalid
from cxr_estimator._wording import DISCLAIMER, printable
from cxr_estimator.comparison._checklist import Item, checklist
from cxr_estimator.comparison._explanations import compare_explanations
from cxr_estimator.comparison._pairs import Pair, estimates, pair_as_dict
from cxr_estimator.evaluation import EvaluationReport
from cxr_estimator.explanation import Explanation
from cxr_estimator.figures import plot_comparison
from cxr_estimator.serialization import write_report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_SHOWN = 4  # images of each pair
_FIGURES = r"models_\d+_and_\d+_\d+\.png"  # names of figures that `save` writes


class Shown(NamedTuple):
    """An explained image whose maps by two models are among the least alike.

    Attributes
    ----------
    names : (str, str)
    row, position : int
        In `ModelComparison.explained`, and in X.
    label : str or None
        None without y.
    figure : str
        File name of its six panels.
    sentences : list of str
        Decisions and probabilities.
    items : list of Item
        What to verify.
    """

    names: tuple[str, str]
    row: int
    position: int
    label: str | None
    figure: str
    sentences: list[str]
    items: list[Item]


@dataclass(frozen=True, eq=False, repr=False)
class ModelComparison:
    """What models say of the same images. Nothing in it names a patient or a file.

    Attributes
    ----------
    classes : tuple of str
    images : DataFrame
        A row for each image that all could read: `position` in X, `label` if y was given, and for each model
        "decision NAME" and "probability NAME", that of what it decides.
    reports : dict of name to EvaluationReport
        Empty without y.
    pairs : tuple of Pair
        Each model beside each later one.
    explained : ndarray (n,)
        Positions in X of the images whose maps are compared, a random draw.
    explanations : dict of name to Explanation
        Of these images, by either model, of the class that the first one decides.
    unusual : dict of name to tuple of n str
        Why each of these images is unusual to a model; empty where it is not, or the model cannot tell.
    n_patients : int or None
        None where patients are unknown.
    n_unreadable : int
    notes : tuple of str
        What to know before a figure is believed; empty without y.
    similar : dict of name to DataFrame
        Known cases that look like each of these images to a model, as `curation.SimilarCases.query` returns them;
        `dataclasses.replace` adds them.
    """

    classes: tuple[str, ...]
    images: pd.DataFrame
    reports: dict[str, EvaluationReport]
    pairs: tuple[Pair, ...]
    explained: np.ndarray
    explanations: dict[str, Explanation]
    unusual: dict[str, tuple[str, ...]]
    n_patients: int | None
    n_unreadable: int
    notes: tuple[str, ...] = ()
    similar: Mapping[str, pd.DataFrame] = field(default_factory=dict)

    def pair(self, first: str, second: str) -> Pair:
        """Return the comparison of two models by their names, the first of which came first."""
        found = {one.names: one for one in self.pairs}
        if (first, second) not in found:
            raise invalid("names", "ModelComparison", f"one of {list(found)}", (first, second))
        return found[first, second]

    def flipped(self, first: str, second: str) -> pd.DataFrame:
        """Return the rows of `images` of which two models decide differently."""
        one, other = self.pair(first, second).names
        return self.images[self.images[f"decision {one}"] != self.images[f"decision {other}"]]

    def flips(self, first: str, second: str) -> pd.DataFrame:
        """Return how many images two models decide differently, by what is true and by what either decides.

        Columns `label` if y was given, "decision NAME" of either model, `n_images`, and `right` if y was given: the
        name of the model that is, or "neither".
        """
        table = self.flipped(first, second)
        keys = [name for name in ("label", f"decision {first}", f"decision {second}") if name in table]
        counts = table.groupby(keys).size().rename("n_images").reset_index()
        if "label" in counts:
            is_right = {name: counts[f"decision {name}"] == counts["label"] for name in (first, second)}
            counts["right"] = np.select(list(is_right.values()), list(is_right), "neither")
        return counts

    def moved(self, first: str, second: str) -> pd.DataFrame:
        """Return the explained images by how little the maps of two models are alike, the least first.

        Columns `position`, `row` (in `explanations`), "same_decision" and each metric of agreement.
        """
        found = self.pair(first, second).comparison
        columns = {
            "position": self.explained,
            "row": np.arange(len(self.explained)),
            "same_decision": found.same_decision,
        }
        return pd.DataFrame({**columns, **found.agreement}).sort_values("rank_correlation", kind="stable")

    def plot(self, row: int = 0, names: tuple[str, str] | None = None) -> Figure:
        """Return the six panels (150 dpi) of an explained image: radiograph, heat map and overlay by two models."""
        (first, a), (second, b) = self._two(row, names).items()
        return plot_comparison(a, b, names=(first, second))

    def checklist(self, row: int = 0, names: tuple[str, str] | None = None) -> list[Item]:
        """Return what to verify about an explained image before what two models say of it is believed."""
        chosen = self._two(row, names)
        return checklist(
            chosen,
            compare_explanations(*chosen.values()),
            unusual={name: self.unusual[name][row] for name in chosen if self.unusual[name][row]},
            similar={name: found[found["query"] == row] for name, found in self.similar.items() if name in chosen},
        )

    def _two(self, row: int, names: tuple[str, str] | None) -> dict[str, Explanation]:
        """Return the explanations of an image by two models."""
        last = len(self.explained) - 1
        check_number("row", row, caller="ModelComparison", low=0, high=last, integer=True)
        return {name: self.explanations[name][row] for name in self.pair(*(names or self.pairs[0].names)).names}

    @cached_property
    def least_alike(self) -> tuple[Shown, ...]:
        """For each pair the explained images, at most four, whose maps are least alike: what pages show."""
        found = []
        for pair in self.pairs:
            for rank, row in enumerate(self.moved(*pair.names)["row"][:_MOST_SHOWN].tolist(), 1):
                found.append(self._shown(pair, rank, row))
        return tuple(found)

    def _shown(self, pair: Pair, rank: int, row: int) -> Shown:
        position, order = int(self.explained[row]), list(self.explanations)
        own = self.images[self.images["position"] == position]
        first, second = (order.index(name) + 1 for name in pair.names)
        return Shown(
            names=pair.names,
            row=row,
            position=position,
            label=str(own["label"].iloc[0]) if "label" in own else None,
            figure=f"models_{first}_and_{second}_{rank}.png",  # names of models may hold any character
            sentences=pair.comparison.sentences(row, names=pair.names)[:2],  # the checklist tells of the maps
            items=self.checklist(row, pair.names),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return everything but images and maps as JSON types; NaN becomes None."""
        return {
            "classes": list(self.classes),
            "n_images": len(self.images),
            "n_patients": self.n_patients,
            "n_unreadable": self.n_unreadable,
            "notes": list(self.notes),
            "models": {name: estimates(one.metrics) for name, one in self.reports.items()},
            "pairs": [
                {**pair_as_dict(one), "flips": self.flips(*one.names).astype({"n_images": object}).to_dict("records")}
                for one in self.pairs
            ],
            "least_alike": [
                {
                    "names": list(one.names),
                    "position": one.position,
                    "figure": one.figure,
                    "checklist": [item._asdict() for item in one.items],
                }
                for one in self.least_alike
            ],
            "disclaimer": DISCLAIMER,
        }

    def to_json(self) -> str:
        """Return `to_dict` as text."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n"

    def to_markdown(self) -> str:
        """Return figures, tests, flips and checklists as Markdown, without pictures."""
        from cxr_estimator.comparison._writing import markdown

        return markdown(self)

    def to_html(self) -> str:
        """Return one page that needs no other file, with six panels of the images whose maps are least alike."""
        from cxr_estimator.comparison._writing import html

        return html(self)

    def save(self, folder: str | Path) -> Path:
        """Write comparison.html, comparison.json, images.csv and the six panels into a folder; return it.

        Page and figures show radiographs, so mind who sees them. Figures of an earlier comparison in the same folder
        are deleted.
        """
        from cxr_estimator.comparison._writing import html, pictures

        drawn = pictures(self)
        files = {
            **drawn,
            "images.csv": printable(self.images.to_csv(index=False)).encode(),
            "comparison.json": printable(self.to_json()).encode(),
            "comparison.html": html(self, drawn).encode(),
        }
        return write_report(folder, files, pictures=_FIGURES)

    def __str__(self) -> str:
        from cxr_estimator.comparison._writing import text

        return text(self)

    __repr__ = __str__
