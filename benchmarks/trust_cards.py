"""What trust cards say of real maps and of maps without sense: python benchmarks/trust_cards.py [--images 100].

Half of the radiographs (CXR_DATA_DIR) show pneumonia. A map without sense is the Grad-CAM of the image itself, shifted
and flipped as its references are, by a draw that is none of them: what it passes, it passes by chance.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from dataclasses import replace

import numpy as np
from _common import machine, write

from cxr_estimator import CXRClassifier, load_image_folder
from cxr_estimator._explaining import Explained, ExplanationPlan
from cxr_estimator._map_checks import Maps
from cxr_estimator.metrics import Context
from cxr_estimator.metrics._reference import moved
from cxr_estimator.trust import CARD, examine

METHODS = ("grad_cam", "integrated_gradients", "occlusion")
_DRAW = 1000


def main(n_images: int) -> None:
    data = load_image_folder(os.environ["CXR_DATA_DIR"])
    rng = np.random.default_rng(0)
    rows = [
        row
        for label in ("NORMAL", "PNEUMONIA")
        for row in rng.permutation(np.flatnonzero(data.y == label))[: n_images // 2]
    ]
    X, y = [data.X[row] for row in rows], data.y[rows]
    clf = CXRClassifier.from_pretrained(device="cpu")
    verdicts = {method: {label: Counter() for label in ("NORMAL", "PNEUMONIA")} for method in METHODS}
    gains: dict[str, list[float]] = {method: [] for method in METHODS}
    done = 0
    for batch in examine(clf, X, METHODS):
        for method, cards in batch.cards.items():
            for card, label in zip(cards, y[done:], strict=False):
                verdicts[method][label][card.verdict] += 1
                gains[method].append(card.gain)
        done += len(cards)
    plan = ExplanationPlan.check(clf, X, None, ["grad_cam"])
    senseless = Counter(verdict for part in plan.run(_senseless) for verdict in part)
    write(
        "trust_cards",
        {
            "machine": machine(),
            "images": len(X),
            "verdicts": verdicts,
            "mean_gain": {method: float(np.mean(values)) for method, values in gains.items()},
            "gain_check_of_maps_without_sense": dict(senseless),
        },
    )


def _senseless(batch: Explained) -> list[str]:
    """Return what the check of the gain says of the moved map of each image."""
    explanation, context = batch.found["grad_cam"], Context(batch.problem)
    explanation = replace(explanation, values=moved(explanation.values, batch.problem, _DRAW))
    return [verdict for _, _, verdict, _ in CARD["gain"](Maps(explanation, context))]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100)
    main(parser.parse_args().images)
