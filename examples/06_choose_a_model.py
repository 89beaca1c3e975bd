"""Choose among candidates by AUROC and faithfulness together, and judge the chosen one on patients that chose nothing.

python examples/06_choose_a_model.py [OUTPUT_FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold

from cxr_estimator import CXRClassifier, evaluate, make_phantoms, patient_split, xai_scorers
from cxr_estimator.benchmark import benchmark

TOLERANCE = 0.03  # of the AUROC, which is given up for maps that are more faithful
output = Path(sys.argv[1] if len(sys.argv) > 1 else "output/06_choose_a_model")
output.mkdir(parents=True, exist_ok=True)

data = make_phantoms(640, size=32, difficulty=0.0, random_state=0)
choose, judge = patient_split(data.y, data.groups, fractions=(0.75, 0.25), random_state=0)
clf = CXRClassifier(
    "plain_cnn", image_size=32, max_epochs=6, batch_size=16, learning_rate=5e-3, augment="none",
    pos_label="PNEUMONIA", validation_fraction=0, random_state=0,
)  # fmt: skip
scores = {"auroc": "roc_auc", "gain": "grad_cam:deletion_auc"}  # the gain over moved copies of each map


def most_faithful(results: dict) -> int:
    """Return which candidate has the most faithful maps, of those whose AUROC comes near the best."""
    auroc, gain = results["mean_test_auroc"], results["mean_test_gain"]
    return int(np.where(auroc >= auroc.max() - TOLERANCE, gain, -np.inf).argmax())


scoring = xai_scorers(scores, n_samples=12, target="PNEUMONIA", random_state=0)
folds = StratifiedGroupKFold(3, shuffle=True, random_state=0)
search = GridSearchCV(clf, {"dropout": [0.0, 0.2, 0.5]}, scoring=scoring, refit=most_faithful, cv=folds)
search.fit(data.X[choose], data.y[choose], groups=data.groups[choose])

figure, ax = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
for i, parameters in enumerate(search.cv_results_["params"]):
    auroc, gain = (search.cv_results_[f"mean_test_{name}"][i] for name in scores)
    chosen = ", chosen" * (i == search.best_index_)
    print(f"dropout {parameters['dropout']}: AUROC {auroc:.3f}, gain {gain:.3f}, means of 3 folds{chosen}")
    ax.plot(auroc, gain, "*" if chosen else "o", markersize=12, label=f"dropout {parameters['dropout']}{chosen}")
ax.axvline(search.cv_results_["mean_test_auroc"].max() - TOLERANCE, color="#5f5f5f", linestyle=":", label="tolerance")
ax.set(xlabel="AUROC, mean of 3 folds", ylabel="deletion gain of Grad-CAM, mean of 3 folds")
ax.legend()
figure.savefig(output / "candidates.png", dpi=100)

best, X, y, patients = search.best_estimator_, data.X[judge], data.y[judge], data.groups[judge]
print(f"the chosen one, on {len(X)} images of {len(set(patients))} patients that chose nothing:")
print(f"AUROC {evaluate(best, X, y, patients).metrics['auroc']}")
table = benchmark(
    best, X[::4], methods=["grad_cam"], metrics=["deletion_auc"], groups=patients[::4], target="PNEUMONIA"
)
print("gain on every fourth of them {value:.3f} [{low:.3f}, {high:.3f}]".format(**table.iloc[0]))
