"""What the tests of findings share: a model that looks at the border, and a report on it."""

from __future__ import annotations

import pytest

from cxr_estimator import make_phantoms
from cxr_estimator.audit import audit
from cxr_estimator.datasets.shortcuts import shortcut_carriers
from cxr_estimator.findings import findings
from cxr_estimator.findings._hypotheses import USED_CHECKS
from tests.conftest import small_classifier


def framed(X, carried, width=3):
    """Images of which some have a white frame."""
    X = X.copy()
    inner = X[:, width:-width, width:-width].copy()
    X[carried] = 255
    X[:, width:-width, width:-width] = inner
    return X


@pytest.fixture(scope="session")
def bordered():
    """A model of images whose frame tells the class, and 80 images of which a quarter has the frame of the other."""
    data = make_phantoms(60, 32, difficulty=1.0, random_state=0)
    clf = small_classifier(max_epochs=10)
    clf.fit(framed(data.X, data.y == "PNEUMONIA"), data.y, groups=data.groups)
    test = make_phantoms(80, 32, difficulty=1.0, random_state=9)
    carried = shortcut_carriers(test.y, strength=0.5, groups=test.groups, random_state=0)
    return clf, test._replace(X=framed(test.X, carried))


@pytest.fixture(scope="session")
def border_audit(bordered):
    clf, data = bordered
    asked = {"checks": USED_CHECKS, "methods": ["occlusion"], "n_maps": 10, "n_resamples": 50, "pictures": False}
    return audit(clf, data.X, data.y, data.groups, **asked)


@pytest.fixture(scope="session")
def report(bordered, border_audit):
    clf, data = bordered
    asked = {"method": "occlusion", "audit": border_audit, "masks": data.lung_masks, "n_maps": 10, "n_per_bucket": 2}
    return findings(clf, data.X, data.y, data.groups, **asked)
