"""What tests of the card share: how it is read, and a training made up."""

from __future__ import annotations

import copy

import yaml
from markdown_it import MarkdownIt

from cxr_estimator.card import CARD_NAME, ModelCard
from cxr_estimator.provenance import Bin, ClassCount, Provenance, Side, Validated
from cxr_estimator.statistics import Estimate

SECTIONS = [
    "How to use it", "Intended use and limits", "Data", "Training", "Operating points", "Calibration", "Evaluation",
    "Quality of explanations", "Audit", "Uncertainty and abstention", "Licence, attribution and citation",
]  # fmt: skip
MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable("table")


def text_of(clf, **card):
    return ModelCard(**card).files(clf)[CARD_NAME].decode()


def body_of(text):
    return text.split("\n---\n", maxsplit=1)[-1]


def metadata_of(text):
    return yaml.safe_load(text.split("---\n")[1])


def section(text, title):
    """The part of the card below a heading."""
    return body_of(text).split(f"\n## {title}\n")[1].split("\n## ")[0]


def plain(block):
    """The text of a line as it is read."""
    return "".join(one.content for one in block.children if one.type in ("text", "code_inline", "text_special"))


def tables(text):
    """Rows of plain cells of each table."""
    found = []
    for block in MARKDOWN.parse(body_of(text)):
        if block.type == "table_open":
            found.append([])
        elif block.type == "tr_open":
            found[-1].append([])
        elif block.type == "inline" and block.level >= 4 and found and block.map is not None:
            found[-1][-1].append(plain(block))
    return found


def headings(text):
    blocks = MARKDOWN.parse(body_of(text))
    return [plain(blocks[i + 1]) for i, one in enumerate(blocks) if one.type == "heading_open" and one.tag == "h2"]


def side(first, second, *, patients=True, sketch=()):
    """A side of the split with so many images of two classes, two of each patient."""
    counts = [
        ClassCount(label, n, n // 2 if patients else None) for label, n in (("NORMAL", first), ("PNEUMONIA", second))
    ]
    n = first + second
    return Side(n, n // 2 if patients else None, tuple(counts), sketch)


SEEN = Provenance(
    training=side(600, 1800, sketch=("00aa" * 4, "ffff" * 4)),
    validation=side(60, 140, sketch=("1234" * 4,)),
    validated=(
        Validated(
            "PNEUMONIA",
            Estimate(0.9512, 0.9, 0.98),
            (Bin(0.1, 0.05, 0.01, 0.2, 100), Bin(0.8, 0.9, 0.8, 0.97, 100)),
        ),
    ),
    n_unreadable=3,
    seconds=1234.5,
    versions={"python": "3.11.0", "torch": "2.6.0"},
)  # fmt: skip


def changed(clf, **attributes):
    clf = copy.copy(clf)
    for name, value in attributes.items():
        setattr(clf, name, value)
    return clf
