"""`curate` and its report."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr_estimator.curation import curate
from cxr_estimator.errors import DataError, InvalidParameterError, InvalidTypeError
from tests.conftest import small_classifier

FEW = 24


@pytest.fixture(scope="module")
def folder(phantoms, tmp_path_factory):
    """24 phantoms as files; file 0 stands again as 24 with another label, file 25 is broken."""
    root = tmp_path_factory.mktemp("data")
    paths = [root / f"secret-{i}.png" for i in range(FEW + 2)]
    for path, image in zip(paths, phantoms.X, strict=False):
        Image.fromarray(image).save(path)
    Image.fromarray(phantoms.X[0]).save(paths[FEW])
    paths[-1].write_bytes(b"nothing")
    other = "NORMAL" if phantoms.y[0] == "PNEUMONIA" else "PNEUMONIA"
    y = np.array([*phantoms.y[:FEW], other, other])
    groups = np.array([f"Doe-{name}" for name in [*phantoms.groups[:FEW], "else", "else"]])
    return np.array([str(path) for path in paths]), y, groups, np.array(["train"] * FEW + ["test"] * 2)


@pytest.fixture(scope="module")
def report(folder):
    X, y, groups, splits = folder
    clf = small_classifier(max_epochs=1, validation_fraction=0)
    return curate(clf, X, y, groups=groups, splits=splits, cv=2)


def test_what_was_planted_is_found(report):
    assert report.n_images == FEW + 2
    assert report.n_patients == FEW // 2 + 1
    assert [one.position for one in report.unreadable] == [FEW + 1]
    pair = report.duplicates[report.duplicates["kind"] == "exact"]
    assert pair["position"].tolist() == [0, FEW]
    assert pair[["labels_differ", "patients_differ", "splits_differ"]].all(axis=None)
    assert report.overlap[["kind", "position"]].to_numpy().tolist() == [["image", 0], ["image", FEW]]
    assert sorted(report.label_issues["position"]) == list(range(FEW + 1))
    assert report.counts["images"].sum() == FEW + 2
    assert report.summary["images_in_several_splits"] == 1
    assert report.summary["duplicate_groups_whose_labels_differ"] == 1
    for said in ("1 images could not be read", "1 groups of duplicates have different labels", "Networks that had not"):
        assert any(note.startswith(said) for note in report.notes), said
    assert "suspected labels: " in str(report)


def test_nothing_names_a_patient_or_a_file(report, tmp_path):
    report.save(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    tables = {"label_issues.csv", "duplicates.csv", "overlap.csv", "unreadable.csv"}
    assert names == {"curation.html", "curation.json", *tables}
    for path in tmp_path.iterdir():
        text = re.sub('base64,[^"]*', "", path.read_text())
        assert "Doe" not in text, path
        assert "secret" not in text, path
    assert json.loads((tmp_path / "curation.json").read_text()) == json.loads(report.to_json())


def test_names_on_request(report, folder, tmp_path):
    assert "secret-24.png" in report.to_html(show_names=True)
    report.save(tmp_path, root=Path(folder[0][0]).parent)
    found = pd.read_csv(tmp_path / "duplicates.csv")
    assert found["path"].tolist() == [f"secret-{position}.png" for position in found["position"]]
    assert pd.read_csv(tmp_path / "unreadable.csv")["path"].tolist() == ["secret-25.png"]
    assert "secret" not in (tmp_path / "curation.html").read_text()


def test_the_page_shows_thumbnails_and_escapes_labels(phantoms):
    y = np.where(phantoms.y[:FEW] == "NORMAL", "<b>well</b>", "ill & tired")
    clf = small_classifier(max_epochs=1, validation_fraction=0, pos_label=None)
    report = curate(clf, phantoms.X[[*range(FEW), 0]], [*y, y[0]], groups=[*phantoms.groups[:FEW], "other"], cv=2)
    page = report.to_html()
    assert "<b>well" not in page
    assert "&lt;b&gt;well" in page
    assert len(report.overlap) == 0
    assert "Overlap between splits" not in page
    assert not any("splits" in name for name in report.summary)
    n_suspects = int(report.label_issues["suspected"].sum())
    assert page.count("data:image/jpeg;base64,") == n_suspects + len(report.duplicates)


def test_without_patients_a_note_says_so(phantoms):
    clf = small_classifier(max_epochs=1, validation_fraction=0)
    with pytest.warns(UserWarning, match="no patients are known"):
        report = curate(clf, phantoms.X[:FEW:2], phantoms.y[:FEW:2], cv=2)
    assert report.n_patients is None
    assert report.notes[0].startswith("Patients are unknown")
    assert "patient" not in report.duplicates


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"clf": "resnet18"}, InvalidTypeError, "a CXRClassifier"),
        ({"y": None}, InvalidParameterError, "'y' parameter of curate"),
        ({"y": np.zeros((80, 2))}, DataError, "curate: y has several columns"),
        ({"y": ["NORMAL"] * 80}, DataError, "holds only one class"),
        ({"splits": ["train"]}, DataError, "splits must have one entry"),
        ({"X": np.zeros((80, 100))}, DataError, "rows of numbers"),
        ({"cv": 100}, DataError, "100 folds need as many patients"),
    ],
)
def test_bad_input(phantoms, change, error, message):
    given = {"clf": small_classifier(), "X": phantoms.X, "y": phantoms.y, "groups": phantoms.groups}
    with pytest.raises(error, match=message):
        curate(**{**given, **change})
