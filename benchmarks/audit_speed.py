"""How long an audit takes, and what checks share: python benchmarks/audit_speed.py [--images 200].

A resnet18 at 224 pixels, default checks, radiographs of CXR_DATA_DIR. "naive" is the number of images that are put
through the network when each check is made by an audit of its own, counted on fewer images and scaled up. Memory is the
most that a process of its own held, with half of the images and with all.
"""

from __future__ import annotations

import argparse
import os
import time
from functools import partial

import numpy as np
from _common import in_process, peak_memory, write

from cxr_estimator import CXRClassifier, load_image_folder
from cxr_estimator.audit import CHECKS, audit

_FEW = 24  # images on which checks are made one by one
_TRAINED = 50  # patients of each class


def main(n_images: int) -> None:
    clf, images = _model(), _images(n_images)
    began = time.perf_counter()
    report = audit(clf, *images)
    seconds = time.perf_counter() - began
    print(report, flush=True)
    few = _images(_FEW)
    together = audit(clf, *few).evaluations
    alone = sum(audit(clf, *few, checks=[name]).evaluations for name in CHECKS)
    memory = {n: in_process(partial(_memory, n))() for n in (n_images // 2, n_images)}
    write(
        "audit_speed",
        {
            "images": n_images,
            "seconds": seconds,
            "evaluations": report.evaluations,
            "one_by_one": {"images": _FEW, "together": together, "alone": alone, "ratio": alone / together},
            "peak_memory_gb": memory,
        },
    )


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


def _model() -> CXRClassifier:
    """Return a resnet18 that has seen a few patients: how good it is makes no difference to the time."""
    data, rows = load_image_folder(os.environ["CXR_DATA_DIR"]), _part(2 * _TRAINED, 0)
    clf = CXRClassifier("resnet18", image_size=224, max_epochs=1, pos_label="PNEUMONIA", device="cpu", random_state=0)
    return clf.fit([data.X[row] for row in rows], data.y[rows], groups=data.groups[rows])


def _memory(n_images: int) -> float:
    audit(_model(), *_images(n_images))
    return peak_memory()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200)
    main(parser.parse_args().images)
