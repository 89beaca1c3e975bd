"""Write the card of the bundled model: into its folder, and to MODEL_CARD.md.

python recipes/pneumonia/write_card.py

Every figure comes from files that `study.py`, `train.py`, `audit.py` and the recipe of three classes wrote.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import audit
import numpy as np
import pandas as pd
import study
import table

from cxr_estimator import CXRClassifier, ModelCard
from cxr_estimator.audit import AuditReport
from cxr_estimator.card import CARD_NAME, PICTURE_NAME
from cxr_estimator.pretrained import ATTRIBUTION, FOLDER

ROOT = Path(__file__).parents[2]
TRAINING = study.RESULTS / "training"
THREE_CLASSES = ROOT / "recipes" / "three_classes" / "results" / "README.md"
FIGURES = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "accuracy": "accuracy at a probability of 0.5",
    "screening_sensitivity": "screening: sensitivity",
    "screening_specificity": "screening: specificity",
    "rule_in_sensitivity": "rule-in: sensitivity",
    "rule_in_specificity": "rule-in: specificity",
    "calibration_error": "expected calibration error",
}
TRIED = (
    "clean_auroc", "shifted_auroc", "worst_shift_auroc", "unseen_auroc", "shifted_accuracy", "shifted_calibration_error"
)  # fmt: skip
SIDES = ("all patients", "patients that chose nothing")


def main() -> None:
    """Write the card of the model that is there."""
    if not audit.RESULT.exists():
        raise SystemExit(f"{audit.RESULT.name} is not there. Make it: python recipes/pneumonia/audit.py --data DIR")
    save(CXRClassifier.load(FOLDER), FOLDER, TRAINING, AuditReport.load(audit.RESULT))


def save(model: CXRClassifier, folder: Path, results: Path, audited: AuditReport | None = None) -> None:
    """Write the model in half precision with its card; that of the bundled model also where people look for it.

    Without an audit, which is of one model, the card says that there is none.
    """
    explanations = results / "explanations.csv"
    card = ModelCard(
        title="Pneumonia in chest radiographs of children",
        license="mit",
        dataset_name="Labeled Optical Coherence Tomography (OCT) and Chest X-Ray Images, training part",
        population=(
            "children aged one to five, front views, one hospital (Guangzhou Women and Children's Medical Center). "
            "Expect worse results anywhere else."
        ),
        attribution=f"{ATTRIBUTION}. Weights began at random.",
        development=development(results, model.random_state),
        explanations=pd.read_csv(explanations),
        audit=audited,
        bundled=True,
    )
    model.save(folder, dtype="float16", card=card)
    if folder.resolve() != FOLDER.resolve():
        return
    text = (folder / CARD_NAME).read_text(encoding="utf-8")
    picture = (FOLDER / PICTURE_NAME).relative_to(ROOT).as_posix()
    (ROOT / "MODEL_CARD.md").write_text(text.replace(f"]({PICTURE_NAME})", f"]({picture})"), encoding="utf-8")


def development(results: Path, seed: int) -> str:
    """Return how good the recipe is on patients that did not train, and what else was tried, as Markdown.

    The figures are those of the seed of the model; other seeds in `results` stand in a table of their own.
    """
    runs = {path.stem: json.loads(path.read_text()) for path in sorted(results.glob("*.json"))}
    shipped = runs[str(seed)]
    tried = study.runs()
    columns = {key: table.COLUMNS[key] for key in TRIED}
    seeds = f"one seed, {next(iter(runs))}" if len(runs) == 1 else f"{len(runs)} seeds"
    chosen_by = [run for run in tried if not run["final"]]
    parts = [
        HEAD.format(n_folds=shipped["n_folds"]),
        "\n".join(_overall(shipped)),
        f"### Under each shift\n\nAll patients, seed {seed}.",
        "\n".join(_conditions(shipped["all patients"]["conditions"])),
        f"### Seeds\n\nThe same command with {seeds}; all patients.",
        "\n".join(_seeds(runs)),
        LIMITS,
        TRIED_HEAD,
        "\n".join(table.table(chosen_by, columns)),
        _findings(),
        "### Three classes\n\n" + THREE_CLASSES.read_text().split("\n", 1)[1].strip().replace("\n## ", "\n#### "),
    ]
    return "\n\n".join(parts)


HEAD = """### On patients that it did not see

