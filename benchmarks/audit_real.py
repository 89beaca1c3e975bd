"""The audit of a model of real radiographs, to be read: python benchmarks/audit_real.py [--output F] [--model F].

A resnet10t at 128 pixels learns from the radiographs of most patients of CXR_DATA_DIR; others' are audited. The report
goes to results/audit_real.json; the page, which shows radiographs, only to --output. The model is kept in --model, or
taken from there.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import numpy as np
from _common import machine, write
from sklearn.model_selection import StratifiedGroupKFold

from cxr_estimator import CXRClassifier, load_image_folder
from cxr_estimator.audit import audit
from cxr_estimator.datasets import ImageDataset

_N_AUDIT = 400


def main(output: Path | None, model: Path | None) -> None:
    data = load_image_folder(os.environ["CXR_DATA_DIR"])
    splitter = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    train, held_out = next(splitter.split(data.y, data.y, data.groups))
    held_out = np.random.default_rng(0).permutation(held_out)[:_N_AUDIT]
    if model is not None and model.is_dir():
        clf = CXRClassifier.load(model)
    else:
        clf = _fitted(data, train)
        if model is not None:
            clf.save(model)
    report = audit(
        clf,
        [data.X[row] for row in held_out],
        data.y[held_out],
        data.groups[held_out],
        training_groups=data.groups[train],
    )
    print(report)
    if output is not None:
        report.save(output)
    write("audit_real", {"machine": machine(), "training_images": len(train), "report": json.loads(report.to_json())})


def _fitted(data: ImageDataset, train: np.ndarray) -> CXRClassifier:
    clf = CXRClassifier(
        "resnet10t",
        image_size=128,
        pos_label="PNEUMONIA",
        threshold="sensitivity>=0.95",
        max_epochs=8,
        device="cpu",
        random_state=0,
    )
    return clf.fit([data.X[row] for row in train], data.y[train], groups=data.groups[train])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--model", type=Path)
    given = parser.parse_args()
    main(given.output, given.model)
