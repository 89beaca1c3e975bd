"""Cards of strangers are harmless, and the page says what becomes of uploads."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_estimator._wording import DISCLAIMER
from cxr_estimator.demo._about import card_html, data_text, model_html, privacy_text, use_text
from cxr_estimator.demo._models import Models, Served
from cxr_estimator.demo._settings import Settings
from cxr_estimator.errors import EditedFilesWarning
from cxr_estimator.pretrained import FOLDER
from cxr_estimator.versions import package_versions


def test_the_bundled_card_is_shown_whole(served):
    card = (FOLDER / "README.md").read_text()
    assert served.card == card
    shown = model_html(served)
    assert "<h4>Pneumonia in chest radiographs of children</h4>" in shown
    assert "library_name" not in shown  # the metadata
    assert shown.count("<table>") == len(re.findall(r"^\|[-:| ]+\|$", card, re.MULTILINE)) > 0
    assert "(picture: " in shown or "![" not in card
    assert "<img" not in shown


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "a <img src=x onerror=alert(1)> b",
        "<iframe src='https://example.org'></iframe>",
        "![x](https://example.org/pixel.png)",
        "![x](data:image/svg+xml;base64,PHN2Zz4=)",
        "[x](javascript:alert(1))",
        "[x](JaVaScRiPt:alert(1))",
        "[x](data:text/html,<script>)",
        "[x](file:///etc/passwd)",
        "[x](/gradio_api/file=secret)",
        "<javascript:alert(1)>",
        "[x]: javascript:alert(1)\n\n[x]",
        '[x](https://example.org "onmouseover=alert(1)")',
        "<style>body{display:none}</style>",
        '</div><div style="position:fixed">',
    ],
)
def test_nothing_of_a_strangers_card_runs_or_loads(text):
    shown = card_html(text).lower()
    for tag in ("<script", "<img", "<iframe", "<style", "<svg", "style="):
        assert tag not in shown.replace("&lt;", "").replace("style=&quot;", "")
    for scheme in ('href="javascript', 'href="data', 'href="file', 'href="/'):
        assert scheme not in shown
    assert shown.count("<div") == shown.count("</div>") == 1


def test_links_tell_nothing_of_this_page():
    shown = card_html("[paper](https://example.org/paper)")
    assert 'href="https://example.org/paper"' in shown
    assert 'rel="noopener noreferrer nofollow"' in shown
    assert 'target="_blank"' in shown


def test_pictures_are_named():
    assert "(picture: Calibration &lt;b&gt; curve)" in card_html("![Calibration `<b>` curve](calibration.png)")


@settings(deadline=None, max_examples=100)
@given(st.text(alphabet="<>&\"'()[]!`*_#:/ \nabjsx=-|", max_size=80))
def test_only_tags_of_markdown_come_out(text):
    from html.parser import HTMLParser

    tags = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attributes):
            tags.append((tag, dict(attributes)))

    Reader().feed(card_html(text))
    known = {
        "div",
        "p",
        "em",
        "strong",
        "h4",
        "h5",
        "h6",
        "ul",
        "ol",
        "li",
        "code",
        "pre",
        "blockquote",
        "hr",
        "br",
        "a",
    }
    known |= {"table", "thead", "tbody", "tr", "th", "td"}
    assert {tag for tag, _ in tags} <= known
    assert {name for _, attributes in tags for name in attributes} <= {
        "class", "href", "rel", "target", "title", "start", "style"
    }  # fmt: skip


def test_models_without_a_card_and_with_a_long_one(fitted, tmp_path):
    assert "has no card" in model_html(Served("a<b>", fitted))
    assert "a&lt;b&gt;" in model_html(Served("a<b>", fitted))
    fitted.save(tmp_path / "mine")
    (tmp_path / "mine" / "README.md").write_bytes(b"# Mine\n\xff" + b"x" * 300_000)
    with pytest.warns(EditedFilesWarning):
        found = Models(Settings(models=(str(tmp_path / "mine"),), device="cpu")).get("mine")
    assert found.card.startswith("# Mine\n\ufffd")
    assert len(found.card) <= 200_000


def test_what_the_page_says():
    assert DISCLAIMER in data_text()
    for part in ("Kermany", "CC BY 4.0", "creativecommons.org/licenses/by/4.0"):
        assert part in data_text()
    for minutes, settings_ in ((30, Settings()), (2, Settings(keep_seconds=120, allow_hub=False))):
        said = privacy_text(settings_)
        assert f"deleted after {minutes} minutes" in said
        assert ("Hugging Face" in said) == settings_.allow_hub
    for name, version in package_versions().items():
        assert f"| {name} | {version} |" in use_text().replace("\\", "")
    assert "gradio_client" in use_text()
    assert "mcp" in use_text()
