"""convnextv2 and tf_efficientnetv2, small variants, compared on real radiographs: python benchmarks/compare_real.py.

    [--models FOLDER] [--output FOLDER]

Both learn from the radiographs of most patients of CXR_DATA_DIR, from scratch and briefly; others' are compared. The
figures go to results/compare_real.json; pages and pictures, which show radiographs, only to --output. The models are
kept in --models, or taken from there.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as the command line does, before anything loads torch

from _common import machine, write

from cxr_estimator import CXRClassifier, load_image_folder, patient_split
from cxr_estimator.comparison import compare
from cxr_estimator.curation import SimilarCases

_BACKBONES = ("convnextv2_atto", "tf_efficientnetv2_b0")
_N_MAPS = 48
_SIMILAR = 5  # as many as `cxr compare --known` shows


def main(models: Path, output: Path | None) -> None:
    data = load_image_folder(os.environ["CXR_DATA_DIR"])
    development, held_out = patient_split(data.y, data.groups, fractions=(0.85, 0.15), random_state=0)
    fitted = {}
    for backbone in _BACKBONES:
        if (models / backbone).is_dir():
            fitted[backbone] = CXRClassifier.load(models / backbone)
        else:
            fitted[backbone] = _fitted(backbone, data.X[development], data.y[development], data.groups[development])
            fitted[backbone].save(models / backbone)
    found = compare(fitted, data.X[held_out], data.y[held_out], data.groups[held_out], n_maps=_N_MAPS)
    X, known = [data.X[row] for row in held_out[found.explained]], (data.X[development], data.y[development])
    similar = {name: SimilarCases(clf, *known).query(X, k=_SIMILAR, exclude_same=True) for name, clf in fitted.items()}
    found = replace(found, similar=similar)
    print(found)
    if output is not None:
        found.save(output)
    settings = {
        "image_size": 128,
        "n_development": len(development),
        "epochs": {name: len(clf.history_) for name, clf in fitted.items()},
        "threshold_rule": "sensitivity>=0.95 on the validation split inside fit",
    }
    verdicts = Counter(
        (item.name, item.verdict) for row in range(len(found.explained)) for item in found.checklist(row)
    )
    result = {
        "machine": machine(),
        "settings": settings,
        "comparison": found.to_dict(),
        "checklists": [{"item": item, "verdict": verdict, "images": n} for (item, verdict), n in verdicts.items()],
    }
    write("compare_real", result)


def _fitted(backbone, X, y, groups) -> CXRClassifier:
    clf = CXRClassifier(
        backbone,
        image_size=128,
        pos_label="PNEUMONIA",
        threshold="sensitivity>=0.95",
        max_epochs=10,
        device="cpu",
        verbose=1,
        random_state=0,
    )
    return clf.fit(X, y, groups=groups)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, required=True, help="where the trained models are, or shall be")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    main(given.models, given.output)
