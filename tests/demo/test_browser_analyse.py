import json

import numpy as np
import pytest
from PIL import Image

from cxr_estimator import make_phantoms
from cxr_estimator._wording import DISCLAIMER
from cxr_estimator.demo._examples import example
from cxr_estimator.receipts import Receipt, replay
from tests.dicom_files import dicom

PHANTOMS = make_phantoms(2, 300, prevalence=1, difficulty=0.0, random_state=2).X
CONTRAST = """() => {
  const parse = c => { const v = c.match(/[\\d.]+/g).map(Number); return v.length < 4 ? [...v, 1] : v; };
  const linear = x => x / 255 <= .03928 ? x / 255 / 12.92 : ((x / 255 + .055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => .2126 * linear(r) + .7152 * linear(g) + .0722 * linear(b);
  const bad = [];
  const walker = document.createTreeWalker(document.querySelector('.gradio-container'), NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, e = node.parentElement, style = getComputedStyle(e);
    if (!node.data.trim() || !e.checkVisibility({opacityProperty: true, visibilityProperty: true})) continue;
    let back = null, gradient = false;
    for (let up = e; up && !back; up = up.parentElement) {
      const c = parse(getComputedStyle(up).backgroundColor);
      if (getComputedStyle(up).backgroundImage !== 'none') gradient = true;
      if (c[3] > .9) back = c;
    }
    if (gradient) continue;
    const [a, b] = [light(parse(style.color)), light(back || [255, 255, 255, 1])].sort((x, y) => y - x);
    const least = parseFloat(style.fontSize) >= 24 ? 3 : 4.5;
    const ratio = (a + .05) / (b + .05);
    if (ratio < least) bad.push(`${node.data.trim().slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return bad;
}"""


def percent(page, label):
    return page.locator(f"td[data-label={label}]").inner_text()


def upload(page, path):
    page.locator("input[type=file]").first.set_input_files(path)
    page.locator(".cxr-decision, .cxr-note.cxr-fail").first.wait_for()


def picture_says(page, text):
    page.locator(f"#cxr-picture img[alt*='{text}']").wait_for()


def drawn(page):
    """Wait for the first heat map, or for the words in its place."""
    page.locator("#cxr-picture img:not([alt^='The radiograph'])").wait_for()


@pytest.fixture
def film(tmp_path):
    """One whose Grad-CAM and LRP are shown, and whose saliency is withheld."""
    path = tmp_path / "DOE_JANE.png"
    Image.fromarray(example("With an opacity")).save(path)
    return path


def test_numbers_are_the_estimators_own(page, bundled, film, tmp_path):
    wide = (PHANTOMS[1].astype(np.uint16) << 8) + 77
    Image.fromarray(wide).save(tmp_path / "wide.png")
    (tmp_path / "film.dcm").write_bytes(dicom(PHANTOMS[0].astype(np.uint16) << 4, stored=12, PatientName="Doe^Jane"))
    for path in (film, tmp_path / "wide.png", tmp_path / "film.dcm"):
        upload(page, path)
        share = bundled.predict_proba([str(path)])[0, 1]
        samples = bundled.uncertainty([str(path)], n_samples=8, random_state=0).samples[:, 0, 1]
        assert percent(page, "PNEUMONIA") == f"{share:.1%}"
        row = page.locator("tr", has=page.locator("td[data-label=PNEUMONIA]")).inner_text()
        assert f"{samples.min():.1%} to {samples.max():.1%}" in row
        assert (
            page.locator(".cxr-decision strong").inner_text()
            == bundled.predict([str(path)], operating_point="screening")[0]
        )
        drawn(page)
        assert "Doe" not in page.content()
        page.get_by_label("Clear", exact=True).click()
        page.locator(".cxr-decision").wait_for(state="detached")


