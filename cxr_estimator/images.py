"""Files, PIL images, arrays and tensors -> decoded pixels with a content id. The only decoder of the package."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps

from cxr_estimator._isolation import Pool
from cxr_estimator.errors import DataError, ImageError, InvalidTypeError

_DICOM_EXTENSIONS = (".dcm", ".dicom")
EXTENSIONS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", *_DICOM_EXTENSIONS)
MAX_PIXELS = 50_000_000
_MAX_BYTES = 8 * MAX_PIXELS  # of a file
_FORMATS = ("PNG", "JPEG", "TIFF")
_CHANNELS = (1, 3, 4)
_STRIP_PIXELS = 1 << 20
# Files are not to be trusted, and their decoders warn of what is wrong in them. In a child process a decoder may crash,
# take for ever, or warn; in this one, a warnings filter would change what all other threads see (until Python 3.14).
_files = Pool("cxr_estimator.images:decode_content")


@dataclass(frozen=True)
class DecodedImage:
    """One image as it was stored: nothing scaled, nothing resized.

    Attributes
    ----------
    pixels : ndarray, (H, W) grey or (H, W, 3) RGB
        uint8, uint16, another integer type, or finite float32. An alpha channel has been laid over black.
    source : str
        File name or position ("X[3]"), for messages.
    """

    pixels: np.ndarray
    source: str

    @cached_property
    def content_id(self) -> str:
        """SHA-256 (hex) of type, shape and pixels: equal for the same picture from a file and from an array."""
        digest = hashlib.sha256(f"{self.pixels.dtype.str} {self.pixels.shape}".encode())
        digest.update(np.ascontiguousarray(self.pixels).data)
        return digest.hexdigest()


class ImageSequence:
    """A lazy sequence: `sequence[i]` decodes image i. Made by `as_images`."""

    def __init__(
        self, items: Sequence[Any] | np.ndarray, *, is_rows: bool = False, channels_first: bool = False
    ) -> None:
        self._items = items
        self._channels_first = channels_first
        self.is_rows = is_rows

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> DecodedImage:
        return self.decode(index, self.content(index))

    def content(self, index: int) -> bytes | None:
        """Return the bytes of the file that image `index` is, or None where it is no file."""
        path = self.path(index)
        return None if path is None else _read_file(Path(path), path)

    def decode(self, index: int, content: bytes | None) -> DecodedImage:
        """Return image `index`, from its `content` if it is a file."""
        source = self.source(index)
        if content is not None:
            return DecodedImage(_decode_file(content, source), source)
        return _decode(self._items[index], source, self._channels_first)

    def source(self, index: int) -> str:
        """Return the file name of image `index`, or "X[index]"."""
        item = self._items[index]
        return os.fspath(item) if isinstance(item, str | os.PathLike) else f"X[{index}]"

    def path(self, index: int) -> str | None:
        """Return the path of image `index`, or None where it is no file."""
        item = self._items[index]
        return os.fspath(item) if isinstance(item, str | os.PathLike) else None

    def with_row_shape(self, shape: tuple[int, int]) -> ImageSequence:
        """Return the rows of a 2-D array as images of `shape` = (height, width)."""
        array = np.asarray(self._items)
        if array.shape[1] != shape[0] * shape[1]:
            raise DataError(
                f"X has rows of {array.shape[1]} values, but image_shape {shape} needs {shape[0] * shape[1]}."
            )
        return ImageSequence(array.reshape(len(array), *shape))


def as_images(X: Any) -> ImageSequence:
    """Return `X` as a lazy sequence of images.

    Parameters
    ----------
    X : sequence of paths, PIL images, arrays or tensors (sizes may differ), or one array or tensor
        Arrays: (N, H, W), (N, H, W, C) or (N, C, H, W) with C of 1, 3 or 4; where both readings fit, arrays are
        channels-last and torch tensors channels-first. (N, F): rows of flat images. Files in 16-bit grey keep their
        depth; those in 16-bit colour, or grey with alpha, are read at 8 bits, as Pillow does. DICOM files give what a
        viewer shows (first window or VOI LUT, bright = dense), and nothing but pixels.

    Raises
    ------
    InvalidTypeError
        `X` is one image, one path, or no sequence.
    DataError
        `X` is empty or has an impossible shape.
    """
    if isinstance(X, str | os.PathLike | Image.Image):
        raise InvalidTypeError(
            f"X must be a sequence of images. Got one {type(X).__name__}; pass [image] for one image."
        )
    if _is_tensor(X):
        return _from_array(_tensor_to_array(X), prefer_first=True)
    if hasattr(X, "to_numpy"):  # pandas
        X = X.to_numpy()
    if isinstance(X, np.ndarray):
        if X.dtype.kind in "OUST" and X.ndim == 2 and X.shape[1] == 1:
            X = X[:, 0]
        if X.dtype.kind not in "OUST":
            return _from_array(X, prefer_first=False)
        if X.ndim != 1:
            raise DataError(f"An array of paths must be one-dimensional. Got shape {X.shape}.")
        X = [str(item) if isinstance(item, str) else item for item in X]
    if not isinstance(X, Sequence):
        raise InvalidTypeError(f"X must be a sequence of paths, PIL images or arrays. Got {type(X).__name__}.")
    if len(X) == 0:
        raise DataError("X is empty: at least one image is needed.")
    if all(isinstance(item, list | tuple | int | float | np.number) for item in X):
        try:
            array = np.asarray(X)
        except ValueError as error:
            raise DataError("X is a list of lists of different lengths; make each image an array.") from error
        return _from_array(array, prefer_first=False)
    return ImageSequence(X)


def _is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")  # no tensor can exist before torch is imported
    return torch is not None and isinstance(value, torch.Tensor)


def _tensor_to_array(tensor: Any) -> np.ndarray:
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()  # NumPy has no bfloat16


def _from_array(array: np.ndarray, prefer_first: bool) -> ImageSequence:
    if array.ndim > 0 and len(array) == 0:
        raise DataError("X is empty: at least one image is needed.")
    if array.dtype.kind not in "buif":
        raise InvalidTypeError(f"X must hold numbers. Got an array of {array.dtype}.")
    if array.ndim not in (2, 3, 4):
        raise DataError(f"X must have shape (N, H, W), (N, H, W, C), (N, C, H, W) or (N, F). Got {array.shape}.")
    if array.ndim == 3 and array.shape[2] in (3, 4):
        raise DataError(f"X of shape {array.shape} looks like one colour image. For one image pass image[None].")
    return ImageSequence(array, is_rows=array.ndim == 2, channels_first=prefer_first)


def _decode(item: Any, source: str, channels_first: bool) -> DecodedImage:
    if isinstance(item, Image.Image):
        with _decoding(source):
            return DecodedImage(_from_pil(item, source, MAX_PIXELS), source)
    if _is_tensor(item):
        item, channels_first = _tensor_to_array(item), True
    if not isinstance(item, np.ndarray):
        raise ImageError(
            source, f"an image must be a path, a PIL image, an array or a tensor. Got {type(item).__name__}."
        )
    return DecodedImage(_checked_array(item, source, channels_first), source)


def _read_file(path: Path, source: str) -> bytes:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageError(source, "there is no such file.") from error
    except (OSError, ValueError) as error:  # a name that is too long or holds a null byte, a forbidden folder
        raise ImageError(source, f"the file cannot be reached ({error}).") from error
    if stat.S_ISDIR(status.st_mode):
        raise ImageError(source, "this is a folder, not an image.")
    if not stat.S_ISREG(status.st_mode):  # to open a pipe that nobody writes to would take for ever
        raise ImageError(source, "this is no regular file.")
    if status.st_size == 0:
        raise ImageError(source, "the file is empty (0 bytes).")
    if status.st_size > _MAX_BYTES:
        raise ImageError(source, f"the file has {status.st_size:,} bytes, more than the limit of {_MAX_BYTES:,}.")
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(source, f"the file cannot be read ({error.strerror}).") from error


def has_dicom_name(path: str) -> bool:
    """Whether the file's name says DICOM, so that it is read as such even without the preamble."""
    return path.lower().endswith(_DICOM_EXTENSIONS)


