"""Models from the Hub and changed images in a real browser, against the estimators' own numbers."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from cxr_estimator import CXRClassifier
from cxr_estimator.demo._breaking import broken
from cxr_estimator.demo._examples import example
from tests.model_folders import contents
from tests.test_multilabel import OPTIONS, squares


def rows_of(page):
    """The probabilities on the page by label."""
    cells = page.locator("td[data-label]").all()
    return {cell.get_attribute("data-label"): cell.inner_text() for cell in cells}


def upload(page, pixels, path):
    Image.fromarray(pixels).save(path)
    page.locator("input[type=file]").first.set_input_files(path)
    page.locator(".cxr-decision, .cxr-note.cxr-fail").first.wait_for()


def take(page, name):
    """Choose a model on the Hub by its name."""
    box = page.get_by_label("Model", exact=True).first
    box.fill(name)
    box.press("Enter")


def several_labels():
    X, y, groups = squares(60)
    return X[0], CXRClassifier(**OPTIONS).fit(X, y, groups=groups)


@pytest.mark.parametrize("kind", ["two classes", "three classes of photographs", "several labels"])
def test_a_model_on_the_hub_takes_the_page(page, hub, request, kind, tmp_path):
    if kind == "two classes":
        pixels, clf = request.getfixturevalue("phantoms").X[1], request.getfixturevalue("fitted")
    elif kind == "several labels":
        pixels, clf = several_labels()
    else:
        X, _, clf = request.getfixturevalue("three_classes")
        pixels = X[0]
    name = f"alice/{kind.replace(' ', '-')}"
    hub.store.put("models", name, contents(clf.save(tmp_path / "model")))
    upload(page, pixels, tmp_path / "image.png")
    take(page, name)
    labels = [str(label) for label in clf.classes_]
    page.locator(f"td[data-label='{labels[0]}']").wait_for()
    page.wait_for_function("n => document.querySelectorAll('td[data-label]').length === n", arg=len(labels))
    expected = dict(zip(labels, clf.predict_proba([pixels])[0], strict=True))
    page.wait_for_function(
        "([label, text]) => document.querySelector(`td[data-label='${label}']`).innerText === text",
        arg=[labels[0], f"{expected[labels[0]]:.1%}"],
    )
    assert rows_of(page) == {label: f"{share:.1%}" for label, share in expected.items()}
    decided = page.locator(".cxr-decision strong").inner_text()
    (said,) = clf.predict([pixels])
    if kind == "several labels":
        present = [label for label, one in zip(labels, said, strict=True) if one]
        assert decided == (f"{', '.join(present)} present" if present else "none of the labels")
    else:
        assert decided == said
    assert page.get_by_text("Operating point", exact=True).is_visible() == (kind == "two classes")
    page.locator("#cxr-picture img[alt*='Grad-CAM']").wait_for()
    page.get_by_label("Class to explain").click()
    assert page.get_by_role("option").all_inner_texts()[1:] == labels
    page.get_by_role("option", name=labels[-1], exact=True).click()
    page.locator(f"#cxr-picture img[alt*='explaining {labels[-1]}'], #cxr-picture img[alt^='No picture']").wait_for()


def test_what_is_no_model_on_the_hub_leaves_nothing_of_the_one_before(page, hub, tmp_path):
    upload(page, example("With an opacity"), tmp_path / "film.png")
    page.locator("#cxr-picture img[alt*='Grad-CAM']").wait_for()
    take(page, "alice/nothing-there")
    page.locator("#cxr-verdict", has_text="alice/nothing-there: there is no such repository").wait_for()
    assert rows_of(page) == {}
    page.locator("#cxr-picture").wait_for(state="hidden")
    take(page, "bundled")
    page.locator("#cxr-picture img[alt*='Grad-CAM']").wait_for()
    assert list(rows_of(page)) == ["PNEUMONIA", "NORMAL"]


def test_breaking_an_image_moves_probability_and_map(page, bundled, tmp_path):
    pixels = np.asarray(example("With an opacity"))
    upload(page, pixels, tmp_path / "film.png")
    page.locator("#cxr-picture img[alt*='Grad-CAM']").wait_for()
    page.locator("#cxr-status progress").wait_for(state="detached")
    page.get_by_role("button", name="Break it").click()

    def changed(**changes):
        """Wait until the page says what the estimator says of the changed image."""
        share = bundled.predict_proba([broken(pixels, **changes)])[0, bundled.classes_.tolist().index("PNEUMONIA")]
        page.wait_for_function(
            "text => [...document.querySelectorAll('.cxr-checks tr')].some("
            "row => row.cells[0].innerText === 'Changed' && row.cells[1].innerText === text)",
            arg=f"{share:.1%}",
        )
        return page.locator("#cxr-changed img").get_attribute("src")

    rotate = page.get_by_label("range slider for Rotate (°)")
    while rotate.input_value() != "8":
        rotate.press("ArrowRight")
    first = changed(rotate=8)
    page.get_by_label("Remove side markers and text").check()
    second = changed(rotate=8, remove_marker=True)
    assert first != second
    page.get_by_role("button", name="Back to the original").click()
    changed()
    page.get_by_role("button", name="Normal").click()  # another image empties the panel
    page.get_by_text("Move a slider").wait_for()
    page.locator("#cxr-changed").wait_for(state="hidden")


def test_a_changed_image_does_not_come_after_the_next_one(page, tmp_path):
    for title in ("With an opacity", "Normal"):
        Image.fromarray(example(title)).save(tmp_path / f"{title}.png")
    upload(page, example("With an opacity"), tmp_path / "film.png")
    page.locator("#cxr-picture img[alt*='Grad-CAM']").wait_for()
    page.locator("#cxr-status progress").wait_for(state="detached")
    page.get_by_role("button", name="Break it").click()
    page.get_by_label("range slider for Rotate (°)").press("ArrowRight")
    page.get_by_label("Clear", exact=True).click()
    page.locator("input[type=file]").first.set_input_files(tmp_path / "Normal.png")
    page.locator(".cxr-decision", has_text="NORMAL").wait_for()
    page.locator("#cxr-picture img[alt*='Grad-CAM']").wait_for()
    page.wait_for_timeout(3000)
    assert not page.locator("#cxr-changed").is_visible()
    assert page.get_by_text("Move a slider").count() == 1
