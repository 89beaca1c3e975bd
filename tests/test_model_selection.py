"""Operating points from out-of-fold predictions."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import StratifiedGroupKFold

from cxr_estimator import cross_val_threshold
from cxr_estimator.errors import DataError, InvalidParameterError, InvalidTypeError, PatientLeakWarning
from cxr_estimator.fingerprints import share_seen
from cxr_estimator.thresholds import choose_point
from tests.conftest import small_classifier

CV = StratifiedGroupKFold(2, shuffle=True, random_state=0)
EVEN, ODD = np.arange(0, 80, 2), np.arange(1, 80, 2)  # two images of a patient stand side by side


@pytest.fixture(scope="module")
def chosen(phantoms):
    clf = small_classifier(max_epochs=1)
    return cross_val_threshold(
        clf, phantoms.X, phantoms.y, "sensitivity", at_least=0.8, groups=phantoms.groups, cv=CV, name="screening"
    )


def test_every_image_is_judged_by_a_network_that_did_not_see_its_patient(chosen, phantoms):
    scores = np.empty(len(phantoms.y))
    for train, test in CV.split(phantoms.X, phantoms.y, phantoms.groups):
        one = small_classifier(max_epochs=1)
        one.fit(phantoms.X[train], phantoms.y[train], groups=phantoms.groups[train])
        scores[test] = one.decision_function(phantoms.X[test])
    expected = choose_point(scores, phantoms.y == "PNEUMONIA", "sensitivity", {"at_least": 0.8})
    assert chosen.score == pytest.approx(expected.score, abs=1e-5)
    assert chosen.n_images == len(phantoms.y)
    assert chosen.n_patients == len(np.unique(phantoms.groups))
    assert (chosen.name, chosen.label) == ("screening", "PNEUMONIA")


def test_the_point_is_taken_over(chosen, phantoms, fitted):
    clf = clone(fitted).set_params(max_epochs=1).fit(phantoms.X, phantoms.y, groups=phantoms.groups)
    clf.set_threshold(chosen)
    assert clf.operating_points_["screening"] == chosen
    ids = clf.explain(phantoms.X, method="saliency").image_ids
    assert share_seen(chosen.fingerprint, ids) == 1.0


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"rule": "magic"}, InvalidParameterError, "'youden'"),
        ({"beta": 2.0}, InvalidParameterError, "left out for the rule"),
        ({"cv": 1}, InvalidParameterError, "'cv' parameter"),
        ({"cv": [(np.arange(40), np.arange(40, 79))]}, DataError, "every image into one fold"),
        (
            {"cv": [(ODD, EVEN), (EVEN, ODD)]},
            DataError,
            "patients on both sides",
        ),
        ({"groups": [1, 2]}, DataError, "groups"),
        ({"y": None}, InvalidParameterError, "'y' parameter"),
        ({"y": ["NORMAL"] * 70}, DataError, "X has 80 images but y has 70"),
        ({"clf": "resnet18"}, InvalidTypeError, "a CXRClassifier"),
    ],
)
def test_bad_input(phantoms, change, error, message):
    given = {"clf": small_classifier(), "X": phantoms.X, "y": phantoms.y, "rule": "youden", "groups": phantoms.groups}
    with pytest.raises(error, match=message):
        cross_val_threshold(**{**given, **change})


def test_unknown_patients_are_warned_of_once(phantoms):
    clf = small_classifier(max_epochs=1, validation_fraction=0.0)
    with pytest.warns(PatientLeakWarning, match="Pass groups=") as caught:
        cross_val_threshold(clf, phantoms.X, phantoms.y, "f_beta", cv=2, n_resamples=5)
    assert len([one for one in caught if one.category is PatientLeakWarning]) == 1
