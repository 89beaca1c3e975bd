"""`cxr curate` and `cxr similar`."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil

import pytest
from PIL import Image

from tests.cli.test_cli import cxr, folder  # noqa: F401 - a fixture

QUICK = ("--image-size", 32, "--epochs", 1, "--folds", 2, "-q")


@pytest.fixture(scope="module")
def saved(fitted, tmp_path_factory):
    return fitted.save(tmp_path_factory.mktemp("saved") / "model")


@pytest.fixture
def spoiled(folder, tmp_path):  # noqa: F811
    """The Kaggle layout with a training image again in test, and a broken file."""
    root = shutil.copytree(folder, tmp_path / "data")
    first = sorted((root / "train" / "NORMAL").iterdir())[0]
    shutil.copy(first, root / "test" / "NORMAL" / first.name)
    (root / "train" / "NORMAL" / "IM-9999-0001.png").write_bytes(b"nothing")
    return root


def rows_of(path):
    return list(csv.DictReader(io.StringIO(path.read_text())))


def test_a_folder_with_splits(spoiled, tmp_path):
    out = tmp_path / "out"
    done = cxr("curate", spoiled, "--output", out, *QUICK)
    assert done.returncode == 3, done.stderr
    assert "IM-9999-0001.png" in done.stderr
    assert "images in several splits: 1" in done.stdout
    assert "patients in several splits: 1" in done.stdout
    overlap = [row for row in rows_of(out / "overlap.csv") if row["kind"] == "image"]
    assert {row["split"] for row in overlap} == {"train", "test"}
    assert {row["path"].split("/")[0] for row in overlap} == {"train", "test"}
    assert rows_of(out / "unreadable.csv")[0]["path"] == "train/NORMAL/IM-9999-0001.png"
    assert len(rows_of(out / "label_issues.csv")) == 81
    page = (out / "curation.html").read_text()
    assert ".png" not in page
    assert str(tmp_path) not in (out / "curation.json").read_text()


def test_one_split_a_model_and_names(spoiled, saved, tmp_path):
    out = tmp_path / "out"
    done = cxr("curate", spoiled, "-o", out, "--split", "test", "--model", saved, "--names", "--folds", 2, "-q")
    assert done.returncode == 0, done.stderr
    assert json.loads((out / "curation.json").read_text())["summary"]["images"] == 21
    assert rows_of(out / "overlap.csv") == []
    assert ".png" in (out / "curation.html").read_text()


def test_a_table(spoiled, tmp_path):
    paths = sorted(spoiled.glob("test/*/*.png"))
    table = tmp_path / "table.csv"
    rows = [f"{path},{path.parent.name},{i // 2},{'ab'[i % 2]}" for i, path in enumerate(paths)]
    table.write_text("path,label,patient,site\n" + "\n".join(rows) + "\n")
    out = tmp_path / "out"
    arguments = ("curate", table, "-o", out, "--patient-column", "patient", "--split-column", "site", *QUICK)
    assert cxr(*arguments).returncode == 0
    assert {row["kind"] for row in rows_of(out / "overlap.csv")} == {"patient"}
    assert "--split-column is for a CSV file" in cxr("curate", spoiled, "-o", out, "--split-column", "site").stderr


def test_bad_input(folder, tmp_path):  # noqa: F811
    (tmp_path / "empty").mkdir()
    done = cxr("curate", tmp_path / "empty", "-o", tmp_path / "out")
    assert (done.returncode, "found images of 0 class(es)" in done.stderr) == (2, True)
    done = cxr("curate", folder, "-o", tmp_path / "out", "--folds", 60, "-q")
    assert (done.returncode, "60 folds need as many patients" in done.stderr) == (2, True)


def test_similar(folder, saved, tmp_path):  # noqa: F811
    image = sorted((folder / "train" / "NORMAL").iterdir())[0]
    arguments = ("similar", image, "--data", folder, "--model", saved, "-k", 3, "-q")
    done = cxr(*arguments)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["rank"] for row in rows] == ["1", "2", "3"]
    assert rows[0]["path"] == f"train/NORMAL/{image.name}"
    assert (rows[0]["label"], rows[0]["same_image"]) == ("NORMAL", "True")
    others = json.loads(cxr(*arguments, "--exclude-same", "--format", "json").stdout)
    assert others[0]["path"] == rows[1]["path"]
    page = tmp_path / "page.html"
    assert cxr(*arguments, "--output", page).returncode == 0
    assert page.read_text().count("data:image/jpeg;base64,") == 4
    assert ".png" not in page.read_text()
    cxr(*arguments, "--output", page, "--names")
    assert page.read_text().count(image.name) >= 2


def test_similar_needs_no_patients(saved, phantoms, tmp_path):
    """Names of the Kaggle set tell patients; one odd name among them would stop a command that needs these."""
    for number, label in enumerate(["NORMAL", "PNEUMONIA"] * 2):
        (tmp_path / "data" / label).mkdir(parents=True, exist_ok=True)
        name = "odd.png" if number == 3 else f"IM-{number:04}-0001.png"
        Image.fromarray(phantoms.X[number]).save(tmp_path / "data" / label / name)
    image = tmp_path / "data" / "NORMAL" / "IM-0000-0001.png"
    done = cxr("similar", image, "--data", tmp_path / "data", "--model", saved, "-k", 1, "-q")
    assert done.returncode == 0, done.stderr


def test_similar_with_bad_input(folder, saved, tmp_path):  # noqa: F811
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    done = cxr("similar", broken, "--data", folder, "--model", saved, "-q")
    assert (done.returncode, "broken.png" in done.stderr) == (2, True)
    image = next((folder / "train" / "NORMAL").iterdir())
    done = cxr("similar", image, "--data", folder, "--model", saved, "-k", 81, "-q")
    assert (done.returncode, "'k' parameter" in done.stderr) == (2, True)


def test_a_split_of_a_table(spoiled, tmp_path):
    paths = sorted(spoiled.glob("t*/*/*.png"))
    table, out = tmp_path / "table.csv", tmp_path / "out"
    rows = [f"{path},{path.parent.name},{path.parts[-3]}" for path in paths]
    table.write_text("path,label,part\n" + "\n".join(rows) + "\n")
    done = cxr("curate", table, "-o", out, "--split", "test", *QUICK)
    assert (done.returncode, "only where --split-column names" in done.stderr) == (2, True)
    done = cxr("curate", table, "-o", out, "--split", "val", "--split-column", "part", *QUICK)
    assert (done.returncode, "names no split 'val'; it has ['test', 'train']" in done.stderr) == (2, True)
    done = cxr("curate", table, "-o", out, "--split", "test", "--split-column", "part", *QUICK)
    assert done.returncode == 0, done.stderr
    assert {row["path"] for row in rows_of(out / "label_issues.csv")} == {
        os.path.relpath(path, tmp_path) for path in paths if path.parts[-3] == "test"
    }
    assert "in several splits" not in done.stdout
    done = cxr("similar", paths[0], "--data", table, "--model", tmp_path, "--split", "test", "-q")
    assert (done.returncode, "only where --split-column names" in done.stderr) == (2, True)


def test_a_patient_pattern(spoiled, tmp_path):
    out = tmp_path / "out"
    pattern = r"(?:IM-|person)0*(\d+)"
    arguments = ("curate", spoiled, "-o", out, "--split", "test", "--patient-pattern")
    assert cxr(*arguments, pattern, *QUICK).returncode == 0
    assert json.loads((out / "curation.json").read_text())["n_patients"] == 11
    assert "matches nothing" in cxr(*arguments, "doe", *QUICK).stderr
    table = tmp_path / "table.csv"
    table.write_text("path,label\na.png,1\n")
    done = cxr("curate", table, "-o", out, "--patient-pattern", pattern, *QUICK)
    assert (done.returncode, "use --patient-column" in done.stderr) == (2, True)


def test_the_number_of_cases_is_checked_before_the_model_is_read(folder, tmp_path):  # noqa: F811
    image = next((folder / "train" / "NORMAL").iterdir())
    for k in (0, 81):
        done = cxr("similar", image, "--data", folder, "--model", tmp_path / "none", "-k", k, "-q")
        assert (done.returncode, "'k' parameter of cxr similar" in done.stderr) == (2, True)


def test_file_names_that_are_no_utf_8(folder, saved, tmp_path):  # noqa: F811
    root = shutil.copytree(folder / "train", tmp_path / "data")
    image = next((root / "NORMAL").iterdir())
    image = image.rename(image.with_name(os.fsdecode(b"IM-0001-0001-caf\xe9.png")))
    arguments = ("similar", image, "--data", root, "--model", saved, "-k", 1, "-q", "--names")
    assert "caf\\udce9.png" in cxr(*arguments).stdout
    for name in ("found.csv", "found.html"):
        assert cxr(*arguments, "--output", tmp_path / name).returncode == 0
        assert "caf\\udce9.png" in (tmp_path / name).read_text(encoding="utf-8")
