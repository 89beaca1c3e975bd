"""Two models on the same patients: is one better, whom do they judge differently, and do they look at the same places.

python examples/06_compare_models.py [OUTPUT_FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

from cxr_estimator import CXRClassifier, make_phantoms, patient_split
from cxr_estimator.comparison import compare

output = Path(sys.argv[1] if len(sys.argv) > 1 else "output/06_compare_models")
data = make_phantoms(600, size=64, difficulty=0.1, random_state=0)
train, validation, test = patient_split(data.y, data.groups, random_state=0)

models = {}
for name, epochs in {"three epochs": 3, "ten epochs": 10}.items():
    clf = CXRClassifier(
        "plain_cnn", image_size=64, max_epochs=epochs, batch_size=16, learning_rate=5e-3, pos_label="PNEUMONIA",
        random_state=0,
    )  # fmt: skip
    models[name] = clf.fit(data.X[train], data.y[train], groups=data.groups[train])

found = compare(models, data.X[test], data.y[test], data.groups[test], n_maps=8)
print(found)  # differences with intervals and p-values, by patient
print(f"\nDecided differently, by what is true:\n{found.flips(*models).to_string(index=False)}\n")

# the image whose maps are least alike: what to verify before either is believed; the page shows six panels of it
for item in found.least_alike[0].items:
    print(f"{item.verdict:<15} {item.name}: {item.sentence}")
print(f"\ncomparison.html in {found.save(output)}")
