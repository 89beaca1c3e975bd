"""What bfloat16 does to the maps: their rank correlation with the float32 maps of the same trained network.

python benchmarks/bf16_maps.py

resnet18 and mobilenetv3_small_100 at 64 px (vit_tiny_patch16_224 for attention), trained on phantoms; where the
processor lacks bfloat16 it is emulated, with the same rounding. A method may run in bfloat16 (`Method.bf16_safe`) only
if the mean over the images is 0.99 at least on each. Writes raw JSON.
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import replace
from unittest import mock

import numpy as np
from _common import write  # first: it sets OpenMP up
from scipy.stats import spearmanr

from cxr_estimator import CXRClassifier, make_phantoms
from cxr_estimator.attribution import METHODS
from cxr_estimator.errors import BackgroundWarning

SIZE = 64
BACKBONES = ("resnet18", "mobilenetv3_small_100", "vit_tiny_patch16_224")
# fewer evaluations than by default: rounding is the same
FEWER = {
    "rise": {"n_masks": 200}, "lime": {"n_samples": 200}, "kernel_shap": {"n_samples": 200},
    "partition_shap": {"n_evaluations": 100}, "score_cam": {"channels": 64},
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=8)
    options = parser.parse_args()
    data = make_phantoms(400, SIZE, difficulty=0.0, random_state=0)
    test = make_phantoms(10 * options.images, SIZE, difficulty=0.0, random_state=1).X
    correlations: dict[str, dict[str, list[float]]] = {}
    for backbone in BACKBONES:
        clf = CXRClassifier(backbone, image_size=SIZE, max_epochs=6, pos_label="PNEUMONIA", random_state=0)
        clf.fit(data.X, data.y, groups=data.groups)
        X = test[clf.predict(test) == "PNEUMONIA"][: options.images]  # a CAM of the other class may be empty
        for name, method in METHODS.items():
            is_done = backbone == BACKBONES[-1] and name in correlations
            if is_done or method.obstacle(clf.model_) is not None:
                continue
            maps = []
            for precision in ("float32", "bfloat16"):
                clf.set_params(precision=precision)
                with warnings.catch_warnings(), mock.patch.dict(METHODS, {name: replace(method, bf16_safe=True)}):
                    warnings.simplefilter("ignore", BackgroundWarning)
                    maps.append(clf.explain(X, method=name, target="PNEUMONIA", **FEWER.get(name, {})).values)
            found = [spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(*maps, strict=True)]
            correlations.setdefault(name, {})[backbone] = found
            print(f"{backbone} {name}: mean {np.mean(found):.4f}, least {np.min(found):.4f}", flush=True)
    write(
        "bf16_maps",
        {
            "question": f"Spearman correlation of the bfloat16 map with the float32 map, {options.images} phantoms",
            "correlations": correlations,
            "at_least_099": [name for name, each in correlations.items() if min(map(np.mean, each.values())) >= 0.99],
        },
    )


if __name__ == "__main__":
    main()
