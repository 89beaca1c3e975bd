"""Models and an evaluation for cards."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cxr_estimator import CXRClassifier, evaluate, make_phantoms


@pytest.fixture(scope="session")
def labels():
    """A classifier of three labels that may go together."""
    rng = np.random.default_rng(0)
    y = pd.DataFrame(rng.integers(0, 2, (40, 3)).astype(float), columns=["Edema", "Effusion", "Mass"])
    X = rng.integers(0, 255, (40, 32, 32), dtype=np.uint8)
    clf = CXRClassifier("plain_cnn", image_size=32, max_epochs=1, validation_fraction=0.2, random_state=0)
    return clf.fit(X, y, groups=np.arange(40))


@pytest.fixture(scope="session")
def report(fitted):
    """An evaluation on others, with subgroups."""
    phantoms = make_phantoms(80, 32, random_state=1)
    sex = np.where(np.arange(80) % 4 < 2, "F", "M")
    return evaluate(fitted, phantoms.X, phantoms.y, phantoms.groups, subgroups={"sex": sex}, n_resamples=50)


@pytest.fixture(params=["fitted", "several", "labels", "ensemble"])
def any_model(request):
    if request.param == "several":
        return request.getfixturevalue("three_classes")[2]
    return request.getfixturevalue(request.param)