def test_methods_withheld_maps_and_downloads(page, bundled, film, tmp_path):
    upload(page, film)
    drawn(page)
    page.get_by_label("LRP", exact=True).check()
    page.get_by_label("Saliency", exact=True).check()
    choose(page, "LRP")
    picture_says(page, "LRP")
    choose(page, "Saliency")
    picture_says(page, "No picture. Saliency is withheld")
    page.locator(".cxr-card", has_text="Withhold.").wait_for()
    page.get_by_label("Show withheld maps", exact=False).check()
    picture_says(page, "not evidence")
    page.get_by_label("LRP", exact=True).uncheck()
    page.get_by_label("Overlay").wait_for()
    choose(page, "Grad-CAM")
    picture_says(page, "Grad-CAM")
    page.get_by_role("button", name="Downloads").click()
    page.get_by_role("button", name="Make files").click()
    found = {}
    for name in ("figure.png", "numbers.json", "report.html", "receipt.json"):
        with page.expect_download() as download:
            page.locator(f"a[download='{name}']").first.click()
        download.value.save_as(tmp_path / name)
        found[name] = (tmp_path / name).read_bytes()
    numbers, report = json.loads(found["numbers.json"]), found["report.html"].decode()
    assert numbers["probabilities"][1]["probability"] == pytest.approx(bundled.predict_proba([str(film)])[0, 1])
    assert replay(Receipt.from_json(found["receipt.json"].decode()), str(film), clf=bundled).is_exact
    assert DISCLAIMER in report
    assert "http" not in report.replace("http-equiv", "")
    assert all(b"DOE_JANE" not in content for content in found.values())
    with Image.open(tmp_path / "figure.png") as figure:
        assert figure.size[0] > 1000


def choose(page, method):
    """Choose a map to look at; an open list does not learn of maps that are made meanwhile, so it is opened anew."""
    shown, option = page.get_by_label("Heat map", exact=True), page.get_by_role("option", name=method, exact=True)
    for _ in range(30):
        shown.click()
        page.wait_for_timeout(500)
        if option.count():
            option.click()
            return
        shown.blur()  # while it has the focus, a click opens nothing
        page.wait_for_timeout(500)
    pytest.fail(f"there is no map of {method}")


def test_slow_work_is_cancelled_and_its_thread_ends(page, film):
    upload(page, film)
    drawn(page)
    page.locator("#cxr-status progress").wait_for(state="detached")
    page.get_by_role("button", name="Slow").click()
    page.get_by_label("RISE", exact=True).check()
    page.locator("#cxr-status progress").wait_for()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text("Cancelled. Ready: Grad-CAM").wait_for()
    page.get_by_label("RISE", exact=True).uncheck()
    page.get_by_label("LRP", exact=True).check()
    choose(page, "LRP")
    picture_says(page, "LRP")


def test_maps_that_cannot_be_made_leave_no_work_that_seems_to_go_on(page, server, tmp_path):
    path = tmp_path / "changed_meanwhile.png"
    Image.fromarray(example("With an opacity")).save(path)
    upload(page, path)
    drawn(page)
    page.locator("#cxr-status progress").wait_for(state="detached")
    (kept,) = server.folder.rglob(path.name)
    Image.fromarray(PHANTOMS[0]).save(kept)
    page.get_by_label("LRP", exact=True).check()
    page.get_by_text("The image has changed since it was judged").wait_for()
    page.locator("#cxr-status progress").wait_for(state="detached")
    page.get_by_role("button", name="Cancel").wait_for(state="hidden")


def test_keyboard_alone(page):
    def to(name, role="button"):
        for _ in range(80):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.textContent.trim() || document.activeElement.ariaLabel") == name:
                return
        pytest.fail(f"no way to {name}")

    page.get_by_role("button", name="With an opacity").wait_for()
    to("With an opacity")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    picture_says(page, "Grad-CAM")
    to("Analyse")
    page.keyboard.press("Enter")
    page.locator(".cxr-decision").wait_for()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_phone_and_contrast(page, app_url, theme):
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{app_url}?__theme={theme}")
    page.get_by_role("button", name="With an opacity").click()
    drawn(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.get_by_text(DISCLAIMER).count() >= 2
    assert page.evaluate(CONTRAST) == []
    missing = "[...document.images].filter(one => one.checkVisibility() && !one.alt).map(one => one.src)"
    assert page.evaluate(missing) == []
