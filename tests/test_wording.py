"""How figures and names are written."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from cxr_estimator._wording import Markdown, cell, changed_copies, escaped, fenced, markdown_rows, printable, words
from cxr_estimator.statistics import Estimate

MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cf", "Zs", "Zl", "Zp"]), min_size=1) | st.text(
    "ab _*`|[]()<>&#~$\\!-+.:\n", min_size=1
)


def read(inline):
    assert {one.type for one in inline.children} <= {"text", "text_special"}, "more than text"
    return "".join(one.content for one in inline.children)


@given(TEXT)
def test_escaped_text_is_read_as_it_was(text):
    one_line = " ".join(text.split())
    (inline,) = MARKDOWN.parseInline(str(escaped(text)))
    assert read(inline) == one_line


@given(st.lists(st.lists(TEXT, min_size=2, max_size=2), min_size=1, max_size=3))
def test_cells_stay_in_their_places(rows):
    blocks = MARKDOWN.parse(str(markdown_rows(["a", "b"], rows)))
    cells = [read(one) for one in blocks if one.type == "inline"]
    assert cells == ["a", "b", *(" ".join(text.split()) for row in rows for text in row)]


@given(st.text("a`\n", min_size=1))
def test_nothing_ends_a_block_of_code(text):
    block, *others = MARKDOWN.parse(str(fenced(text, "text")))
    assert not others
    assert (block.type, block.info) == ("fence", "text")
    assert block.content.strip("\n") == text.strip()


def test_copies_are_counted():
    assert [changed_copies(number) for number in (1, 2, 1000)] == [
        "1 randomly changed copy",
        "2 randomly changed copies",
        "1,000 randomly changed copies",
    ]


def test_markdown_is_left_alone():
    assert escaped(Markdown("*a*")) == "*a*"
    assert escaped("*a*") == r"\*a\*"
    assert escaped(3) == "3"


@pytest.mark.parametrize(
    ("estimate", "sign", "text"),
    [
        (Estimate(0.9124, 0.88, 0.94), "", "0.912 (0.880 to 0.940)"),
        (Estimate(0.1, -0.05, 0.2), "+", "+0.100 (-0.050 to +0.200)"),
        (Estimate(0.5, math.nan, math.nan), "", "0.500"),
        (Estimate(0.5, 0.5, 0.5), "", "0.500"),
        (Estimate(math.nan, math.nan, math.nan), "", "undefined"),
    ],
)
def test_estimates_in_cells(estimate, sign, text):
    assert cell(estimate, sign) == text


def test_names_for_people():
    assert [words(name) for name in ("macro_auroc", "deletion_auc", "brier", "f1")] == [
        "macro AUROC", "deletion AUC", "Brier", "F1",
    ]  # fmt: skip


def test_names_that_are_no_utf_8():
    assert printable("a\udcff") == "a\\udcff"
