"""Train the model that comes with the package: the networks of four folds, then one network on all patients.

python recipes/pneumonia/train.py --data DIR --cache DIR [--seed 0] [--jobs 2] [--output DIR]

What the folds' networks say of images that they did not see chooses the calibration and the operating points, and is
judged: on clean images and under every shift of `shift.py`, each fold with what the other folds chose. A run that was
killed is taken up where it stood. The figures go to results/training/, the model to --output, its card beside it and to
MODEL_CARD.md, without an audit: `audit.py` and `write_card.py` come after. The cache holds radiographs: keep it
private.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as the command line does, before anything loads torch

import numpy as np
import pandas as pd
import write_card
from joblib import Parallel, delayed
from judging import Judged, figures
from levers import augmented
from material import CONDITIONS, Material
from sklearn.base import clone
from sklearn.model_selection import StratifiedGroupKFold

from cxr_estimator import CXRClassifier
from cxr_estimator._fitting import validation_split
from cxr_estimator._labels import read_labels
from cxr_estimator._outputs import Task
from cxr_estimator.benchmark import benchmark
from cxr_estimator.calibration import Calibration, fit_calibration
from cxr_estimator.serialization import atomic_write
from cxr_estimator.thresholds import OperatingPoint, choose_point, parse_rule
from cxr_estimator.versions import package_versions

RESULTS = Path(__file__).parent / "results" / "training"
SETTINGS: dict[str, Any] = {
    "backbone": "plain_cnn",
    "image_size": 96,
    "max_epochs": 16,
    "augment": "robust",
    "pos_label": "PNEUMONIA",
}
FOLDS, STRENGTH = 4, 1.0
COPIES = 1  # so that clean and changed images weigh the same: with more, clean ones get too low a probability
RULES = {"rule_in": "specificity>=0.98", "screening": "sensitivity>=0.98"}
VALIDATION = 0.05  # of the patients, by whom the final network is only reported on and unusual images are told
LABELS = ("NORMAL", "PNEUMONIA")
METHODS = ("grad_cam", "grad_cam_plus_plus", "integrated_gradients", "occlusion")
EXPLAINED = 30  # images of each class whose heat maps are measured


class Chosen(NamedTuple):
    """What out-of-fold answers choose."""

    calibration: Calibration
    points: dict[str, OperatingPoint]


class Answers(NamedTuple):
    """What the network of one fold says of the images that it did not see.

    Attributes
    ----------
    rows : ndarray (n,)
    raw : dict of str to ndarray (n,)
        Its log-odds of pneumonia under each condition.
    copies : ndarray (COPIES, n)
        Those of copies that were changed as in training.
    seconds : float
        That training took.
    """

    rows: np.ndarray
    raw: dict[str, np.ndarray]
    copies: np.ndarray
    seconds: float


def main() -> None:
    """Train, choose, judge, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("CXR_DATA_DIR"), help="folder of the radiographs")
    parser.add_argument("--cache", type=Path, required=True, help="folder for decoded and shifted images, checkpoints")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="networks that are trained at once")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the figures")
    parser.add_argument("--output", type=Path, help="folder for the model; without it only the figures are written")
    options = parser.parse_args()
    material = Material(options.data, options.cache)
    clf = CXRClassifier(**SETTINGS, checkpoint_dir=options.cache / "checkpoints", random_state=options.seed)
    tasks: list[Any] = [delayed(kept_answers)(clf, material, fold, options.cache) for fold in range(FOLDS)]
    if options.output is not None:
        tasks.append(delayed(on_all)(clf, material))
    found = Parallel(n_jobs=options.jobs)(tasks)
    folds: list[Answers] = found[:FOLDS]
    result = judge(material, folds) | {
        "settings": SETTINGS, "rules": RULES, "n_folds": FOLDS, "seed": options.seed,
        "seconds_of_folds": [round(fold.seconds) for fold in folds], "versions": package_versions(),
    }  # fmt: skip
    if options.output is not None:
        model = found[FOLDS]
        chosen = choose(material, folds)
        model.calibrate(chosen.calibration)
        for point in chosen.points.values():
            model.set_threshold(point)
        model.set_threshold(0.5, name="default")  # what `predict` uses, unless told otherwise
        result["seconds_of_all"] = round(model.history_["seconds"].sum())
        result["points"] = {name: point.to_dict() for name, point in model.operating_points_.items()}
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / f"{options.seed}.json").write_text(json.dumps(result, indent=1) + "\n")
    if options.output is not None:
        explanation_quality(model, material).to_csv(options.results / "explanations.csv", index=False)
        write_card.save(model, options.output, options.results)


