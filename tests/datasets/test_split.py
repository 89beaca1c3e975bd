"""Splits: no patient on two sides, nothing lost, nearly the same labels everywhere."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_estimator import load_image_folder, patient_split
from cxr_estimator.errors import DataError, InvalidParameterError, InvalidTypeError


def check_parts(parts, n_images, groups):
    """Assert that the parts are sorted, disjoint by patient, complete and not empty."""
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(n_images))
    patients = [set(np.asarray(groups)[part].tolist()) for part in parts]
    assert sum(map(len, patients)) == len(set.union(*patients))
    for part in parts:
        assert len(part) > 0
        assert part.dtype == np.int64
        assert (np.diff(part) > 0).all()


@pytest.fixture(scope="module")
def real(real_data_dir):
    return load_image_folder(real_data_dir)


@pytest.mark.parametrize("fractions", [(0.8, 0.1, 0.1), (0.9, 0.1), (0.5, 0.25, 0.25), (1.0,)])
def test_real_names(real, fractions):
    parts = patient_split(real.y, real.groups, fractions=fractions)
    check_parts(parts, len(real.y), real.groups)
    prevalence = (real.y == "PNEUMONIA").mean()
    for part, fraction in zip(parts, fractions, strict=True):
        assert len(part) / len(real.y) == pytest.approx(fraction, abs=0.005)
        assert (real.y[part] == "PNEUMONIA").mean() == pytest.approx(prevalence, abs=0.005)


def test_shares_and_labels_of_made_up_patients():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 300, 1000)
    y = rng.choice(["a", "b", "c"], 1000, p=[0.6, 0.3, 0.1])
    for part, fraction in zip(patient_split(y, groups), (0.8, 0.1, 0.1), strict=True):
        assert len(part) == pytest.approx(1000 * fraction, abs=10)
        for label, share in zip(*np.unique(y, return_counts=True), strict=True):
            assert (y[part] == label).sum() == pytest.approx(share * fraction, abs=5)


def test_several_labels_are_spread_and_patients_stay_whole():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 400, 1200)
    y = (rng.random((1200, 4)) < [0.5, 0.2, 0.05, 0.3]).astype(float)
    y[rng.random(1200) < 0.4, 3] = np.nan
    parts = patient_split(pd.DataFrame(y, columns=list("abcd")), groups)
    check_parts(parts, 1200, groups)
    for part, fraction in zip(parts, (0.8, 0.1, 0.1), strict=True):
        assert len(part) == pytest.approx(1200 * fraction, abs=12)
        for value in (0, 1):
            found, all_of_them = (y[part] == value).sum(axis=0), (y == value).sum(axis=0)
            np.testing.assert_allclose(found, fraction * all_of_them, atol=12)
        assert np.isnan(y[part, 3]).sum() == pytest.approx(np.isnan(y[:, 3]).sum() * fraction, abs=12)


def test_a_label_of_few_patients_reaches_every_part():
    """Three patients have it: one for each part."""
    y = np.zeros((300, 2), dtype=int)
    y[::2, 0] = 1
    y[[10, 100, 200], 1] = 1
    for seed in range(5):
        parts = patient_split(y, np.arange(300) // 2, random_state=seed)
        assert [int(y[part, 1].sum()) for part in parts] == [1, 1, 1]


def test_by_hand():
    """Two patients of two images and two of one: halves of three images each, the large ones apart."""
    for seed in range(20):
        first, second = patient_split([0] * 6, list("aabbcd"), fractions=(0.5, 0.5), random_state=seed)
        assert len(first) == len(second) == 3
        assert ({0, 1} <= set(first)) != ({2, 3} <= set(first))


def test_the_same_seed_gives_the_same_split():
    y, groups = np.arange(200) % 2, np.arange(200) // 3
    splits = [patient_split(y, groups, random_state=seed) for seed in (0, 0, 1)]
    for one, two in zip(*splits[:2], strict=True):
        np.testing.assert_array_equal(one, two)
    assert splits[0][1].tolist() != splits[2][1].tolist()
    assert patient_split(y, groups)[1].tolist() == splits[0][1].tolist()


@pytest.mark.parametrize(
    "convert", [list, tuple, np.array, pd.Series, lambda v: pd.Series(v, index=range(50, 50 + len(v)))]
)
def test_kinds_of_labels_and_groups(convert):
    y, groups = ["n", "p"] * 20, [f"p{i // 4}" for i in range(40)]
    for one, two in zip(patient_split(convert(y), convert(groups)), patient_split(y, groups), strict=True):
        np.testing.assert_array_equal(one, two)


def test_without_groups_each_image_is_a_patient():
    parts = patient_split(np.arange(100) % 2)
    check_parts(parts, 100, np.arange(100))
    assert [len(part) for part in parts] == [80, 10, 10]


PATIENTS = st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=8), min_size=1, max_size=25)


@given(
    patients=PATIENTS,
    weights=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    seed=st.integers(0, 99),
    shuffle=st.randoms(use_true_random=False),
)
@settings(max_examples=150, deadline=None)
def test_any_groups(patients, weights, seed, shuffle):
    images = [(label, f"p{number}") for number, labels in enumerate(patients) for label in labels]
    shuffle.shuffle(images)
    y, groups = zip(*images, strict=True)
    fractions = np.array(weights) / sum(weights)
    if len(patients) < len(weights):
        with pytest.raises(DataError, match=f"{len(patients)} patients cannot be split into {len(weights)} parts"):
            patient_split(y, groups, fractions=fractions, random_state=seed)
    else:
        check_parts(patient_split(y, groups, fractions=fractions, random_state=seed), len(y), groups)


@pytest.mark.parametrize("y", [[0, 1], [0, 0], [0, 1, 2]])
@pytest.mark.parametrize("seed", range(10))
def test_as_many_parts_as_patients(y, seed):
    parts = patient_split(y, fractions=[1 / len(y)] * len(y), random_state=seed)
    assert sorted(map(len, parts)) == [1] * len(y)


@pytest.mark.parametrize(
    "fractions",
    [
        (),
        (0.5,),
        (0.5, 0.6),
        (1.5, -0.5),
        (1.0, 0.0),
        (np.nan, 0.5),
        (np.nan, np.nan),
        0.8,
        None,
        "half",
        ("a", "b"),
        [[0.5, 0.5]],
    ],
    ids=str,
)
def test_bad_fractions(fractions):
    with pytest.raises(InvalidParameterError, match=r"'fractions' .* positive numbers that sum to 1"):
        patient_split([0, 1] * 10, fractions=fractions)


@pytest.mark.parametrize(
    ("y", "groups", "reason"),
    [
        ([], None, "0 patients cannot be split into 3 parts"),
        ([0, 1], None, "2 patients cannot be split into 3 parts"),
        ([0, 1, 0, 1], ["a", "a", "b", "b"], "2 patients cannot be split"),
        ([0, 1, 0, 1], ["a", "b", "c"], r"groups must have one entry for each of the 4 images. Got shape \(3,\)"),
        ([0, 1, 0, 1], ["a", "b", "c", None], "groups has 1 missing .* at index 3"),
        ([0, 1, 0, 1], [1.0, 2.0, 3.0, np.nan], "groups has 1 missing"),
        ([0, 1, 0, None], None, "y has 1 missing"),
        (np.zeros((4, 1, 2)), None, r"Got shape \(4, 1, 2\)"),
        (np.full((4, 2), 3), None, "Got 3.0 in row 0, column 0"),
        ([0.1, 0.2, 0.3, 0.4], None, "continuous"),
    ],
)
def test_bad_labels_and_groups(y, groups, reason):
    with pytest.raises(DataError, match=f"patient_split: .*{reason}"):
        patient_split(y, groups)


@pytest.mark.parametrize(
    ("seed", "error"), [(-1, InvalidParameterError), ("x", InvalidTypeError), (1.5, InvalidTypeError)]
)
def test_bad_seeds(seed, error):
    with pytest.raises(error, match="'random_state' parameter of patient_split"):
        patient_split([0, 1] * 10, random_state=seed)


def test_a_large_patient_never_lands_in_a_small_part():
    groups = ["big"] * 300 + [f"p{i}" for i in range(200)]
    y = np.arange(500) % 2
    for seed in range(10):
        large, small = patient_split(y, groups, fractions=(0.9, 0.1), random_state=seed)
        assert 0 in large
        assert len(small) == 50


@pytest.mark.parametrize("seed", range(5))
def test_every_part_gets_every_label_where_patients_suffice(seed):
    y = ["a", "a", "b", "b", "c", "c", "c"]
    for part in patient_split(y, range(7), fractions=(0.9, 0.1), random_state=seed):
        assert {y[i] for i in part} == {"a", "b", "c"}
