"""Image folders: which files count, which split is read, and which patients are found."""

from __future__ import annotations

import os

import numpy as np
import pytest

from cxr_estimator import load_image_folder
from cxr_estimator.errors import DataError, InvalidParameterError, InvalidTypeError

KAGGLE = {
    "train/NORMAL": ["IM-0115-0001.jpeg", "NORMAL2-IM-0115-0001.jpeg", "IM-0429-0001-0001.jpeg"],
    "train/PNEUMONIA": ["person12_bacteria_46.jpeg", "person12_virus_3.jpeg"],
    "val/NORMAL": ["IM-0200-0001.jpeg"],
    "val/PNEUMONIA": ["person200_virus_1.jpeg"],
    "test/NORMAL": ["IM-0001-0001.jpeg"],
    "test/PNEUMONIA": ["person1_virus_6.jpeg", "person1_virus_7.jpeg"],
}


def make(root, files):
    for folder, names in files.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for name in names:
            (root / folder / name).touch()
    return root


def names(dataset):
    return [os.path.basename(path) for path in dataset.X]


@pytest.fixture
def kaggle(tmp_path):
    return make(tmp_path / "chest_xray", KAGGLE)


def test_auto_is_train_and_never_test(kaggle):
    data = load_image_folder(kaggle)
    assert names(data) == [
        "IM-0115-0001.jpeg",
        "IM-0429-0001-0001.jpeg",
        "NORMAL2-IM-0115-0001.jpeg",
        "person12_bacteria_46.jpeg",
        "person12_virus_3.jpeg",
    ]
    assert data.y.tolist() == ["NORMAL"] * 3 + ["PNEUMONIA"] * 2
    assert data.groups.tolist() == ["IM-0115", "IM-0429", "NORMAL2-IM-0115", "person12", "person12"]
    assert all(os.path.isfile(path) and f"{os.sep}train{os.sep}" in path for path in data.X)
    assert (data.X.dtype.kind, data.y.dtype.kind) == ("U", "U")


def test_auto_refuses_to_fall_back_on_test(tmp_path):
    make(tmp_path, {folder: files for folder, files in KAGGLE.items() if folder.startswith("test")})
    with pytest.raises(DataError, match=r"has no 'train' folder; choose split= from \['test'\]"):
        load_image_folder(tmp_path)
    assert len(load_image_folder(tmp_path, split="test").X) == 3


@pytest.mark.parametrize(("split", "count"), [("train", 5), ("val", 2), ("test", 3), ("all", 10)])
def test_splits(kaggle, split, count):
    data = load_image_folder(str(kaggle), split=split)
    assert len(data.X) == len(data.y) == len(data.groups) == count
    if split != "all":
        assert all(path.startswith(os.path.join(kaggle, split)) for path in data.X)


def test_without_splits_auto_and_all_are_the_root(tmp_path):
    make(tmp_path, {"cat": ["2.png", "1.png"], "dog": ["3.jpg"]})
    for split in ("auto", "all"):
        data = load_image_folder(tmp_path, split=split)
        assert names(data) == ["1.png", "2.png", "3.jpg"]
        assert data.y.tolist() == ["cat", "cat", "dog"]
        assert data.groups is None
    with pytest.raises(DataError, match="has no 'test' folder with one sub-folder per class"):
        load_image_folder(tmp_path, split="test")


def test_which_files_count(tmp_path):
    make(
        tmp_path,
        {
            "a": [
                "1.png",
                "2.JPG",
                "3.Jpeg",
                "4.tif",
                "5.TIFF",
                "6.gif",
                "7.txt",
                "8",
                ".9.png",
                "._1.png",
                "Thumbs.db",
            ],
            "b": ["1.png"],
            "b/visit 2/left": ["2.png"],
            "b/.thumbnails": ["3.png"],
            "b/__MACOSX/sub": ["4.png"],
            "__MACOSX": ["5.png"],
            ".git": ["6.png"],
            "empty": [],
        },
    )
    (tmp_path / "readme.png").touch()
    (tmp_path / "b" / "folder.png").mkdir()
    data = load_image_folder(tmp_path)
    assert names(data) == ["1.png", "2.JPG", "3.Jpeg", "4.tif", "5.TIFF", "1.png", "2.png"]
    assert data.y.tolist() == ["a"] * 5 + ["b"] * 2


def test_macos_leftovers_are_no_split(tmp_path):
    make(tmp_path, {"__MACOSX/train/NORMAL": ["._a.jpeg"], **KAGGLE})
    assert len(load_image_folder(tmp_path, split="all").X) == 10


