"""Whether maps of a network that finds lesions show where they are."""

from __future__ import annotations

import numpy as np
import pytest

from cxr_estimator import make_phantoms
from tests.conftest import small_classifier

REQUESTS = {
    "score_cam": {},
    "lime": {"n_samples": 300},
    "occlusion": {},
    "superpixel_occlusion": {},
    "rise": {"n_masks": 400},
}


@pytest.fixture(scope="module")
def finder():
    """A classifier that has learned what a lesion looks like, and sick patients it has not seen."""
    training = make_phantoms(300, 48, difficulty=0.0, random_state=0)
    clf = small_classifier(image_size=48, max_epochs=12, learning_rate=1e-2, validation_fraction=0.0)
    clf.fit(training.X, training.y, groups=training.groups)
    unseen = make_phantoms(40, 48, difficulty=0.0, random_state=5)
    assert (clf.predict(unseen.X) == unseen.y).mean() > 0.75
    sick = np.flatnonzero(unseen.y == "PNEUMONIA")[:10]
    return clf, unseen.X[sick], unseen.lesion_masks[sick]


@pytest.mark.parametrize("method", REQUESTS)
def test_evidence_gathers_in_the_lesion(finder, method):
    clf, X, lesions = finder
    values = np.maximum(clf.explain(X, method=method, target="PNEUMONIA", **REQUESTS[method]).values, 0)
    share = (values * lesions).sum(axis=(1, 2)) / values.sum(axis=(1, 2))
    assert share.mean() > 2 * lesions.mean()
