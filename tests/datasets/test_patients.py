"""Patient ids from file names."""

from __future__ import annotations

from pathlib import Path

import pytest

from cxr_estimator.datasets import KAGGLE_PATIENT_PATTERN, patient_ids
from cxr_estimator.errors import DataError, InvalidParameterError


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("IM-0115-0001.jpeg", "IM-0115"),
        ("IM-0115-0002.jpeg", "IM-0115"),
        ("NORMAL2-IM-0115-0001.jpeg", "NORMAL2-IM-0115"),
        ("IM-0429-0001-0001.jpeg", "IM-0429"),
        ("NORMAL2-IM-1427-0001-0002.jpeg", "NORMAL2-IM-1427"),
        ("person12_bacteria_46.jpeg", "person12"),
        ("person12_virus_3.jpeg", "person12"),
        ("person447_virus_921_1.jpeg", "person447"),
        ("person1_virus_6.jpeg", "person1"),
    ],
)
def test_names_of_the_kaggle_set(name, patient):
    assert patient_ids([name], KAGGLE_PATIENT_PATTERN).tolist() == [patient]


@pytest.mark.parametrize("name", ["IM-0115.jpeg", "person12.jpeg", "person_bacteria_1.jpeg", "scan.png", ""])
def test_other_names_match_nothing(name):
    with pytest.raises(DataError, match=f"matches nothing in {name!r}"):
        patient_ids(["IM-0115-0001.jpeg", name], KAGGLE_PATIENT_PATTERN)


@pytest.mark.parametrize(
    ("pattern", "patient"),
    [
        (r"p\d+", "p07"),
        (r"(p\d+)_", "p07"),
        (r"(site\w)/(p\d+)", "siteA-p07"),
        (r"(?:x|(p\d+))_", "p07"),
        (r"(?=.*(p\d+))", "p07"),
    ],
)
def test_the_patient_is_the_groups_or_the_match(pattern, patient):
    assert patient_ids(["siteA/p07_1.png", Path("siteA/p07_2.png")], pattern).tolist() == [patient] * 2


@pytest.mark.parametrize("pattern", [r"q\d", r"\d*$", "", r"(q?)"])
def test_a_pattern_that_finds_no_patient(pattern):
    with pytest.raises(DataError, match=r"^fit: the patient pattern .* matches nothing in 'a\.png'"):
        patient_ids(["a.png", "b.png"], pattern, caller="fit")


@pytest.mark.parametrize("pattern", ["(", "[", None, 3])
def test_no_regular_expression(pattern):
    with pytest.raises(
        InvalidParameterError, match="The 'patient_pattern' parameter of fit must be a regular expression"
    ):
        patient_ids(["a.png"], pattern, caller="fit")
