"""Two models, one of which can go by a marker in the corner: its AUROC is the better one, and the audit tells why.

python examples/07_audit_a_shortcut.py [OUTPUT_FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt

from cxr_estimator import CXRClassifier, make_phantoms, patient_split
from cxr_estimator.audit import audit
from cxr_estimator.datasets import plant_shortcut

output = Path(sys.argv[1] if len(sys.argv) > 1 else "output/07_audit_a_shortcut")
output.mkdir(parents=True, exist_ok=True)
data = make_phantoms(500, size=48, difficulty=0.0, random_state=0)
train, test = patient_split(data.y, data.groups, fractions=(0.8, 0.2), random_state=0)

# images with pneumonia get a bright letter in a corner, in training and afterwards: accuracy will not tell
marked = plant_shortcut(data.X, data.y, "corner_marker", groups=data.groups, random_state=0)

reports = {}
for name, X in {"clean": data.X, "marked": marked}.items():
    clf = CXRClassifier(
        "plain_cnn", image_size=48, max_epochs=8, batch_size=16, learning_rate=5e-3, augment="none",
        pos_label="PNEUMONIA", random_state=0,
    )  # fmt: skip
    clf.fit(X[train], data.y[train], groups=data.groups[train])
    report = audit(clf, X[test], data.y[test], data.groups[test], methods=["grad_cam"], n_maps=8)
    auroc = next(check.value for check in report.checks if check.name == "label_order")
    print(f"{name}: AUROC {auroc:.2f}; failed: {', '.join(check.title for check in report.failed()) or 'nothing'}")
    print(f"  heat maps: {report.maps['grad_cam'].verdict}. {report.maps['grad_cam'].reason}")
    report.save(output / name)  # audit.html shows the evidence
    reports[name] = report

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained", width_ratios=(1.2, 1))
for name, place, colour in (("clean", -0.12, "#0072b2"), ("marked", 0.12, "#d55e00")):
    checks = [check for check in reports[name].checks if check.name.endswith("_exchange")]
    for row, check in enumerate(checks):
        low, high = check.interval
        left.plot([low, high], [row + place] * 2, color=colour)
        left.plot(check.value, row + place, "o", color=colour, label=f"{name} model" * (row == 0) or None)
    left.set_yticks(range(len(checks)), [check.title for check in checks])
left.axvline(0, color="#5f5f5f", linestyle=":")
left.set(xlabel="share of decisions that follow what is exchanged", xlim=(-0.2, 1.05))
left.legend(loc="center right")
evidence = next(check for check in reports["marked"].failed() if check.name == "corner_exchange").pictures[0]
right.imshow(evidence.pixels, cmap="gray")
right.set_axis_off()
right.set_title("an image, and the same with another corner", fontsize=9)
figure.savefig(output / "exchanges.png", dpi=100)
