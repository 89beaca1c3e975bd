"""DICOM files -> the pixels that a radiologist sees: grey, bright = dense, or RGB.

Two rules hold here. Nothing but pixels leaves: no value of the data set, and no text of an error of pydicom (they quote
values), gets into a message. And nothing in the file is believed: sizes are checked before anything is decoded or
inflated. `images` runs this in a child process with limits (see `_isolation`), for what these checks cannot see.
"""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom import config
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.filereader import read_dataset
from pydicom.pixels import get_decoder
from pydicom.uid import (
    UID,
    AllTransferSyntaxes,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGExtended12Bit,
    RLELossless,
)

from cxr_estimator._dicom_grey import DicomError, StoredValues, first_number, grey_table, text

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_NEEDED = (
    *("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept"),
    *("VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction", *_PIXELS),
)
_TAGS = [tag for tag in map(tag_for_keyword, _NEEDED) if tag is not None]
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_PIXEL_DATA, _SYNTAX = 0x7FE00010, 0x00020010
_CHUNK = 1 << 20
_NO_DICOM = "this is no readable DICOM file."
_CONVERT = "convert the file with dcmdjpeg or dcmdjpls (DCMTK)"


@dataclass(frozen=True)
class _Header:
    """The checked part of the header that says how the pixels are stored."""

    rows: int
    columns: int
    samples: int
    photometric: str
    allocated: int
    stored: int
    high_bit: int
    signed: bool


def read_dicom(content: bytes, *, max_pixels: int) -> np.ndarray:
    """Decode a DICOM file to its presentation values.

    The order is the standard's (PS3.3 C.11, PS3.4 N.2): modality LUT or rescale slope and intercept, VOI LUT or window
    (the first of several), inversion of MONOCHROME1. Pixel padding becomes black. PresentationLUTShape is left alone,
    because it repeats what MONOCHROME1 says.

    Parameters
    ----------
    content : bytes
        The whole file, with or without the preamble.
    max_pixels : int
        Limit of rows x columns x samples per pixel.

    Returns
    -------
    ndarray, (H, W) or (H, W, 3)
        uint8 as stored, for 8-bit grey images that neither rescale nor window changes, and for colour; otherwise
        uint16, where 65535 is the top of the window, or of the range of the stored bits where there is no window.

    Raises
    ------
    DicomError
        The file is damaged, no single image, or of a kind that is not read; the message says what to do.
    """
    syntax, dataset = _parse(content, max_bytes=4 * max_pixels)
    _check_one_image(dataset)
    header = _header(dataset, max_pixels)
    if header.samples == 3:
        return _decode(dataset, header, syntax)
    is_codestream = syntax.is_encapsulated and syntax != RLELossless  # of samples, not of words with unused bits
    high_bit = header.stored - 1 if is_codestream else header.high_bit
    values = StoredValues(header.allocated, header.stored, high_bit, header.signed)
    table = grey_table(dataset, values, invert=header.photometric == "MONOCHROME1")
    return _look_up(table, _decode(dataset, header, syntax))


def be_lenient() -> None:
    """Let pydicom read values that break the rules of their type, in this process, without a word."""
    config.settings.reading_validation_mode = config.IGNORE


