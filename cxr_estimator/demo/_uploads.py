"""What visitors upload, decoded; messages name no place on this machine."""

from __future__ import annotations

from pathlib import Path

from cxr_estimator.errors import DataError, ImageError
from cxr_estimator.images import DecodedImage, as_images, has_dicom_name


def read_upload(path: str | Path | None) -> DecodedImage:
    """Return the pixels of an uploaded PNG, JPEG, TIFF or DICOM file.

    Raises
    ------
    DataError
        There is none, or it cannot be read; the message says why, without its path.
    """
    if path is None:
        raise DataError("Choose a radiograph first: a PNG, JPEG, TIFF or DICOM file.")
    if not Path(path).exists():
        raise DataError("The uploaded file has been deleted meanwhile, as all are after a while. Upload it again.")
    try:
        decoded = as_images([str(path)])[0]
    except ImageError as error:
        raise DataError(f"This file cannot be used: {error.reason}") from None
    return DecodedImage(decoded.pixels, "the uploaded image")


def read_content(content: bytes, name: str) -> DecodedImage:
    """Return the pixels of a file that is in memory; of its name only the ending matters.

    Raises
    ------
    DataError
        It cannot be read; the message says why.
    """
    plain_name = "image.dcm" if has_dicom_name(name) else "image"
    try:
        decoded = as_images([plain_name]).decode(0, content)
    except ImageError as error:
        raise DataError(f"This file cannot be used: {error.reason}") from None
    return DecodedImage(decoded.pixels, "the uploaded image")
