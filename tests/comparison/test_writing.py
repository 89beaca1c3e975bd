"""The page of a comparison, its Markdown, and what `save` writes."""

from __future__ import annotations

import copy
import io
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr_estimator._wording import SHOWS_RADIOGRAPHS
from cxr_estimator.comparison import _writing, compare
from cxr_estimator.comparison._writing import body
from tests.conftest import small_classifier

NAMES = ("<b>a/b</b>", "ü | $x$")


@pytest.fixture(scope="module")
def other(phantoms):
    """A network that is often wrong."""
    clf = small_classifier(image_size=24, max_epochs=1, random_state=3)
    return clf.fit(phantoms.X, phantoms.y, groups=phantoms.groups)


@pytest.fixture(scope="module")
def found(fitted, other, phantoms):
    models = dict(zip(NAMES, (fitted, other), strict=True))
    return compare(models, phantoms.X, phantoms.y, phantoms.groups, n_maps=6, n_resamples=50)


@pytest.fixture(scope="module")
def saved(found, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    for old in ("models_1_and_3_1.png", "models_1_and_2_5.png", "models_1_and_2.png", "mine.png"):
        (folder / old).write_bytes(b"old")
    return found.save(folder)


def test_a_folder_holds_page_tables_and_figures_of_this_comparison_alone(found, saved):
    figures = [one.figure for one in found.least_alike]
    assert figures == [f"models_1_and_2_{k}.png" for k in (1, 2, 3, 4)]
    others = ["comparison.html", "comparison.json", "images.csv", "mine.png", "models_1_and_2.png"]
    assert sorted(one.name for one in saved.iterdir()) == sorted([*others, *figures])
    for name in figures:
        with Image.open(saved / name) as figure:
            assert figure.info["dpi"][0] == pytest.approx(150, abs=0.1)
    written = json.loads((saved / "comparison.json").read_text())
    assert written == json.loads(found.to_json())
    assert [one["figure"] for one in written["least_alike"]] == figures
    assert [one["position"] for one in written["least_alike"]] == found.moved(*NAMES)["position"][:4].tolist()
    assert sum(one["n_images"] for one in written["pairs"][0]["flips"]) == len(found.flipped(*NAMES))
    pd.testing.assert_frame_equal(pd.read_csv(saved / "images.csv"), found.images, check_dtype=False)


def test_the_page_holds_all_and_escapes_names(found, saved):
    page = (saved / "comparison.html").read_text()
    assert page.count(SHOWS_RADIOGRAPHS) == 2
    assert page.count("data:image/png;base64,") == 4
    assert "<b>a" not in page
    assert "&lt;b&gt;a/b&lt;/b&gt; and ü | $x$" in page
    for one in found.pairs[0].tests:
        assert one.words in page
    assert "not adjusted for there being 4 of them" in page
    assert f"{len(found.flipped(*NAMES))} of 80 images are decided differently" in page
    for shown in found.least_alike:
        assert f"Image {shown.position}, in truth {shown.label}" in page
        assert shown.label == found.images["label"][shown.position]
        for item in shown.items:
            assert item.name in page
    assert "<h3>" in body(found, drawn=dict.fromkeys((one.figure for one in found.least_alike), b""))
    assert "<h5>" in body(found, level=4, drawn=dict.fromkeys((one.figure for one in found.least_alike), b""))


def test_pictures_are_those_that_the_report_plots(found, saved):
    shown = found.least_alike[0]
    buffer = io.BytesIO()
    found.plot(shown.row, shown.names).savefig(buffer, format="png")
    assert (saved / shown.figure).read_bytes() == buffer.getvalue()
    assert found.least_alike[0].items == found.checklist(shown.row)


def test_markdown_has_the_same_tables(found):
    text = found.to_markdown()
    assert "<b>" not in text
    for section in _writing.sections(found):
        for words, table in section.tables:
            assert words.split(".")[0].split("<")[0][:30] in text
            assert all(str(cell).split("<")[0].split("|")[0].strip() in text for cell in table.to_numpy().ravel())
    assert text.count("### Image ") == 4
    assert "data:image" not in text


def test_tables_say_what_the_models_do(found):
    how_well, pair = _writing.sections(found)
    ((_, figures),) = how_well.tables
    assert figures.columns.tolist() == ["figure", *NAMES]
    auroc = figures.set_index("figure").loc["AUROC"]
    assert auroc[NAMES[1]].startswith(f"{found.reports[NAMES[1]].metrics['auroc'].value:.3f} (")
    (_, tests), (_, flips), (_, maps) = pair.tables
    assert tests["figure"].tolist() == ["AUROC", "accuracy", "sensitivity", "specificity"]
    assert flips["images"].astype(int).is_monotonic_decreasing
    assert maps["agreement"].tolist()[0] == "Rank correlation"


def test_three_classes_three_models_and_nobody_flips(three_classes):
    X, y, clf = three_classes
    found = compare({"red_1": clf, "b": clf, "c": clf}, X[:12], y[:12], np.arange(12), n_maps=1, n_resamples=20)
    how_well, *pairs = _writing.sections(found)
    assert [one.title for one in pairs] == ["red_1 and b", "red_1 and c", "b and c"]
    assert {"AUROC red", "recall green"} <= set(how_well.tables[0][1]["figure"])
    assert "0 of 12 images are decided differently." in pairs[0].tables[1][0]
    assert [one.figure for one in found.least_alike] == [f"models_{k}_1.png" for k in ("1_and_2", "1_and_3", "2_and_3")]
    assert "not adjusted for there being 21 of them" in pairs[0].tables[0][0]
    assert "undefined" in found.to_markdown() or found.pairs[0].kappa == 1


def test_one_image(fitted, other, phantoms):
    found = compare({"a": fitted, "b": other}, phantoms.X[:1], n_maps=1)
    assert str(found).startswith("2 models on one image\n")
    page = found.to_html()
    assert "<h3>The image</h3>" in page
    assert "points apart" in page
    assert "kappa" not in page
    similar = {name: pd.DataFrame({"query": [0, 0, 1], "label": ["NORMAL"] * 3}) for name in "ab"}
    (item,) = [one for one in replace(found, similar=similar).checklist() if one.name == "similar cases"]
    assert "of 2 are" in item.sentence


def test_what_is_unusual_of_an_image_is_verified(fitted, other, phantoms):
    knows = copy.deepcopy(other).fit_ood(phantoms.X, groups=phantoms.groups)
    noise = np.random.default_rng(0).integers(0, 256, (1, 32, 32), dtype=np.uint8)
    found = compare({"a": fitted, "b": knows}, np.concatenate([phantoms.X[:1], noise]), n_maps=2)
    assert found.unusual["a"] == ("", ""), "which has no statistics"
    assert found.unusual["b"] == ("", knows.check_images(noise).sentences[0])
    said = [{one.name: one for one in found.checklist(row)}["no artefacts"].sentence for row in (0, 1)]
    assert "The image is unusual to b." not in said[0]
    assert f"The image is unusual to b. {found.unusual['b'][1]}" in said[1]
