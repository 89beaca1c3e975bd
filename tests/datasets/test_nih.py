"""NIH ChestX-ray14: findings, official lists, and images in the folders of the release."""

from __future__ import annotations

import numpy as np
import pytest

from cxr_estimator import load_nih
from cxr_estimator.datasets import NIH_FINDINGS
from cxr_estimator.errors import DataError, InvalidParameterError, MissingImagesWarning

# as released: the header ends with a comma
HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
)
ROWS = {
    "00000001_000.png": "Cardiomegaly",
    "00000001_001.png": "Cardiomegaly|Emphysema",
    "00000002_000.png": "No Finding",
    "00000003_000.png": "Hernia|Pleural_Thickening",
}
TRAIN = ["00000001_000.png", "00000001_001.png", "00000003_000.png"]


def line(name, labels):
    return f"{name},{labels},0,{int(name.split('_')[0])},58,M,PA,2682,2749,0.143,0.143,"


@pytest.fixture
def root(tmp_path):
    """Four images in two of the release's folders."""
    table = [HEADER, *(line(name, labels) for name, labels in ROWS.items())]
    (tmp_path / "Data_Entry_2017.csv").write_text("\n".join(table) + "\n")
    (tmp_path / "train_val_list.txt").write_text("\n".join(TRAIN))
    (tmp_path / "test_list.txt").write_text("00000002_000.png\n")
    for number, name in enumerate(ROWS):
        folder = tmp_path / f"images_00{number % 2 + 1}" / "images"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()  # empty: nothing reads it
    return tmp_path


def test_findings_patients_and_paths(root):
    data = load_nih(root)
    assert [path.rpartition("/")[2] for path in data.X] == TRAIN
    assert data.X[1] == str(root / "images_002" / "images" / "00000001_001.png")
    found = [{data.label_names[k] for k in np.flatnonzero(row)} for row in data.y]
    assert found == [{"Cardiomegaly"}, {"Cardiomegaly", "Emphysema"}, {"Hernia", "Pleural_Thickening"}]
    assert data.label_names == NIH_FINDINGS
    assert len(NIH_FINDINGS) == 14
    assert data.groups.tolist() == ["1", "1", "3"]
    assert (data.X.dtype.kind, data.y.dtype, data.y.shape, data.groups.dtype.kind) == ("U", np.float64, (3, 14), "U")


def test_splits(root):
    test = load_nih(root, split="test")
    assert test.groups.tolist() == ["2"]
    assert not test.y.any()
    everything = load_nih(root, split="all")
    assert len(everything.X) == 4
    (root / "train_val_list.txt").unlink()
    np.testing.assert_array_equal(load_nih(root, split="all").y, everything.y)
    with pytest.raises(DataError, match=r"train_val_list\.txt: the list of the split cannot be read"):
        load_nih(root)
    with pytest.raises(InvalidParameterError, match="'split'"):
        load_nih(root, split="val")


def test_chosen_findings(root):
    data = load_nih(root, findings=["Emphysema", "Cardiomegaly"])
    assert data.label_names == ("Emphysema", "Cardiomegaly")
    assert data.y.tolist() == [[0, 1], [1, 1], [0, 0]]
    for bad in ([], "Emphysema", ["Emphysema", "Emphysema"]):
        with pytest.raises(InvalidParameterError, match="'findings'"):
            load_nih(root, findings=bad)
    with pytest.raises(InvalidParameterError, match="Did you mean 'Effusion'"):
        load_nih(root, findings=["Efusion"])


def test_the_edition_of_2020(root):
    text = (root / "Data_Entry_2017.csv").read_text().replace("Patient Gender", "Patient Sex").replace(",\n", "\n")
    before = load_nih(root)
    (root / "Data_Entry_2017.csv").unlink()
    (root / "Data_Entry_2017_v2020.csv").write_text(text)
    np.testing.assert_array_equal(load_nih(root).y, before.y)


def test_missing_images_are_named_and_can_be_left_out(root):
    (gone,) = root.rglob("00000001_001.png")
    gone.unlink()
    with pytest.raises(DataError, match=r"load_nih: 1 of 3 images are missing: 00000001_001\.png\. on_missing="):
        load_nih(root)
    with pytest.warns(MissingImagesWarning, match="1 of 3 images are missing"):
        data = load_nih(root, on_missing="skip")
    assert data.groups.tolist() == ["1", "3"]
    assert data.y[1].sum() == 2
    for path in root.rglob("*.png"):
        path.unlink()
    with pytest.raises(DataError, match="4 of 4 images are missing"):
        load_nih(root, split="all", on_missing="skip")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Finding Labels", "Findings", r"Data_Entry_2017\.csv: has no column 'Finding Labels'; it has \['Image Index'"),
        ("Cardiomegaly|Emphysema", "Cardiomegaly|Emphysem", "unknown finding 'Emphysem' in data row 2"),
        ("Cardiomegaly|Emphysema", "Cardiomegaly|", "unknown finding '' in data row 2"),
        (",Cardiomegaly,", ",,", "'Finding Labels' is empty in 1 rows, first in data row 1"),
        (",Cardiomegaly,", ",No Finding|Mass,", "'No Finding' stands beside a finding in data row 1"),
        ("00000003_000.png,", "00000004_000.png,", r"train_val_list\.txt: names 1 images that .*'00000003_000\.png'"),
        (",0,3,58", ",0,,58", "'Patient ID' is empty in 1 rows, first in data row 4"),
    ],
)
def test_bad_tables(root, old, new, message):
    table = root / "Data_Entry_2017.csv"
    assert old in table.read_text()
    table.write_text(table.read_text().replace(old, new, 1))
    with pytest.raises(DataError, match=message):
        load_nih(root)


def test_empty_list_and_missing_table(root):
    (root / "empty").mkdir()
    (root / "empty" / "Data_Entry_2017.csv").write_text(HEADER + "\n")
    with pytest.raises(DataError, match="has no rows"):
        load_nih(root / "empty", split="all")
    (root / "test_list.txt").write_text("\n")
    with pytest.raises(DataError, match=r"test_list\.txt: is empty"):
        load_nih(root, split="test")
    with pytest.raises(DataError, match=r"nowhere/Data_Entry_2017\.csv: there is no such file"):
        load_nih(root / "nowhere")


def test_an_image_that_stands_twice(root):
    table = root / "Data_Entry_2017.csv"
    table.write_text(table.read_text() + line("00000002_000.png", "Hernia") + "\n")
    with pytest.raises(DataError, match="1 images stand twice, the first in data row 5"):
        load_nih(root)
