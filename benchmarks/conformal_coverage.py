"""Coverage of prediction sets on real radiographs of patients whom the models never saw.

python benchmarks/conformal_coverage.py --data DIR --model two=FOLDER --model three=FOLDER

The models are those of examples/02_operating_points.py with --data and, for three classes, --label-pattern
"_(bacteria|virus)_". Of its three parts only the last is used here, which neither trained them, nor chose thresholds,
nor calibrated. 200 times its patients are halved: one half conformalizes, one random image of each patient, and the
other is judged. Writes raw JSON.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
from _common import write

from cxr_estimator import CXRClassifier, load_image_folder, patient_split
from cxr_estimator.conformal import SCORES, Conformal
from cxr_estimator.fingerprints import share_seen

N_SPLITS = 200
COVERAGES = (0.8, 0.9, 0.95)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("CXR_DATA_DIR"))
    parser.add_argument("--model", action="append", required=True, help="NAME=FOLDER, once for each model")
    parser.add_argument("--label-pattern", default="_(bacteria|virus)_", help="for models of three classes")
    options = parser.parse_args()
    models = {name: judge_model(Path(folder), options) for name, folder in (one.split("=", 1) for one in options.model)}
    question = "Share of held-out images whose true class is in the set, over random halves of unseen patients"
    write("conformal_coverage", {"question": question, "n_splits": N_SPLITS, "models": models})
    for name, found in models.items():
        print(name, f"{found['n_images']} images of {found['n_patients']} patients, accuracy {found['accuracy']:.3f}")
        for row in found["rows"]:
            print("  ", {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()})


def judge_model(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    clf = CXRClassifier.load(folder)
    data = load_image_folder(options.data, label_pattern=options.label_pattern if len(clf.classes_) > 2 else None)
    _, chose, held_out = patient_split(data.y, data.groups, fractions=(0.6, 0.2, 0.2), random_state=0)
    if clf.calibration_ is None or share_seen(clf.calibration_.fingerprint, clf._run(data.X[chose]).content_ids) < 1:
        raise SystemExit(f"{folder} was not calibrated on the second part of these images, so the third may be known.")
    found = clf._run(data.X[held_out])
    target = np.searchsorted(clf.classes_, data.y[held_out])
    groups = np.unique(data.groups[held_out], return_inverse=True)[1]
    used = [clf.calibration_, *clf.operating_points_.values()]
    methods = [method for method in SCORES if method != "aps" or len(clf.classes_) > 2]
    return {
        "backbone": clf.backbone,
        "classes": {str(label): int((target == index).sum()) for index, label in enumerate(clf.classes_)},
        "n_images": len(target),
        "n_patients": int(groups.max()) + 1,
        "accuracy": float((clf._proba(found.values).argmax(axis=1) == target).mean()),
        "share_of_images_that_calibrated_or_chose_thresholds": max(
            share_seen(one.fingerprint, found.content_ids) for one in used
        ),
        "rows": [row for method in methods for row in resampled(clf, found.values, target, groups, method)],
    }


def resampled(clf: CXRClassifier, logits: np.ndarray, target: np.ndarray, groups: np.ndarray, method: str) -> list:
    """Return one row per coverage: means over the splits, and the spread of the coverage."""
    rng = np.random.default_rng(0)
    n_patients = int(groups.max()) + 1
    figures: dict[float, list[dict[str, float]]] = {coverage: [] for coverage in COVERAGES}
    for _ in range(N_SPLITS):
        calibrating = np.isin(groups, rng.permutation(n_patients)[: n_patients // 2])
        order = rng.permutation(len(target))
        one = order[np.unique(groups[order], return_index=True)[1]]  # random image of each patient
        known, promised = one[calibrating[one]], one[~calibrating[one]]
        judge = Conformal(method, logits[known], target[known], int(calibrating.sum()))
        for coverage, rows in figures.items():
            sets = np.zeros((len(target), len(clf.classes_)), dtype=bool)
            sets[~calibrating] = judge.sets(clf._proba, logits[~calibrating], coverage)
            rows.append(described(sets, target, promised, np.flatnonzero(~calibrating), clf.classes_))
    return [
        {
            "method": method,
            "coverage_wanted": coverage,
            **{name: float(np.nanmean([row[name] for row in rows])) for name in rows[0]},
            "standard_deviation_over_splits": float(np.std([row["one_image_of_each_patient"] for row in rows])),
        }
        for coverage, rows in figures.items()
    ]


def described(sets: np.ndarray, target: np.ndarray, one: np.ndarray, new: np.ndarray, classes: np.ndarray) -> dict:
    size = sets[new].sum(axis=1)
    covered = sets[np.arange(len(target)), target]
    of_class = {f"covered_{label}": covered[new][target[new] == index] for index, label in enumerate(classes)}
    return {
        "one_image_of_each_patient": covered[one].mean(),
        "all_images": covered[new].mean(),
        **{name: values.mean() for name, values in of_class.items()},
        "mean_size": size.mean(),
        "share_of_one_class": (size == 1).mean(),
        "share_empty": (size == 0).mean(),
        "accuracy_where_one_class": covered[new][size == 1].mean(),
    }


if __name__ == "__main__":
    main()
