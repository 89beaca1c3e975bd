"""The grey-scale pipeline of DICOM as one table: stored word -> presentation value.

Everything between a stored pixel and the screen is a function of that one value, so it is worked out once for every
word of 8 or 16 bits, in float64, and a whole image costs one look-up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom.dataset import Dataset


class DicomError(ValueError):
    """A DICOM file cannot be read. The message is a sentence of ours, without values that could name a patient."""


@dataclass(frozen=True)
class StoredValues:
    """How a pixel lies in its word of `allocated` bits: `stored` bits, the topmost of which is `high_bit`."""

    allocated: int
    stored: int
    high_bit: int
    signed: bool

    @property
    def range(self) -> tuple[int, int]:
        """The least and the greatest value."""
        half = 1 << (self.stored - 1)
        return (-half, half - 1) if self.signed else (0, 2 * half - 1)

    def of_words(self) -> np.ndarray:
        """Return the pixel value of every word, int64; bits that are not used (old overlays) do not count."""
        low, _ = self.range
        words = np.arange(1 << self.allocated, dtype=np.int64) >> (self.high_bit + 1 - self.stored)
        return ((words - low) & ((1 << self.stored) - 1)) + low


def grey_table(dataset: Dataset, kind: StoredValues, *, invert: bool) -> np.ndarray:
    """Return the presentation value of every word, (2 ** allocated,); see `dicom.read_dicom`."""
    stored = kind.of_words()
    rescaled = _modality(dataset, stored, kind)
    values, low, high = rescaled or (stored.astype(np.float64), *kind.range)
    shown = _of_interest(dataset, values, signed=low < 0)
    dtype = np.uint8 if kind.stored == 8 and rescaled is None and shown is None else np.uint16
    if shown is None:
        shown = (values - low) / (high - low)
    if invert:
        shown = 1.0 - shown
    table = np.rint(shown * np.iinfo(dtype).max).astype(dtype)
    table[_is_padding(dataset, stored)] = 0
    return table


def _modality(dataset: Dataset, stored: np.ndarray, kind: StoredValues) -> tuple[np.ndarray, float, float] | None:
    """Return the output of the modality LUT or of the rescaling and its range, None where neither changes anything."""
    if item := _first_item(dataset, "ModalityLUTSequence"):
        table, first, top = _lut(item, "ModalityLUTSequence", signed=kind.signed)
        return table[np.clip(stored - first, 0, len(table) - 1)], 0.0, top
    slope, intercept = first_number(dataset, "RescaleSlope"), first_number(dataset, "RescaleIntercept")
    slope, intercept = 1.0 if slope is None else slope, intercept or 0.0
    if (slope, intercept) == (1.0, 0.0):
        return None
    if not 1e-9 < abs(slope) < 1e9 or abs(intercept) > 1e9:
        raise DicomError("the header's RescaleSlope or RescaleIntercept makes no sense.")
    low, high = sorted(slope * bound + intercept for bound in kind.range)
    return stored * slope + intercept, low, high


def _of_interest(dataset: Dataset, values: np.ndarray, *, signed: bool) -> np.ndarray | None:
    """Return `values` after the first VOI LUT, else the first window, in [0, 1]; None where there is neither."""
    if item := _first_item(dataset, "VOILUTSequence"):
        table, first, top = _lut(item, "VOILUTSequence", signed=signed)
        return table[np.clip(np.rint(values).astype(np.int64) - first, 0, len(table) - 1)] / top
    center, width = first_number(dataset, "WindowCenter"), first_number(dataset, "WindowWidth")
    if center is None and width is None:
        return None
    if center is None or width is None:
        raise DicomError("its window has a center without a width, or a width without a center; remove or complete it.")
    return _window(values, center, width, text(dataset, "VOILUTFunction").upper() or "LINEAR")


def _window(x: np.ndarray, center: float, width: float, function: str) -> np.ndarray:
    """Apply one of the three functions of PS3.3 C.11.2.1.2 and C.11.2.1.3, with an output of 0 to 1."""
    if width < 1 if function == "LINEAR" else width <= 0:
        raise DicomError("its window is narrower than the standard allows; correct or remove WindowWidth.")
    if function == "SIGMOID":
        with np.errstate(over="ignore"):  # a far-off value becomes exactly 0
            return 1.0 / (1.0 + np.exp(-4.0 * (x - center) / width))
    if function == "LINEAR_EXACT":
        return np.clip((x - center) / width + 0.5, 0.0, 1.0)
    if function != "LINEAR":
        raise DicomError("its VOILUTFunction is none of LINEAR, LINEAR_EXACT and SIGMOID.")
    if width == 1:
        return np.where(x > center - 0.5, 1.0, 0.0)
    return np.clip((x - (center - 0.5)) / (width - 1.0) + 0.5, 0.0, 1.0)


def _lut(item: Dataset, name: str, *, signed: bool) -> tuple[np.ndarray, int, float]:
    """Return a look-up table as float64, the value that its first entry stands for, and its top output."""
    described, data = numbers(item, "LUTDescriptor"), elements(item, "LUTData")
    if len(described) == 3 and len(data) == 1 and isinstance(data[0], bytes):
        data = _words(data[0], int(described[0]) & 0xFFFF or 65536, item)
    if len(described) != 3 or not all(isinstance(value, int) for value in data):
        raise DicomError(f"its {name} is damaged.")
    length, first, bits = (int(value) for value in described)
    length = length & 0xFFFF or 65536  # 0 stands for 65536
    if not 1 <= bits <= 16 or len(data) < length:
        raise DicomError(f"its {name} is damaged.")
    first &= 0xFFFF
    if signed and first >= 0x8000:  # the same 16 bits, whichever type the header gives them
        first -= 0x10000
    top = float((1 << bits) - 1)
    return np.clip(np.array(data[:length], dtype=np.float64), 0.0, top), first, top


def _words(data: bytes, length: int, item: Dataset) -> list[int]:
    """Return entries that are stored as bytes: one each where that is all there is, else two."""
    if len(data) < 2 * length:
        return list(data)
    return np.frombuffer(data[: 2 * length], dtype=">u2" if item.original_encoding[1] is False else "<u2").tolist()


def _is_padding(dataset: Dataset, stored: np.ndarray) -> np.ndarray:
    value = first_number(dataset, "PixelPaddingValue")
    if value is None:
        return np.zeros(stored.shape, dtype=bool)
    limit = first_number(dataset, "PixelPaddingRangeLimit")
    # the same 16 bits, whichever type the header gives them
    first, last = (int(bound) & 0xFFFF for bound in (value, value if limit is None else limit))
    if stored.min() < 0:
        first, last = ((bound ^ 0x8000) - 0x8000 for bound in (first, last))
    return (stored >= min(first, last)) & (stored <= max(first, last))


def _first_item(dataset: Dataset, keyword: str) -> Dataset | None:
    items = elements(dataset, keyword)
    if items and not isinstance(items[0], Dataset):
        raise DicomError(f"its {keyword} is damaged.")
    return items[0] if items else None


def elements(dataset: Dataset, keyword: str) -> list[Any]:
    """Return the values of one element, none where it is absent or empty."""
    try:
        value = dataset.get(keyword)
        return [] if value is None or value == "" else [value] if isinstance(value, str | bytes) else list(value)
    except TypeError:
        return [value]  # one number
    except Exception as error:
        raise DicomError(f"the header's {keyword} cannot be read.") from error


def numbers(dataset: Dataset, keyword: str) -> list[float]:
    """Return the values of one element as finite numbers."""
    return [_number(value, keyword) for value in elements(dataset, keyword)]


def first_number(dataset: Dataset, keyword: str) -> float | None:
    """Return the first value of one element as a finite number, whatever follows it; None where there is none."""
    return next((_number(value, keyword) for value in elements(dataset, keyword)[:1]), None)


def _number(value: Any, keyword: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise DicomError(f"the header's {keyword} is no number.") from error
    if not math.isfinite(number):
        raise DicomError(f"the header's {keyword} is no finite number.")
    return number


def text(dataset: Dataset, keyword: str) -> str:
    """Return the first value of one element as text."""
    return str(next(iter(elements(dataset, keyword)), "")).strip(" \0")
