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
settings = {"image_size": 32, "max_epochs": 12, "batch_size": 16, "augment": "none", "validation_fraction": 0}
clf = CXRClassifier("plain_cnn", pos_label="PNEUMONIA", random_state=0, **settings)
scores = {"auroc": "roc_auc", "gain": "grad_cam:deletion_auc"}  # the gain over moved copies of each map


def most_faithful(results: dict) -> int:
    """Return which candidate has the most faithful maps, of those whose AUROC comes near the best."""
    auroc, gain = results["mean_test_auroc"], results["mean_test_gain"]
    return int(np.where(auroc >= auroc.max() - TOLERANCE, gain, -np.inf).argmax())


scoring = xai_scorers(scores, n_samples=24, target="PNEUMONIA", random_state=0)
folds = StratifiedGroupKFold(3, shuffle=True, random_state=0)
search = GridSearchCV(clf, {"learning_rate": [0.002, 0.005, 0.01]}, scoring=scoring, refit=most_faithful, cv=folds)
search.fit(data.X[choose], data.y[choose], groups=data.groups[choose])

# each fold is shown, too: where folds of one candidate lie further apart than the candidates, chance may have chosen
figure, ax = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
for i, parameters in enumerate(search.cv_results_["params"]):
    by_fold = np.array([[search.cv_results_[f"split{k}_test_{name}"][i] for k in range(3)] for name in scores])
    (auroc, gain), chosen = by_fold.mean(axis=1), ", chosen" * (i == search.best_index_)
    name = f"learning rate {parameters['learning_rate']}"
    print(f"{name}: AUROC {auroc:.3f}, gain {gain:.3f}, means of 3 folds{chosen}")
    ax.plot(*by_fold, ".", color=f"C{i}")
    ax.plot(auroc, gain, "*" if chosen else "o", color=f"C{i}", markersize=12, label=name + chosen)
ax.axvline(search.cv_results_["mean_test_auroc"].max() - TOLERANCE, color="#5f5f5f", linestyle=":", label="tolerance")
ax.set(xlabel="AUROC", ylabel="deletion gain of Grad-CAM", title="small: each of 3 folds; large: their means")
figure.legend(fontsize=8, loc="outside lower center", ncols=2)
figure.savefig(output / "candidates.png", dpi=100)

best, X, y, patients = search.best_estimator_, data.X[judge], data.y[judge], data.groups[judge]
print(f"the chosen one, on {len(X)} images of {len(set(patients))} patients that chose nothing:")
print(f"AUROC {evaluate(best, X, y, patients).metrics['auroc']}")
gain = benchmark(best, X[::4], groups=patients[::4], methods=["grad_cam"], metrics=["deletion_auc"], target="PNEUMONIA")
print("gain on every fourth of them {value:.3f} [{low:.3f}, {high:.3f}]".format(**gain.iloc[0]))
