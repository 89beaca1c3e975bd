"""SHAP, LIME and Grad-CAM on the same images: do they agree, which is faithful to the network, what does each cost.

python examples/04_shap_lime_grad_cam.py [OUTPUT_FOLDER]

One network and few images: it shows how to ask, not which method is best. Beside it lie studies of that.
"""

from __future__ import annotations

import sys
from itertools import combinations
from pathlib import Path

from cxr_estimator import CXRClassifier, ExplanationDisplay, make_phantoms, patient_split
from cxr_estimator.benchmark import benchmark
from cxr_estimator.figures import plot_benchmark
from cxr_estimator.metrics import Context, measure

METHODS = ["deep_shap", "lime", "grad_cam"]
output = Path(sys.argv[1] if len(sys.argv) > 1 else "output/04_shap_lime_grad_cam")
output.mkdir(parents=True, exist_ok=True)

data = make_phantoms(600, size=48, difficulty=0.0, random_state=0)
train, test = patient_split(data.y, data.groups, fractions=(0.75, 0.25), random_state=0)
clf = CXRClassifier(
    "plain_cnn", image_size=48, max_epochs=10, batch_size=16, learning_rate=5e-3, pos_label="PNEUMONIA", random_state=0
)
clf.fit(data.X[train], data.y[train], groups=data.groups[train])

# one image of each of 12 patients; what is explained is the evidence for pneumonia
rows = test[::2][:12]
X, patients, masks = data.X[rows], data.groups[rows], data.lesion_masks[rows]
maps = clf.explain(X, method=METHODS, target="PNEUMONIA")
for a, b in combinations(METHODS, 2):
    shared = measure("top_k_overlap", maps[a], Context(other=maps[b]), k=10)
    print(f"{a} and {b} share {shared.mean():.0%} of their strongest tenth of the pixels (by chance 10%)")

# gains over the same maps shifted and flipped: a smooth map would beat independent random pixels whatever it shows
table = benchmark(
    clf, X, methods=METHODS, metrics=["deletion_auc", "insertion_auc"], groups=patients, target="PNEUMONIA"
)
for (metric, method), found in table.set_index(["metric", "method"]).iterrows():
    print(f"{metric} gain of {method}: {found['value']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]")
for method, seconds in table.groupby("method", sort=False)["seconds_per_image"].first().items():
    print(f"{method}: {seconds:.3f} seconds per image")
plot_benchmark(table).savefig(output / "faithfulness.png")

sick = [i for i in range(len(rows)) if masks[i].any()][:2]
display = ExplanationDisplay(maps).plot(images=sick)
for row, i in zip(display.axes_, sick, strict=True):
    for ax in row:
        ax.contour(masks[i], levels=[0.5], colors="#56b4e9", linewidths=1.2)  # where the lesion is
display.figure_.savefig(output / "maps.png", dpi=100)
