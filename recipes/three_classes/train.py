"""Train, calibrate and judge a network that tells normal, bacterial and viral apart.

python recipes/three_classes/train.py --data DIR [--seed 0] [--output DIR] [--checkpoints DIR]

DIR holds NORMAL and PNEUMONIA, or train/NORMAL and so on, with the file names of the Kaggle pneumonia set. 60% of the
patients train, 15% calibrate, 25% judge; this split is the same for every seed. Writes seed-SEED.json, and README.md
from all such files beside it. Checkpoints hold no radiograph, but their folder is kept: put it outside the repository.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as the command line does, before anything loads torch

import numpy as np

from cxr_estimator import CXRClassifier, EvaluationReport, evaluate, load_image_folder, patient_split
from cxr_estimator.errors import DataError
from cxr_estimator.roc import delong
from cxr_estimator.versions import package_versions

RESULTS = Path(__file__).parent / "results"
PARTS = {"train": 0.60, "calibrate": 0.15, "test": 0.25}
BACTERIAL, VIRAL = "bacteria", "virus"  # as the file names say
CLASSES = {"NORMAL", BACTERIAL, VIRAL}
CAUSE = f"auroc_{VIRAL}_against_{BACTERIAL}"
ROWS = {
    "macro_auroc": "AUROC, mean of the classes",
    "auroc_NORMAL": "AUROC, NORMAL against the rest",
    f"auroc_{BACTERIAL}": f"AUROC, {BACTERIAL} against the rest",
    f"auroc_{VIRAL}": f"AUROC, {VIRAL} against the rest",
    CAUSE: f"AUROC, {VIRAL} against {BACTERIAL}",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "recall_NORMAL": "recall, NORMAL",
    f"recall_{BACTERIAL}": f"recall, {BACTERIAL}",
    f"recall_{VIRAL}": f"recall, {VIRAL}",
    "calibration_error": "ECE of the likeliest class",
    "calibration_error_by_chance": "ECE that perfect calibration would show",
}
HEAD = """# Normal, bacterial or viral

Written by `python recipes/three_classes/train.py`; do not edit. Figures are of patients that neither trained nor
calibrated the network, with 95% intervals over patients; every seed is judged on the same ones. *virus against
bacteria* ranks the images that are truly one of the two, by the odds of the one against the other. The expected
calibration error has no interval, since noise alone makes it larger: what perfect calibration would show stands below
it, with the range of 95% of such draws.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Train with one seed, write its figures, and the page of all seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of the radiographs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--checkpoints", type=Path, help="folder from which a run that was killed is taken up")
    parser.add_argument("--backbone", default="plain_cnn")
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=16)
    options = parser.parse_args(arguments)
    clf = CXRClassifier(
        options.backbone,
        image_size=options.image_size,
        max_epochs=options.epochs,
        augment="strong",
        validation_fraction=0,  # all epochs run, and the average of their weights is kept
        checkpoint_dir=options.checkpoints,
        random_state=options.seed,
    )
    options.output.mkdir(parents=True, exist_ok=True)
    result = json.dumps(run(clf, options.data), indent=1, allow_nan=False)
    (options.output / f"seed-{options.seed}.json").write_text(f"{result}\n")
    (options.output / "README.md").write_text(page(read(options.output)))


