"""Pictures of the page as arrays: overlays, panels in place of maps that are no evidence, curves, colour scales."""

from __future__ import annotations

import io
import textwrap
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cxr_estimator._figure_style import method_title, short
from cxr_estimator.demo._analysis import Shown
from cxr_estimator.demo._models import Served
from cxr_estimator.figures import WITHHELD, colormap, overlay, plot_deletion
from cxr_estimator.images import DecodedImage
from cxr_estimator.preprocessing import picture
from cxr_estimator.verdicts import WITHHOLD

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNSIGNED = ("inferno", "viridis", "cividis", "jet")  # the last one is for those who compare with old figures
SIGNED = ("PuOr_r", "RdBu_r", "coolwarm")
STAMP = "NOT EVIDENCE"
_PAPER, _INK, _RED = (236, 239, 244), (30, 36, 48), (170, 24, 36)


def radiograph(served: Served, image: DecodedImage, *, longest: int = 1024) -> np.ndarray:
    """Return an image as the page shows it, (h, w) or (h, w, 3) uint8: in grey levels of the model, at its own aspect.

    The longer side has at most so many pixels, and half of them at least.
    """
    return picture(image, longest=longest, shortest=longest // 2, intensity=served.clf.preprocessing_.intensity)


def is_hidden(shown: Shown, show_withheld: bool) -> bool:
    """Return whether a map must not be seen."""
    return shown.card.verdict == WITHHOLD and not show_withheld


def overlaid(film: np.ndarray, shown: Shown, *, cmap: str | None, opacity: float, show_withheld: bool) -> np.ndarray:
    """Return the map over the radiograph (h, w, 3) uint8; one that is withheld as a panel, or stamped."""
    if is_hidden(shown, show_withheld):
        return panel(film.shape[:2], f"{method_title(shown.card.method)}, {WITHHELD}", shown.card.sentence)
    laid = overlay(shown.explanation, cmap=cmap, opacity=opacity, image=film)
    return stamped(laid) if shown.card.verdict == WITHHOLD else laid


def panel(shape: tuple[int, int], title: str, text: str) -> np.ndarray:
    """Return a picture (h, w, 3) of words."""
    height, width = shape
    size = max(min(height, width) // 22, 9)
    canvas = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.rectangle((0, 0, width - 1, height - 1), outline=_INK, width=max(size // 8, 1))
    large, small = ImageFont.load_default(size * 1.4), ImageFont.load_default(size)
    columns = max(int(width / size * 1.7), 12)
    heading = textwrap.fill(title, max(int(columns / 1.5), 10))
    where = size, height // 4
    draw.multiline_text(where, heading, fill=_RED, font=large)
    below = draw.multiline_textbbox(where, heading, font=large)[3] + size
    draw.multiline_text((size, below), textwrap.fill(text, columns), fill=_INK, font=small, spacing=size // 3)
    return np.asarray(canvas)


def stamped(film: np.ndarray) -> np.ndarray:
    """Return the picture (h, w, 3) with a stamp that says that it is no evidence."""
    canvas = Image.fromarray(film)
    draw = ImageDraw.Draw(canvas)
    width, height = canvas.size
    font = ImageFont.load_default(max(min(width, height) / 10, 9))
    middle = width / 2, height / 2
    left, top, right, bottom = draw.textbbox(middle, STAMP, font=font, anchor="mm")
    edge = max(height // 60, 2)
    draw.rectangle((left - edge, top - edge, right + edge, bottom + edge), fill="white", outline=_RED, width=edge // 2)
    draw.text(middle, STAMP, fill=_RED, font=font, anchor="mm")
    return np.asarray(canvas)


def deletion(shown: Shown) -> Figure:
    """Return the deletion curve of a map against its references."""
    found, target = shown.card.deletion, short(shown.explanation.target[0], 24)
    title = f"{method_title(shown.card.method)}: probability of {target}, gain {found.gain:+.3f}"
    return plot_deletion(found.fractions, found.curve, found.references, title=title)


def pixels(figure: Figure) -> np.ndarray:
    """Return a figure as (h, w, 3) uint8."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def png(picture: np.ndarray) -> bytes:
    """Return a picture as the content of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def scale(cmap: str, n: int = 9) -> str:
    """Return a colour map as a gradient of CSS, from left to right."""
    from matplotlib.colors import to_hex

    colours = colormap(cmap)
    return f"linear-gradient(to right, {', '.join(to_hex(colours(at)) for at in np.linspace(0, 1, n))})"
