"""The pages Compare, Batch, Benchmark and About in a real browser, against the estimator's own numbers."""

from __future__ import annotations

import contextlib
import csv

import pytest
from playwright.sync_api import TimeoutError as NotThere

from cxr_estimator.demo._examples import phantom_files

TIMEOUT = 60_000  # ms


def said(page, place, text):
    """Wait until the element with that id holds the text; return all of its text."""
    page.wait_for_function(
        "([place, text]) => document.getElementById(place)?.innerText.includes(text)",
        arg=[place, text],
        timeout=TIMEOUT,
    )
    return page.locator(f"#{place}").inner_text()


def panel(page, name):
    """Open a page of the app; a click is lost where the page is still starting, so it is made again then."""
    tab, chosen = page.get_by_role("tab", name=name), page.get_by_role("tab", name=name, selected=True)
    for _ in range(3):
        tab.click()
        with contextlib.suppress(NotThere):
            return chosen.wait_for(timeout=30_000)
    raise AssertionError(f"the page {name} does not open")


def choose(page, paths):
    """Upload files where the open page asks for them."""
    page.locator("[role=tabpanel]:visible input[type=file]").first.set_input_files(paths)


@pytest.fixture
def uploads(tmp_path):
    paths = phantom_files(2)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    return [*paths, str(broken)]


def test_a_batch_with_a_bad_file(page, served, uploads, tmp_path):
    panel(page, "Batch")
    choose(page, uploads)
    page.locator("[role=tabpanel]:visible tr.file").nth(2).wait_for()
    page.get_by_role("button", name="Judge all").click()
    assert "2 of 3 files judged" in said(page, "batch-status", "Done")
    table = said(page, "batch-table", "not read")
    assert "no readable PNG" in table
    with page.expect_download() as got:
        page.get_by_text("Download the table").click()
    got.value.save_as(tmp_path / "found.csv")
    with open(tmp_path / "found.csv", newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    for path in uploads[:2]:
        name = path.rsplit("/", 1)[-1]
        proba = served.clf.predict_proba([path])[0][served.clf.classes_.tolist().index("PNEUMONIA")]
        assert float(rows[name]["probability"]) == pytest.approx(proba)
        assert rows[name]["decision"] == served.clf.predict([path], operating_point="screening")[0]
        assert f"{proba:.3f}".rstrip("0") in table
    assert rows["broken.png"]["status"] == "not read"
    pictures = page.locator("#batch-gallery img")
    assert pictures.count() == 2
    assert all("PNEUMONIA" in picture.get_attribute("alt") for picture in pictures.all())
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_what_waits_in_line_is_cancelled_before_it_begins(page, browser, app_url, uploads):
    """Two others compute, and there is room for no more."""
    others = [browser.new_context().new_page() for _ in range(2)]
    for other in others:
        other.goto(app_url)
        panel(other, "Benchmark")
        other.get_by_role("combobox", name="Methods").click()
        other.get_by_role("option", name="Kernel SHAP (slow)").click()
        other.keyboard.press("Escape")
        other.get_by_role("button", name="Measure").click()
        said(other, "benchmark-status", "of 4")
    panel(page, "Batch")
    choose(page, uploads)
    page.locator("[role=tabpanel]:visible tr.file").nth(2).wait_for()
    page.get_by_role("button", name="Judge all").click()
    page.locator("#cancel-batch").click()
    page.wait_for_timeout(1000)  # it is on its way, and the others are not ready
    for other in others:
        other.locator("#cancel-benchmark").click()
    assert "0 of 3 files are ready" in said(page, "batch-status", "Cancelled.")
    page.locator("#cancel-batch").wait_for(state="hidden")
    for other in others:
        other.context.close()


def test_a_request_that_fails_leaves_no_button_to_cancel_it(page):
    panel(page, "Batch")
    page.get_by_role("button", name="Judge all").click()
    page.get_by_text("Choose files first").wait_for()
    said(page, "batch-status", "Stopped")
    page.locator("#cancel-batch").wait_for(state="hidden")
    assert not page.locator("#batch-table").is_visible()


def test_compare_two_operating_points(page, served, uploads):
    panel(page, "Compare")
    choose(page, uploads[0])
    page.get_by_text("synthetic_1.png").first.wait_for()
    page.get_by_role("button", name="Compare", exact=True).click()
    said(page, "compare-status", "Done.")
    proba = served.clf.predict_proba([uploads[0]])[0].max()
    table = said(page, "compare-table", "operating point")
    assert table.count(f"{proba:.1%} (") == 2
    figure = page.locator("img[alt^='Six panels']")
    figure.wait_for()
    page.wait_for_function("() => document.querySelector(\"img[alt^='Six panels']\").naturalWidth === 1530")
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_the_benchmark_fills_and_a_slow_one_is_cancelled(page):
    panel(page, "Benchmark")
    page.locator("[role=tabpanel]:visible input[type=number]").first.fill("2")
    page.keyboard.press("Tab")
    page.get_by_role("button", name="Measure").click()
    said(page, "benchmark-table", "Integrated gradients")
    said(page, "benchmark-status", "Done. 3 of 3")
    table = page.locator("#benchmark-table").inner_text()
    assert "rank 1" in table
    assert "relevance mass" in table
    page.locator("img[alt^='Table of methods']").wait_for()
    page.get_by_role("combobox", name="Methods").click()
    page.get_by_role("option", name="Kernel SHAP (slow)").click()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Measure").click()
    said(page, "benchmark-status", "3 of 4")
    page.locator("#cancel-benchmark").click()
    assert "3 of 4 methods measured" in said(page, "benchmark-status", "Cancelled")
    page.get_by_label("A zip file of mine").click()
    page.locator("[role=tabpanel]:visible [data-testid=file-upload]").first.wait_for(state="attached")
    page.get_by_text("relevance mass (localisation)").wait_for(state="detached")  # which uploads cannot tell
