"""Train a small backbone on real radiographs and judge it on 10% of the patients, who were never used before.

python benchmarks/real_holdout.py --data DIR [--backbone resnet10t] [--seed 0] [--output FILE.json]

80% of the patients train, 10% stop the training early and choose the threshold (`fit` splits them off the 90% it is
given), 10% judge. Writes raw JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as the command line does, before anything loads torch

import numpy as np

from cxr_estimator import CXRClassifier, evaluate, load_image_folder, patient_split
from cxr_estimator.versions import package_versions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("CXR_DATA_DIR"))
    parser.add_argument("--backbone", default="mobilenetv3_small_100")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--max-epochs", type=int, default=15)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--augment", default="light")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model")
    parser.add_argument("--output", default="benchmarks/results/real_holdout.json")
    options = parser.parse_args()

    data = load_image_folder(options.data)
    development, holdout = patient_split(data.y, data.groups, fractions=(0.9, 0.1), random_state=0)
    clf = CXRClassifier(
        options.backbone,
        image_size=options.image_size,
        max_epochs=options.max_epochs,
        learning_rate=options.learning_rate,
        augment=options.augment,
        validation_fraction=1 / 9,
        patience=6,
        pos_label="PNEUMONIA",
        threshold="youden",
        n_jobs=2,
        verbose=1,
        random_state=options.seed,
    )
    started = time.perf_counter()
    clf.fit(data.X[development], data.y[development], groups=data.groups[development])
    seconds = time.perf_counter() - started
    report = evaluate(clf, data.X[holdout], data.y[holdout], data.groups[holdout])
    if options.model:
        clf.save(options.model)
    exact, rough = (clf.set_params(precision=name).predict_proba(data.X[holdout]) for name in ("float32", "bfloat16"))
    result = {
        "question": "AUROC on a patient-disjoint 10% hold-out, and the time of fit (decoding included)",
        "backbone": options.backbone,
        "image_size": options.image_size,
        "seed": options.seed,
        "fit_seconds": seconds,
        "epochs_run": len(clf.history_),
        "n_development": len(development),
        "patients_shared": len(np.intersect1d(data.groups[development], data.groups[holdout])),
        "threshold_rule": "youden on the validation split inside fit",
        "bfloat16_largest_change_of_a_probability": float(np.abs(exact - rough).max()),
        "bfloat16_change_at_fit": clf.bfloat16_change_,
        "report": report.to_dict(),
        "history": json.loads(clf.history_.to_json(orient="records")),
        "machine": {"cpus": os.cpu_count(), "processor": platform.machine(), **package_versions()},
    }
    path = Path(options.output)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(report)
    print(f"fit took {seconds / 60:.1f} minutes for {len(clf.history_)} epochs; raw figures in {path}")


if __name__ == "__main__":
    main()
