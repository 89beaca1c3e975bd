"""Trust cards in words."""

from __future__ import annotations

from cxr_estimator._figure_style import method_title
from cxr_estimator._wording import Markdown, markdown_rows
from cxr_estimator.demo._analysis import Shown
from cxr_estimator.trust import DOUBTFUL, FAIL, NO_DATA, PASS, SHOW, WARN, WITHHOLD

# never by colour alone
SIGNS = {
    PASS: "✓ pass",
    DOUBTFUL: "! doubtful",
    FAIL: "✗ fail",
    NO_DATA: "? not enough data",
    SHOW: "✓ show",
    WARN: "! show with warning",
    WITHHOLD: "✗ withhold",
}


def card_text(shown: Shown, title: str) -> Markdown:
    """Return the trust card of a map: its verdict, and a table of all checks."""
    card = shown.card
    rows = [[check.name.replace("_", " "), SIGNS[check.verdict], check.sentence] for check in card.checks]
    head = f"#### {title}: {method_title(card.method)}, {SIGNS[card.verdict]}"
    return Markdown(f"{head}\n\n{card.sentence}\n\n{markdown_rows(['check', 'verdict', 'what was found'], rows)}")