`recipes/pneumonia/train.py` trains one network per fold ({n_folds} folds, no patient in two); each judges its own
fold, with the calibration and the operating points that the other folds choose. The bundled network has the same
recipe, trained on nearly all patients, with the calibration and points of all folds. *Shifted* is the mean over
fourteen simulated changes of scanner, exposure and framing (`recipes/pneumonia/shift.py`). They are not those of
training, but some are of the same kind: exposure, contrast, gamma, blur, noise, rotation, frames and field of view.
The recipe was chosen by some of these patients; the right half of the table is of those that chose no recipe, only
the calibration and points of other folds than their own (that one changed copy of each image chooses with it was
settled by the others, with figures of all in view). Brackets hold 95% intervals by patients, from the bootstrap:
one without width only says that no image was wrong; the calibration error has none, since drawing patients anew
raises it. All of it is data of one hospital: **expect less anywhere else**, above all of the specificity."""

LIMITS = """### Limits that are known

- On the official test part of the same data, which is drawn differently, models with a validation AUROC of 0.999
  are known to fall to 0.95-0.98, and the specificity at a threshold chosen on other data falls further.
- Markers, borders and exposure differ between the classes of this data; the network may use them.
- Labels contain errors; about thirty images stand in the data twice, and a few of these may be in two folds.
- Label smoothing makes the network's own probabilities less extreme than the data; calibration undoes that for data
  like these. Calibrate on images of the place where it is used.
- Synthetic radiographs look like radiographs to it: `check_images` lets phantoms pass."""

TRIED_HEAD = """### What was tried

One row per recipe of `recipes/pneumonia/study.py`, on a part of the patients and one seed unless said otherwise.
*Unseen* is the AUROC with the source of images (a family of file names) that was left out of training. The full
table, with every column, is `recipes/pneumonia/results/README.md`. What ships is *long_zoom* with *border* and
*gain* at once, and all sources of images, as `augment="robust"`; it was not run in the study, only judged as above."""


def _overall(shipped: Mapping[str, Any]) -> Iterator[str]:
    counts = [
        f"{side}: {shipped[side]['n_images']:,} images of {shipped[side]['n_patients']:,} patients" for side in SIDES
    ]
    yield "; ".join(counts) + "."
    yield ""
    yield "| | " + " | ".join(f"{side}, {condition}" for side in SIDES for condition in ("clean", "shifted")) + " |"
    yield "|---|" + "---:|" * 4
    for key, name in FIGURES.items():
        # drawing patients anew adds chance to the frequencies, and so to their distance from the probabilities
        text = "{:.3f}" if key == "calibration_error" else "{:.3f} [{:.3f}, {:.3f}]"
        cells = [
            text.format(*shipped[side]["summary"][f"{condition}_{key}"])
            for side in SIDES
            for condition in ("clean", "shifted")
        ]
        yield f"| {name} | " + " | ".join(cells) + " |"


def _conditions(conditions: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    yield "| shift | " + " | ".join(FIGURES.values()) + " |"
    yield "|---|" + "---:|" * len(FIGURES)
    for name, found in conditions.items():
        yield f"| {name} | " + " | ".join(f"{found[key]:.3f}" for key in FIGURES) + " |"


def _seeds(runs: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    keys = [f"{condition}_{key}" for condition in ("clean", "shifted") for key in ("auroc", "accuracy", *POINT)]
    names = [key.replace("_", " ").replace("auroc", "AUROC").replace("screening ", "") for key in keys]
    yield "| seed | " + " | ".join(names) + " |"
    yield "|---|" + "---:|" * len(keys)
    found = {seed: [run["all patients"]["summary"][key][0] for key in keys] for seed, run in runs.items()}
    for seed, values in found.items():
        yield f"| {seed} | " + " | ".join(f"{value:.3f}" for value in values) + " |"
    if len(found) > 1:
        spread = np.std(list(found.values()), axis=0, ddof=1)
        yield "| standard deviation | " + " | ".join(f"{value:.4f}" for value in spread) + " |"


POINT = ("screening_sensitivity", "screening_specificity")


def _findings() -> str:
    """Return what the study's README concludes."""
    text = (Path(__file__).parent / "README.md").read_text()
    return text.split("## What it says", 1)[1].split("\n", 1)[1].split("\n## ", 1)[0].strip()


if __name__ == "__main__":
    main()