def _decode_file(content: bytes, source: str) -> np.ndarray:
    try:
        return _files.run(content, is_dicom_name=has_dicom_name(source), max_pixels=MAX_PIXELS)
    except ImageError as error:
        raise ImageError(source, error.reason) from None


def decode_content(content: bytes, *, is_dicom_name: bool, max_pixels: int) -> np.ndarray:
    """Decode the content of a file; called in a child process."""
    if content[128:132] == b"DICM":
        return _read_dicom(content, max_pixels)
    try:
        # from memory, because Pillow scrambles uncompressed TIFFs of EXIF orientation 5 to 8 where it maps a file
        with _decoding(""), Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            return _from_pil(image, "", max_pixels, owned=True)
    except ImageError as error:
        if is_dicom_name and isinstance(error.__cause__, Image.UnidentifiedImageError):  # a data set without preamble
            return _read_dicom(content, max_pixels)
        raise


def _read_dicom(content: bytes, max_pixels: int) -> np.ndarray:
    from cxr_estimator.dicom import DicomError, be_lenient, read_dicom  # late: pydicom takes a while to load

    be_lenient()
    try:
        return read_dicom(content, max_pixels=max_pixels)
    except DicomError as error:
        raise ImageError("", str(error)) from None


@contextmanager
def _decoding(source: str) -> Iterator[None]:
    try:
        yield
    except (ImageError, MemoryError):
        raise
    except Image.UnidentifiedImageError as error:
        raise ImageError(source, "this is no readable PNG, JPEG, TIFF or DICOM image.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(source, f"its pixels are more than the limit of {MAX_PIXELS:,}.") from error
    except Exception as error:  # whatever a damaged file makes the decoder raise
        raise ImageError(source, f"the image is damaged and cannot be decoded ({error}).") from error


def _from_pil(image: Image.Image, source: str, max_pixels: int, *, owned: bool = False) -> np.ndarray:
    """Return grey or RGB pixels at the stored depth. An image that is `owned` by this module may be changed."""
    if image.width * image.height > max_pixels:
        raise ImageError(source, f"{image.width} x {image.height} pixels are more than the limit of {max_pixels:,}.")
    pages = getattr(image, "n_frames", 1)
    if image.format == "TIFF" and pages > 1:
        raise ImageError(source, f"it holds {pages} pages; save the one you mean as a file of its own.")
    image.load()  # some formats tell the orientation only at their end
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:  # else exif_transpose would copy for nothing
        if owned:
            ImageOps.exif_transpose(image, in_place=True)
        else:
            image = ImageOps.exif_transpose(image)
    return _checked_array(_to_array(image), source, channels_first=False)


def _to_array(image: Image.Image) -> np.ndarray:
    """Return the pixels, made strip by strip: at once, each step takes the memory of one or two more copies."""
    strip = max(1, _STRIP_PIXELS // image.width) if image.width else 1
    array = np.empty((0, 0), dtype=np.uint8)
    for top in range(0, image.height, strip):
        bottom = min(top + strip, image.height)
        part = np.asarray(_without_palette_or_alpha(image.crop((0, top, image.width, bottom))))
        if top == 0:
            array = np.empty((image.height, *part.shape[1:]), dtype=part.dtype)
        array[top:bottom] = part
    return array


def _without_palette_or_alpha(image: Image.Image) -> Image.Image:
    """Return a grey or RGB image; palettes, CMYK and alpha are resolved here."""
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or (
        "transparency" in image.info and image.mode in ("P", "L", "RGB")
    ):
        colour = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", colour.size, (0, 0, 0, 255)), colour).convert("RGB")
    if image.mode == "1":
        return image.convert("L")
    if image.mode not in ("L", "I", "F", "RGB") and not image.mode.startswith("I;16"):
        return image.convert("RGB")
    return image


def _checked_array(array: np.ndarray, source: str, channels_first: bool) -> np.ndarray:
    """Return an (H, W) or (H, W, 3) array in native byte order, alpha laid over black, finite."""
    if array.dtype.kind not in "buif":
        raise ImageError(source, f"pixels must be numbers. Got {array.dtype}.")
    if array.ndim == 3:
        array = _channels_last(array, source, channels_first)
    if array.ndim != 2 and not (array.ndim == 3 and array.shape[2] in (3, 4)):
        raise ImageError(source, f"an image must have shape (H, W), (H, W, C) or (C, H, W). Got {array.shape}.")
    if 0 in array.shape:
        raise ImageError(source, f"the image has no pixels (shape {array.shape}).")
    if array.dtype.kind == "b":
        array = array.astype(np.uint8) * np.uint8(255)
    elif array.dtype.kind == "f":
        with np.errstate(over="ignore", invalid="ignore"):  # beyond float32 becomes infinite, and is refused
            array = array.astype(np.float32, copy=False)
            ends = array.min(), array.max()
        if not np.isfinite(ends).all():
            raise ImageError(source, "the image has NaN or infinite pixels.")
    else:
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.ndim == 3 and array.shape[2] == 4:
        opaque = np.iinfo(array.dtype).max if array.dtype.kind in "ui" else 1.0
        colour = array[..., :3] * (array[..., 3:].astype(np.float64) / opaque)
        array = np.rint(colour).astype(array.dtype) if array.dtype.kind in "ui" else colour.astype(array.dtype)
    return array


def _channels_last(array: np.ndarray, source: str, channels_first: bool) -> np.ndarray:
    last, first = array.shape[2] in _CHANNELS, array.shape[0] in _CHANNELS
    if not (last or first):
        raise ImageError(source, f"no axis of {array.shape} has 1, 3 or 4 channels.")
    if first and (channels_first or not last):
        array = np.moveaxis(array, 0, 2)
    return array[..., 0] if array.shape[2] == 1 else array
