"""Several labels per image, some of them unknown: figures, operating points and explanations for each.

python examples/09_several_labels.py [OUTPUT_FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from cxr_estimator import CXRClassifier, evaluate, make_phantoms, patient_split

output = Path(sys.argv[1] if len(sys.argv) > 1 else "output/09_several_labels")
output.mkdir(parents=True, exist_ok=True)

# opacities are those of the phantoms; a pacemaker and a tube are drawn into half of the patients each
data, rng = make_phantoms(700, size=48, difficulty=0.0, random_state=0), np.random.default_rng(0)
X, patient = data.X.copy(), np.unique(data.groups, return_inverse=True)[1]
has_pacemaker, has_tube = rng.random((2, patient.max() + 1))[:, patient] < 0.5
X[has_pacemaker, 8:12, 34:39] = 250  # on the patient's left, which is on the right of the image
X[has_tube, 2:20, 24] = np.minimum(X[has_tube, 2:20, 24].astype(int) + 45, 255)
truth = np.column_stack([data.y == "PNEUMONIA", has_pacemaker, has_tube]).astype(float)

# a fifth of the labels of tubes is unknown: that trains nothing, and is left out where it is judged
truth[rng.random(len(X)) < 0.2, 2] = np.nan
y = pd.DataFrame(truth, columns=["Opacity", "Pacemaker", "Tube"])
train, choose, test = patient_split(y, data.groups, fractions=(0.6, 0.2, 0.2), random_state=0)
clf = CXRClassifier("plain_cnn", image_size=48, max_epochs=10, batch_size=16, learning_rate=5e-3, random_state=0)
clf.fit(X[train], y.iloc[train], groups=data.groups[train])
for label in y:
    held_out = {"X": X[choose], "y": y.iloc[choose], "groups": data.groups[choose]}
    clf.set_threshold("sensitivity>=0.9", label=label, **held_out)

report = evaluate(clf, X[test], y.iloc[test], data.groups[test])
print(report.heading)
for label, point in report.decisions.items():
    found = point.estimates
    print(f"{label}: AUROC {report.metrics[f'auroc_{label}']}; from a probability of {point.threshold:.2f} on")
    print(f"  sensitivity {found['sensitivity']}, specificity {found['specificity']}")

# one image with all three, explained for one label after the other
row = test[np.flatnonzero((truth[test] == 1).all(axis=1))[0]]
figure, axes = plt.subplots(1, 4, figsize=(8.8, 2.8), layout="constrained")
axes[0].imshow(X[row], cmap="gray")
axes[0].set_title("all three labels", fontsize=9)
for ax, label in zip(axes[1:], y, strict=True):
    ax.imshow(clf.explain(X[[row]], method="occlusion", target=label).overlay(0))
    ax.set_title(label, fontsize=9)
for ax in axes:
    ax.set_axis_off()
figure.suptitle("occlusion: orange spoke for the label, violet against it", fontsize=9, color="#5f5f5f")
figure.savefig(output / "labels.png", dpi=100)
