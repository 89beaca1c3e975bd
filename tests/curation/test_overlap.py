"""What stands in more than one split."""

from __future__ import annotations

import numpy as np
import pytest

from cxr_estimator import make_phantoms
from cxr_estimator.curation import split_overlap
from cxr_estimator.errors import DataError, InvalidParameterError, InvalidTypeError, SkippedImagesWarning


@pytest.fixture(scope="module")
def splits():
    """Patient 2 stands in train and test, and train's image 0 is test's image 2, under another label."""
    X, y, groups, *_ = make_phantoms(10, 32, random_state=1)
    other = "NORMAL" if y[0] == "PNEUMONIA" else "PNEUMONIA"
    return {
        "train": (X[:5], y[:5], groups[:5]),
        "val": (X[8:], y[8:], groups[8:]),
        "test": (np.concatenate([X[5:7], X[:1]]), [*y[5:7], other], [*groups[5:7], "elsewhere"]),
    }


def test_patients_and_pixels(splits):
    found = split_overlap(splits)
    rows = found[["kind", "group", "split", "position", "labels_differ"]].to_numpy().tolist()
    assert rows == [
        ["patient", 0, "train", 4, False],
        ["patient", 0, "test", 0, False],
        ["image", 0, "train", 0, True],
        ["image", 0, "test", 2, True],
    ]
    assert found["label"].tolist()[:2] == [splits["train"][1][4]] * 2
    assert "P0002" not in found.to_csv()


def test_without_patients_only_pixels_are_compared(splits):
    found = split_overlap({name: part[:2] for name, part in splits.items()})
    assert found["kind"].tolist() == ["image", "image"]


def test_nothing_shared(splits):
    found = split_overlap({name: splits[name] for name in ("train", "val")})
    assert len(found) == 0
    assert found.columns.tolist() == ["kind", "group", "split", "position", "label", "labels_differ"]


def test_whole_numbers_name_one_patient_whatever_their_type(splits):
    X, y, _ = splits["train"]
    kinds = [3], np.array([3.0]), ["3"], [4.5]
    found = split_overlap({str(i): (X[i : i + 1], y[:1], groups) for i, groups in enumerate(kinds)})
    assert found["kind"].tolist() == ["patient"] * 3


def test_copies_within_a_split_do_not_count(splits):
    X, y, groups = splits["train"]
    twice = (X[[0, 0]], y[[0, 0]], groups[[0, 0]])
    assert len(split_overlap({"train": twice, "val": splits["val"]})) == 0


def test_unreadable_images_are_warned_of(splits, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"")
    with pytest.warns(SkippedImagesWarning):
        found = split_overlap({"a": ([str(broken), splits["train"][0][0]], ["x", "y"]), "b": splits["test"][:2]})
    assert found["position"].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda s: [s["train"], s["val"]], InvalidTypeError, "a dict"),
        (lambda s: {"train": s["train"]}, InvalidParameterError, "two splits"),
        (lambda s: s | {"val": s["val"][:2]}, DataError, "either all splits have groups or none"),
        (lambda s: {1: s["train"], "1": s["val"]}, InvalidParameterError, "names differ as text"),
        (lambda s: s | {"val": ([], [], [])}, DataError, "split_overlap: val: X is empty"),
        (lambda s: s | {"val": ("a.png", [1], [1])}, InvalidTypeError, "split_overlap: val: X must be a sequence"),
        (lambda s: s | {"val": (["no.png"], [1], [1])}, DataError, "split_overlap: val: none of the 1 images"),
        (lambda s: s | {"val": s["val"][0]}, InvalidTypeError, "also for 'val'"),
        (lambda s: s | {"val": (s["val"][0], ["NORMAL"])}, DataError, "split_overlap: val: X has 2 images"),
    ],
)
def test_bad_input(splits, change, error, message):
    with pytest.raises(error, match=message):
        split_overlap(change(splits))
