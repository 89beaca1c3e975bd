"""What a planted model really uses, measured with what only the planter knows."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from benchmarks.planted.cases import Case, make, model_of
from cxr_estimator import CXRClassifier
from cxr_estimator.datasets import ImageDataset
from cxr_estimator.datasets.shortcuts import SHORTCUTS, plant_shortcut, shortcut_carriers
from cxr_estimator.roc import auroc

PLANTED = "PNEUMONIA"


def measure(case: Case) -> dict[str, Any]:
    """Train the model of a case and return what it does: on its own audit images, and where shortcuts tell nothing."""
    data = make(case)
    started = time.process_time()
    clf = model_of(case, data)
    seconds = time.process_time() - started
    shortcuts = [case.kind] if case.kind in SHORTCUTS else list(SHORTCUTS)
    clean = data.audit if case.kind == "clean" else make(case._replace(kind="clean")).audit
    return {
        **case._asdict(),
        "fit_cpu_seconds": round(seconds, 2),
        "auroc": rounded(auroc(scores(clf, data.audit.X), data.audit.y == PLANTED)),
        "response": {kind: response(clf, clean, kind, case.seed) for kind in shortcuts},
    }


def response(clf: CXRClassifier, clean: ImageDataset, kind: str, seed: int) -> dict[str, float]:
    """Return how a model ranks images whose shortcut was planted independently of the label, and what it flips.

    Areas under the ROC curve: of the label; of having the shortcut, among all images and among those without lesions.
    Shares of images: called otherwise with the shortcut than without; without lesions, and called sick only with it.
    """
    X, y, groups = clean
    independent = {"strength": 0.0, "groups": groups, "random_state": seed}
    has = shortcut_carriers(y, **independent)
    mixed, healthy = scores(clf, plant_shortcut(X, y, kind, **independent)), y != PLANTED
    everywhere = plant_shortcut(X, np.full(len(y), PLANTED), kind, random_state=seed)
    before, after = scores(clf, X) >= 0, scores(clf, everywhere) >= 0
    return {
        "label_auroc": rounded(auroc(mixed, ~healthy)),
        "shortcut_auroc": rounded(auroc(mixed, has)),
        "shortcut_auroc_without_lesions": rounded(auroc(mixed[healthy], has[healthy])),
        "decisions_changed": rounded(np.mean(before != after)),
        "healthy_called_sick_by_it": rounded(np.mean((after & ~before)[healthy])),
    }


def scores(clf: CXRClassifier, X: np.ndarray) -> np.ndarray:
    """Return log-odds of pneumonia (N,)."""
    return clf.decision_function(X)


def rounded(value: Any) -> float:
    return round(float(value), 4)
