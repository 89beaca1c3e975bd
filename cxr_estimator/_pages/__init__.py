"""Pages that need no other file: one frame and one style for all reports, which bring their bodies."""

from __future__ import annotations

import base64
import io
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from cxr_estimator._figure_style import method_title
from cxr_estimator._wording import DISCLAIMER, printable
from cxr_estimator.verdicts import SIGNS

if TYPE_CHECKING:
    from markupsafe import Markup


def environment() -> Any:
    """Return a jinja2 Environment of this package's templates, "folder/name"; what is filled in is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(
        loader=PackageLoader("cxr_estimator", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters.update(method_title=method_title, png=png, jpeg=jpeg)
    pages.globals.update(signs=SIGNS, disclaimer=DISCLAIMER)
    return pages


_shared = cache(environment)


def fragment(template: str, **content: Any) -> Markup:
    """Fill a template, such as "audit/body.html.jinja", whose text stands in a page."""
    from markupsafe import Markup

    return Markup(_shared().get_template(template).render(**content))  # noqa: S704 (escaped by the environment)


def page(title: str, body: Markup, disclaimer: str = DISCLAIMER) -> str:
    """Return one HTML page around a body."""
    return printable(fragment("_pages/frame.html.jinja", title=title, body=body, disclaimer=disclaimer))


def png(picture: Any) -> str:
    """Return a figure of matplotlib, pixels (H, W[, 3]) uint8, or a PNG file, as the address of a picture in a page."""
    return _address(picture if isinstance(picture, bytes) else png_file(picture), "png")


def png_file(picture: Any) -> bytes:
    """Return a figure of matplotlib, or pixels (H, W[, 3]) uint8, as a PNG file."""
    from PIL import Image

    out = io.BytesIO()
    if isinstance(picture, np.ndarray):
        Image.fromarray(picture).save(out, "PNG")
    else:
        picture.savefig(out, format="png")
    return out.getvalue()


def jpeg(pixels: np.ndarray) -> str:
    """Return pixels (H, W[, 3]) uint8 as the address of a picture in a page: of radiographs a tenth of a PNG."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=88)
    return _address(out.getvalue(), "jpeg")


def _address(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
