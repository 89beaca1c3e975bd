"""Train a network on synthetic radiographs, choose a threshold, evaluate it on patients that nothing saw, save, load.

python examples/01_train.py [OUTPUT_FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt

from cxr_estimator import CXRClassifier, evaluate, make_phantoms, patient_split

output = Path(sys.argv[1] if len(sys.argv) > 1 else "output/01_train")
output.mkdir(parents=True, exist_ok=True)

# 700 synthetic radiographs of 350 patients; no patient stands on two sides of the split
data = make_phantoms(700, size=48, difficulty=0.0, random_state=0)
train, validation, test = patient_split(data.y, data.groups, fractions=(0.6, 0.2, 0.2), random_state=0)

# `fit` sets some of these patients aside, to stop once it gets no better on them
clf = CXRClassifier(
    "plain_cnn", image_size=48, max_epochs=10, batch_size=16, learning_rate=5e-3, pos_label="PNEUMONIA", random_state=0
)
clf.fit(data.X[train], data.y[train], groups=data.groups[train])

# the threshold comes from patients that neither trained the network nor will judge it
clf.set_threshold("sensitivity", at_least=0.9, X=data.X[validation], y=data.y[validation], name="screening")
report = evaluate(clf, data.X[test], data.y[test], data.groups[test])
print(report.heading)
for name in ("auroc", "sensitivity", "specificity"):
    print(f"{name}: {report.metrics[name]}, of {report.n_images} images of {report.n_patients} patients")

figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.6), layout="constrained")
for name, colour in {"train_loss": "#5f5f5f", "val_loss": "#0072b2", "val_auroc": "#d55e00"}.items():
    left.plot(clf.history_["epoch"], clf.history_[name], color=colour, marker="o", markersize=3, label=name)
left.set(xlabel="epoch", ylim=(0, None))
left.set_title("What fit saw", fontsize=9)
left.legend(fontsize=7)
report.plot("roc", right)
right.set_title(f"What {report.n_patients} other patients show", fontsize=9)
figure.savefig(output / "training.png", dpi=100)

clf.save(output / "model")  # config.json, model.safetensors, a model card, checksums; load unpickles nothing
again = CXRClassifier.load(output / "model")
same = (again.predict_proba(data.X[test]) == clf.predict_proba(data.X[test])).all()
print("same probabilities after loading:", same)
