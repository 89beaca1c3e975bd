"""The audit of the bundled model: which images, and what is written of them."""

from __future__ import annotations

import re
import sys
from functools import partial

import audit
import numpy as np
import pytest

from cxr_estimator import load_image_folder
from cxr_estimator.audit import AuditReport


def test_one_image_of_each_of_so_many_patients(monkeypatch):
    monkeypatch.setattr(audit, "PATIENTS", 5)
    labels = np.repeat(["a", "b"], 30)
    patients = np.array([f"{label}{number // 3}" for number, label in enumerate(labels)])  # ten of each class
    rows = audit.drawn(labels, patients)
    assert labels[rows].tolist() == ["a"] * 5 + ["b"] * 5
    assert len(set(patients[rows])) == 10
    assert np.array_equal(rows, audit.drawn(labels, patients))
    assert set(rows % 3) != {0}, "not always the first image of a patient"
    monkeypatch.setattr(audit, "SEED", 1)
    assert not np.array_equal(rows, audit.drawn(labels, patients))


def test_what_is_written_names_no_file_and_no_patient(fitted, folder, monkeypatch, capsys):
    few = partial(audit.audit, checks=["label_order", "border_exchange", "duplicates"], n_resamples=20)
    monkeypatch.setattr(audit, "audit", few)
    monkeypatch.setattr(audit, "PATIENTS", 12)
    monkeypatch.setattr(audit.CXRClassifier, "from_pretrained", lambda: fitted)
    path = folder / "audit.json"
    monkeypatch.setattr(sys, "argv", ["audit.py", "--data", str(folder / "data"), "--output", str(path)])
    audit.main()
    report = AuditReport.load(path)
    assert (report.n_images, report.n_patients, report.note) == (24, 24, audit.NOTE)
    assert [one.name for one in report.checks] == ["border_exchange", "duplicates", "label_order"]
    assert str(report) in capsys.readouterr().out
    names = set(load_image_folder(folder / "data").groups)
    text = path.read_text()
    assert not re.search(r"person\d|IM-\d|\.jpeg", text)
    assert str(folder) not in text
    assert not [name for name in names if f'"{name}"' in text]


def test_the_page_with_pictures_is_not_written(fitted, folder, monkeypatch):
    asked = {}

    def audit_of(*_, **options):
        asked.update(options)
        return AuditReport((), ("NORMAL", "PNEUMONIA"), ("grad_cam",), 0, 0, 0, 0)

    monkeypatch.setattr(audit, "audit", audit_of)
    audit.audited(fitted, folder / "data")
    assert asked == {"pictures": False, "random_state": 0}, "the default checks"


@pytest.mark.parametrize("word", ["trained the model", "kept apart", "seen in training"])
def test_the_note_says_what_the_images_are(word):
    assert word in audit.NOTE
