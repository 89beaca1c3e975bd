"""Explain decisions by three methods, and measure what can be measured: synthetic lesions are where they were put.

python examples/03_explain.py [OUTPUT_FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from cxr_estimator import CXRClassifier, DeletionCurveDisplay, ExplanationDisplay, make_phantoms, patient_split
from cxr_estimator.benchmark import benchmark

METHODS = ["grad_cam", "integrated_gradients", "occlusion"]
output = Path(sys.argv[1] if len(sys.argv) > 1 else "output/03_explain")
output.mkdir(parents=True, exist_ok=True)

data = make_phantoms(600, size=48, difficulty=0.0, random_state=0)
train, test = patient_split(data.y, data.groups, fractions=(0.75, 0.25), random_state=0)
clf = CXRClassifier(
    "plain_cnn", image_size=48, max_epochs=10, batch_size=16, learning_rate=5e-3, pos_label="PNEUMONIA", random_state=0
)
clf.fit(data.X[train], data.y[train], groups=data.groups[train])

# the evidence for pneumonia in radiographs of patients with pneumonia, none of whom trained the network
sick = test[data.y[test] == "PNEUMONIA"][:20]
X, patients, masks = data.X[sick], data.groups[sick], data.lesion_masks[sick]
maps = clf.explain(X, method=METHODS, target="PNEUMONIA")
print("integrated gradients leave out", f"{np.median(maps['integrated_gradients'].completeness_residual):.1%}")

# two things that an overlay does not tell: is the map where the lesion is, and does the network need what it marks
table = benchmark(
    clf, X, methods=METHODS, metrics=["relevance_mass", "deletion_auc"], masks=masks, groups=patients,
    target="PNEUMONIA",
)  # fmt: skip
print(f"{len(X)} images of {len(set(patients))} patients; lesions cover {masks.mean():.1%} of them")
for (metric, method), found in table.set_index(["metric", "method"]).iterrows():
    said = "inside the lesions" if metric == "relevance_mass" else "gain over moved copies, deletion"
    print(f"{method}, {said}: {found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]")

display = ExplanationDisplay(maps).plot(images=[0, 4, 8])
for row, i in zip(display.axes_, [0, 4, 8], strict=True):
    for ax in row:
        ax.contour(masks[i], levels=[0.5], colors="#56b4e9", linewidths=1.2)  # the lesion
display.figure_.savefig(output / "maps.png", dpi=100)
# on the right all is hidden, and networks may be sure of a class even then: read a curve beside its moved copies alone
curves = DeletionCurveDisplay.from_explanations(maps, clf, X, groups=patients)
curves.figure_.savefig(output / "deletion.png", dpi=100)
