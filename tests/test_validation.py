"""The shared checks: one message template, and errors that survive pickling."""

from __future__ import annotations

import math
import pickle
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

from cxr_estimator import errors
from cxr_estimator._validation import (
    check_choice,
    check_labels,
    check_number,
    check_path,
    check_per_image,
    check_seed,
    invalid,
    message,
    wrong_type,
)
from cxr_estimator.errors import (
    CXRError,
    DataError,
    ImageError,
    InvalidParameterError,
    InvalidTypeError,
    SkippedImage,
    SkippedImagesWarning,
)


@pytest.mark.parametrize("value", [None, 1, True, b"x", ["x"]])
def test_paths_of_wrong_types(value):
    with pytest.raises(InvalidTypeError, match=r"The 'folder' parameter of load must be a path. Got"):
        check_path("folder", value, caller="load")


def test_paths_that_no_system_has(tmp_path):
    assert check_path("folder", str(tmp_path / "none"), caller="load") == tmp_path / "none"
    with pytest.raises(InvalidParameterError, match="'folder' parameter of load must be a path that is not empty"):
        check_path("folder", "", caller="load")
    with pytest.raises(DataError, match=r"xx: cannot be looked at \(File name too long\)"):
        check_path("folder", "x" * 300, caller="load")


def test_the_template():
    sentence = "The 'patience' parameter of CXRClassifier must be an integer >= 1. Got 'five'."
    arguments = ("patience", "CXRClassifier", "an integer >= 1", "five")
    assert message(*arguments) == sentence
    assert (type(invalid(*arguments)), str(invalid(*arguments))) == (InvalidParameterError, sentence)
    assert (type(wrong_type(*arguments)), str(wrong_type(*arguments))) == (InvalidTypeError, sentence)


def test_long_values_are_cut():
    assert message("a", "f", "short", "x" * 5000).endswith("xx ... (5,002 characters).")
    assert len(message("a", "f", "short", "x" * 5000)) < 1200


def test_no_name_is_sought_for_nonsense():
    """To compare a megabyte with all 1,300 networks took minutes."""
    with pytest.raises(InvalidParameterError, match=r"characters\)\.$"):
        check_choice("method", "grad_cam" * 100_000, ["grad_cam"], caller="f")
    with pytest.raises(InvalidParameterError, match="Did you mean 'grad_cam'"):
        check_choice("method", "grad_cm", ["grad_cam"], caller="f")


def test_an_integer_beyond_all_floats_is_no_number():
    with pytest.raises(InvalidParameterError, match="'n' parameter of f must be a number"):
        check_number("n", 10**400, caller="f")


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (InvalidParameterError, ValueError),
        (InvalidTypeError, TypeError),
        (DataError, ValueError),
        (ImageError, ValueError),
        (errors.WeightsError, OSError),
        (errors.ModelFolderError, ValueError),
    ],
)
def test_errors_are_also_the_builtin_kind(error, builtin):
    assert issubclass(error, CXRError)
    assert issubclass(error, builtin)


# -- choices -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "choices"),
    [
        ("pad", ("stretch", "pad")),
        (3, (1, 3)),
        (True, (False, True)),
        (None, (None, "minmax")),
        ("b", {"a": 1, "b": 2}),
        ("a", pd.Index(["a", "b"])),
    ],
)
def test_a_choice_is_returned(value, choices):
    found = check_choice("name", value, choices, caller="f")
    assert found == value
    assert type(found) is type(value)  # an index of pandas may make its texts anew


@pytest.mark.parametrize("choices", [["NORMAL", "PNEUMONIA"], np.array(["NORMAL", "PNEUMONIA"])])
def test_numpy_scalars_are_the_values_they_stand_for(choices):
    label = check_choice("pos_label", np.array(["NORMAL", "PNEUMONIA"])[1], choices, caller="f")
    assert (label, type(label)) == ("PNEUMONIA", str)
    assert type(check_choice("pos_label", np.int64(1), [0, 1], caller="f")) is int


def test_equal_numbers_are_the_same_choice():
    """A label 1.0 may be written 1."""
    assert type(check_choice("pos_label", 1, [0.0, 1.0], caller="f")) is float


@pytest.mark.parametrize("value", [True, 1.5, "1", np.bool_(True), 4, None, [1], np.array([1, 3])])
def test_what_is_no_choice(value):
    with pytest.raises(InvalidParameterError, match=r"^The 'channels' parameter of f must be one of 1, 3\. Got "):
        check_choice("channels", value, (1, 3), caller="f")


