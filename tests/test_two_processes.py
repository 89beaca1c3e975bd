"""What scikit-learn hands to other processes, `n_jobs=2`: in one file, since its workers take long to start."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, cross_val_score, cross_validate

from cxr_estimator import clinical_scorer, xai_scorers
from cxr_estimator.clinical import CLINICAL
from tests.conftest import small_classifier


@pytest.mark.parametrize("kind", ["arrays", "paths"])
def test_cross_val_score(phantoms, kind, tmp_path):
    X = phantoms.X
    if kind == "paths":
        X = [str(tmp_path / f"{i}.png") for i in range(len(phantoms.X))]
        for path, image in zip(X, phantoms.X, strict=True):
            Image.fromarray(image).save(path)
    clf = small_classifier(max_epochs=2, validation_fraction=0.0)
    options = {"groups": phantoms.groups, "cv": GroupKFold(2), "error_score": "raise"}
    one = cross_val_score(clf, X, phantoms.y, **options)
    two = cross_val_score(clf, X, phantoms.y, n_jobs=2, **options)
    np.testing.assert_allclose(one, two, atol=0.1)  # workers get fewer threads, which moves the last digits


def test_explanation_scorers(phantoms):
    scoring = xai_scorers({"auc": "roc_auc", "faithfulness": "grad_cam:aopc"}, n_samples=8, steps=4, n_references=2)
    clf = small_classifier(max_epochs=1, validation_fraction=0.0)
    options = {"groups": phantoms.groups, "cv": StratifiedGroupKFold(2), "error_score": "raise", "scoring": scoring}
    found = cross_validate(clf, phantoms.X, phantoms.y, n_jobs=2, **options)
    assert np.isfinite(found["test_auc"]).all()
    assert np.isfinite(found["test_faithfulness"]).all()


def test_clinical_scorers():
    X, y = make_classification(120, flip_y=0.2, random_state=0)
    y = np.array(["sick", "well"])[y]
    scoring = {name: clinical_scorer(name) for name in CLINICAL}
    options = {"groups": np.arange(120) // 2, "cv": StratifiedGroupKFold(3), "error_score": "raise", "scoring": scoring}
    one, two = (cross_validate(LogisticRegression(), X, y, n_jobs=n_jobs, **options) for n_jobs in (1, 2))
    for name in CLINICAL:
        np.testing.assert_allclose(one[f"test_{name}"], two[f"test_{name}"])
