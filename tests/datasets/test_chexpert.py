"""CheXpert: uncertain and unmentioned findings, views, patients."""

from __future__ import annotations

import numpy as np
import pytest

from cxr_estimator import load_chexpert
from cxr_estimator.datasets import CHEXPERT_FINDINGS
from cxr_estimator.errors import DataError, InvalidParameterError, MissingImagesWarning

HEADER = ",".join(["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *CHEXPERT_FINDINGS])
ROWS = [
    ("train/patient00001/study1/view1_frontal.jpg", "Frontal", {"Edema": "1.0", "Fracture": "0.0"}),
    ("train/patient00001/study1/view2_lateral.jpg", "Lateral", {"Edema": "1.0"}),
    ("train/patient00002/study3/view1_frontal.jpg", "Frontal", {"Edema": "-1.0", "No Finding": "1.0"}),
]
EDEMA, FRACTURE = CHEXPERT_FINDINGS.index("Edema"), CHEXPERT_FINDINGS.index("Fracture")


def line(path, view, findings):
    cells = [findings.get(name, "") for name in CHEXPERT_FINDINGS]
    return ",".join([f"CheXpert-v1.0-small/{path}", "Female", "68", view, "AP" if view == "Frontal" else "", *cells])


@pytest.fixture
def root(tmp_path):
    (tmp_path / "train.csv").write_text("\n".join([HEADER, *(line(*row) for row in ROWS)]) + "\n")
    valid = ("valid/patient64541/study1/view1_frontal.jpg", "Frontal", dict.fromkeys(CHEXPERT_FINDINGS, "0.0"))
    (tmp_path / "valid.csv").write_text(f"{HEADER}\n{line(*valid)}\n")
    for path in (*(row[0] for row in ROWS), valid[0]):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    return tmp_path


def test_frontal_images_by_default(root):
    data = load_chexpert(root)
    assert data.X.tolist() == [str(root / ROWS[0][0]), str(root / ROWS[2][0])]
    assert data.groups.tolist() == ["patient00001", "patient00002"]
    assert data.label_names == CHEXPERT_FINDINGS
    assert data.y.shape == (2, 14)
    assert data.y[0, [EDEMA, FRACTURE]].tolist() == [1, 0]
    assert np.isnan(data.y).sum() == 1
    assert np.isnan(data.y[1, EDEMA])
    assert data.y[1, 0] == 1


@pytest.mark.parametrize(("view", "rows"), [("frontal", [0, 2]), ("lateral", [1]), ("all", [0, 1, 2])])
def test_views(root, view, rows):
    assert load_chexpert(root, view=view).X.tolist() == [str(root / ROWS[row][0]) for row in rows]


@pytest.mark.parametrize(("uncertain", "value"), [("nan", np.nan), ("zeros", 0.0), ("ones", 1.0)])
@pytest.mark.parametrize(("unmentioned", "other"), [("nan", np.nan), ("zeros", 0.0)])
def test_uncertain_and_unmentioned(root, uncertain, value, unmentioned, other):
    findings = ["Fracture", "Edema"]
    data = load_chexpert(root, view="all", findings=findings, uncertain=uncertain, unmentioned=unmentioned)
    np.testing.assert_array_equal(data.y, [[0, 1], [other, 1], [other, value]])
    assert data.label_names == ("Fracture", "Edema")


def test_validation_part(root):
    data = load_chexpert(root, split="val")
    assert data.groups.tolist() == ["patient64541"]
    assert not data.y.any()


def test_the_name_of_the_release_does_not_matter(root):
    text = (root / "train.csv").read_text()
    for prefix in ("", "CheXpert-v1.0/", "some/where/"):
        (root / "train.csv").write_text(text.replace("CheXpert-v1.0-small/", prefix))
        assert load_chexpert(root).X[0] == str(root / ROWS[0][0])


def test_missing_images(root):
    (root / ROWS[2][0]).unlink()
    with pytest.raises(DataError, match=r"1 of 2 images are missing: train/patient00002/study3/view1_frontal\.jpg"):
        load_chexpert(root)
    with pytest.warns(MissingImagesWarning, match="left out"):
        assert load_chexpert(root, on_missing="skip").groups.tolist() == ["patient00001"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Edema", "Oedema", "has no column 'Edema'"),
        ("Frontal/Lateral", "View", "has no column 'Frontal/Lateral'"),
        ("-1.0", "2", r"'Edema' must hold 1, 0, -1 or nothing\. Got 2.* in data row 3"),
        ("-1.0", "yes", r"'Edema' must hold 1, 0, -1 or nothing\. Got 'yes' in data row 3"),
        ("CheXpert-v1.0-small/train/patient00001/", "train/", r"matches nothing in 'train/study1"),
        ("CheXpert-v1.0-small/train/patient00002/study3/view1_frontal.jpg", "", "'Path' is empty in 1 rows, first in"),
    ],
)
def test_bad_tables(root, old, new, message):
    text = (root / "train.csv").read_text()
    assert old in text
    (root / "train.csv").write_text(text.replace(old, new, 1))
    with pytest.raises(DataError, match=message):
        load_chexpert(root)


def test_no_image_of_that_view(root):
    (root / "train.csv").write_text((root / "train.csv").read_text().replace("Frontal,AP", "Oblique,AP"))
    with pytest.raises(DataError, match=r"train\.csv: has no frontal images"):
        load_chexpert(root)


@pytest.mark.parametrize("options", [{"uncertain": "one"}, {"unmentioned": "ones"}, {"view": "pa"}, {"split": "test"}])
def test_bad_options(root, options):
    with pytest.raises(InvalidParameterError, match=f"'{next(iter(options))}'"):
        load_chexpert(root, **options)
