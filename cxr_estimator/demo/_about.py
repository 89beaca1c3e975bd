"""What there is to say about the app and its models; text that others wrote is made harmless first."""

from __future__ import annotations

import html
import re
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

from cxr_estimator._wording import DISCLAIMER, Markdown, escaped, fenced, markdown_rows
from cxr_estimator.demo._models import Served
from cxr_estimator.demo._settings import MEBIBYTE, Settings
from cxr_estimator.pretrained import ATTRIBUTION
from cxr_estimator.versions import package_versions

_METADATA = re.compile(r"\A---\r?\n.*?^---[ \t]*\r?$", re.DOTALL | re.MULTILINE)
_HARMLESS = re.compile("(https?://|mailto:)", re.IGNORECASE)
_SHIFT = 3  # the card's title stands below the page's own headings


def card_html(text: str) -> str:
    """Return Markdown of strangers as harmless HTML: tags stand there as text, pictures are named and not loaded.

    Links lead to web pages alone, and tell them nothing of this one; the metadata at the beginning is left out.
    """
    return f'<div class="cxr-model-card">{_renderer().render(_METADATA.sub("", text, count=1))}</div>'


def model_html(served: Served) -> str:
    """Return the card of a model, or that there is none."""
    if served.card.strip():
        return card_html(served.card)
    return f'<div class="cxr-model-card"><p>The model {html.escape(served.name)} has no card.</p></div>'


def data_text() -> Markdown:
    """Return where the bundled model's data come from, and what this app cannot do."""
    return Markdown(
        f"### Limits\n\n**{DISCLAIMER}** Nothing here was validated for clinical use. Decide about no patient by it.\n"
        "\n"
        "- The bundled model knows radiographs of children of one hospital, and two answers. Expect worse anywhere "
        "else, whatever probability it gives.\n"
        "- An image that is like those of training can still show what the model knows nothing of.\n"
        "- A heat map shows what the model used, not where disease is. A trust card finds maps that are no better than "
        "chance; that a map passes does not make the model right.\n"
        "- The synthetic examples are drawings.\n\n"
        f"### Data\n\nThe bundled model was trained on radiographs of {escaped(ATTRIBUTION)}. Licence of the data: "
        "[Creative Commons Attribution 4.0](https://creativecommons.org/licenses/by/4.0/). None of them is part of "
        "this app."
    )


def privacy_text(settings: Settings) -> Markdown:
    """Return what becomes of uploads."""
    minutes = settings.keep_seconds / 60
    hub = (
        f" Models on the Hugging Face Hub that you name (at most {settings.max_model_bytes / MEBIBYTE:,.0f} MiB) are "
        "fetched by the server, without your account and without your images."
        if settings.allow_hub
        else ""
    )
    return Markdown(
        "### Privacy\n\n"
        f"- Uploads and results are deleted after {minutes:g} minutes, by the server and without being asked. Nothing "
        "is kept longer.\n"
        "- There is no history of runs, here or in your browser, no telemetry, and no page loads anything from "
        "elsewhere.\n"
        "- Of DICOM files only the pixels and what is needed to show them are read. Names and identifiers are never "
        "shown, logged or written into results. Text that is burnt into the pixels stays there: remove it first.\n"
        f"- Upload nothing that you may not share with whoever runs this server.{hub}"
    )


def use_text() -> Markdown:
    """Return how to use this from programs, how to cite it, and the versions at work."""
    python = (
        "from gradio_client import Client, handle_file\n\n"
        'client = Client("ADDRESS OF THIS PAGE")\n'
        "client.view_api()  # every endpoint, with its arguments\n"
        'client.predict(handle_file("image.png"), api_name="/predict")'
    )
    mcp = '{"mcpServers": {"cxr_estimator": {"url": "ADDRESS OF THIS PAGE/gradio_api/mcp/"}}}'
    versions = package_versions()
    cite = (
        "@software{cxr_estimator,\n"
        "  title = {cxr_estimator: train, calibrate, explain and audit chest-radiograph classifiers},\n"
        f"  version = {{{versions['cxr_estimator']}}}\n}}"
    )
    return Markdown(
        f"### Use it from programs\n\nThe foot of this page leads to a description of the API. In Python:\n\n"
        f"{fenced(python, 'python')}\n\nAssistants that speak MCP find the same functions as tools:\n\n"
        f"{fenced(mcp, 'json')}\n\nOn a computer of your own, `cxr demo` starts this app.\n\n"
        f"### Cite\n\n{fenced(cite, 'bibtex')}\n\nWhoever uses the bundled model owes its data the attribution above; "
        "each method and metric names its paper in the documentation.\n\n"
        f"### Versions\n\n{markdown_rows(['package', 'version'], versions.items())}"
    )


def _renderer() -> MarkdownIt:
    """Return what makes HTML of Markdown, with raw HTML off; links are checked as they are written."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    markdown.validateLink = lambda url: True  # type: ignore[method-assign]
    markdown.add_render_rule("image", _picture_named)
    markdown.add_render_rule("link_open", _link)
    markdown.core.ruler.push("headings_below", _lower_headings)
    return markdown


def _picture_named(renderer: Any, tokens: list[Token], index: int, options: Any, env: Any) -> str:
    text = html.escape(renderer.renderInlineAsText(tokens[index].children or [], options, env))
    return f"<em>(picture: {text or 'without a description'})</em>"


def _link(renderer: Any, tokens: list[Token], index: int, options: Any, env: Any) -> str:
    token = tokens[index]
    if not _HARMLESS.match(str(token.attrGet("href"))):
        del token.attrs["href"]
    token.attrSet("rel", "noopener noreferrer nofollow")
    token.attrSet("target", "_blank")
    return renderer.renderToken(tokens, index, options, env)


def _lower_headings(state: Any) -> None:
    for token in state.tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1:]) + _SHIFT, 6)}"
