"""`ModelComparison`: what `compare` found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cxr_estimator._validation import invalid
from cxr_estimator._wording import DISCLAIMER, cell
from cxr_estimator.comparison._checklist import Item, checklist
from cxr_estimator.comparison._explanations import compare_explanations
from cxr_estimator.comparison._pairs import Pair, estimates, pair_as_dict, told_of
from cxr_estimator.evaluation import EvaluationReport
from cxr_estimator.explanation import Explanation
from cxr_estimator.figures import plot_comparison

_FIGURES = ("auroc", "macro_auroc", "accuracy", "sensitivity", "specificity")


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
    n_patients : int or None
        None where patients are unknown.
    n_unreadable : int
    """

    classes: tuple[str, ...]
    images: pd.DataFrame
    reports: dict[str, EvaluationReport]
    pairs: tuple[Pair, ...]
    explained: np.ndarray
    explanations: dict[str, Explanation]
    n_patients: int | None
    n_unreadable: int

    def pair(self, first: str, second: str) -> Pair:
        """Return the comparison of two models by their names, the first of which came first."""
        found = {one.names: one for one in self.pairs}
        if (first, second) not in found:
            raise invalid("names", "ModelComparison.pair", f"one of {list(found)}", (first, second))
        return found[first, second]

    def flipped(self, first: str, second: str) -> pd.DataFrame:
        """Return the rows of `images` of which two models decide differently."""
        return self.images[self.images[f"decision {first}"] != self.images[f"decision {second}"]]

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

    def plot(self, row: int = 0, names: tuple[str, str] | None = None) -> Any:
        """Return the six panels (150 dpi) of an explained image: radiograph, heat map and overlay by two models."""
        first, second = names or self.pairs[0].names
        return plot_comparison(self.explanations[first], self.explanations[second], row, names=(first, second))

    def checklist(self, row: int = 0, names: tuple[str, str] | None = None, **known: Any) -> list[Item]:
        """Return what to verify about an explained image; for `known` see `checklist`."""
        shown = {name: self.explanations[name][row] for name in names or self.pairs[0].names}
        return checklist(shown, compare_explanations(*shown.values()), **known)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but images and maps as JSON types; NaN becomes None."""
        return {
            "classes": list(self.classes),
            "n_images": len(self.images),
            "n_patients": self.n_patients,
            "n_unreadable": self.n_unreadable,
            "models": {name: estimates(one.metrics) for name, one in self.reports.items()},
            "pairs": [pair_as_dict(one) for one in self.pairs],
            "disclaimer": DISCLAIMER,
        }

    def __str__(self) -> str:
        patients = "unknown patients" if self.n_patients is None else f"{self.n_patients} patients"
        lines = [f"{len(self.explanations)} models on {len(self.images)} images of {patients}", ""]
        for model, report in self.reports.items():
            known = [name for name in _FIGURES if name in report.metrics]
            told = "; ".join(f"{name.replace('_', ' ')} {cell(report.metrics[name])}" for name in known)
            lines.append(f"{model}: {told}")
        for one in self.pairs:
            lines += ["", *told_of(one)]
        return "\n".join([*lines, "", DISCLAIMER])

    __repr__ = __str__
