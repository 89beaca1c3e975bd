"""Descriptions of maps whose weight was put in a known place."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_estimator.errors import DataError
from cxr_estimator.findings._describing import (
    OVERLAPPING,
    PLACES,
    WORDS,
    beyond,
    describe,
    lungs_in,
    regions,
)

LUNGS = np.zeros((32, 32), bool)
LUNGS[4:20, 4:12] = LUNGS[4:20, 20:28] = True  # a quarter of the image; what is below them is three eighths


@pytest.fixture(scope="module")
def template(fitted, phantoms):
    return fitted.explain(phantoms.X[:8])


def described(template, values, lungs=LUNGS):
    values = np.asarray(values, np.float32)
    n = len(values)
    images = np.zeros((n, 32, 32), np.uint8)
    parts = replace(template[:n], values=values, images=images)
    return describe(parts, [lungs] * n if not isinstance(lungs, list) else lungs)


def points(**weights):
    """A map that is 0 but for some pixels, "r10c5" and so on."""
    values = np.zeros((1, 32, 32))
    for place, weight in weights.items():
        row, column = map(int, place[1:].split("c"))
        values[0, row, column] = weight
    return values


def test_places_by_hand(template):
    found = regions(replace(template[:1], images=np.zeros((1, 32, 32), np.uint8)), [LUNGS])
    # the hull of the lungs, rows 4 to 19 and columns 4 to 27, enlarged by 15%, holds rows 3 to 20 and columns 2 to 29
    sizes = {"lungs": 256, "below": 12 * 32, "thorax": 17 * 28 - 256, "outside": 20 * 32 - 17 * 28}
    assert {name: found[name].sum() for name in PLACES} == sizes
    assert (np.sum([found[name] for name in PLACES], axis=0) == 1).all()
    assert found["border"].sum() == 32**2 - 26**2
    assert found["corners"].sum() == 4 * 6**2
    assert not found["markers"].any()


def test_shares_and_sentence_by_hand(template):
    table = described(template, points(r10c5=6, r10c16=2, r25c10=1, r0c0=1, r12c22=-50))
    row = table.iloc[0]
    assert row[list(PLACES)].tolist() == pytest.approx([0.6, 0.2, 0.1, 0.1])
    assert row[list(OVERLAPPING)].tolist() == pytest.approx([0.1, 0.1, 0.0])
    assert row["left"] == pytest.approx(0.8)
    assert beyond(table, "lungs")[0] == pytest.approx(0.35)
    assert (row["spread"], row["place"], row["side"]) == ("localised", "in the lungs", "image left")
    assert row["description"] == (
        "Localised (half of its weight on 2% of the image), in the lungs (60%, chance 25%), image left (80%)."
    )


def test_what_is_below_and_along_the_border_is_told(template):
    row = described(template, points(r31c2=1, r30c29=1)).iloc[0]
    assert (row["place"], row["side"], row["left"]) == ("below the diaphragm", "both sides", 0.5)
    assert row["description"].endswith(
        ", below the diaphragm (100%, chance 38%), on both sides (image left 50%); also in the corners (100%, chance "
        "14%) and along the border (100%, chance 34%)."
    )


def test_what_is_only_more_than_by_chance_is_told_as_that(template):
    row = described(template, points(r10c5=0.38, r10c16=0.31, r25c10=0.16, r1c25=0.15)).iloc[0]
    assert row["place"] == "no place in particular"
    more = "more than by chance in the lungs (38%, chance 25%)"
    assert f"image), {more}, on both sides (image left 54%)" in row["description"]
    row = described(template, points(r10c5=0.41, r10c16=0.34, r25c10=0.25)).iloc[0]
    assert row["place"] == "in the lungs"
    places = "in the lungs (41%, chance 25%), more than by chance elsewhere in the thorax (34%, chance 21%)"
    assert f"image), {places}, on both sides" in row["description"]


def test_what_lies_on_the_midline_counts_half(template):
    lungs = LUNGS.copy()
    lungs[:, 28] = lungs[:, 27]  # the middle of columns 4 to 28 is column 16
    assert described(template, points(r10c16=1), lungs)["left"][0] == 0.5
    assert described(template, points(r10c15=1), lungs)["left"][0] == 1


@pytest.mark.parametrize(
    ("height", "spread"),
    [(1, "localised"), (7, "localised"), (9, "in between"), (14, "in between"), (18, "diffuse"), (32, "diffuse")],
)
def test_spread_follows_the_area_that_holds_half_of_the_weight(template, height, spread):
    values = np.zeros((1, 32, 32))
    values[0, :height] = 1
    row = described(template, values).iloc[0]
    assert row["spread"] == spread
    assert row["extent"] == pytest.approx(height / 64, abs=1e-9 if height == 32 else 0.03)


def test_pixels_scattered_over_the_image_are_not_localised(template):
    noise = np.random.default_rng(0).random((1, 32, 32))
    assert described(template, noise > 0.8)["spread"][0] == "diffuse"  # half of the weight on a tenth of the pixels
    assert described(template, noise > 0.95)["spread"][0] != "localised"  # and on a fortieth


def test_empty_maps_and_missing_lungs(template):
    values = np.concatenate([points(r10c5=-1), points(r10c5=1), points()])
    values[2, 0, 0] = np.nan
    table = described(template, values, [LUNGS, None, LUNGS])
    assert table["place"].tolist() == ["empty map", "lungs not found", "empty map"]
    assert table["side"].tolist() == table["place"].tolist()
    assert table["description"][0] == "Nothing in the map speaks for the class."
    assert "the lungs were not found" in table["description"][1]
    assert table.loc[1, [*PLACES, "left"]].isna().all()
    assert table.loc[1, ["border", "corners"]].tolist() == [0, 0]
    assert table.loc[0, [*PLACES, *OVERLAPPING, "left", "extent"]].isna().all()


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6))
def test_shares_add_up_and_a_mirror_turns_the_side(template, seed):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(1, 32, 32)) ** 3
    lungs = np.zeros((32, 32), bool)
    top, inner, outer = rng.integers(2, 8), rng.integers(1, 4), rng.integers(7, 13)
    lungs[top : rng.integers(14, 28), 16 - outer : 16 - inner] = True
    lungs[top : rng.integers(14, 28), 16 + inner : 16 + rng.integers(7, 13)] = True
    own, turned = described(template, values, lungs), described(template, values[:, :, ::-1], lungs[:, ::-1])
    assert own.loc[0, list(PLACES)].sum() == pytest.approx(1)
    assert own.loc[0, [f"{name}_area" for name in PLACES]].sum() == pytest.approx(1)
    assert turned["left"][0] == pytest.approx(1 - own["left"][0])
    for name in ("lungs", "below", "border", "corners", "extent"):
        assert turned[name][0] == pytest.approx(own[name][0])
    side = {"image left": "image right", "image right": "image left"}
    assert turned["side"][0] == side.get(own["side"][0], own["side"][0])
    doubled = described(template, 2 * values, lungs)
    assert doubled["description"][0] == own["description"][0]
    for column, words in WORDS.items():
        assert own[column][0] in words


def test_maps_of_lesions_and_lungs_are_described_as_what_they_are(fitted, phantoms):
    rows = np.flatnonzero(phantoms.y == "PNEUMONIA")[:12]
    explanation, lungs = fitted.explain(phantoms.X[rows]), list(phantoms.lung_masks[rows])
    lesions = phantoms.lesion_masks[rows]
    of_lesions = describe(replace(explanation, values=lesions.astype(np.float32)), lungs)
    assert set(of_lesions["spread"]) == {"localised"}
    assert set(of_lesions["place"]) == {"in the lungs"}
    centre = (lesions.sum(axis=1) * np.arange(32)).sum(axis=1) / lesions.sum(axis=(1, 2))
    for row, one in of_lesions.iterrows():
        if one["side"] != "both sides":
            assert (centre[row] < 15.5) == (one["side"] == "image left")
    of_lungs = describe(replace(explanation, values=phantoms.lung_masks[rows].astype(np.float32)), lungs)
    assert set(of_lungs["place"]) == {"in the lungs"}
    assert set(of_lungs["side"]) == {"both sides"}
    assert of_lungs["lungs"].tolist() == [1] * 12
    below = regions(explanation, lungs)["below"]
    of_below = describe(replace(explanation, values=below.astype(np.float32)), lungs)
    assert set(of_below["place"]) == {"below the diaphragm"}


def test_lungs_are_found_at_model_size(fitted, phantoms):
    explanation = fitted.explain(phantoms.X[:2])
    assert [one.shape for one in lungs_in(explanation)] == [(32, 32)] * 2
    with pytest.raises(DataError, match="must come with its images"):
        lungs_in(replace(explanation, images=None))