@pytest.mark.parametrize(
    ("value", "hint"),
    [("grad_cm", " Did you mean 'grad_cam'?"), ("Lime", " Did you mean 'lime'?"), ("zzz", ""), (7, "")],
)
def test_the_nearest_choice_is_suggested(value, hint):
    with pytest.raises(InvalidParameterError) as caught:
        check_choice("method", value, ["grad_cam", "lime"], caller="explain")
    expected = f"The 'method' parameter of explain must be one of 'grad_cam', 'lime'. Got {value!r}.{hint}"
    assert str(caught.value) == expected


# -- numbers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "options"),
    [
        (0, {"low": 0}),
        (1, {"high": 1}),
        (0.5, {"low": 0, "high": 1, "open_low": True, "open_high": True}),
        (np.float32(0.5), {"low": 0}),
        (Fraction(1, 2), {"low": 0, "high": 1}),
        (np.int64(3), {"integer": True}),
        (10**400, {"low": 0, "integer": True}),
        (-1.5, {}),
    ],
)
def test_a_number_is_returned(value, options):
    assert check_number("n", value, caller="f", **options) is value


@pytest.mark.parametrize(
    ("value", "options", "constraint"),
    [
        (-1, {"low": 0}, "a number >= 0"),
        (0, {"low": 0, "open_low": True}, "a number > 0"),
        (1.0, {"low": 0, "high": 1, "open_high": True}, "a number >= 0 and < 1"),
        (np.nextafter(1.0, 2), {"high": 1}, "a number <= 1"),
        (math.nan, {}, "a number"),
        (np.float32("nan"), {"low": 0}, "a number >= 0"),
        (math.inf, {"low": 0}, "a number >= 0"),
        (-math.inf, {"high": 0}, "a number <= 0"),
        (10**400, {"high": 1}, "a number <= 1"),
        (7, {"low": 8, "high": 9, "integer": True}, "an integer >= 8 and <= 9"),
    ],
)
def test_numbers_outside_the_interval(value, options, constraint):
    with pytest.raises(InvalidParameterError) as caught:
        check_number("n", value, caller="f", **options)
    assert str(caught.value) == f"The 'n' parameter of f must be {constraint}. Got {value!r}."


@pytest.mark.parametrize("integer", [False, True])
@pytest.mark.parametrize("value", [True, np.True_, "1", None, 1j, [1], np.array([1]), Decimal(1)])
def test_what_is_no_number_is_a_type_error(value, integer):
    with pytest.raises(InvalidTypeError, match=r"^The 'n' parameter of f must be an? (number|integer)\. Got "):
        check_number("n", value, caller="f", integer=integer)


@pytest.mark.parametrize("value", [1.0, np.float64(2), Fraction(2, 1)])
def test_an_integer_is_asked_for(value):
    with pytest.raises(InvalidTypeError, match="must be an integer >= 1"):
        check_number("n", value, caller="f", low=1, integer=True)


# -- seeds -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0, 7, np.int32(7), 2**32 - 1])
def test_an_integer_is_its_own_seed(value):
    seed = check_seed(value, caller="f")
    assert (seed, type(seed)) == (int(value), int)


@pytest.mark.parametrize("make", [np.random.RandomState, np.random.default_rng])
def test_generators_give_a_seed_and_move_on(make):
    generator = make(3)
    first, second = check_seed(generator, caller="f"), check_seed(generator, caller="f")
    assert first != second
    assert first == check_seed(make(3), caller="f")
    assert 0 <= first < 2**31


def test_none_is_a_fresh_seed():
    assert len({check_seed(None, caller="f") for _ in range(5)}) > 1


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (-1, InvalidParameterError),
        (2**32, InvalidParameterError),
        (True, InvalidTypeError),
        (1.0, InvalidTypeError),
        ("0", InvalidTypeError),
    ],
)
def test_bad_seeds(value, error):
    with pytest.raises(error, match="The 'random_state' parameter of f must be"):
        check_seed(value, caller="f")


# -- labels ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "y",
    [
        ["a", "b", "a"],
        ("a", "b", "a"),
        np.array(["a", "b", "a"]),
        np.array(["a", "b", "a"], dtype=object),
        pd.Series(["a", "b", "a"]),
        pd.Series(["a", "b", "a"], dtype="category"),
        pd.Series(["a", "b", "a"], dtype="string"),
        [["a"], ["b"], ["a"]],
        np.array([["a"], ["b"], ["a"]]),
    ],
    ids=lambda y: type(y).__name__,
)
def test_text_labels(y):
    labels = check_labels(y, 3, caller="f")
    assert (labels.tolist(), labels.shape) == (["a", "b", "a"], (3,))


@pytest.mark.parametrize("y", [[0, 1, 2], [True, False, True], [0.0, 1.0, -3.0], np.arange(3, dtype=np.uint8)])
def test_number_labels_keep_their_type(y):
    labels = check_labels(y, 3, caller="f")
    assert labels.dtype == np.asarray(y).dtype
    assert labels.tolist() == list(y)