def kept_answers(clf: CXRClassifier, material: Material, fold: int, cache: Path) -> Answers:
    """Return the answers of one fold, from the cache where a run with these settings left them."""
    settings = json.dumps([SETTINGS, FOLDS, COPIES, STRENGTH, clf.random_state, fold])
    path = cache / f"answers-{hashlib.sha256(settings.encode()).hexdigest()[:12]}.npz"
    if not path.exists():
        found = answers(clf, material, fold)
        with atomic_write(path) as file:
            np.savez(file, **found._asdict() | {"raw": np.stack(list(found.raw.values()))})
    with np.load(path) as kept:
        raw = dict(zip(CONDITIONS, kept["raw"], strict=True))
        return Answers(kept["rows"], raw, kept["copies"], float(kept["seconds"]))


def answers(clf: CXRClassifier, material: Material, fold: int) -> Answers:
    """Train on the other folds and return what that network says of this one."""
    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)  # the same for all seeds
    train, rows = list(splitter.split(material.paths, material.sources, material.patients))[fold]
    one = clone(clf).set_params(validation_fraction=0)
    one.fit(material.paths[train], material.labels[train], groups=material.patients[train])
    raw = {name: one.decision_function(material.shifted(rows, name, STRENGTH)) for name in CONDITIONS}
    small = material.at(SETTINGS["image_size"], rows)
    changed = augmented(small, SETTINGS["augment"], COPIES, seed=fold)[len(rows) :]
    copies = one.decision_function(changed).reshape(COPIES, len(rows))
    return Answers(rows, raw, copies, float(one.history_["seconds"].sum()))


def on_all(clf: CXRClassifier, material: Material) -> CXRClassifier:
    """Train on the patients of all folds but a few, on whom nothing depends but the cut-off for unusual images."""
    model = clone(clf).set_params(validation_fraction=VALIDATION, patience=None)
    return model.fit(material.paths, material.labels, groups=material.patients)


def choose(material: Material, folds: Sequence[Answers], n_resamples: int = 1000) -> Chosen:
    """Choose calibration and operating points by what networks said of images that they did not see, and of copies."""
    raw = np.concatenate([np.concatenate([fold.raw["clean"], *fold.copies]) for fold in folds])
    rows = np.concatenate([np.tile(fold.rows, 1 + COPIES) for fold in folds])
    positive = material.positive[rows]
    common: dict[str, Any] = {
        "groups": material.patients[rows], "augment": SETTINGS["augment"], "copies": COPIES,
    }  # fmt: skip
    calibration = fit_calibration(
        raw[:, None], positive.astype(np.int64), task=Task.BINARY, method="platt", labels=LABELS,
        class_weights=np.ones(2), **common,
    )  # fmt: skip
    points = {}
    for name, text in RULES.items():
        rule, options = parse_rule(text, caller="train")
        points[name] = choose_point(
            raw, positive, rule, options, name=name, label=LABELS[1], n_resamples=n_resamples, **common
        )
    return Chosen(calibration, points)


def judge(material: Material, folds: Sequence[Answers]) -> dict[str, Any]:
    """Return the figures of all patients, and of those that chose no recipe; each fold with what the others chose."""
    scores: dict[str, list[np.ndarray]] = {name: [] for name in CONDITIONS}
    points: dict[str, list[np.ndarray]] = {name: [] for name in RULES}
    for fold in folds:
        chosen = choose(material, [other for other in folds if other is not fold], n_resamples=1)
        for name, raw in fold.raw.items():
            scores[name].append(chosen.calibration(raw[:, None])[:, 0])
        for name, point in chosen.points.items():
            least = chosen.calibration(np.array([[point.score]]))[0, 0]
            points[name].append(np.full(len(fold.rows), least))
    rows = np.concatenate([fold.rows for fold in folds])
    case = Judged(
        scores={name: np.concatenate(parts) for name, parts in scores.items()},
        positive=material.positive[rows],
        patients=material.patients[rows],
        sources=material.sources[rows],
        acquisition=material.acquisition[rows],
        points={name: np.concatenate(parts) for name, parts in points.items()},
        leave_out="",
    )
    chose_nothing = np.flatnonzero(np.isin(rows, material.parts["final"]))
    return {"all patients": figures(case), "patients that chose nothing": figures(case.of(chose_nothing))}


def explanation_quality(model: CXRClassifier, material: Material) -> pd.DataFrame:
    """Return how good heat maps are, on images of the patients that the final network did not see."""
    seen = read_labels(material.labels, len(material.labels), None)
    rows = validation_split(seen.classes, seen.target, material.patients, VALIDATION, model.random_state)[1]
    few = [rows[material.labels[rows] == label][:EXPLAINED] for label in LABELS]
    chosen = np.concatenate(few)
    return benchmark(
        model, material.paths[chosen], material.labels[chosen], groups=material.patients[chosen], methods=METHODS
    )


if __name__ == "__main__":
    main()
