"""How long an audit takes, what its checks share, and how much memory it needs.

python benchmarks/audit_speed.py [seconds] [evaluations] [memory] [--images 200]

A resnet18 at 224 pixels, default checks, radiographs of CXR_DATA_DIR. "evaluations": how many images are put through
the network by one audit, and how many if each check is made by an audit of its own; that does not depend on the
network, so it is counted with a small one. "memory": the most that a process of its own holds, with 100 images and with
400. Each part is kept in the results until it is measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from functools import partial
from typing import Any

import numpy as np
from _common import RESULTS, in_process, peak_memory, write

from cxr_estimator import CXRClassifier, load_image_folder
from cxr_estimator.audit import CHECKS, audit

_TRAINED = 50  # patients of each class
_SIZES = 100, 400


def seconds(n_images: int) -> dict[str, Any]:
    clf, images = _model(), _images(n_images)
    began = time.perf_counter()
    report = audit(clf, *images)
    took = time.perf_counter() - began
    print(report, flush=True)
    return {"images": n_images, "seconds": took, "evaluations": report.evaluations}


def evaluations(n_images: int) -> dict[str, Any]:
    clf, images = _model("plain_cnn", 32), _images(n_images)
    together = audit(clf, *images, pictures=False).evaluations
    alone = {name: audit(clf, *images, checks=[name], pictures=False).evaluations for name in CHECKS}
    return {"images": n_images, "together": together, "alone": alone, "ratio": sum(alone.values()) / together}


def memory(n_images: int) -> dict[str, Any]:
    return {"gigabytes": {n: in_process(partial(_memory, n))() for n in _SIZES}}


PARTS = {"seconds": seconds, "evaluations": evaluations, "memory": memory}


def main(names: list[str], n_images: int) -> None:
    path = RESULTS / "audit_speed.json"
    found = json.loads(path.read_text()) if path.is_file() else {}
    for name in names or PARTS:
        found[name] = PARTS[name](n_images)
        write("audit_speed", found)


def _part(n_images: int, skip: int) -> np.ndarray:
    """Return images of patients in a random order, of each class half, after those of `skip` patients of each."""
    data, rows = load_image_folder(os.environ["CXR_DATA_DIR"]), []
    rng = np.random.default_rng(0)
    for label in np.unique(data.y):
        patients = rng.permutation(np.unique(data.groups[data.y == label]))[skip:]
        own = np.concatenate([np.flatnonzero(data.groups == one) for one in patients[: n_images // 2]])
        rows.append(own[: n_images // 2])
    return np.concatenate(rows)


def _images(n_images: int) -> tuple[list[str], np.ndarray, np.ndarray]:
    data, rows = load_image_folder(os.environ["CXR_DATA_DIR"]), _part(n_images, _TRAINED)
    return [data.X[row] for row in rows], data.y[rows], data.groups[rows]


def _model(backbone: str = "resnet18", side: int = 224) -> CXRClassifier:
    """Return a model that has seen a few patients: how good it is makes no difference to the time."""
    data, rows = load_image_folder(os.environ["CXR_DATA_DIR"]), _part(2 * _TRAINED, 0)
    clf = CXRClassifier(backbone, image_size=side, max_epochs=1, pos_label="PNEUMONIA", device="cpu", random_state=0)
    return clf.fit([data.X[row] for row in rows], data.y[rows], groups=data.groups[rows])


def _memory(n_images: int) -> float:
    audit(_model(), *_images(n_images), n_maps=8)
    return peak_memory()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS])
    parser.add_argument("--images", type=int, default=200)
    given = parser.parse_args()
    main(given.parts, given.images)