@pytest.mark.parametrize(
    ("files", "found"),
    [({}, 0), ({"a": []}, 0), ({"a": ["1.png"]}, 1), ({"a": ["1.png"], "b": ["x.gif"]}, 1), ({"a": [], "b": []}, 0)],
)
def test_two_classes_are_needed(tmp_path, files, found):
    make(tmp_path, files)
    with pytest.raises(DataError, match=rf"^{tmp_path}: found images of {found} class\(es\)"):
        load_image_folder(tmp_path)


def test_missing_folder(tmp_path):
    with pytest.raises(DataError, match=f"^{tmp_path / 'nowhere'}: there is no such folder"):
        load_image_folder(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="there is no such folder"):
        load_image_folder(tmp_path / "file")


def test_an_unknown_split_lists_the_valid_ones(kaggle):
    with pytest.raises(InvalidParameterError, match=r"'auto', 'all', 'train', 'val', 'test'.*Did you mean 'train'"):
        load_image_folder(kaggle, split="training")


def test_patients_by_pattern(tmp_path):
    make(tmp_path, {"a": ["p1-1.png", "p1-2.png"], "b": ["p2-1.png"]})
    assert load_image_folder(tmp_path, patient_pattern=r"^p\d+").groups.tolist() == ["p1", "p1", "p2"]
    assert load_image_folder(tmp_path, patient_pattern=None).groups is None
    with pytest.raises(DataError, match=r"load_image_folder: .*'q.*' matches nothing in 'p1-1\.png'"):
        load_image_folder(tmp_path, patient_pattern=r"q\d")
    with pytest.raises(InvalidParameterError, match="must be a regular expression"):
        load_image_folder(tmp_path, patient_pattern="(")
    with pytest.raises(InvalidTypeError, match="patient_pattern"):
        load_image_folder(tmp_path, patient_pattern=3)


def test_labels_by_file_name(kaggle):
    data = load_image_folder(kaggle, split="all", label_pattern=r"_(bacteria|virus)_")
    assert set(data.y[[name.startswith(("IM", "NORMAL2")) for name in names(data)]]) == {"NORMAL"}
    assert dict(zip(*np.unique(data.y, return_counts=True), strict=True)) == {"NORMAL": 5, "bacteria": 1, "virus": 4}
    np.testing.assert_array_equal(data.X, load_image_folder(kaggle, split="all").X)
    np.testing.assert_array_equal(data.groups, load_image_folder(kaggle, split="all").groups)


def test_labels_by_file_name_and_not_by_folder_name(tmp_path):
    make(tmp_path, {"a_virus_b": ["1.png", "2_virus_.png", "__virus.png"]})
    data = load_image_folder(tmp_path, label_pattern=r"_(virus)_()")
    assert dict(zip(names(data), data.y, strict=True)) == {
        "1.png": "a_virus_b",
        "2_virus_.png": "virus",
        "__virus.png": "a_virus_b",
    }


@pytest.mark.parametrize(
    ("pattern", "error", "message"),
    [
        ("_(bacteria", InvalidParameterError, "'label_pattern' parameter of load_image_folder must be a regular"),
        (3, InvalidTypeError, "'label_pattern' parameter"),
        ("_(fungus)_", DataError, r"'_\(fungus\)_' matches none of 5 file names, such as 'IM-0115-0001\.jpeg'"),
        (r"_(\d*)\Z", DataError, "matches none"),
    ],
)
def test_a_bad_label_pattern(kaggle, pattern, error, message):
    with pytest.raises(error, match=message):
        load_image_folder(kaggle, label_pattern=pattern)


def test_one_class_that_the_pattern_leaves(kaggle):
    with pytest.raises(DataError, match=r"found images of 1 class\(es\)"):
        load_image_folder(kaggle, label_pattern=r"(\.jpeg)")


def test_real_folder_in_three_classes(real_data_dir):
    data = load_image_folder(real_data_dir, label_pattern=r"_(bacteria|virus)_")
    counts = dict(zip(*np.unique(data.y, return_counts=True), strict=True))
    assert counts == {"NORMAL": 1349, "bacteria": 2538, "virus": 1345}


def test_real_folder(real_data_dir):
    data = load_image_folder(real_data_dir)
    assert dict(zip(*np.unique(data.y, return_counts=True), strict=True)) == {"NORMAL": 1349, "PNEUMONIA": 3883}
    assert 2800 < len(set(data.groups)) < 2920
    pneumonia = np.char.startswith(data.groups, "person")
    np.testing.assert_array_equal(pneumonia, data.y == "PNEUMONIA")
