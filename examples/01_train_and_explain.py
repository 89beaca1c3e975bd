"""Train on synthetic radiographs, choose a threshold, explain, save, and load.

python examples/01_train_and_explain.py [OUTPUT_FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

from cxr_estimator import CXRClassifier, evaluate, make_phantoms, patient_split
from cxr_estimator.metrics import Context, measure

output = Path(sys.argv[1] if len(sys.argv) > 1 else "output/01_train_and_explain")
output.mkdir(parents=True, exist_ok=True)

# 800 synthetic radiographs of 400 patients; no patient stands on two sides of the split
data = make_phantoms(800, size=64, random_state=0)
train, validation, test = patient_split(data.y, data.groups)

clf = CXRClassifier("plain_cnn", image_size=64, max_epochs=12, pos_label="PNEUMONIA", random_state=0, verbose=1)
clf.fit(data.X[train], data.y[train], groups=data.groups[train])

# the threshold comes from patients that neither trained the network nor will judge it
clf.set_threshold("sensitivity", at_least=0.9, X=data.X[validation], y=data.y[validation], name="screening")
print(evaluate(clf, data.X[test], data.y[test], data.groups[test]))

# explain the evidence for pneumonia, and check the heat maps against the known lesions
explanation = clf.explain(data.X[test], data.y[test], method="grad_cam", target="PNEUMONIA")
masks = data.lesion_masks[test]
sick = masks.any(axis=(1, 2))
mass = measure("relevance_mass", explanation, Context(mask=masks))[sick].mean()
print(f"{mass:.1%} of the heat maps lie inside the lesions, which cover {masks[sick].mean():.1%} of the image")
explanation.plot(int(sick.argmax())).savefig(output / "explanation.png")

clf.save(output / "model")
again = CXRClassifier.load(output / "model")
print("same probabilities after loading:", (again.predict_proba(data.X[test]) == clf.predict_proba(data.X[test])).all())
