"""Do the maps lie on the lesion? Phantoms with known lesions (2 to 6% of the image), a network of AUROC >= 0.95.

python benchmarks/localisation.py

For each method: the share of the positive part of its map that lies inside the lesion, divided by the lesion's share of
the image (1 is chance), over the true positives among phantoms of other patients. Prints the table, writes raw JSON.
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np
from _common import write  # first: it sets OpenMP up
from sklearn.metrics import roc_auc_score

from cxr_estimator import CXRClassifier, make_phantoms
from cxr_estimator.attribution import METHODS
from cxr_estimator.errors import BackgroundWarning
from cxr_estimator.metrics import METRICS, Context

SIZE = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="plain_cnn")
    parser.add_argument("--images", type=int, default=16)
    options = parser.parse_args()
    data = make_phantoms(600, SIZE, difficulty=0.0, random_state=0)
    clf = CXRClassifier(
        options.backbone,
        image_size=SIZE,
        max_epochs=12,
        batch_size=16,
        learning_rate=5e-3,
        pos_label="PNEUMONIA",
        random_state=0,
    )
    clf.fit(data.X, data.y, groups=data.groups)
    test = make_phantoms(200, SIZE, difficulty=0.0, random_state=1)
    sick = test.y == "PNEUMONIA"
    auroc = roc_auc_score(sick, clf.predict_proba(test.X)[:, 1])
    chosen = np.flatnonzero(sick & (clf.predict(test.X) == "PNEUMONIA"))[: options.images]
    masks = test.lesion_masks[chosen]
    area = masks.mean(axis=(1, 2))
    print(f"{options.backbone}: AUROC {auroc:.3f}; lesions {100 * area.min():.1f}% to {100 * area.max():.1f}%")
    methods = {}
    for name, method in METHODS.items():
        if method.obstacle(clf.model_) is not None:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BackgroundWarning)
            explanation = clf.explain(test.X[chosen], method=name, target="PNEUMONIA")
        inside = METRICS["relevance_mass"].function(explanation, Context(mask=masks))
        times = inside / area
        methods[name] = {"localises": method.localises, "inside": inside.tolist(), "times_area": times.tolist()}
        print(f"{name:24s} {np.nanmedian(inside):6.1%} inside, {np.nanmedian(times):5.1f} times the area", flush=True)
    write(
        "localisation",
        {
            "question": f"share of the positive attribution inside the lesion over the lesion's share of the image, "
            f"{len(chosen)} true positives at {SIZE} px",
            "backbone": options.backbone,
            "auroc": auroc,
            "area": area.tolist(),
            "methods": methods,
        },
    )


if __name__ == "__main__":
    main()
