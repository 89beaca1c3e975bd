"""Cross-validate the quality of explanations beside the AUROC, as scores like any other of scikit-learn.

python examples/05_cross_validate_explanations.py [OUTPUT_FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, cross_validate

from cxr_estimator import CXRClassifier, make_phantoms, xai_scorers

SCORES = {
    "AUROC": "roc_auc",
    "deletion gain of Grad-CAM": "grad_cam:deletion_auc",
    "deletion gain of integrated gradients": "integrated_gradients:deletion_auc",
    "deletion gain of occlusion": "occlusion:deletion_auc",
}
output = Path(sys.argv[1] if len(sys.argv) > 1 else "output/05_cross_validate_explanations")
output.mkdir(parents=True, exist_ok=True)

data = make_phantoms(480, size=32, difficulty=0.0, random_state=0)
clf = CXRClassifier(
    "plain_cnn", image_size=32, max_epochs=10, batch_size=16, learning_rate=5e-3, pos_label="PNEUMONIA",
    validation_fraction=0, random_state=0,
)  # fmt: skip

# 12 images of each test fold are explained, by networks that saw none of their patients; greater is better for all.
# A gain is over the same maps shifted and flipped: a raw deletion AUC says more about the network than about the map.
scorers = xai_scorers(SCORES, n_samples=12, target="PNEUMONIA", random_state=0)
folds = StratifiedGroupKFold(3, shuffle=True, random_state=0)
found = cross_validate(clf, data.X, data.y, groups=data.groups, cv=folds, scoring=scorers)

# no intervals: networks of different folds share most of their training patients, so the folds are not independent
for name in SCORES:
    values = found[f"test_{name}"]
    print(f"{name}: {values.mean():.3f} on average, folds from {values.min():.3f} to {values.max():.3f}")

figure, axes = plt.subplots(1, 2, figsize=(8.4, 3.2), layout="constrained", width_ratios=(1, 3))
for ax, names in zip(axes, ([*SCORES][:1], [*SCORES][1:]), strict=True):
    for place, name in enumerate(names):
        values = found[f"test_{name}"]
        ax.plot(place + np.linspace(-0.15, 0.15, len(values)), values, "o", color="#0072b2")
        ax.hlines(values.mean(), place - 0.25, place + 0.25, color="#d55e00")
    ax.set_xticks(range(len(names)), [name.replace(" of ", "\nof ") for name in names], fontsize=9)
    ax.set_xlim(-0.5, len(names) - 0.5)
axes[0].axhline(0.5, color="#5f5f5f", linestyle=":")
axes[1].axhline(0, color="#5f5f5f", linestyle=":")
figure.suptitle("a dot for each fold, lines are means, dotted: no better than chance", fontsize=9, color="#5f5f5f")
figure.savefig(output / "folds.png", dpi=100)
