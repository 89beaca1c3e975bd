"""What the map view shows of a case: overlay, before and after, all methods, or the deletion curve. No page."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cxr_estimator._figure_style import method_title
from cxr_estimator.demo._analysis import Shown
from cxr_estimator.demo._case import Case
from cxr_estimator.demo._pictures import SIGNED, UNSIGNED, deletion, is_hidden, overlaid, pixels
from cxr_estimator.demo._words import SIGNS, described, described_curve, html, legend
from cxr_estimator.figures import rgb

OVERLAY, SLIDER, GALLERY, CURVE = "Overlay", "Before / after", "All methods", "Deletion curve"
VIEWS = (OVERLAY, SLIDER, GALLERY, CURVE)


class Look(NamedTuple):
    """How a visitor wants to see the maps; nothing here needs the network."""

    view: str = OVERLAY
    method: str | None = None
    opacity: float = 0.6
    unsigned: str = UNSIGNED[0]
    signed: str = SIGNED[0]
    show_withheld: bool = False

    def cmap(self, shown: Shown) -> str:
        """Return the colours for a map."""
        return self.signed if shown.explanation.signed else self.unsigned


class View(NamedTuple):
    """What is seen; None and "" where there is nothing."""

    picture: np.ndarray | None
    alt: str
    pair: tuple[np.ndarray, np.ndarray] | None
    gallery: list[tuple[np.ndarray, str]]
    legend: str
    card: str


def view_of(case: Case | None, look: Look) -> View:
    """Draw what `look` asks for."""
    if case is None:
        return View(None, "", None, [], "", "")
    shown = case.visible.get(case.looked_at(look.method) or "")
    if look.view == GALLERY and case.visible:
        return View(None, "", None, _all(case, look), "", "")
    if shown is None:
        return View(case.picture, "The radiograph, without any heat map.", None, [], "", "")
    card = html("card", card=shown.card)
    if look.view == CURVE:
        return View(pixels(deletion(shown)), described_curve(shown), None, [], "", card)
    laid, alt = laid_over(case, shown, look), described(shown, show_withheld=look.show_withheld)
    hidden = is_hidden(shown, look.show_withheld)
    scale = "" if hidden else html("legend", legend=legend(shown, look.cmap(shown)))
    if look.view == SLIDER:
        return View(None, alt, (rgb(case.picture), laid), [], scale, card)
    return View(laid, alt, None, [], scale, card)


def laid_over(case: Case, shown: Shown, look: Look) -> np.ndarray:
    """Return the map over the radiograph of a case (h, w, 3) uint8."""
    return overlaid(case.picture, shown, cmap=look.cmap(shown), opacity=look.opacity, show_withheld=look.show_withheld)


def _all(case: Case, look: Look) -> list[tuple[np.ndarray, str]]:
    named = [
        (laid_over(case, shown, look), f"{method_title(name)}: {SIGNS[shown.card.verdict]} {shown.card.verdict}")
        for name, shown in case.visible.items()
    ]
    return [(rgb(case.picture), "Radiograph"), *named]
