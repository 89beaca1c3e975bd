"""Suspected label errors."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from cleanlab.filter import find_label_issues
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

from cxr_estimator import make_phantoms
from cxr_estimator.curation import _labels, label_issues
from cxr_estimator.curation._labels import rank_labels
from cxr_estimator.errors import DataError, InvalidTypeError, MissingPackageError, PatientLeakWarning
from tests.conftest import small_classifier

CV = StratifiedGroupKFold(2, shuffle=True, random_state=0)


def test_probabilities_are_of_networks_that_did_not_see_the_patient(phantoms):
    clf = small_classifier(max_epochs=1)
    found = label_issues(clf, phantoms.X, phantoms.y, groups=phantoms.groups, cv=CV).set_index("position").sort_index()
    expected = np.empty((80, 2))
    for train, test in CV.split(phantoms.X, phantoms.y, phantoms.groups):
        one = small_classifier(max_epochs=1)
        one.fit(phantoms.X[train], phantoms.y[train], groups=phantoms.groups[train])
        expected[test] = one.predict_proba(phantoms.X[test])
    of_given = expected[np.arange(80), (phantoms.y == "PNEUMONIA").astype(int)]
    np.testing.assert_allclose(found["p_label"], of_given, atol=1e-5)
    np.testing.assert_allclose(found["p_suggested"], expected.max(axis=1), atol=1e-5)


def test_the_least_believed_label_comes_first():
    """Worked out by hand: image 2 is given "a" at 0.1, image 4 cannot be read."""
    proba = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.3, 0.7], [np.nan, np.nan], [0.2, 0.8]])
    found = rank_labels(np.array(["a", "a", "a", "b", "b", "b"]), proba)
    assert found["position"].tolist() == [2, 3, 1, 5, 0]
    assert found["quality"].tolist() == pytest.approx([0.1, 0.7, 0.8, 0.8, 0.9])
    assert found.loc[0, ["label", "suggested", "p_label", "p_suggested", "suspected"]].tolist() == [
        "a", "b", 0.1, 0.9, True,
    ]  # fmt: skip
    assert not found["suspected"][1:].any()


def test_suspects_are_those_of_confident_learning():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 200)
    proba = rng.dirichlet(np.ones(3), 200)
    found = rank_labels(np.array(["x", "y", "z"])[labels], proba)
    expected = find_label_issues(labels, proba, n_jobs=1)
    assert 0 < expected.sum() < 200
    assert set(found["position"][found["suspected"]]) == set(np.flatnonzero(expected))
    assert (found["quality"].diff()[1:] >= 0).all()


def test_planted_errors_are_found():
    """5% wrong sides among 300 phantoms, half of them mirrored: a label that a small network learns in seconds.

    benchmarks/curation.py plants wrong diagnoses, whose networks take minutes.
    """
    data = make_phantoms(300, 32, random_state=5)
    mirrored = np.random.default_rng(0).random(300) < 0.5
    X = np.where(mirrored[:, None, None], data.X[:, :, ::-1], data.X)
    planted = np.random.default_rng(1).choice(300, 15, replace=False)
    wrong = mirrored.copy()
    wrong[planted] = ~wrong[planted]
    y = np.where(wrong, "mirrored", "upright")
    clf = small_classifier(max_epochs=10, pos_label=None, augment="none", learning_rate=5e-3, validation_fraction=0)
    found = label_issues(clf, X, y, groups=data.groups, cv=3)
    assert found["position"][:15].isin(planted).mean() >= 0.7
    suspects = found[found["suspected"]]
    assert suspects["position"].isin(planted).mean() >= 0.7
    assert np.isin(planted, suspects["position"]).mean() >= 0.7


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"clf": "resnet18"}, InvalidTypeError, "a CXRClassifier"),
        ({"y": ["NORMAL"] * 80}, DataError, "label_issues: y holds only one class"),
        ({"y": np.zeros((80, 3))}, DataError, "Pass one of them"),
        ({"y": ["NORMAL"] * 70}, DataError, "X has 80 images but y has 70"),
        ({"cv": 41}, DataError, "but there are 40"),
        ({"y": ["a", "a", *["b"] * 78], "cv": 2}, DataError, r"without images of \['a'\] to fit on"),
        ({"groups": [1, 2]}, DataError, "label_issues: groups"),
        ({"cv": GroupKFold(50)}, DataError, "label_issues: cv cannot split these images"),
        ({"X": []}, DataError, "X is empty"),
    ],
)
@pytest.mark.filterwarnings("ignore:The least populated class")
def test_bad_input(phantoms, change, error, message):
    given = {"clf": small_classifier(), "X": phantoms.X, "y": phantoms.y, "groups": phantoms.groups}
    with pytest.raises(error, match=message):
        label_issues(**{**given, **change})


def test_without_patients_a_leak_is_warned_of(phantoms):
    clf = small_classifier(max_epochs=1, validation_fraction=0.0)
    with pytest.warns(PatientLeakWarning, match="label_issues: no patients are known"):
        label_issues(clf, phantoms.X[::2], phantoms.y[::2], cv=2)


def test_a_missing_package_is_named_before_anything_is_trained(phantoms, monkeypatch):
    monkeypatch.setitem(sys.modules, "cleanlab", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'cxr_estimator\[curation\]'"):
        label_issues(small_classifier(), phantoms.X, phantoms.y, groups=phantoms.groups)


@pytest.mark.parametrize("as_rows", [False, True])
def test_the_same_pixels_share_a_fold(phantoms, monkeypatch, as_rows):
    """Image 0 comes again as 20 of patient "x", and 5 as 21: the patients of 0 and 5 and "x" are one owner."""
    X = phantoms.X[[*range(20), 0, 5]]
    groups = np.array([*phantoms.groups[:20], "x", "x"])
    seen = []

    def judged(clf, X, labels, folds, *, n_jobs):
        seen.append(folds.owners)

    monkeypatch.setattr(_labels, "judged_labels", judged)
    X = X.reshape(22, -1) if as_rows else X
    label_issues(small_classifier(), X, [*phantoms.y[:20], *phantoms.y[[0, 5]]], groups=groups, cv=2)
    joined = np.isin(groups, [groups[0], groups[5], "x"])
    assert len(set(seen[0][joined])) == 1
    assert len(set(seen[0])) == len(set(groups)) - 2


def test_pairs_that_part_a_picture_are_refused(phantoms):
    X, y = phantoms.X[[*range(20), 0]], [*phantoms.y[:20], phantoms.y[0]]
    halves = np.arange(10), np.arange(10, 21)
    groups = [*phantoms.groups[:20], "x"]
    with pytest.raises(DataError, match="label_issues: cv puts images of 1 patients on both sides, or copies"):
        label_issues(small_classifier(), X, y, groups=groups, cv=[halves, halves[::-1]])
