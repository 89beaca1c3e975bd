"""How well `check_images` tells strange images from radiographs of patients that nothing was ever made of.

python benchmarks/ood.py --model DIR --data DIR [--images 60] [--output FILE.json]

--model: what examples/02_operating_points.py trained on --data. 60% of the patients trained it; its features and their
settings were tried out on the next 20%; the last 20% are judged here. The statistics are made twice: as `fit` makes
them (90% of the training patients, cut-off from the other 10%, which stopped the training early), and by `fit_ood` on
the second 20%. Writes raw JSON.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from typing import Any

import numpy as np
from _common import write
from PIL import Image
from strange_images import CORRECTION, drawings, noise, photographs, spoiled

from cxr_estimator import CXRClassifier, load_image_folder, patient_split
from cxr_estimator._checking import learn_from_sides
from cxr_estimator._fitting import validation_split
from cxr_estimator._predicting import execution
from cxr_estimator.ood import ImageCheck
from cxr_estimator.reading import prepare
from cxr_estimator.roc import auroc
from cxr_estimator.statistics import patient_bootstrap, proportion, wilson


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", default=os.environ.get("CXR_DATA_DIR"))
    parser.add_argument("--images", type=int, default=60, help="radiographs to spoil, in each way")
    options = parser.parse_args()
    clf = CXRClassifier.load(options.model)
    data = load_image_folder(options.data)
    parts = patient_split(data.y, data.groups, fractions=(0.6, 0.2, 0.2), random_state=0)
    judged = parts[2]
    patients = data.groups[judged]
    strange, owners = strange_images(data, judged, options.images)

    results = {}
    for name in ("fit", "fit_ood"):
        if name == "fit":
            clf.ood_ = as_fit_does(clf, data, parts[0])
        else:
            clf.fit_ood(data.X[parts[1]], groups=data.groups[parts[1]])
        ordinary = clf.check_images(data.X[judged])
        checks = {kind: clf.check_images(images) for kind, images in strange.items()}
        results[name] = {
            "patients_in_the_statistics": clf.ood_.n_patients,
            "patients_behind_the_cut_off": len(clf.ood_.reference),
            **figures(ordinary, patients, checks, owners),
        }
    write(
        "ood",
        {
            "question": "do photographs, noise, drawings and spoiled radiographs stand out from those of new patients",
            "network": {"backbone": clf.backbone, "image_size": clf.image_size},
            "judged": {"images": len(judged), "patients": len(np.unique(patients))},
            "strange_images": {kind: len(images) for kind, images in strange.items()},
            "statistics_made_by": results,
            "seconds_per_image": seconds(clf, data.X[judged][:256], strange["inverted"]),
        },
    )


def strange_images(data: Any, judged: np.ndarray, count: int) -> tuple[dict[str, list], dict[str, np.ndarray | None]]:
    """Return images by kind, and the patients of those that are spoiled radiographs: one of each patient."""
    rng = np.random.default_rng(0)
    found: dict[str, list] = {"photograph": photographs(rng), "noise": noise(rng, 30), "drawing": drawings(rng)}
    owners: dict[str, np.ndarray | None] = dict.fromkeys(found)
    _, first = np.unique(data.groups[judged], return_index=True)
    rows = judged[rng.permutation(first)[:count]]
    for row in rows:
        for kind, image in spoiled(np.asarray(Image.open(data.X[row]).convert("L"))).items():
            found.setdefault(kind, []).append(image)
            owners[kind] = data.groups[rows]
    return found, owners


def as_fit_does(clf: CXRClassifier, data: Any, training: np.ndarray) -> Any:
    """Return the statistics that `fit` would have kept, from the same patients on the same sides."""
    encoded = np.searchsorted(clf.classes_, data.y[training])
    owners = data.groups[training]
    sides = validation_split(clf.classes_, encoded, owners, clf.validation_fraction, clf.random_state)
    pixels = prepare(clf._images(data.X[training]), clf.preprocessing_).pixels
    how = execution(clf)
    return learn_from_sides(
        clf.model_, clf.preprocessing_, how, pixels, sides, tuple(owners[side] for side in sides), clf.random_state
    )


def figures(ordinary: ImageCheck, patients: np.ndarray, checks: dict[str, ImageCheck], owners: dict) -> dict[str, Any]:
    """Return areas, false alarms, and how often an unusual image is put right."""
    own = np.concatenate(
        [np.full(len(check), kind) if owners[kind] is None else owners[kind] for kind, check in checks.items()]
    )
    score = np.concatenate([ordinary.score, *(check.score for check in checks.values())])
    positive = np.arange(len(score)) >= len(ordinary)
    # all pictures of a kind that have no patient are one cluster each, which widens the interval if anything
    everything = patient_bootstrap(lambda rows: auroc(score[rows], positive[rows]), np.concatenate([patients, own]))
    alarms = proportion(ordinary.is_unusual, patients)
    share, n_patients = float(np.mean(ordinary.is_unusual)), len(np.unique(patients))
    return {
        "auroc": dict(everything._asdict()),
        "auroc_by_kind": {kind: area(ordinary, check) for kind, check in checks.items()},
        "called_unusual_by_kind": {kind: float(np.mean(check.is_unusual)) for kind, check in checks.items()},
        "false_alarms": {
            "asked_for": ordinary.false_alarm_rate,
            "kept_with_95_percent_confidence": ordinary.is_certain,
            **alarms._asdict(),
            "wilson_as_if_each_patient_were_one_image": wilson(share, n_patients),
        },
        "reasons_of_false_alarms": counted(ordinary.reason[ordinary.is_unusual]),
        "reasons_by_kind": {kind: counted(check.reason[check.is_unusual]) for kind, check in checks.items()},
        "right_correction_among_unusual": {
            kind: float(np.mean(checks[kind].correction[checks[kind].is_unusual] == right))
            for kind, right in CORRECTION.items()
        },
        "any_correction_named": {
            kind: float(np.mean([one is not None for one in check.correction[check.is_unusual]]))
            for kind, check in checks.items()
        },
    }


def area(ordinary: ImageCheck, check: ImageCheck) -> float:
    score = np.concatenate([ordinary.score, check.score])
    return auroc(score, np.arange(len(score)) >= len(ordinary))


def counted(names: np.ndarray) -> dict[str, int]:
    return dict(Counter(names.tolist()).most_common())


def seconds(clf: CXRClassifier, X: Any, unusual: list[np.ndarray]) -> dict[str, float]:
    """Return what an image costs: the best of three turns, decoding included."""
    work = {
        "predict_proba": lambda: clf.predict_proba(X),
        "ood_score": lambda: clf.ood_score(X),
        "check_images": lambda: clf.check_images(X),
        "predict_proba_of_arrays": lambda: clf.predict_proba(unusual),
        "check_images_of_unusual_arrays": lambda: clf.check_images(unusual),
    }
    best = dict.fromkeys(work, np.inf)
    for _ in range(3):
        for name, turn in work.items():
            started = time.perf_counter()
            turn()
            n_images = len(unusual) if "arrays" in name else len(X)
            best[name] = min(best[name], (time.perf_counter() - started) / n_images)
    return best


if __name__ == "__main__":
    main()
