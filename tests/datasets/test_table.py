"""Tables of paths, labels and patients."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd
import pytest

from cxr_estimator import load_image_table
from cxr_estimator.datasets.table import read_columns
from cxr_estimator.errors import DataError, InvalidParameterError

FRAME = pd.DataFrame({"path": ["a.png", "sub/b.png"], "label": ["sick", "well"], "patient": ["007", "8"]})


def write(folder, text):
    path = folder / "table.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_csv(tmp_path):
    path = write(tmp_path, "path,label,patient\na.png,sick,007\nsub/b.png,well,010\n/abs/c.png,sick,010\n")
    for table in (path, str(path)):
        data = load_image_table(table, patient_column="patient")
        assert data.X.tolist() == [str(tmp_path / "a.png"), str(tmp_path / "sub" / "b.png"), "/abs/c.png"]
        assert data.y.tolist() == ["sick", "well", "sick"]
        assert data.groups.tolist() == ["007", "010", "010"]
        assert [array.dtype.kind for array in data] == ["U", "U", "U"]


def test_data_frame():
    data = load_image_table(FRAME.set_index(pd.Index([5, 5])), patient_column="patient")
    assert data.X.tolist() == ["a.png", os.path.join("sub", "b.png")]
    assert data.y.tolist() == ["sick", "well"]
    assert data.groups.tolist() == ["007", "8"]
    assert load_image_table(FRAME).groups is None


def test_root(tmp_path):
    path = write(tmp_path, "path,label\na.png,1\n")
    for table in (path, FRAME):
        assert load_image_table(table, root="/data/images").X[0] == "/data/images/a.png"
        assert load_image_table(table, root=tmp_path / "x").X[0] == str(tmp_path / "x" / "a.png")


def test_other_column_names_and_names_that_look_like_numbers(tmp_path):
    path = write(tmp_path, "Image Index,Finding\n00001,yes\n00002,no\n")
    data = load_image_table(path, path_column="Image Index", label_column="Finding")
    assert data.X.tolist() == [str(tmp_path / "00001"), str(tmp_path / "00002")]


@pytest.mark.parametrize(
    ("column", "expected", "kind"),
    [
        ([3, 1], [3, 1], "i"),
        ([True, False], [True, False], "b"),
        ([1.0, 2.0], [1.0, 2.0], "f"),
        (pd.array([1, 2], dtype="Int64"), [1, 2], "i"),
        (pd.Categorical(["x", "y"]), ["x", "y"], "U"),
        (pd.array(["x", "y"], dtype="string"), ["x", "y"], "U"),
        (np.array(["x", "y"], dtype=object), ["x", "y"], "U"),
        (["1", "x"], ["1", "x"], "U"),
    ],
)
def test_labels_keep_their_kind(column, expected, kind):
    y = load_image_table(FRAME.assign(label=column)).y
    assert (y.tolist(), y.dtype.kind) == (expected, kind)


def test_integers_in_a_csv_stay_integers(tmp_path):
    y = load_image_table(write(tmp_path, "path,label\na.png,0\nb.png,2\n")).y
    assert (y.tolist(), y.dtype.kind) == ([0, 2], "i")


def test_several_labels_per_image(tmp_path):
    path = write(tmp_path, "path,Edema,Effusion\na.png,1,\nb.png,0,1\nc.png,,-1\n")
    data = load_image_table(path, label_column=["Effusion", "Edema"])
    np.testing.assert_array_equal(data.y, [[np.nan, 1], [1, 0], [-1, np.nan]])
    frame = pd.DataFrame({"path": ["a", "b"], "x": pd.array([1, None], dtype="Int64"), "y": [True, False]})
    np.testing.assert_array_equal(load_image_table(frame, label_column=["x", "y"]).y, [[1, 1], [np.nan, 0]])
    assert load_image_table(frame, label_column=["x"]).y.shape == (2, 1)


def test_text_among_several_labels_is_named():
    frame = FRAME.assign(Edema=[1, 0], Effusion=[np.nan, "yes"])
    with pytest.raises(DataError, match=r"the table: column 'Effusion' must hold numbers.*Got 'yes' in data row 2"):
        load_image_table(frame, label_column=["Edema", "Effusion"])


@pytest.mark.parametrize("column", ["path", "label", "patient"])
def test_empty_cells_name_the_row(tmp_path, column):
    rows = {"path": ["a.png", "b.png", "c.png"], "label": ["x", "y", "x"], "patient": ["1", "2", "3"]}
    rows[column][1:] = [None, None]
    path = tmp_path / "table.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    for table, name in ((path, path), (pd.DataFrame(rows, index=[9, 9, 9]), "the table")):
        with pytest.raises(DataError, match=f"^{name}: column '{column}' is empty in 2 rows, first in data row 2"):
            load_image_table(table, patient_column="patient")


@pytest.mark.parametrize(
    "options",
    [{"path_column": "pth"}, {"label_column": "pth"}, {"label_column": ["label", "pth"]}, {"patient_column": "pth"}],
)
def test_a_missing_column_lists_the_columns(options):
    with pytest.raises(InvalidParameterError, match=r"one of 'path', 'label', 'patient'\. Got 'pth'.*mean 'path'"):
        load_image_table(FRAME, **options)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "there is no such file"),
        (b"", "cannot be read as CSV"),
        (b"path,label\n", "has no rows"),
        (b"path,label\n\xff\xfe\x00,1\n", "cannot be read as CSV"),
        (b'path,label\na.png,1\n"b.png,2\n,,,\n', "cannot be read as CSV"),
    ],
)
def test_unreadable_files_are_named(tmp_path, content, reason):
    path = tmp_path / "table.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=f"^{path}: {reason}"):
        load_image_table(path)


def test_a_folder_is_no_table(tmp_path):
    with pytest.raises(DataError, match=f"^{tmp_path}: cannot be read as CSV"):
        load_image_table(tmp_path)


def test_an_empty_frame():
    with pytest.raises(DataError, match=r"^the table: has no rows"):
        load_image_table(FRAME.iloc[:0])


def test_one_long_text_does_not_take_memory_for_every_row(tmp_path):
    rows = [f"{i}.png,NORMAL" for i in range(2000)]
    for long in ("x" * 100_000 + ".png,NORMAL", "1.png," + "x" * 100_000):
        (tmp_path / "table.csv").write_text("\n".join(["path,label", *rows, long]))
        with pytest.raises(DataError, match=r"column '(path|label)' has 100,00\d characters in data row 2001"):
            load_image_table(tmp_path / "table.csv")


def test_columns_stand_in_the_order_of_the_images(tmp_path):
    path = write(tmp_path, "path,label,sex,site\nb.png,sick,F,007\na.png,well,,NA\n")
    found = read_columns(path, ["site", "sex"])
    assert list(found) == ["site", "sex"]
    assert found["site"].tolist() == ["007", "NA"]
    assert found["sex"][0] == "F"
    assert pd.isna(found["sex"][1])
    with pytest.raises(DataError, match="has no column 'age'; it has"):
        read_columns(path, ["age"])


def test_a_column_of_labels_stands_once():
    frame = pd.DataFrame({"path": ["a.png", "b.png"], "x": [0, 1]})
    with pytest.raises(InvalidParameterError, match="'label_column' parameter"):
        load_image_table(frame, label_column=["x", "x"])