class _Stream(io.BytesIO):
    """A file that can be read a few times over and no more: pydicom searches nested data sets again and again."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self._left = 4 * len(content) + _CHUNK

    def read(self, size: int | None = -1, /) -> bytes:
        content = super().read(size)
        self._left -= len(content)
        if self._left < 0:
            raise DicomError("its data set is nested too deeply.")
        return content


def _parse(content: bytes, max_bytes: int) -> tuple[UID, Dataset]:
    stream = _Stream(content)
    stream.seek(132 if content[128:132] == b"DICM" else 0)
    try:
        syntax = _transfer_syntax(stream)
        if syntax == DeflatedExplicitVRLittleEndian:  # pydicom would inflate without a limit
            stream = _Stream(_inflate(stream, max_bytes))
        dataset = read_dataset(
            stream,
            syntax.is_implicit_VR,
            syntax.is_little_endian,
            stop_when=lambda tag, vr, length: tag > _PIXEL_DATA,
            specific_tags=_TAGS,
        )
    except (DicomError, MemoryError):
        raise
    except RecursionError as error:
        raise DicomError("its data set is nested too deeply.") from error
    except Exception as error:
        raise DicomError(_NO_DICOM) from error
    if not dataset and content[128:132] != b"DICM":
        raise DicomError(_NO_DICOM)
    return syntax, dataset


def _transfer_syntax(stream: io.BytesIO) -> UID:
    """Read the file meta information; the stream then stands at the data set."""
    meta = read_dataset(stream, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2, specific_tags=[_SYNTAX])
    uid = text(meta, "TransferSyntaxUID")
    if not uid:
        return _guessed_syntax(stream)
    if uid not in AllTransferSyntaxes:
        raise DicomError("its transfer syntax is none that is known; save it with a standard one.")
    return UID(uid)


def _guessed_syntax(stream: io.BytesIO) -> UID:
    start = stream.getvalue()[stream.tell() : stream.tell() + 6]
    if not (start[4:6].isalpha() and start[4:6].isupper()):
        return ImplicitVRLittleEndian
    return ExplicitVRBigEndian if start.startswith(b"\0\x08") else ExplicitVRLittleEndian


def _inflate(stream: io.BytesIO, max_bytes: int) -> bytes:
    inflater, inflated = zlib.decompressobj(-zlib.MAX_WBITS), io.BytesIO()
    deflated = stream.read()
    while deflated and not inflater.eof:
        inflated.write(inflater.decompress(deflated, _CHUNK))
        deflated = inflater.unconsumed_tail
        if inflated.tell() > max_bytes:
            raise DicomError(f"its data set inflates to more than the limit of {max_bytes:,} bytes.")
    return inflated.getvalue()


def _check_one_image(dataset: Dataset) -> None:
    if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
        raise DicomError("its pixels are floating-point numbers, which are not read; save them as 16-bit integers.")
    if "PixelData" not in dataset:
        raise DicomError("it holds no pixel data: it is a report, an index (DICOMDIR), or cut off.")
    frames = first_number(dataset, "NumberOfFrames") or 1
    if frames > 1:
        count = f"{frames:.0f}" if frames < 1000 else "many"  # a larger number may be anything, a year of birth too
        raise DicomError(f"it holds {count} frames; save the one you mean as a file of its own.")


def _header(dataset: Dataset, max_pixels: int) -> _Header:
    rows, columns = _whole(dataset, "Rows"), _whole(dataset, "Columns")
    samples = _whole(dataset, "SamplesPerPixel", 1)
    if rows < 1 or columns < 1:
        raise DicomError("the image has no pixels (Rows or Columns is 0).")
    if rows * columns * samples > max_pixels:
        kind = "pixels" if samples == 1 else f"pixels of {samples} samples each"
        raise DicomError(f"{columns} x {rows} {kind} are more than the limit of {max_pixels:,}.")
    allocated = _whole(dataset, "BitsAllocated")
    stored = _whole(dataset, "BitsStored", allocated)
    header = _Header(
        rows=rows,
        columns=columns,
        samples=samples,
        photometric=text(dataset, "PhotometricInterpretation").upper(),
        allocated=allocated,
        stored=stored,
        high_bit=_whole(dataset, "HighBit", stored - 1),
        signed=_whole(dataset, "PixelRepresentation", 0) == 1,
    )
    _check_kind(header)
    return header


def _check_kind(header: _Header) -> None:
    if header.photometric == "PALETTE COLOR":
        raise DicomError("its colours are a palette (PALETTE COLOR), which is not read; save it as RGB.")
    is_grey = header.samples == 1 and header.photometric in ("MONOCHROME1", "MONOCHROME2")
    is_colour = header.samples == 3 and header.photometric in _COLOURS
    if not (is_grey or is_colour):
        raise DicomError("its PhotometricInterpretation and SamplesPerPixel say neither grey nor RGB nor YBR colour.")
    depths = (8, 16) if is_grey else (8,)
    if header.allocated not in depths:
        found = f"{header.allocated} bit(s)" if header.allocated <= 64 else "many bits"  # not the year of a birth
        raise DicomError(f"its samples have {found}; {' or '.join(map(str, depths))} bits can be read: save it so.")
    if not 1 <= header.stored <= header.high_bit + 1 <= header.allocated:
        raise DicomError("the header's BitsAllocated, BitsStored and HighBit contradict each other.")


def _whole(dataset: Dataset, keyword: str, default: int | None = None) -> int:
    number = first_number(dataset, keyword)
    if number is None:
        if default is None:
            raise DicomError(f"the header lacks {keyword}.")
        return default
    if number != int(number) or not 0 <= number <= 65535:
        raise DicomError(f"the header's {keyword} is no whole number from 0 to 65535.")
    return int(number)


def _decode(dataset: Dataset, header: _Header, syntax: UID) -> np.ndarray:
    """Return the stored words (H, W), or RGB (H, W, 3)."""
    _check_decoder(syntax)
    element = dataset.get_item("PixelData")
    content = element.value if element is not None else None
    if not isinstance(content, bytes) or not content:
        raise DicomError("its pixel data are empty or damaged.")
    try:
        if syntax.is_encapsulated:
            _check_codestream(get_frame(content, 0, number_of_frames=1), header, syntax)
        pixels, _ = get_decoder(syntax).as_array(content, index=0, raw=header.samples == 1, **_options(dataset, header))
    except (DicomError, MemoryError):
        raise
    except Exception as error:
        raise DicomError(f"its pixel data cannot be decoded: {_why_not(header, syntax)}") from error
    return pixels


def _options(dataset: Dataset, header: _Header) -> dict[str, Any]:
    return {
        "rows": header.rows,
        "columns": header.columns,
        "samples_per_pixel": header.samples,
        "number_of_frames": 1,
        "photometric_interpretation": header.photometric,
        "planar_configuration": _whole(dataset, "PlanarConfiguration", 0),
        "bits_allocated": header.allocated,
        "bits_stored": header.stored,
        "pixel_representation": int(header.signed),
        "pixel_keyword": "PixelData",
        "view_only": True,
        "correct_unused_bits": False,  # the table does, whatever HighBit is
        "pixel_vr": dataset["PixelData"].VR,
    }


def _check_decoder(syntax: UID) -> None:
    name = f"{syntax.name} ({syntax})"
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise DicomError(f"its transfer syntax {name} is not read; {_CONVERT}.") from error
    if decoder.is_available:
        return
    is_ours = syntax in (*JPEG2000TransferSyntaxes, RLELossless)
    package = '"cxr_estimator[dicom]"' if is_ours else "python-gdcm"
    raise DicomError(f"no decoder for its transfer syntax {name} is installed: pip install {package}, or {_CONVERT}.")


def _why_not(header: _Header, syntax: UID) -> str:
    if syntax == JPEGExtended12Bit and header.stored > 8:
        return f"JPEG of more than 8 bits is not read; {_CONVERT}."
    return "they are damaged, cut off, or smaller than the header says."


def _check_codestream(frame: bytes, header: _Header, syntax: UID) -> None:
    """Compare the header with what the JPEG or JPEG 2000 stream inside says of itself; decoders believe the stream."""
    if syntax == RLELossless:  # has no sizes of its own
        return
    found = _jpeg2000_shape(frame) if syntax in JPEG2000TransferSyntaxes else _jpeg_shape(frame)
    if found is None:
        raise DicomError("its pixel data are no JPEG or JPEG 2000 stream, though the header says so.")
    rows, columns, samples, precision = found
    if (rows, columns, samples) != (header.rows, header.columns, header.samples) or precision > header.allocated:
        raise DicomError("the compressed image inside has another size or depth than the header says.")


def _jpeg2000_shape(frame: bytes) -> tuple[int, int, int, int] | None:
    """Return rows, columns, components and bits (ITU-T T.800 A.5.1), or None where this is no JPEG 2000."""
    start = frame.find(b"\xff\x4f\xff\x51", 0, 4096)  # a JP2 box may stand before it
    if start < 0 or len(frame) < start + 43:
        return None
    right, bottom, left, top = (int.from_bytes(frame[start + at : start + at + 4]) for at in (8, 12, 16, 20))
    samples = int.from_bytes(frame[start + 40 : start + 42])
    return bottom - top, right - left, samples, (frame[start + 42] & 0x7F) + 1


def _jpeg_shape(frame: bytes) -> tuple[int, int, int, int] | None:
    """Return rows, columns, components and bits of the first frame header (ITU-T T.81 B.2.2; JPEG-LS too), or None."""
    at = 2
    while at + 10 <= len(frame) and frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            rows, columns = (int.from_bytes(frame[at + i : at + i + 2]) for i in (5, 7))
            return rows, columns, frame[at + 9], frame[at + 4]
        else:
            at += 2 + int.from_bytes(frame[at + 2 : at + 4])
    return None


def _look_up(table: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Return table[words], a strip at a time: NumPy widens indices to 8 bytes each."""
    if table.dtype == words.dtype and np.array_equal(table, np.arange(len(table))):
        return words
    pixels = np.empty(words.shape, dtype=table.dtype)
    strip = max(1, _CHUNK // words.shape[1])
    unsigned = np.dtype(f"u{words.dtype.itemsize}")
    for top in range(0, len(words), strip):
        part = words[top : top + strip]
        pixels[top : top + strip] = table[part.astype(part.dtype.newbyteorder("="), copy=False).view(unsigned)]
    return pixels
