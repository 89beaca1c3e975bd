"""Write docs/comparing.md, with what a comparison of two models of real radiographs found.

python docs/make_comparison.py [--check]

A test runs this with --check.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from make_methods import write_or_check

from cxr_estimator._wording import cell, markdown_rows, words
from cxr_estimator.comparison import agreement_words
from cxr_estimator.statistics import Estimate

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "comparing.md"
REAL = ROOT / "benchmarks" / "results" / "compare_real.json"
ERRORS = ROOT / "benchmarks" / "results" / "clustered_tests.json"

_FIGURES = ("auroc", "accuracy", "sensitivity", "specificity")

_HEAD = """# Comparing models

Two models with the same AUROC need not decide alike, and two that decide alike need not look at the same places.
`compare` puts models on the same images. This page is made by `docs/make_comparison.py`.

```
cxr compare --model my-model --model other-model --data held_out --output compared
cxr compare --model my-model --model other-model --image new_image.png --known labelled --output compared
cxr compare --model my-model --model other-model --output compared     # an image drawn at random
```

```python
from cxr_estimator import CXRClassifier, make_phantoms
from cxr_estimator.comparison import compare

clf, data = CXRClassifier.from_pretrained(), make_phantoms(40, 96, random_state=1)
other = CXRClassifier("plain_cnn", image_size=64, max_epochs=2, pos_label="PNEUMONIA", random_state=0)
other.fit(data.X, data.y, groups=data.groups)
new = make_phantoms(40, 96, random_state=2)
found = compare({"bundled": clf, "other": other}, new.X, new.y, new.groups, n_maps=8)
print(found)
found.flipped("bundled", "other")  # the images of which they decide differently
found.moved("bundled", "other")  # the explained images, those whose maps are least alike first
found.plot(0).savefig("six_panels.png")
found.checklist(0)  # what to verify before either is believed
found.save("compared")  # a page with all of it, JSON, and a table of the images
```

## What it tells

**Decisions**: the share of the images of which both decide the same, with its interval, and Cohen's kappa; who
flipped.

**Which is better**: the difference of the areas under the ROC curves, with DeLong's test in Obuchowski's form for
clustered data (DeLong et al. 1988, doi:10.2307/2531595; Obuchowski 1997, doi:10.2307/2533958), and the differences of
accuracy, sensitivity and specificity, each model at its own operating point, with McNemar's test by patient: exact
where each patient has one image. Without `groups` each image counts as a patient of its own, and both are too sure of
themselves.

**Maps**, of the class that the first model decides: correlation of their ranks, similarity of their structure,
overlap of their strongest places, for images drawn at random; whose maps are least alike.

**The checklist** of one image: *focus on anatomy* (what speaks for the class does not lie outside of the thorax much
more than by chance: a map spread evenly passes), *models agree* (on the decision and the place), *confidence*, *no
artefacts* (border, corners, markers, an image unlike those of training), *similar cases* (the labels of the known
cases that look most alike). Each verdict is the worst of either model. All five can pass and both models be wrong. The
app's Compare page shows the same list."""


def make_page() -> str:
    return "\n".join([_HEAD, "", *errors(), *real(), "Research and education only, not a medical device.", ""])


def errors() -> list[str]:
    """Return how often tests and intervals are wrong where nothing differs."""
    found = json.loads(ERRORS.read_text())
    columns = {
        "DeLong": "delong_difference by patient",
        "by image": "delong_difference by image",
        "McNemar": "mcnemar by patient",
        "by image ": "mcnemar by image",
        "interval of a share": "paired_difference by patient",
    }
    rows = [
        (one["images of a patient"], str(one["patients"]), *(f"{one['rates'][name]:.1%}" for name in columns.values()))
        for one in found["settings"]
    ]
    return [
        f"How often this is wrong at 5% where two models are equally good (`benchmarks/clustered_tests.py`, "
        f"{found['draws']} draws of each setting), by patient, and if each image counted as a patient of its own:\n",
        markdown_rows(["images of a patient", "patients", *columns], rows),
        "\nWhere one patient has most of the images no variance of DeLong's is of use; notes say so.\n",
    ]


def real() -> list[str]:
    """Return what was found of two models of real radiographs."""
    if not REAL.is_file():
        return []
    found = json.loads(REAL.read_text())
    said, settings = found["comparison"], found["settings"]
    names, (pair,) = list(said["models"]), said["pairs"]
    epochs = ", ".join(f"{name} for {count} epochs" for name, count in settings["epochs"].items())
    head = (
        "## Two models of real radiographs\n\n"
        f"`benchmarks/compare_real.py`: {epochs}, trained from scratch at {settings['image_size']} px on "
        f"{settings['n_development']:,} radiographs of children (Kermany et al. 2018, CC BY 4.0); threshold: "
        f"{settings['threshold_rule']}. Compared on {said['n_images']} images of {said['n_patients']} other patients "
        "of the same hospital. Brackets hold 95% intervals by patients.\n"
    )
    tests = {test["figure"]: test for test in pair["tests"]}
    rows = [
        (
            words(figure),
            *(cell(_estimate(said["models"][name][figure])) for name in names),
            cell(_estimate(tests[figure]["difference"]), "+"),
            f"{tests[figure]['p_value']:.3g}",
        )
        for figure in _FIGURES
    ]
    maps = [
        (agreement_words(name)[0], cell(_estimate(value)), agreement_words(name)[1])
        for name, value in pair["maps"].items()
    ]
    flips = [
        (one["label"], *(one[f"decision {name}"] for name in names), str(one["n_images"])) for one in pair["flips"]
    ]
    return [
        head,
        markdown_rows(["figure", *names, "difference", "p"], rows),
        f"\nBoth decide the same of {pair['same_decision'][0]:.1%} of the images; Cohen's kappa {pair['kappa']:.2f}. "
        "Of the others:\n",
        markdown_rows(["in truth", *(f"{name} decides" for name in names), "images"], flips),
        f"\nThe Grad-CAM maps of {_explained(found)} images drawn at random, of the class that {names[0]} decides:\n",
        markdown_rows(["agreement", "mean", "meaning"], maps),
        f"\nTheir checklists, with the {settings['n_development']:,} images of the training as known cases:\n",
        markdown_rows(["to verify", *_verdicts(found)], _checklists(found)),
        "\nFigures and decisions nearly agree; the places on the maps do not. No figure of accuracy tells which of two "
        "such models looks at the lungs, and maps tell it only where they pass the [audit](audit.md) of their model.\n",
    ]


def _verdicts(found: dict[str, Any]) -> list[str]:
    order = ("pass", "doubtful", "fail", "not enough data")
    there = {one["verdict"] for one in found["checklists"]}
    return [verdict for verdict in order if verdict in there]


def _checklists(found: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return a row for each item: how many images have each verdict."""
    counts = {(one["item"], one["verdict"]): one["images"] for one in found["checklists"]}
    items = dict.fromkeys(item for item, _ in counts)
    return [(item, *(str(counts.get((item, verdict), 0)) for verdict in _verdicts(found))) for item in items]


def _explained(found: dict[str, Any]) -> int:
    item = found["checklists"][0]["item"]
    return sum(one["images"] for one in found["checklists"] if one["item"] == item)


def _estimate(three: list[float | None]) -> Estimate:
    return Estimate(*(math.nan if one is None else one for one in three))


if __name__ == "__main__":
    write_or_check(PAGE, make_page())
