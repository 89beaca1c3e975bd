import base64
import io

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from cxr_estimator import make_phantoms
from cxr_estimator._pages import environment, fragment, jpeg, page, png
from cxr_estimator._wording import DISCLAIMER

TABLES = '{% from "_pages/tables.html.jinja" import mark, noted with context %}'


def pixels(address, kind="png"):
    head, data = address.split(",")
    assert head == f"data:image/{kind};base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_a_page_escapes_its_title_and_frames_its_body():
    body = fragment("_pages/frame.html.jinja", title="a <b>", body="<i>", disclaimer="mind & heed")
    for escaped in ("<title>a &lt;b&gt;</title>", "&lt;i&gt;", "mind &amp; heed"):
        assert escaped in body
    whole = page("Whole", body)
    assert whole.startswith("<!doctype html>")
    assert str(body) in whole
    assert whole.count(DISCLAIMER) == 2, "at the top and at the end"
    assert "figcaption" in whole, "the style is within"


def test_a_byte_of_a_name_that_is_no_utf8_is_written_out():
    assert "\\udcff" in page("\udcff", fragment("_pages/frame.html.jinja", title="", body="", disclaimer=""))


def test_pictures_of_pixels_and_of_figures():
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    np.testing.assert_array_equal(pixels(png(grey)), grey)
    assert pixels(png(Figure(figsize=(2, 1), dpi=50))).shape == (50, 100, 4)


def test_a_radiograph_is_much_smaller_as_a_jpeg():
    grey = make_phantoms(1, 128, random_state=0).X[0]
    np.testing.assert_allclose(pixels(jpeg(grey), "jpeg"), grey, atol=40)
    assert np.abs(pixels(jpeg(grey), "jpeg").astype(int) - grey).mean() < 3
    assert len(jpeg(grey)) < len(png(grey)) / 2
    assert pixels(jpeg(np.repeat(grey[..., None], 3, axis=2)), "jpeg").shape == (128, 128, 3)


def test_parts_of_pages():
    pages = environment()
    marked = pages.from_string(TABLES + "{{ mark(verdict) }}").render(verdict="not enough data")
    assert 'class="mark not-enough-data"' in marked
    assert pages.from_string(TABLES + "{{ noted(()) }}").render().strip() == ""
    assert "<li>1 &lt; 2</li>" in pages.from_string(TABLES + "{{ noted(found) }}").render(found=["1 < 2"])
