"""AUROC and explanation quality of one cross-validation, on real radiographs with patients kept apart."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.model_selection import StratifiedGroupKFold, cross_validate

from cxr_estimator import CXRClassifier, xai_scorers


@pytest.mark.usefixtures("metadata_routing")
def test_cross_validation_of_faithfulness_on_real_radiographs(real_sample):
    X, y, patients = real_sample
    scoring = xai_scorers(
        {"auroc": "roc_auc", "deletion": "grad_cam:deletion_auc", "border": "grad_cam:border_mass"},
        n_samples=24,
        steps=10,  # of the curve; border_mass has none
        n_references=2,
        random_state=0,
    )
    clf = CXRClassifier(
        "plain_cnn", image_size=64, max_epochs=4, batch_size=16, pos_label="PNEUMONIA", random_state=0
    ).set_fit_request(groups=True)
    found = cross_validate(
        clf, X, y, cv=StratifiedGroupKFold(2), scoring=scoring, params={"groups": patients}, error_score="raise"
    )
    print({name: np.round(values, 3).tolist() for name, values in found.items() if name.startswith("test_")})
    assert (found["test_auroc"] > 0.6).all()
    assert np.isfinite(found["test_deletion"]).all()
    assert (np.abs(found["test_deletion"]) < 1).all()
    assert ((found["test_border"] <= 0) & (found["test_border"] >= -1)).all()  # less is better: the sign is turned
