"""What y says: names, unknown values, weights."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from cxr_estimator._labels import loss_weights, read_labels
from cxr_estimator._outputs import Task
from cxr_estimator._validation import check_label_matrix, is_label_matrix
from cxr_estimator.errors import DataError, InvalidParameterError

NAN = np.nan
Y = np.array([[1, 0, NAN], [0, 1, 1], [1, 1, 0], [NAN, NAN, NAN]])


def test_several_labels():
    task, classes, target = read_labels(Y, 4, None)
    assert task is Task.MULTILABEL
    assert classes.tolist() == [0, 1, 2]
    assert target.dtype == np.float32
    np.testing.assert_array_equal(target, Y)


def test_one_column_is_one_label_per_image():
    for y in (np.array([[0], [1], [1]]), pd.DataFrame({"x": [0, 1, 1]})):
        task, classes, target = read_labels(y, 3, None)
        assert task is Task.BINARY
        assert classes.tolist() == [0, 1]
        assert target.tolist() == [0, 1, 1]
    assert read_labels(["a", "b", "c"], 3, None).task is Task.MULTICLASS


@pytest.mark.parametrize(
    "y",
    [
        [[1, 0], [0, 1]],
        [np.array([1, 0]), np.array([0, 1])],
        torch.tensor([[1, 0], [0, 1]]),
        np.array([[True, False], [False, True]]),
        np.array([[1.0, 0.0], [0.0, 1.0]], dtype=np.float16),
        pd.DataFrame([[1, 0], [0, 1]], index=[7, 7]),
        pd.DataFrame([[True, False], [False, True]]),
        pd.DataFrame([[1, 0], [0, 1]], dtype="Int64"),
    ],
)
def test_kinds_of_matrices(y):
    assert is_label_matrix(y)
    assert check_label_matrix(y, 2, caller="f").tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    "y",
    [
        [[1, None], [0, 1]],
        np.array([[1, NAN], [0, 1]]),
        pd.DataFrame({"a": pd.array([1, 0], dtype="Int64"), "b": pd.array([None, 1], dtype="boolean")}),
    ],
)
def test_kinds_of_unknown(y):
    np.testing.assert_array_equal(check_label_matrix(y, 2, caller="f"), [[1, NAN], [0, 1]])


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.array([[1, 2], [0, 1]]), r"f: y must hold 1 .* Got 2\.0 in row 0, column 1\. \(As cross_val_predict"),
        (np.array([[1, 0], [0, -1]]), r"Got -1\.0 in row 1, column 1\.$"),
        (np.array([[1, 0.5], [0, 1]]), r"Got 0\.5 in row 0, column 1\.$"),
        (np.array([[1, np.inf], [0, 1]]), "Got inf in row 0"),
        (np.array([["1", "0"], ["0", "1"]]), "must hold numbers"),
        ([[1, "x"], [0, 1]], "must hold numbers"),
        (np.array([[1, 0j], [0, 1]]), "must hold numbers"),
        (np.zeros((3, 2)), "X has 2 images but y has 3 rows"),
        (np.zeros((2, 3)), r"y must have 2 columns, one for each label\. Got shape \(2, 3\)"),
        (np.zeros(2), r"Got shape \(2,\)"),
    ],
)
def test_bad_matrices(y, message):
    with pytest.raises(DataError, match=message):
        check_label_matrix(y, 2, caller="f", n_labels=2)


def test_names():
    frame = pd.DataFrame(Y, columns=["Edema", "Mass", "Air"])
    assert read_labels(frame, 4, None).classes.tolist() == ["Edema", "Mass", "Air"]  # not sorted
    assert read_labels(Y, 4, ("Edema", "Mass", "Air")).classes.tolist() == ["Edema", "Mass", "Air"]
    assert read_labels(frame, 4, ["Edema", "Mass", "Air"]).classes.tolist() == ["Edema", "Mass", "Air"]
    assert read_labels(pd.DataFrame(Y), 4, None).classes.tolist() == [0, 1, 2]
    assert read_labels(pd.DataFrame(Y, columns=["a", 1, 2.5]), 4, None).classes.tolist() == ["a", "1", "2.5"]


@pytest.mark.parametrize(
    ("y", "names", "error", "message"),
    [
        (pd.DataFrame(Y, columns=["a", "b", "c"]), ["a", "c", "b"], DataError, "y has the columns.*label_names is"),
        (Y, ["a", "b"], DataError, "y has 3 columns, but there are 2 label_names"),
        (pd.DataFrame(Y, columns=["a", "b", "a"]), None, DataError, "must have different names"),
        (Y, ["a", "b", "a"], InvalidParameterError, "different names"),
        (Y, "abc", InvalidParameterError, "'label_names'"),
        (Y, [1, 2, 3], InvalidParameterError, "'label_names'"),
        ([0, 1, 0, 1], ["a", "b"], InvalidParameterError, "None unless y has a column for each"),
    ],
)
def test_bad_names(y, names, error, message):
    with pytest.raises(error, match=message):
        read_labels(y, 4, names)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([0, 0, 0, 0], r"in y, \['b'\] is never present \(1\)"),
        ([1, 1, NAN, 1], r"in y, \['b'\] is never absent \(0\)"),
        ([NAN] * 4, r"in y, \['b'\] is never present"),
    ],
)
def test_a_label_that_never_varies_is_named(column, message):
    y = pd.DataFrame({"a": [0, 1, 0, 1], "b": column})
    with pytest.raises(DataError, match=message):
        read_labels(y, 4, None)


def test_balanced_weights_by_hand():
    """Label 0: one absent, two present; label 1: one absent, two present; label 2: one of each."""
    target = Y.astype(np.float32)
    weights = loss_weights("balanced", np.arange(3), target, None)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights[:3], [[0.5, 1, 1], [1, 0.5, 1], [0.5, 0.5, 1]])
    assert (loss_weights(None, np.arange(3), target, None) == 1).all()
    weighted = loss_weights("balanced", np.arange(3), target, [1, 2, 4, 1])
    np.testing.assert_allclose(weighted, weights * np.array([[0.5], [1.0], [2.0], [0.5]]))
    with pytest.raises(InvalidParameterError, match="None or 'balanced' for several labels"):
        loss_weights({0: 2.0}, np.arange(3), target, None)
