"""Two models, one of which can go by a marker in the corner: the audit tells which.

python examples/05_audit_a_shortcut.py [OUTPUT_FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

from cxr_estimator import CXRClassifier, make_phantoms, patient_split
from cxr_estimator.audit import audit
from cxr_estimator.datasets import plant_shortcut

output = Path(sys.argv[1] if len(sys.argv) > 1 else "output/05_audit_a_shortcut")
data = make_phantoms(600, size=64, difficulty=0.1, random_state=0)
train, validation, test = patient_split(data.y, data.groups, random_state=0)

# images with pneumonia get a bright square in a corner, in training and afterwards: accuracy will not tell
marked = plant_shortcut(data.X, data.y, "corner_marker", groups=data.groups, random_state=0)

for name, X in {"clean": data.X, "marked": marked}.items():
    clf = CXRClassifier(
        "plain_cnn", image_size=64, max_epochs=10, batch_size=16, learning_rate=5e-3, augment="none",
        pos_label="PNEUMONIA", random_state=0,
    )  # fmt: skip
    clf.fit(X[train], data.y[train], groups=data.groups[train])
    report = audit(clf, X[test], data.y[test], data.groups[test], methods=["grad_cam"], n_maps=12)
    auroc = next(check.value for check in report.checks if check.name == "label_order")
    print(f"{name}: AUROC {auroc:.2f}; failed: {', '.join(check.title for check in report.failed()) or 'nothing'}")
    print(f"  heat maps: {report.maps['grad_cam'].verdict}. {report.maps['grad_cam'].reason}")
    report.save(output / name)  # audit.html shows the evidence
