"""Do the maps lie on the lesion? On phantoms it is known where it is."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from cxr_estimator import make_phantoms
from cxr_estimator.metrics import METRICS, Context
from tests.conftest import small_classifier

# Options that spare time, and how many times the lesion's share of the area is asked for inside it.
REQUESTS = {
    "grad_cam": ({}, 3),
    "grad_cam_plus_plus": ({}, 3),
    "x_grad_cam": ({}, 3),
    "eigen_cam": ({}, 3),
    "hi_res_cam": ({}, 3),
    "layer_cam": ({}, 3),
    "score_cam": ({"channels": 64}, 2),
    "occlusion": ({}, 3),
    "superpixel_occlusion": ({}, 3),
    "rise": ({"n_masks": 400}, 3),
    "deep_shap": ({}, 3),
    "gradient_shap": ({"n_samples": 32}, 3),
    "partition_shap": ({"n_evaluations": 300}, 3),
    "kernel_shap": ({"n_samples": 300}, 3),
    "lime": ({"n_samples": 300}, 3),
    "integrated_gradients": ({"n_steps": 16}, 3),
}


@pytest.fixture(scope="module")
def found():
    """A network that tells the phantoms apart, and six true positives of other patients."""
    data = make_phantoms(300, 48, difficulty=0.0, random_state=0)
    clf = small_classifier(image_size=48, max_epochs=12, learning_rate=5e-3, validation_fraction=0.0)
    clf.fit(data.X, data.y, groups=data.groups)
    test = make_phantoms(100, 48, difficulty=0.0, random_state=1)
    sick = test.y == "PNEUMONIA"
    assert roc_auc_score(sick, clf.predict_proba(test.X)[:, 1]) >= 0.95
    chosen = np.flatnonzero(sick & (clf.predict(test.X) == "PNEUMONIA"))[:6]
    return clf, test.X[chosen], test.lesion_masks[chosen]


@pytest.mark.parametrize("method", REQUESTS)
def test_evidence_gathers_in_the_lesion(found, method):
    clf, X, masks = found
    area = masks.mean(axis=(1, 2))
    assert (area >= 0.02).all()
    assert (area <= 0.06).all()
    options, times = REQUESTS[method]
    explanation = clf.explain(X, method=method, target="PNEUMONIA", **options)
    inside = METRICS["relevance_mass"].function(explanation, Context(mask=masks))
    assert np.median(inside / area) >= times
