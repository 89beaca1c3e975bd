"""What visitors' programs give to endpoints, checked."""

from __future__ import annotations

from typing import Any

from cxr_estimator._validation import check_number, keyword_options, plain, wrong_type
from cxr_estimator.attribution import METHODS
from cxr_estimator.demo._folder import uploaded
from cxr_estimator.demo._guard import local_path
from cxr_estimator.demo._uploads import read_upload
from cxr_estimator.errors import DataError
from cxr_estimator.images import DecodedImage
from cxr_estimator.receipts import Receipt

CALLER = "this endpoint"


def file_path(name: str, value: Any) -> str:
    """Return where a file lies that was uploaded."""
    path = value.get("path") if isinstance(value, dict) else None
    if isinstance(value, str) and local_path(value) != value:  # in lists, MCP leaves addresses as they are
        path = local_path(value)
    if path is None:
        raise DataError(f"`{name}` must be a file: a PNG, JPEG, TIFF or DICOM radiograph, or a zip where that fits.")
    return str(uploaded(path))


def image_of(value: Any) -> DecodedImage:
    """Return the pixels of an uploaded radiograph."""
    return read_upload(file_path("image", value))


def text(name: str, value: Any) -> str:
    """Return a text."""
    if not isinstance(value, str):
        raise wrong_type(name, CALLER, "a text", value)
    return value


def texts(name: str, value: Any) -> list[str]:
    """Return a list of texts."""
    if not isinstance(value, list):
        raise wrong_type(name, CALLER, "a list of texts", value)
    return [text(name, one) for one in value]


def seed_of(value: Any) -> int:
    """Return a seed."""
    return int(check_number("seed", value, caller=CALLER, low=0, high=2**32 - 1, integer=True))


def flag(name: str, value: Any) -> bool:
    """Return a truth value."""
    if not isinstance(value, bool):
        raise wrong_type(name, CALLER, "true or false", value)
    return value


def check_cost(receipt: Receipt, batch_size: int) -> None:
    """Raise a DataError where a receipt would cost more to repeat than what this app makes itself."""
    defaults = keyword_options(METHODS[receipt.method].function) if receipt.method in METHODS else {}
    others = [name for name, value in receipt.options.items() if value != plain(defaults.get(name, value))]
    others += ["error_bars"] * receipt.error_bars + ["batch_size"] * (receipt.batch_size > batch_size)
    if others:
        raise DataError(
            f"This app repeats explanations of its own settings. The receipt has others ({', '.join(others)}): use the "
            "command cxr replay on a computer of your own."
        )
