"""Cases of the planted benchmark: what is planted is planted exactly, and nothing else is wrong."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.planted import __main__ as command
from benchmarks.planted import cases
from benchmarks.planted.cases import STRENGTHS, Case, make, model_of
from benchmarks.planted.measuring import measure
from cxr_estimator.datasets.shortcuts import SHORTCUTS, shortcut_carriers
from cxr_estimator.errors import InvalidParameterError


@pytest.fixture
def small(monkeypatch):
    """Cases of 60 training and 40 audit images at 32 px, and models of one epoch."""
    monkeypatch.setattr(cases, "SIDE", 32)
    monkeypatch.setattr(cases, "N_TRAIN", {"phantoms": 60, "real": 60})
    monkeypatch.setattr(cases, "N_AUDIT", 40)
    monkeypatch.setattr(cases, "RECIPE", {**cases.RECIPE, "image_size": 32, "max_epochs": 1})
    cases._radiographs.cache_clear()
    yield
    cases._radiographs.cache_clear()


def shared(data):
    return set(data.train.groups) & set(data.audit.groups)


@pytest.mark.parametrize("kind", [kind for kind in STRENGTHS if kind != "duplicated_patients"])
def test_no_patient_is_in_both_parts(small, kind):
    data = make(Case("phantoms", kind, 1.0, 3))
    assert data.train.X.shape == (60, 32, 32)
    assert data.audit.X.shape == data.lesions.shape == (40, 32, 32)
    assert not shared(data)
    assert (np.unique(data.train.groups, return_counts=True)[1] == 2).all()


def test_the_same_case_is_the_same_and_another_seed_is_not(small):
    first, again, other = (make(Case("phantoms", "border", 0.5, seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.train.X, again.train.X)
    np.testing.assert_array_equal(first.audit.X, again.audit.X)
    assert (first.audit.X != other.audit.X).any((1, 2)).all()


@pytest.mark.parametrize("kind", SHORTCUTS)
def test_a_shortcut_is_all_that_is_added_in_both_parts(small, kind):
    clean, planted = make(Case("phantoms", "clean", 0.0, 5)), make(Case("phantoms", kind, 0.5, 5))
    for before, after in zip(clean[:2], planted[:2], strict=True):
        np.testing.assert_array_equal(before.y, after.y)
        np.testing.assert_array_equal(before.groups, after.groups)
        carried = shortcut_carriers(after.y, strength=0.5, groups=after.groups, random_state=5)
        np.testing.assert_array_equal((before.X != after.X).any((1, 2)), carried)


@pytest.mark.parametrize("share", [0.0, *STRENGTHS["duplicated_patients"], 1.0])
def test_the_share_of_copies_is_exact(small, share):
    clean, data = make(Case("phantoms", "clean", 0.0, 1)), make(Case("phantoms", "duplicated_patients", share, 1))
    known = {image.tobytes(): (label, patient) for image, label, patient in zip(*data.train, strict=True)}
    copies = [number for number, image in enumerate(data.audit.X) if image.tobytes() in known]
    assert len(copies) == round(40 * share)
    assert len({data.audit.X[number].tobytes() for number in copies}) == len(copies)
    for number in copies:
        assert known[data.audit.X[number].tobytes()] == (data.audit.y[number], data.audit.groups[number])
        assert data.lesions[number].any() == (data.audit.y[number] == "PNEUMONIA")
    others = np.setdiff1d(np.arange(40), copies)
    np.testing.assert_array_equal(data.audit.X[others], clean.audit.X[others])
    np.testing.assert_array_equal(data.train.X, clean.train.X)


@pytest.mark.parametrize("share", [0.0, *STRENGTHS["reversed_labels"]])
def test_the_share_of_turned_labels_is_exact(small, share):
    clean, data = make(Case("phantoms", "clean", 0.0, 1)), make(Case("phantoms", "reversed_labels", share, 1))
    assert (data.audit.y != clean.audit.y).sum() == round(40 * share)
    assert set(data.audit.y) == {"NORMAL", "PNEUMONIA"}
    np.testing.assert_array_equal(data.train.y, clean.train.y)
    np.testing.assert_array_equal(data.audit.X, clean.audit.X)


def test_a_case_that_is_none_is_refused():
    with pytest.raises(InvalidParameterError, match="'kind' parameter of make must be one of 'clean'"):
        make(Case("phantoms", "corner", 1.0, 0))
    with pytest.raises(InvalidParameterError, match="'domain' parameter of make must be one of 'phantoms', 'real'"):
        make(Case("radiographs", "clean", 0.0, 0))


def test_real_radiographs(small, real_data_dir):
    data = make(Case("real", "clean", 0.0, 2))
    assert not shared(data)
    assert not {image.tobytes() for image in data.train.X} & {image.tobytes() for image in data.audit.X}
    assert all("IM-" in patient for part in data[:2] for patient in part.groups)  # normal ones only
    for part in data[:2]:
        assert 0.3 < (part.y == "PNEUMONIA").mean() < 0.7
        patients = {(patient, label) for patient, label in zip(part.groups, part.y, strict=True)}
        assert len(patients) == len(set(part.groups)), "a patient has one label"
    np.testing.assert_array_equal(data.lesions.any((1, 2)), data.audit.y == "PNEUMONIA")


def test_a_model_of_a_case_and_what_is_measured(small):
    case = Case("phantoms", "brightness", 1.0, 0)
    clf = model_of(case, make(case))
    assert clf.classes_.tolist() == ["NORMAL", "PNEUMONIA"]
    assert clf.pos_label_ == "PNEUMONIA"
    found = measure(case)
    assert set(found["response"]) == {"brightness"}
    assert set(measure(case._replace(kind="clean"))["response"]) == set(SHORTCUTS)
    assert all(0 <= value <= 1 for value in found["response"]["brightness"].values())
    json.dumps(found)


def test_measuring_goes_on_where_it_stopped_and_not_with_another_recipe(small, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("benchmarks._common.RESULTS", tmp_path)
    monkeypatch.setattr(command, "RESULTS", tmp_path)
    monkeypatch.delenv("CXR_DATA_DIR", raising=False)
    response = {"label_auroc": 0.5, "shortcut_auroc": 1.0}
    asked = []

    def measured(case):
        asked.append(case)
        return {**case._asdict(), "auroc": 0.9, "response": {"border": response}}

    monkeypatch.setattr(command, "measure", measured)
    monkeypatch.setattr("sys.argv", ["planted", "measure-models", "--seeds", "2"])
    command.main()
    assert len(asked) == 2 * (1 + 4 * 3)  # clean, four shortcuts of three strengths
    assert "phantoms, border 1.0, 2 models: audit AUROC 0.90 (0.90 to 0.90)" in capsys.readouterr().out
    command.main()
    assert len(asked) == 26
    monkeypatch.setattr(command, "SETTINGS", {**command.SETTINGS, "difficulty": 1.0})
    command.main()
    assert len(asked) == 52
