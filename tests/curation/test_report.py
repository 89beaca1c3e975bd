"""`curate` and its report."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr_estimator import make_phantoms
from cxr_estimator.curation import _curate, curate
from cxr_estimator.curation._report import anonymous
from cxr_estimator.errors import (
    DataError,
    InvalidParameterError,
    InvalidTypeError,
    MissingPackageError,
    PatientLeakWarning,
    SkippedImage,
)
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


def test_what_splits_share_is_shown(report):
    shared = report.to_html().split("Overlap between splits")[1]
    assert "Same pixels 0</h3>" in shared
    assert shared.count("data:image/jpeg;base64,") == 2


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


def told(monkeypatch):
    """Let `curate` judge nothing but say which folds it would use: a list that is filled by it."""
    seen = []

    def judged(clf, X, labels, folds, *, n_jobs):
        seen.append(folds)
        columns = {"label": labels, "suggested": labels, "p_label": 1.0, "p_suggested": 1.0, "quality": 1.0}
        return pd.DataFrame({"position": np.arange(len(labels)), **columns, "suspected": False})

    monkeypatch.setattr(_curate, "judged_labels", judged)
    return seen


def test_duplicates_share_a_fold_whoever_they_are_of(folder, monkeypatch):
    """Image 24 is image 0 under another patient."""
    X, y, groups, _ = folder
    folds = told(monkeypatch)
    curate(small_classifier(), X, y, groups=groups, cv=3)
    (pairs, owners), *_ = folds
    assert owners[0] == owners[FEW]
    assert all((0 in train) == (FEW in train) for train, _ in pairs)
    for one in set(groups[:FEW]):
        assert len(set(owners[:FEW][groups[:FEW] == one])) == 1
    assert len(owners) == FEW + 1


def test_near_duplicates_share_a_fold(monkeypatch):
    data = make_phantoms(16, 128, images_per_patient=1, random_state=3)
    folds = told(monkeypatch)
    with pytest.warns(PatientLeakWarning, match="curate: no patients are known"):
        curate(small_classifier(), [*data.X, data.X[0][2:-2, 2:-2]], [*data.y, data.y[0]], cv=2)
    assert folds[0].owners[16] == folds[0].owners[0]
    assert len(set(folds[0].owners)) == 16


def test_patients_come_from_the_pattern(folder, monkeypatch):
    X, y, _, splits = folder
    told(monkeypatch)
    clf = small_classifier(patient_pattern=r"secret-(\d)")
    report = curate(clf, X, y, splits=splits, cv=2)
    assert report.n_patients == 10
    assert "patients" in report.counts
    assert "patient" in report.duplicates
    assert report.summary["patients_in_several_splits"] == 1  # secret-2, -20 to -25
    assert not any("unknown" in note for note in report.notes)


def test_splits_without_patients(folder, monkeypatch):
    X, y, _, splits = folder
    told(monkeypatch)
    with pytest.warns(PatientLeakWarning):
        report = curate(small_classifier(), X, y, splits=splits, cv=2)
    assert "patients_in_several_splits" not in report.summary
    assert report.summary["images_in_several_splits"] == 1
    assert any("could not be compared between splits" in note for note in report.notes)
    assert any(note.startswith("Networks that had not seen the image agree") for note in report.notes)
    assert "seen the image." in report.to_html()
    assert "seen the patient" not in report.to_html()


@pytest.mark.filterwarnings("ignore::cxr_estimator.errors.SkippedImagesWarning")
def test_what_only_the_networks_refuse_is_listed(phantoms):
    X = [image / np.float32(255) for image in phantoms.X[:FEW]]
    X[3] = X[3] * 2
    clf = small_classifier(max_epochs=1, validation_fraction=0)
    report = curate(clf, X, phantoms.y[:FEW], groups=phantoms.groups[:FEW], cv=2)
    assert [(one.position, one.source) for one in report.unreadable] == [(3, "X[3]")]
    assert "[0, 1]" in report.unreadable[0].reason
    assert len(report.label_issues) == FEW - 1


def test_names_and_labels_that_are_no_utf_8(folder, tmp_path, monkeypatch):
    strange = os.fsdecode(b"caf\xe9")
    path = str(tmp_path / f"{strange}.png")
    os.link(folder[0][0], path)
    told(monkeypatch)
    y = np.where(folder[1] == "NORMAL", strange, "ill")[: FEW + 1]
    report = curate(small_classifier(pos_label=None), [*folder[0][:FEW], path], y, groups=np.arange(FEW + 1) // 2, cv=2)
    report.save(tmp_path / "out", root=tmp_path, show_names=True)
    for name in ("curation.html", "curation.json", "label_issues.csv", "duplicates.csv"):
        assert "caf\\" in (tmp_path / "out" / name).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("source", "reason", "expected"),
    [
        ("", "broken", "broken"),
        ("scans/", "scans/ is no file", "the file is no file"),
        ("in/e", "the end of in/e: no such file 'e'", "the end of the file: no such file 'the file'"),
        ("in/a.png", "a.png, ba.png, in/a.pngs", "the file, ba.png, the files"),
    ],
)
def test_names_are_replaced_where_they_stand_alone(source, reason, expected):
    assert anonymous(SkippedImage(0, source, reason)) == expected


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"y": ["NORMAL"] * 80}, DataError, "curate: y holds only one class"),
        ({"clf": small_classifier(max_epochs=0)}, InvalidParameterError, "'max_epochs' parameter"),
        ({"cv": 41}, DataError, "curate: 41 folds need as many patients"),
        ({"cv": 1}, InvalidParameterError, "'cv' parameter of curate"),
        ({"cv": [(np.arange(40), np.arange(40, 80))]}, InvalidTypeError, "'cv' parameter of curate must be a number"),
        ({"groups": [1]}, DataError, "curate: groups must have one entry"),
        ({"cleanlab": None}, MissingPackageError, "curate needs the package cleanlab"),
        ({"imagehash": None}, MissingPackageError, "curate needs the package ImageHash"),
    ],
)
def test_what_is_cheap_to_check_fails_before_any_image_is_read(phantoms, monkeypatch, change, error, message):
    def reading(*_, **__):
        raise AssertionError("images were read")

    monkeypatch.setattr(_curate, "read_pictures", reading)
    given = {"clf": small_classifier(), "X": phantoms.X, "y": phantoms.y, "groups": phantoms.groups}
    for name, value in change.items():
        if value is None:
            monkeypatch.setitem(sys.modules, name, None)
        else:
            given[name] = value
    with pytest.raises(error, match=message):
        curate(**given)