@pytest.mark.parametrize(
    ("y", "reason"),
    [
        (["a", "b"], "X has 3 images but y has 2 labels"),
        ([], "X has 3 images but y has 0 labels"),
        ([[0, 1], [1, 0], [1, 1]], r"shape \(N,\)\. Got shape \(3, 2\)"),
        (np.zeros((3, 1, 1)), r"Got shape \(3, 1, 1\)"),
        ("abc", r"Got shape \(\)"),
        (None, r"Got shape \(\)"),
        ([[0], [0, 1], [1]], "Got lists of different lengths"),
        ([0, 1, None], "y has 1 missing .* at index 2"),
        ([0.0, math.nan, math.nan], "y has 2 missing .* at index 1, 2"),
        (["a", None, "b"], "y has 1 missing .* at index 1"),
        (["a", "b", math.nan], "y has 1 missing .* at index 2"),
        (pd.Series(["a", None, "b"]), "y has 1 missing .* at index 1"),
        (pd.Series(["a", None, "b"], dtype="string"), "y has 1 missing .* at index 1"),
        (pd.Series([1, None, 2], dtype="Int64"), "y has 1 missing .* at index 1"),
        (pd.Series([1, 2, pd.NaT], dtype=object), "y has 1 missing .* at index 2"),
        ([0.5, 1.0, 2.0], "Unknown label type: continuous"),
        (["a", 1, "b"], "y mixes text and numbers"),
        (np.array(["a", 1, 2.0], dtype=object), "y mixes text and numbers"),
    ],
    ids=str,
)
def test_bad_labels(y, reason):
    with pytest.raises(DataError, match=f"^f: .*{reason}"):
        check_labels(y, 3, caller="f")


def test_long_lists_of_missing_labels_are_cut():
    with pytest.raises(DataError, match=r"y has 12 missing .* at index 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, \.\.\.\."):
        check_labels([None] * 12, 12, caller="f")


def test_unknown_labels_are_listed_beside_the_known():
    classes = np.array(["NORMAL", "PNEUMONIA"])
    assert check_labels(["NORMAL"], 1, caller="f", classes=classes).tolist() == ["NORMAL"]
    with pytest.raises(DataError, match=r"does not know: \['normal', 'sick'\].*\['NORMAL', 'PNEUMONIA'\]"):
        check_labels(["sick", "NORMAL", "normal"], 3, caller="f", classes=classes)


@pytest.mark.parametrize("values", [["p1", "p2", "p1"], [1, 2, 1], np.array(["p1", "p2", "p1"], dtype=object)])
def test_one_entry_per_image(values):
    assert check_per_image("groups", values, 3, caller="f").tolist() == list(values)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (["p1"], r"groups must have one entry for each of the 3 images. Got shape \(1,\)"),
        ([["p1"], ["p2"], ["p3"]], r"Got shape \(3, 1\)"),
        ("abc", r"Got shape \(\)"),
        ([["p1"], ["p2", "p3"], []], "different lengths"),
        (["p1", None, "p2"], "groups has 1 missing .* at index 1"),
        (["p1", math.nan, "p2"], "groups has 1 missing .* at index 1"),
        ([1.0, math.nan, math.nan], "groups has 2 missing .* at index 1, 2"),
        (["p1", 2, 3], "groups mixes text and numbers"),
    ],
    ids=str,
)
def test_bad_entries_per_image(values, reason):
    with pytest.raises(DataError, match=f"^f: .*{reason}"):
        check_per_image("groups", values, 3, caller="f")


# -- pickling ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_errors_survive_pickling(protocol):
    error = pickle.loads(pickle.dumps(ImageError("a.png", "the file is empty."), protocol))
    assert (type(error), str(error)) == (ImageError, "a.png: the file is empty.")
    assert (error.source, error.reason) == ("a.png", "the file is empty.")
    other = pickle.loads(pickle.dumps(invalid("n", "f", "a number", "x"), protocol))
    assert (type(other), str(other)) == (InvalidParameterError, "The 'n' parameter of f must be a number. Got 'x'.")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_the_warning_about_skipped_images_survives_pickling(protocol):
    skipped = [SkippedImage(1, "a.png", "there is no such file."), SkippedImage(4, "X[4]", "NaN")]
    warning = pickle.loads(pickle.dumps(SkippedImagesWarning(skipped), protocol))
    assert isinstance(warning, UserWarning)
    assert warning.skipped == tuple(skipped)
    assert str(warning).splitlines() == [
        "2 image(s) could not be used and were skipped:",
        "  a.png: there is no such file.",
        "  X[4]: NaN",
    ]
