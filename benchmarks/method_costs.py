"""What each attribution method costs: seconds per image for resnet18 at 224 px, default options.

python benchmarks/method_costs.py

Methods that a CNN does not support run on vit_tiny_patch16_224. Images and weights are random, which changes no cost
but that of methods that stop when they have converged. Writes raw JSON, from which docs/methods.md is made.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
from _common import write  # first: it sets OpenMP up

from cxr_estimator import CXRClassifier
from cxr_estimator.attribution import METHODS
from cxr_estimator.errors import BackgroundWarning

SIZE = 224
FEW = 40  # evaluations per image beyond which a single image is timed


def classifier(backbone: str, X: np.ndarray) -> CXRClassifier:
    clf = CXRClassifier(backbone, image_size=SIZE, max_epochs=1, validation_fraction=0, random_state=0)
    return clf.fit(X[:4], [0, 1, 0, 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=8)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (16, SIZE, SIZE), dtype=np.uint8)
    networks = [classifier(name, X) for name in ("resnet18", "vit_tiny_patch16_224")]
    seconds, evaluations, used = {}, {}, {}
    for name, method in METHODS.items():
        clf = next(clf for clf in networks if method.obstacle(clf.model_) is None)
        request = {"method": name, "background": X[:8] if method.needs_background else None}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BackgroundWarning)
            started = time.perf_counter()
            one = clf.explain(X[:1], **request)
            took = time.perf_counter() - started
            if one.evaluations[0] <= FEW:
                started = time.perf_counter()
                clf.explain(X[: options.images], **request)
                took = (time.perf_counter() - started) / options.images
        seconds[name], evaluations[name], used[name] = took, int(one.evaluations[0]), clf.backbone
        print(f"{name}: {took:.3g} s, {evaluations[name]} evaluations on {clf.backbone}", flush=True)
    write(
        "method_costs",
        {
            "question": "resnet18 at 224 px (attention methods: vit_tiny_patch16_224)",
            "seconds_per_image": seconds,
            "evaluations": evaluations,
            "backbone": used,
        },
    )


if __name__ == "__main__":
    main()
