"""Write results/README.md from the JSON files beside it: one row per recipe, means over its seeds.

python recipes/pneumonia/table.py
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import study

COLUMNS = {
    "clean_auroc": "clean",
    "shifted_auroc": "shifted",
    "worst_shift_auroc": "worst shift",
    "pooled_auroc": "pooled",
    "crossed_auroc": "crossed",
    "contrary_auroc": "contrary",
    "unseen_auroc": "unseen",
    "shifted_accuracy": "accuracy, shifted",
    "shifted_screening_sensitivity": "sensitivity, shifted",
    "shifted_screening_specificity": "specificity, shifted",
    "shifted_calibration_error": "ECE, shifted",
}
HEAD = """# What was tried

Written by `python recipes/pneumonia/table.py`; do not edit. Every figure is on patients that were not trained on; seeds
are averaged, and beside the figure that recipes are sorted by stand the ends of all seeds' 95% intervals by patients.
They say how far other patients might differ; differences between recipes, on the same patients, are less uncertain.

- *clean*: AUROC without a shift. *shifted*: mean AUROC over the fourteen shifts of `shift.py` at full strength.
  *worst shift*: the lowest of the fourteen. *pooled*: AUROC of clean and shifted images together, which falls where a
  shift moves all scores and so calls for another threshold.
- *crossed*: mean over the shifts of the lower AUROC of two, with only the normal or only the other images shifted.
- *contrary*: AUROC of the half of each class whose grey values and sharpness speak against their class.
- *unseen*: AUROC with the source that was left out of training.
- accuracy at a probability of 0.5, sensitivity and specificity at the screening point, and expected calibration error
  are means over the shifts; temperature, offset and point were fitted on images of other patients: clean ones, and
  with `calibrate_under` also augmented copies.
"""


def main() -> None:
    """Write the page."""
    (study.RESULTS / "README.md").write_text(page(study.runs()))


def page(runs: list[dict[str, Any]]) -> str:
    """Return the page as Markdown."""
    parts = [HEAD]
    for is_final, title in ((False, "Recipes compared"), (True, "Final figures, on patients that chose nothing")):
        chosen = [run for run in runs if run["final"] == is_final]
        if chosen:
            parts.append(f"## {title}\n\n" + "\n".join(table(chosen)) + "\n")
    return "\n".join(parts)


def changes(recipe: dict[str, Any]) -> str:
    """Return in what a recipe differs from the baseline, "augment=strong" say."""
    plain = asdict(study.BASE)
    changed = {key: value for key, value in recipe.items() if key != "name" and value != plain.get(key)}
    return ", ".join(f"{key}={'none' if value == '' else value}" for key, value in changed.items())


def table(runs: list[dict[str, Any]], columns: Mapping[str, str] = COLUMNS) -> Iterator[str]:
    """Yield the lines of a table with one row per recipe, the best under shift first."""
    of_recipe = defaultdict(list)
    for run in runs:
        of_recipe[run["recipe"]["name"]].append(run)
    names = ["recipe", "change", "seeds", "M parameters", *columns.values()]
    yield "| " + " | ".join(names) + " |"
    yield "| --- | --- |" + " ---: |" * (len(names) - 2)
    for same in sorted(of_recipe.values(), key=lambda same: -_mean(same, "shifted_auroc")):
        first = same[0]
        cells = [_cell(same, key) for key in columns]
        about = [first["recipe"]["name"], changes(first["recipe"]) or "-", str(len(same))]
        yield "| " + " | ".join([*about, f"{first['parameters'] / 1e6:.1f}", *cells]) + " |"


def _mean(runs: list[dict[str, Any]], key: str) -> float:
    return float(np.mean([run["summary"].get(key, [np.nan])[0] for run in runs]))


def _cell(runs: list[dict[str, Any]], key: str) -> str:
    value = _mean(runs, key)
    if np.isnan(value):
        return "-"
    if key != "shifted_auroc":
        return f"{value:.3f}"
    low, high = min(run["summary"][key][1] for run in runs), max(run["summary"][key][2] for run in runs)
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    main()