def run(clf: CXRClassifier, data: str | Path) -> dict[str, Any]:
    """Fit, calibrate and evaluate `clf`; return its settings and figures, with no path and no patient."""
    X, y, patients = load_image_folder(data, label_pattern=f"_({BACTERIAL}|{VIRAL})_")
    if (there := set(y.tolist())) != CLASSES:
        raise DataError(
            f"{data}: holds the classes {sorted(there)}, not {sorted(CLASSES)} of the Kaggle pneumonia set."
        )
    split = patient_split(y, patients, fractions=tuple(PARTS.values()), random_state=0)
    parts = {name: (X[rows], y[rows], patients[rows]) for name, rows in zip(PARTS, split, strict=True)}
    images, labels, owners = parts["train"]
    clf.fit(images, labels, groups=owners)
    images, labels, owners = parts["calibrate"]
    clf.calibrate(images, labels, groups=owners)
    report = evaluate(clf, *parts["test"])
    found = report.to_dict()
    settings = ("backbone", "image_size", "max_epochs", "batch_size", "learning_rate", "augment", "label_smoothing")
    return {
        "seed": clf.random_state,
        "settings": {name: getattr(clf, name) for name in settings},
        "parameters": sum(parameter.numel() for parameter in clf.model_.parameters()),
        "seconds": round(clf.history_["seconds"].sum()),
        "parts": {name: _counts(labels, owners) for name, (_, labels, owners) in parts.items()},
        "classes": found["classes"],
        "figures": {**found["metrics"], CAUSE: cause(report)},
        "confusion": found["confusion"],
        "notes": found["notes"],
        "versions": package_versions(),
    }


def cause(report: EvaluationReport) -> dict[str, float]:
    """Return the AUROC of viral against bacterial, among the images that are truly one of the two."""
    bacterial, viral = (report.classes.index(label) for label in (BACTERIAL, VIRAL))
    judged = report.judged
    rows = np.isin(judged.target, (bacterial, viral))
    odds = judged.proba[rows, viral] / judged.proba[rows, bacterial]
    return delong(odds, judged.target[rows] == viral, judged.patients[rows])._asdict()


def read(folder: Path) -> list[dict[str, Any]]:
    """Return the runs that a folder holds, by seed."""
    return sorted((json.loads(path.read_text()) for path in folder.glob("seed-*.json")), key=lambda run: run["seed"])


def page(runs: Sequence[dict[str, Any]]) -> str:
    """Return the page as Markdown."""
    blocks = [_parts(runs[0]), _figures(runs)]
    for one in runs:
        blocks.append([f"## Seed {one['seed']}\n", *_run(one)])
    return "\n".join([HEAD, *("\n".join(block) + "\n" for block in blocks)])


def _counts(labels: np.ndarray, patients: np.ndarray) -> dict[str, int]:
    names, counts = np.unique(labels, return_counts=True)
    return {"patients": len(np.unique(patients)), **dict(zip(names.tolist(), counts.tolist(), strict=True))}


def _parts(one: dict[str, Any]) -> Iterator[str]:
    yield from _header(["part", "patients", *(f"images, {label}" for label in one["classes"])])
    for name, counts in one["parts"].items():
        yield _row([name, counts["patients"], *(counts[label] for label in one["classes"])])


def _figures(runs: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield from _header(["figure", "mean of the seeds", *(f"seed {one['seed']}" for one in runs)])
    for name, title in ROWS.items():
        estimates = [one["figures"][name] for one in runs]
        mean = statistics.fmean(estimate["value"] for estimate in estimates)
        yield _row([title, f"{mean:.3f}", *map(_text, estimates)])


def _text(estimate: dict[str, float | None]) -> str:
    if estimate["low"] is None:
        return f"{estimate['value']:.3f}"
    return "{value:.3f} [{low:.3f}, {high:.3f}]".format(**estimate)


def _run(one: dict[str, Any]) -> Iterator[str]:
    settings = ", ".join(f"{name}={value}" for name, value in one["settings"].items())
    yield f"{settings}; {one['parameters'] / 1e6:.2f} M parameters.\n"
    if one["notes"]:
        yield "\n".join(f"- {note}" for note in one["notes"]) + "\n"
    yield from _header(["truly", *(f"called {label}" for label in one["classes"])])
    for label, counts in zip(one["classes"], one["confusion"], strict=True):
        yield _row([label, *counts])


def _header(names: Sequence[str]) -> Iterator[str]:
    yield _row(names)
    yield "| --- |" + " ---: |" * (len(names) - 1)


def _row(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    main()
