"""Plant wrong labels, duplicates and patients in two splits among synthetic radiographs, and see how many are found.

pip install ".[curation]" && python examples/12_curate.py [OUTPUT_FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from cxr_estimator import CXRClassifier, make_phantoms, patient_split
from cxr_estimator.curation import curate

output = Path(sys.argv[1] if len(sys.argv) > 1 else "output/12_curate")
n, rng = 640, np.random.default_rng(0)
data = make_phantoms(n, size=48, difficulty=0.0, random_state=0)
y, (train, _) = data.y.copy(), patient_split(data.y, data.groups, fractions=(0.8, 0.2), random_state=0)
splits = np.where(np.isin(np.arange(n), train), "train", "test")

# 24 labels are turned, and one image of 6 patients each, who have two, goes to the other split
wrong = rng.choice(n, 24, replace=False)
y[wrong] = np.where(y[wrong] == "NORMAL", "PNEUMONIA", "NORMAL")
moved = rng.choice(n // 2, 6, replace=False) * 2
splits[moved] = np.where(splits[moved] == "train", "test", "train")

# 16 images come again under the name of another patient, the last 8 of them brighter and moved by a pixel
again = rng.choice(n, 16, replace=False)
copies = data.X[again]
copies[8:] = np.roll(copies[8:] * 0.9 + 20, 1, axis=2).astype(np.uint8)
X, y, splits = (np.concatenate(pair) for pair in ((data.X, copies), (y, y[again]), (splits, splits[again])))
patients = np.concatenate([data.groups, [f"C{i}" for i in range(16)]])
wrong = np.concatenate([wrong, n + np.flatnonzero(np.isin(again, wrong))])  # with the copies of wrong ones

clf = CXRClassifier(
    "plain_cnn", image_size=48, max_epochs=8, batch_size=16, learning_rate=5e-3, augment="none",
    validation_fraction=0, random_state=0,
)  # fmt: skip
report = curate(clf, X, y, groups=patients, splits=splits, cv=3)  # networks judge patients that they never saw
report.save(output)  # curation.html with thumbnails, and tables
group = report.duplicates[report.duplicates["patients_differ"]].set_index("position")["group"]
found = np.array([group.get(row, -1) == group.get(n + i, -2) for i, row in enumerate(again)])
print(f"copies found: {found[:8].sum()} of 8 equal, {found[8:].sum()} of 8 changed, among {group.nunique()} groups")
print(f"patients in both splits found: {report.summary['patients_in_several_splits']} of {len(moved)}")
suspects = report.label_issues["position"][report.label_issues["suspected"]]
print(f"wrong labels found: {np.isin(wrong, suspects).sum()} of {len(wrong)}, among {len(suspects)} suspects")

figure, axes = plt.subplots(2, 4, figsize=(8.8, 5.2), layout="constrained")
shown = []
for i in (0, 8):
    shown += [(again[i], "an image"), (n + i, f"its copy, {'found' if found[i] else 'missed'}")]
shown += [(row, f"{y[row]}\n{'was turned' if row in wrong else 'is right'}") for row in suspects[:4]]
for ax, (row, title) in zip(axes.flat, shown, strict=True):
    ax.imshow(X[row], cmap="gray", vmin=0, vmax=255)
    ax.set_title(title, fontsize=9)
    ax.set_axis_off()
figure.savefig(output / "found.png", dpi=100)
