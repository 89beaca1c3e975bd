"""RSNA Pneumonia Detection Challenge: one row per image, boxes that become masks, patients of the NIH."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr_estimator import load_rsna
from cxr_estimator.datasets import BoxMasks
from cxr_estimator.errors import DataError, InvalidParameterError, MissingImagesWarning

LABELS = """patientId,x,y,width,height,Target
bb,,,,,0
aa,264.0,152.0,213.0,379.0,1
aa,562.0,152.0,256.0,453.0,1
0012,,,,,0
cc,1000.0,1000.0,24.0,24.0,1
"""
CLASSES = """patientId,class
aa,Lung Opacity
aa,Lung Opacity
bb,No Lung Opacity / Not Normal
cc,Lung Opacity
0012,Normal
"""
NAMES = ["bb", "aa", "0012", "cc"]


@pytest.fixture
def root(tmp_path):
    (tmp_path / "stage_2_train_labels.csv").write_text(LABELS)
    (tmp_path / "stage_2_detailed_class_info.csv").write_text(CLASSES)
    (tmp_path / "stage_2_train_images").mkdir()
    for name in NAMES:
        (tmp_path / "stage_2_train_images" / f"{name}.dcm").touch()
    return tmp_path


def test_one_row_per_image(root):
    data = load_rsna(root)
    assert data.X.tolist() == [str(root / "stage_2_train_images" / f"{name}.dcm") for name in NAMES]
    assert data.y.tolist() == [0, 1, 0, 1]
    assert data.y.dtype == np.int64
    assert data.groups is None
    assert len(data.masks) == 4


def test_boxes_become_masks(root):
    masks = load_rsna(root).masks
    expected = np.zeros((1024, 1024), dtype=bool)
    expected[152 : 152 + 379, 264 : 264 + 213] = True
    expected[152 : 152 + 453, 562 : 562 + 256] = True
    np.testing.assert_array_equal(masks[1], expected)
    assert [mask.sum() for mask in masks] == [0, 213 * 379 + 256 * 453, 0, 24 * 24]
    assert masks[-1][1000:, 1000:].all()
    assert masks[0].dtype == bool


def test_masks_by_rows(root):
    masks = load_rsna(root).masks
    for rows in (slice(1, None, 2), [1, 3], np.array([1, 3]), np.array([False, True, False, True])):
        part = masks[rows]
        assert isinstance(part, BoxMasks)
        assert len(part) == 2
        np.testing.assert_array_equal(part[1], masks[3])
    with pytest.raises(IndexError):
        masks[4]
    assert len(list(masks)) == 4


box = st.tuples(*[st.integers(0, 5)] * 2, *[st.integers(1, 6)] * 2)


@given(st.lists(box, max_size=4))
def test_a_mask_is_the_union_of_pixels_in_boxes(boxes):
    (mask,) = BoxMasks([np.array(boxes, dtype=float).reshape(-1, 4)], shape=(12, 11))
    for row in range(12):
        for column in range(11):
            inside = any(x <= column < x + w and y <= row < y + h for x, y, w, h in boxes)
            assert mask[row, column] == inside


def test_three_classes(root):
    data = load_rsna(root, label="class")
    assert data.y.tolist() == ["No Lung Opacity / Not Normal", "Lung Opacity", "Normal", "Lung Opacity"]
    (root / "stage_2_detailed_class_info.csv").write_text(CLASSES.replace("bb,", "dd,"))
    with pytest.raises(DataError, match=r"stage_2_detailed_class_info\.csv: has no class for 1 images, first 'bb'"):
        load_rsna(root, label="class")
    (root / "stage_2_detailed_class_info.csv").write_text(CLASSES + "bb,Normal\n")
    with pytest.raises(DataError, match="'bb' has rows with different values of 'class'"):
        load_rsna(root, label="class")
    assert load_rsna(root).y.tolist() == [0, 1, 0, 1]  # the table of classes is optional
    with pytest.raises(InvalidParameterError, match="'label'"):
        load_rsna(root, label="target")


def test_patients_of_the_nih(root):
    mapping = [{"subset_img_id": name, "img_id": f"0000000{i // 2}_00{i}.png"} for i, name in enumerate(NAMES)]
    path = root / "pneumonia-challenge-dataset-mappings_2018.json"
    path.write_text(json.dumps(mapping))
    assert load_rsna(root).groups.tolist() == ["00000000", "00000000", "00000001", "00000001"]
    path.write_text(json.dumps(mapping[1:]))
    with pytest.raises(DataError, match=r"mappings_2018\.json: does not tell 1 images, first 'bb'"):
        load_rsna(root)
    for bad in ("[1]", "{", '[{"img_id": "a"}]', "[" * 100_000, "3"):
        path.write_text(bad)
        with pytest.raises(DataError, match=r"mappings_2018\.json: is no list of images"):
            load_rsna(root)


def test_missing_images(root):
    (root / "stage_2_train_images" / "aa.dcm").unlink()
    with pytest.raises(DataError, match=r"1 of 4 images are missing: aa\.dcm"):
        load_rsna(root)
    with pytest.warns(MissingImagesWarning, match=r"aa\.dcm"):
        data = load_rsna(root, on_missing="skip")
    assert data.y.tolist() == [0, 0, 1]
    assert [mask.any() for mask in data.masks] == [False, False, True]
    with pytest.raises(InvalidParameterError, match="'on_missing'"):
        load_rsna(root, on_missing="ignore")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("height,", "", r"stage_2_train_labels\.csv: has no column 'height'"),
        ("bb,,,,,0", "bb,,,,,2", "the target is neither 0 nor 1 in data row 1"),
        ("bb,,,,,0", "bb,,,,,no", "the target is neither 0 nor 1 in data row 1"),
        ("bb,,,,,0", "bb,,,,,", "'Target' is empty"),
        ("bb,,,,,0", ",,,,,0", "'patientId' is empty"),
        ("bb,,,,,0", "bb,1,1,5,5,0", "a target of 0 has a box in data row 1"),
        ("bb,,,,,0", "bb,,,,,1", "the box does not lie within 1024 x 1024 pixels in data row 1"),
        ("bb,,,,,0", "aa,,,,,0", "'aa' has rows with different values of 'Target'"),
        ("24.0,24.0,1", "24.0,25.0,1", "the box does not lie within 1024 x 1024 pixels in data row 5"),
        ("24.0,24.0,1", "24.0,0,1", "in data row 5"),
        ("1000.0,1000.0", "-1,1000.0", "in data row 5"),
        ("1000.0,1000.0", "x,1000.0", "in data row 5"),
    ],
)
def test_bad_tables(root, old, new, message):
    assert old in LABELS
    text = LABELS.replace(old, new, 1)
    (root / "stage_2_train_labels.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        load_rsna(root)


def test_a_table_without_rows(root):
    (root / "stage_2_train_labels.csv").write_text("patientId,x,y,width,height,Target\n")
    with pytest.raises(DataError, match="has no rows"):
        load_rsna(root)
