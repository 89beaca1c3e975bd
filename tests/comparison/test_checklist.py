"""What to verify about one image: each item by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cxr_estimator import make_phantoms
from cxr_estimator.anatomy import thorax_mask
from cxr_estimator.comparison import checklist, compare_explanations
from cxr_estimator.errors import DataError
from cxr_estimator.explanation import Explanation
from tests.conftest import small_classifier


@pytest.fixture(scope="module")
def explanation():
    """Of one phantom, large enough to find the lungs of."""
    data = make_phantoms(40, 64, difficulty=0.0, random_state=2)
    clf = small_classifier(image_size=64, max_epochs=1).fit(data.X, data.y, groups=data.groups)
    return clf.explain(data.X[:1], target="PNEUMONIA")


def with_map(explanation, mask, *, proba=0.95, label="PNEUMONIA"):
    said = explanation.prediction
    k = list(said.classes).index(label)
    row = np.full((1, 2), 1 - proba)
    row[0, k] = proba
    values = np.asarray(mask, np.float32)[None]
    return replace(explanation, values=values, prediction=replace(said, proba=row, label=np.array([label])))


def items(first, second, **options):
    found = checklist({"A": first, "B": second}, compare_explanations(first, second), **options)
    return {one.name: one for one in found}


def smooth(mask):
    """A map that is nowhere constant, so that it has an order."""
    return mask + 1e-3 * np.random.default_rng(0).random(mask.shape)


def test_all_is_well(explanation):
    thorax = thorax_mask(explanation.images[0])
    inner = np.zeros_like(thorax)
    inner[20:44, 20:44] = thorax[20:44, 20:44]
    one = with_map(explanation, smooth(inner))
    cases = {name: pd.DataFrame({"label": ["PNEUMONIA"] * 5}) for name in "AB"}
    found = items(one, one, similar=cases)
    assert list(found) == ["focus on anatomy", "models agree", "confidence", "no artefacts", "similar cases"]
    assert {each.verdict for each in found.values()} == {"pass"}
    assert "to A lies in the thorax" in found["focus on anatomy"].sentence
    assert found["similar cases"].sentence.startswith(
        "Of the known cases that look most alike to A, 5 of 5 are PNEUMONIA, as it decides. Of the known"
    )


def test_each_item_fails_by_what_it_is_about(explanation):
    thorax = thorax_mask(explanation.images[0])
    inner, outside = smooth(np.asarray(thorax, float)), smooth(np.asarray(~thorax, float))
    good, strange = with_map(explanation, inner), with_map(explanation, outside)
    found = items(good, strange)
    assert found["focus on anatomy"].verdict == "fail"
    assert found["focus on anatomy"].sentence.startswith("0% of what speaks for the class to B")
    assert found["models agree"].verdict == "doubtful"  # the same decision by other places
    corner = np.zeros((64, 64))
    corner[:6, :6] = 1
    found = items(good, with_map(explanation, corner))
    assert found["no artefacts"].verdict == "fail"
    assert "to B lies in good part in the corners" in found["no artefacts"].sentence
    assert "to A" not in found["no artefacts"].sentence
    found = items(good, with_map(explanation, inner, label="NORMAL"))
    assert found["models agree"].verdict == "fail"
    assert items(good, with_map(explanation, inner, proba=0.7))["confidence"].verdict == "doubtful"
    found = items(good, with_map(explanation, inner, proba=0.55))
    assert (found["confidence"].verdict, found["confidence"].sentence) == (
        "fail", "Of PNEUMONIA, which B decides, the probability is 55%."
    )  # fmt: skip
    found = items(good, good, unusual={"A": "It is a cat."})
    assert (found["no artefacts"].verdict, found["no artefacts"].sentence) == (
        "doubtful", "The image is unusual to A. It is a cat."
    )  # fmt: skip
    others = {
        "A": pd.DataFrame({"label": ["PNEUMONIA"] * 5}),
        "B": pd.DataFrame({"label": ["NORMAL"] * 3 + ["PNEUMONIA"] * 2}),
    }
    assert items(good, good, similar=others)["similar cases"].verdict == "fail"
    assert items(good, good)["similar cases"].verdict == "not enough data"
    none = {name: pd.DataFrame({"label": []}) for name in "AB"}
    assert (items(good, good, similar=none)["similar cases"].verdict) == "not enough data"


def test_what_is_not_found_gives_no_verdict(explanation):
    dark = replace(explanation, images=np.zeros_like(explanation.images))
    one = with_map(dark, smooth(np.ones((64, 64))))
    assert items(one, one)["focus on anatomy"].verdict == "not enough data"
    flat = with_map(explanation, np.zeros((64, 64)))
    assert items(flat, flat)["models agree"].verdict == "not enough data"
    bare = replace(explanation, images=None)
    with pytest.raises(DataError, match="must come with their images"):
        items(bare, bare)


def test_it_is_about_two_explanations_of_one_image(explanation):
    comparison = compare_explanations(explanation, explanation)
    for wrong in ({"A": explanation}, dict.fromkeys("ABC", explanation)):
        with pytest.raises(DataError, match="two explanations of one image"):
            checklist(wrong, comparison)
    two = Explanation.concatenate([explanation, explanation])
    with pytest.raises(DataError, match="two explanations of one image"):
        checklist({"A": two, "B": two}, compare_explanations(two, two))
