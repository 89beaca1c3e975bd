"""What all figures look like: resolution, colours, and text that is no formula."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150
INK, MUTED = "#1a1a1a", "#5f5f5f"
FIRST, SECOND = "#4c6a92", "#c1673a"
# Okabe & Ito: told apart with any colour vision; beyond seven lines markers help
LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKERS = ("", "o", "s", "^", "x")
_ACRONYMS = {"cam", "shap", "lime", "lrp", "rise"}


def write(ax: Axes, x: float, y: float, text: str, *, color: str = INK, **options: Any) -> None:
    """Write text as it is: a dollar sign in a class name is no formula, and a long one moves no panel."""
    ax.text(x, y, text, color=color, parse_math=False, **options).set_in_layout(False)


def method_title(method: str) -> str:
    """Return the name of a method for people: "grad_cam_plus_plus" is "Grad-CAM++"."""
    words = [word.upper() if word in _ACRONYMS else word for word in method.split("_")]
    text = " ".join(words).replace(" plus plus", "++").replace(" CAM", "-CAM").replace("grad-", "Grad-")
    text = text.replace("hi res-CAM", "HiResCAM")  # as its authors write it
    return text[:1].upper() + text[1:]


def short(label: object, length: int) -> str:
    """Return a label in one line of at most `length` characters."""
    text = " ".join(str(label).split())
    return text if len(text) <= length else text[: length - 1] + "…"


def caption(figure: Figure, text: str) -> None:
    """Write small below the axes, in lines as wide as the figure."""
    columns = int(18 * figure.get_figwidth())  # of 7.5 pt
    figure.supxlabel(textwrap.fill(text, columns), fontsize=7.5, color=MUTED, x=0.02, ha="left", parse_math=False)


def legend_name(name: Any) -> str:
    """Return a name for a legend, from which matplotlib leaves out what begins with an underscore."""
    text = short(name, 20)
    return f"\u200a{text}" if text.startswith("_") else text


def legend(ax: Axes, place: str) -> None:
    """Add a legend in which a dollar sign is no formula."""
    options: dict[str, Any] = {"fontsize": 7, "loc": place, "framealpha": 0.85}
    for text in ax.legend(**options).get_texts():
        text.set_parse_math(False)


def bare(ax: Axes, title: str) -> None:
    """Set a title in which a dollar sign is no formula, and take the frame's upper and right side away."""
    ax.set_title(title, fontsize=9, parse_math=False)
    ax.title.set_in_layout(True)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
