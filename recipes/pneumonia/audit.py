"""Audit the bundled model on radiographs that trained it, for its card.

python recipes/pneumonia/audit.py --data DIR

One random radiograph of each of 200 patients of each class, every check. Writes results/audit.json, without pictures;
nothing in it names a file or a patient. `write_card.py` puts it into the card.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as the command line does, before anything loads torch

import numpy as np
import study

from cxr_estimator import CXRClassifier, load_image_folder
from cxr_estimator._checking import one_per_patient
from cxr_estimator.audit import AuditReport, audit
from cxr_estimator.serialization import write_file

RESULT = study.RESULTS / "audit.json"
PATIENTS, SEED = 200, 0  # of each class; of the draw and of the audit
NOTE = (
    "These images trained the model (about one in twenty only validated it), so AUROC, calibration and operating "
    "points look better here than they would on others, and “seen in training” fails as it must: the official test "
    "part of the data is kept apart. Half of the images are of each class, unlike in training."
)


def main() -> None:
    """Audit the model that is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("CXR_DATA_DIR"), help="folder of the radiographs")
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    report = audited(CXRClassifier.from_pretrained(), options.data)
    write_file(options.output, f"{report.to_json()}\n".encode())
    print(report)


def audited(model: CXRClassifier, data: str | Path) -> AuditReport:
    """Return what the audit finds on the radiographs that are drawn."""
    found = load_image_folder(data)
    rows = drawn(found.y, found.groups)
    X, y, patients = (one[rows] for one in (found.X, found.y, found.groups))
    return replace(audit(model, X, y, patients, pictures=False, random_state=SEED), note=NOTE)


def drawn(labels: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """Return the rows of one random image of each of `PATIENTS` random patients of each class."""
    rng, rows = np.random.default_rng(SEED), []
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        rows.append(one_per_patient(own, patients[own], rng)[:PATIENTS])
    return np.sort(np.concatenate(rows))


if __name__ == "__main__":
    main()
