"""Flat images as rows: what scikit-learn calls X."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.exceptions import DataConversionWarning

from cxr_estimator import CXRClassifier
from cxr_estimator._rows import intensity_range, is_table
from cxr_estimator.errors import (
    DataError,
    InvalidParameterError,
    InvalidTypeError,
    ModelFolderError,
    SkippedImagesWarning,
    TrainingError,
)
from tests.conftest import small_classifier

RNG = np.random.default_rng(0)
TABLE = RNG.normal(500.0, 20.0, (40, 12))
LABELS = np.where(TABLE[:, :6].mean(axis=1) > 500.0, "up", "down")


def strips(**changes):
    """A classifier of strips of 1 x 12 that trains in a moment."""
    options = {"image_size": 16, "max_epochs": 1, "validation_fraction": 0, "pos_label": None}
    return small_classifier(**{**options, **changes})


@pytest.fixture(scope="module")
def fitted_rows():
    return strips().fit(TABLE, LABELS)


@pytest.mark.parametrize(
    "X",
    [
        TABLE,
        TABLE.astype(np.int64),
        TABLE > 500,
        TABLE.tolist(),
        TABLE + 1j,
        TABLE.astype(object),
        TABLE[:, :1].astype(object),
        TABLE[0],
        pd.DataFrame(TABLE),
        torch.from_numpy(TABLE),
        sparse.csr_array(TABLE),
        [1.0, 2.0],
    ],
)
def test_tables(X):
    assert is_table(X)


@pytest.mark.parametrize(
    "X",
    [
        np.zeros((4, 8, 8)),
        np.zeros((4, 3, 8, 8)),
        ["a.png", "b.png"],
        np.array(["a.png", "b.png"]),
        np.array([["a.png"], ["b.png"]], dtype=object),
        pd.Series(["a.png", "b.png"]),
        pd.DataFrame({"path": ["a.png", "b.png"]}),
        [np.zeros((8, 8)), np.zeros((9, 8))],
        torch.zeros(4, 1, 8, 8),
        "a.png",
        [],
        [[1], [1, 2]],
        3,
        None,
    ],
)
def test_no_tables(X):
    assert not is_table(X)


def test_intensity_range_by_hand():
    assert intensity_range(np.array([[0, 2], [2, 0]], dtype=np.uint8)) == (-3.0, 5.0)  # mean 1, deviation 1
    assert intensity_range(np.array([[0.0, 2.0], [np.nan, 7.0]])) == (-3.0, 5.0)  # an unreadable row does not count


@pytest.mark.parametrize("value", [0.0, 0.1, -7.0, 1e20, 255])
def test_constant_rows_have_a_range(value):
    low, high = intensity_range(np.full((9, 9), value))
    assert low < value < high
    clf = strips().fit(np.full((8, 9), value), ["a", "b"] * 4)
    assert np.isfinite(clf.predict_proba(np.full((2, 9), value))).all()


def test_rows_are_standardised_as_at_fit(fitted_rows):
    assert fitted_rows.preprocessing_.intensity == (TABLE.mean() - 4 * TABLE.std(), TABLE.mean() + 4 * TABLE.std())
    moved = strips().fit(TABLE * 100 - 7, LABELS)
    expected = fitted_rows.predict_proba(TABLE)
    np.testing.assert_allclose(moved.predict_proba(TABLE * 100 - 7), expected, atol=1e-3)
    # one row alone: nothing depends on the other rows of a call
    np.testing.assert_allclose(fitted_rows.predict_proba(TABLE[3:4])[0], expected[3], atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.float32, bool, object])
def test_the_type_of_the_numbers_does_not_matter(dtype):
    X = (TABLE > 500).astype(dtype)
    expected = strips().fit((TABLE > 500).astype(np.float64), LABELS).predict_proba(X.astype(np.float64))
    clf = strips().fit(X, LABELS)
    for kind in (dtype, np.float64, np.uint8):
        np.testing.assert_allclose(clf.predict_proba(X.astype(kind)), expected, atol=1e-6)


def test_the_users_intensity_wins(phantoms):
    rows = phantoms.X.reshape(80, -1)
    options = {"intensity": (0, 255), "max_epochs": 1}
    clf = small_classifier(image_shape=(32, 32), **options).fit(rows, phantoms.y, groups=phantoms.groups)
    images = small_classifier(**options).fit(phantoms.X, phantoms.y, groups=phantoms.groups)
    assert clf.preprocessing_.intensity == (0, 255)
    assert (clf.predict_proba(rows) == images.predict_proba(phantoms.X)).all()
    assert (clf.predict_proba(phantoms.X) == images.predict_proba(phantoms.X)).all()


def test_rows_of_images_can_be_explained(phantoms):
    rows = phantoms.X.reshape(80, -1)
    clf = small_classifier(image_shape=(32, 32), max_epochs=1).fit(rows, phantoms.y, groups=phantoms.groups)
    assert clf.explain(rows[:2]).geometry[0].original_shape == (32, 32)
    assert (clf.predict_proba(rows) == clf.predict_proba(phantoms.X)).all()


def test_number_and_names_of_the_columns(fitted_rows):
    names = [f"pixel{i}" for i in range(12)]
    assert fitted_rows.n_features_in_ == 12
    assert not hasattr(fitted_rows, "feature_names_in_")
    frame = pd.DataFrame(TABLE, columns=names)
    clf = strips().fit(frame, LABELS)
    assert clf.feature_names_in_.tolist() == names
    assert (clf.predict_proba(frame) == fitted_rows.predict_proba(TABLE)).all()
    with pytest.raises(DataError, match="feature names should match"):
        clf.predict(frame[names[::-1]])
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        clf.predict(TABLE)
    with pytest.raises(DataError, match="X has 7 features, but CXRClassifier is expecting 12 features"):
        fitted_rows.predict(TABLE[:, :7])
    with pytest.raises(DataError, match=r"image_shape \(3, 5\) needs 15"):
        strips(image_shape=(3, 5)).fit(TABLE, LABELS)


def test_a_later_fit_on_images_forgets_the_columns(phantoms):
    clf = strips().fit(pd.DataFrame(TABLE, columns=list("abcdefghijkl")), LABELS)
    clf.fit(phantoms.X[:20], phantoms.y[:20])
    assert not hasattr(clf, "n_features_in_")
    assert not hasattr(clf, "feature_names_in_")
    with pytest.raises(DataError, match=r"rows of numbers \(shape \(40, 12\)\), but the model was fitted on images"):
        clf.predict(TABLE)


def test_a_fit_that_fails_leaves_no_trace(monkeypatch, fitted_rows):
    def fail(*args):
        raise TrainingError("the loss became infinite")

    monkeypatch.setattr("cxr_estimator._fitting.train", fail)
    clf = strips()
    with pytest.raises(TrainingError):
        clf.fit(pd.DataFrame(TABLE, columns=list("abcdefghijkl")), LABELS)
    assert [name for name in vars(clf) if name.endswith("_")] == []


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (np.where(TABLE > 545, np.nan, TABLE), DataError, "Input X contains NaN"),
        (np.where(TABLE > 545, np.inf, TABLE), DataError, "Input X contains infinity"),
        (TABLE + 1j, DataError, "Complex data not supported"),
        (sparse.csr_array(TABLE), InvalidTypeError, "Sparse data was passed"),
        (TABLE[0], DataError, "Reshape your data"),
        (TABLE[:0], DataError, "0 sample"),
        (TABLE[:, :0], DataError, r"0 feature\(s\)"),
        (TABLE * 1e36, DataError, "too large for float32"),
        (TABLE * 1e300, DataError, "too large for float32"),
        (pd.DataFrame(TABLE[:, :2], columns=["a", 1]), InvalidTypeError, "Feature names are only supported"),
    ],
)
def test_what_scikit_learn_refuses(fitted_rows, X, error, message):
    with pytest.raises(error, match=message):
        strips().fit(X, LABELS)
    if "names" not in message and "large" not in message:
        with pytest.raises((error, DataError), match=message):
            fitted_rows.predict(X)


def test_labels_in_a_column_and_none(fitted_rows):
    with pytest.warns(DataConversionWarning, match="column-vector y"):
        clf = strips().fit(TABLE, LABELS[:, None])
    assert (clf.predict_proba(TABLE) == fitted_rows.predict_proba(TABLE)).all()
    with pytest.raises(DataError, match="requires y to be passed, but the target y is None"):
        strips().fit(TABLE, None)
    with pytest.raises(InvalidParameterError, match="'patient_pattern'"):
        strips(patient_pattern="P").fit(TABLE, LABELS)


def test_rows_that_cannot_be_read_are_skipped(fitted_rows):
    X = TABLE.copy()
    X[[3, 30], 5] = np.nan, np.inf
    clf = strips(on_error="skip")
    with pytest.warns(SkippedImagesWarning):
        clf.fit(X, LABELS)
    assert [item.position for item in clf.skipped_] == [3, 30]
    assert clf.preprocessing_.intensity == intensity_range(np.delete(TABLE, [3, 30], axis=0))
    with pytest.warns(SkippedImagesWarning):
        proba = clf.predict_proba(X)
    assert np.flatnonzero(np.isnan(proba[:, 0])).tolist() == [3, 30]
    with pytest.warns(SkippedImagesWarning), pytest.raises(DataError, match="none of the 40 images"):
        clf.fit(np.full_like(TABLE, np.nan), LABELS)


@pytest.mark.parametrize("names", [None, list("abcdefghijkl")])
def test_save_and_load(tmp_path, names):
    X = TABLE if names is None else pd.DataFrame(TABLE, columns=names)
    clf = strips().fit(X, LABELS).set_params(intensity=(0, 1))  # which waits for the next fit
    expected = clf.predict_proba(X)
    again = CXRClassifier.load(clf.save(tmp_path / "model"))
    assert (again.predict_proba(X) == expected).all()
    assert again.preprocessing_ == clf.preprocessing_
    assert again.get_params()["intensity"] is None
    assert again.n_features_in_ == 12
    assert getattr(again, "feature_names_in_", None) is None if names is None else names


@pytest.mark.parametrize("names", [["a"], list(range(12)), "abcdefghijkl", {"a": 1}, 7])
def test_damaged_names_are_refused(tmp_path, fitted_rows, names):
    folder = fitted_rows.save(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "feature_names": names}))
    with pytest.raises(ModelFolderError, match="feature_names"):
        CXRClassifier.load(folder)


def test_a_range_that_no_parameter_explains_is_refused(tmp_path, phantoms, fitted_rows):
    folder = fitted_rows.save(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "image_shape": None}))
    with pytest.raises(ModelFolderError, match="'intensity' of the preprocessing"):
        CXRClassifier.load(folder)
