"""Two models on the same patients: is one better, whom do they judge differently, and do they look at the same places.

python examples/11_compare_models.py [OUTPUT_FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

from cxr_estimator import CXRClassifier, make_phantoms, patient_split
from cxr_estimator.comparison import compare

output = Path(sys.argv[1] if len(sys.argv) > 1 else "output/11_compare_models")
output.mkdir(parents=True, exist_ok=True)
data = make_phantoms(600, size=48, difficulty=0.0, random_state=0)
train, test = patient_split(data.y, data.groups, fractions=(0.75, 0.25), random_state=0)

models = {}
for name, epochs in {"three epochs": 3, "ten epochs": 10}.items():
    clf = CXRClassifier(
        "plain_cnn", image_size=48, max_epochs=epochs, batch_size=16, learning_rate=5e-3, pos_label="PNEUMONIA",
        random_state=0,
    )  # fmt: skip
    models[name] = clf.fit(data.X[train], data.y[train], groups=data.groups[train])

found = compare(models, data.X[test], data.y[test], data.groups[test], n_maps=8)
print(found)  # differences with intervals and p-values, by patient
print(f"\nDecided differently, by what is true:\n{found.flips(*models).to_string(index=False)}\n")

# the image whose maps are least alike: six panels, and what to verify before either is believed
worst = found.least_alike[0]
found.plot(worst.row).savefig(output / "least_alike.png", dpi=80)
for item in worst.items:
    print(f"{item.verdict:<16} {item.name}: {item.sentence}")
found.save(output / "page")  # comparison.html and what it is made of
