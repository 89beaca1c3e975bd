"""DICOM files: what comes out of every kind, that bad ones are refused in our words, and that no name gets out."""

from __future__ import annotations

import base64
import io
import struct
import time
import warnings

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from cxr_estimator import images as images_module
from cxr_estimator._dicom_grey import StoredValues, grey_table
from cxr_estimator._isolation import Pool
from cxr_estimator.datasets import load_image_folder
from cxr_estimator.dicom import DicomError, read_dicom
from cxr_estimator.errors import ImageError
from cxr_estimator.images import as_images
from tests.dicom_files import content_of, dataset, deflated_file, dicom, encapsulated, lut, no_image, without_preamble

RNG = np.random.default_rng(0)
GREY8 = RNG.integers(0, 256, (40, 36), dtype=np.uint8)
GREY12 = RNG.integers(0, 4096, (40, 36), dtype=np.uint16)
GREY16 = RNG.integers(0, 65536, (40, 36), dtype=np.uint16)
COLOUR = RNG.integers(0, 256, (40, 36, 3), dtype=np.uint8)
SIGNED12 = RNG.integers(-2048, 2048, (40, 36), dtype=np.int16)
ALL8 = np.arange(256, dtype=np.uint8).reshape(8, 32)
# an 8 x 8 ramp of 65 * (0, 1, ..., 63), 16 bits, by imagecodecs.htj2k_encode
HTJ2K_RAMP = base64.b64decode(
    "/0//UQApQAAAAAAIAAAACAAAAAAAAAAAAAAACAAAAAgAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUEBEAB/1wAEyCIkJCQkJCQkJCQ"
    "kJCQiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAFwAAf+TwAAmj/UFB3QAAADAABNAABMAUP4CB3QAiPIDh3QAwAATQAATgCIi"
    "AYJ0ACIpkgDDVADAACpgABWAAAAA8KpxAnUADnTAAQf+wFKB7LYA/9k="
)


@pytest.fixture
def decode(tmp_path):
    """A function from the content of a file to its pixels, by the way that users take."""

    def decode(content, name="image.dcm"):
        path = tmp_path / name
        path.write_bytes(content)
        return as_images([path])[0].pixels

    return decode


def shown(value, **tags):
    """The presentation value of one stored pixel, decoded in this process."""
    pixels = np.array([[value]], dtype=tags.pop("dtype", np.uint16))
    return read_dicom(dicom(pixels, **tags), max_pixels=1)[0, 0]


# -- kinds of files ---------------------------------------------------------------------------------------------------

NATIVE = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]


@pytest.mark.parametrize("syntax", [*NATIVE, RLELossless, JPEG2000Lossless], ids=lambda uid: uid.name)
@pytest.mark.parametrize("pixels", [GREY8, GREY16, GREY8[:39, :35], COLOUR], ids=["8", "16", "odd", "colour"])
def test_lossless_files_keep_their_values(decode, pixels, syntax):
    found = decode(dicom(pixels, syntax))
    np.testing.assert_array_equal(found, pixels)
    assert found.dtype == pixels.dtype


@pytest.mark.parametrize("syntax", [*NATIVE, RLELossless, JPEG2000Lossless], ids=lambda uid: uid.name)
def test_signed_12_bits_span_the_whole_range(decode, syntax):
    found = decode(dicom(SIGNED12, syntax, stored=12))
    np.testing.assert_array_equal(found, np.rint((SIGNED12 + 2048.0) / 4095 * 65535))
    assert found.dtype == np.uint16


def test_htj2k(decode):
    content = encapsulated(dataset(np.zeros((8, 8), np.uint16)), HTJ2KLossless, HTJ2K_RAMP)
    np.testing.assert_array_equal(decode(content), 65 * np.arange(64).reshape(8, 8))


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEGExtended12Bit], ids=lambda uid: uid.name)
def test_jpeg_is_what_pillow_makes_of_it(decode, syntax):
    buffer = io.BytesIO()
    Image.fromarray(ALL8).save(buffer, "JPEG", quality=90)
    np.testing.assert_array_equal(
        decode(encapsulated(dataset(ALL8), syntax, buffer.getvalue())), np.asarray(Image.open(buffer))
    )


@pytest.mark.parametrize("photometric", ["YBR_FULL", "YBR_FULL_422"])
def test_jpeg_colour_becomes_rgb(decode, photometric):
    flat = np.full((16, 16, 3), (200, 100, 50), dtype=np.uint8)
    found = decode(dicom(flat, JPEGBaseline8Bit, photometric=photometric))
    assert np.abs(found.astype(int) - flat).max() <= 2


def test_uncompressed_ybr_becomes_rgb(decode):
    ybr = np.asarray(Image.fromarray(COLOUR).convert("YCbCr"))
    assert np.abs(decode(dicom(ybr, photometric="YBR_FULL")).astype(int) - COLOUR).max() <= 3


def test_planes_become_pixels(decode):
    ds = dataset(COLOUR, PlanarConfiguration=1)
    ds.PixelData = np.moveaxis(COLOUR, 2, 0).tobytes()
    np.testing.assert_array_equal(decode(content_of(ds)), COLOUR)


@pytest.mark.parametrize("name", ["IM000001", "image.png", "image.DICOM", "1.2.840.113"])
def test_files_are_known_by_their_content(decode, name):
    np.testing.assert_array_equal(decode(dicom(GREY8), name), GREY8)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_dcm_file_may_lack_the_preamble(decode, syntax):
    bare = without_preamble(dicom(GREY16, syntax))
    np.testing.assert_array_equal(decode(bare, "a.DCM"), GREY16)
    with pytest.raises(ImageError, match="no readable PNG, JPEG, TIFF or DICOM image"):
        decode(bare, "a.png")


def test_a_png_with_the_wrong_name_is_a_png(decode):
    buffer = io.BytesIO()
    Image.fromarray(GREY8).save(buffer, "PNG")
    np.testing.assert_array_equal(decode(buffer.getvalue(), "a.dcm"), GREY8)


def test_the_same_picture_has_the_same_content_id(tmp_path):
    for name, pixels in (("grey", GREY8), ("grey16", GREY16), ("colour", COLOUR)):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.dcm").write_bytes(dicom(pixels))
        png, dcm = as_images([tmp_path / f"{name}.png", tmp_path / f"{name}.dcm"])
        assert png.content_id == dcm.content_id


def test_folders_list_dicom_files(tmp_path):
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.dcm").write_bytes(dicom(GREY8))
    assert [image.pixels.shape for image in as_images(load_image_folder(tmp_path).X)] == [GREY8.shape] * 2


def test_a_classifier_takes_dicom_files(tmp_path, fitted, phantoms):
    for i in range(4):
        Image.fromarray(phantoms.X[i]).save(tmp_path / f"{i}.png")
        (tmp_path / f"{i}.dcm").write_bytes(dicom(255 - phantoms.X[i], photometric="MONOCHROME1"))
    pngs, dicoms = ([tmp_path / f"{i}.{kind}" for i in range(4)] for kind in ("png", "dcm"))
    np.testing.assert_array_equal(fitted.predict_proba(dicoms), fitted.predict_proba(pngs))


# -- grey values, worked out by hand ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "tags", "expected"),
    [
        (4095, {"stored": 12}, 65535),
        (1, {"stored": 12}, 16),  # 65535 / 4095 = 16.0
        (0, {"stored": 12, "photometric": "MONOCHROME1"}, 65535),
        (4095, {"stored": 12, "photometric": "MONOCHROME1"}, 0),
        (200, {"stored": 8, "dtype": np.uint8, "photometric": "MONOCHROME1"}, 55),
        (-128, {"dtype": np.int8}, 0),
        (127, {"dtype": np.int8}, 255),
        (-2048, {"stored": 12, "dtype": np.int16}, 0),
        (2047, {"stored": 12, "dtype": np.int16}, 65535),
        # LINEAR, center 100, width 101: from 49.5 to 149.5, (x - 99.5) / 100 + 0.5
        (49, {"WindowCenter": 100, "WindowWidth": 101}, 0),
        (50, {"WindowCenter": 100, "WindowWidth": 101}, 328),  # 0.005 * 65535 = 327.7
        (99, {"WindowCenter": 100, "WindowWidth": 101}, 32440),  # 0.495 * 65535
        (150, {"WindowCenter": 100, "WindowWidth": 101}, 65535),
        (50, {"WindowCenter": 100, "WindowWidth": 101, "photometric": "MONOCHROME1"}, 65207),  # 0.995 * 65535
        (50, {"WindowCenter": [100, 7], "WindowWidth": [101, 9]}, 328),  # the first of two
        # width 1: a step at center - 0.5
        (99, {"WindowCenter": 100, "WindowWidth": 1}, 0),
        (100, {"WindowCenter": 100, "WindowWidth": 1}, 65535),
        # LINEAR_EXACT, center 100, width 100: from 50 to 150
        (50, {"WindowCenter": 100, "WindowWidth": 100, "VOILUTFunction": "LINEAR_EXACT"}, 0),
        (75, {"WindowCenter": 100, "WindowWidth": 100, "VOILUTFunction": "LINEAR_EXACT"}, 16384),  # 0.25 * 65535
        (150, {"WindowCenter": 100, "WindowWidth": 100, "VOILUTFunction": "LINEAR_EXACT"}, 65535),
        # SIGMOID: 1 / (1 + exp(-4 (x - c) / w))
        (100, {"WindowCenter": 100, "WindowWidth": 100, "VOILUTFunction": "SIGMOID"}, 32768),
        (125, {"WindowCenter": 100, "WindowWidth": 100, "VOILUTFunction": "SIGMOID"}, 47910),  # 0.731059 * 65535
        (0, {"WindowCenter": 60000, "WindowWidth": 1, "VOILUTFunction": "SIGMOID"}, 0),
        # rescaling first: 2 x - 1000, then the window
        (549, {"RescaleSlope": 2, "RescaleIntercept": -1000, "WindowCenter": 100, "WindowWidth": 101}, 31784),  # 0.485
        (-24, {"dtype": np.int16, "RescaleSlope": 1, "RescaleIntercept": -1000,
               "WindowCenter": -1024, "WindowWidth": 3}, 49151),  # x = -1024: (0.5) / 2 + 0.5
        # rescaling alone leaves the range; a negative slope inverts
        (4095, {"stored": 12, "RescaleSlope": 0.5, "RescaleIntercept": 7}, 65535),
        (0, {"stored": 12, "RescaleSlope": -1, "RescaleIntercept": 0}, 65535),
        (255, {"dtype": np.uint8, "RescaleSlope": 2, "RescaleIntercept": 0}, 65535),
        # VOI LUT: entries for 10, 11, 12, of 8 bits; before a window
        (11, {"VOILUTSequence": [lut(10, [0, 51, 255], 8)], "WindowCenter": 1, "WindowWidth": 2}, 13107),
        (3, {"VOILUTSequence": [lut(10, [17, 51, 255], 8)]}, 4369),
        (900, {"VOILUTSequence": [lut(10, [0, 51, 255], 8), lut(0, [9], 8)]}, 65535),
        (-1, {"dtype": np.int16, "VOILUTSequence": [lut(-2, [0, 1023, 3], 10, vr="SS")]}, 65535),
        (65535, {"VOILUTSequence": [lut(0, range(65536), 16)]}, 65535),
        # modality LUT 10 -> 100, 11 -> 150, then the window
        (10, {"ModalityLUTSequence": [lut(10, [100, 150], 8)], "WindowCenter": 100, "WindowWidth": 101}, 33095),
        (11, {"ModalityLUTSequence": [lut(10, [100, 150], 8)]}, 38550),  # 150 / 255
        # padding is black, also where low is bright
        (63, {"PixelPaddingValue": 63}, 0),
        (63, {"PixelPaddingValue": 63, "photometric": "MONOCHROME1"}, 0),
        (62, {"stored": 8, "dtype": np.uint8, "PixelPaddingValue": 63, "photometric": "MONOCHROME1"}, 193),
        (5, {"PixelPaddingValue": 9, "PixelPaddingRangeLimit": 4, "photometric": "MONOCHROME1"}, 0),
        (3, {"PixelPaddingValue": 9, "PixelPaddingRangeLimit": 4}, 3),
        (-2000, {"dtype": np.int16, "PixelPaddingValue": -2000, "photometric": "MONOCHROME1"}, 0),
    ],
)  # fmt: skip
def test_presentation_values(value, tags, expected):
    assert shown(value, **tags) == expected


@pytest.mark.parametrize(("signed", "vr", "value"), [(True, "US", 63536), (False, "SS", -2000)])
def test_padding_in_the_type_of_the_other_sign_is_the_same_16_bits(signed, vr, value):
    dataset = Dataset()
    dataset.add_new("PixelPaddingValue", vr, value)
    table = grey_table(dataset, StoredValues(16, 16, 15, signed), invert=True)
    assert table[63536] == 0
    assert np.count_nonzero(table == 0) == 2  # and the top of the range, which is black in MONOCHROME1


@pytest.mark.parametrize("second", ["", "WIDE", "nan"])
def test_only_the_first_window_has_to_make_sense(second):
    dataset = Dataset()
    dataset.add_new("WindowCenter", "LO", ["2048", second])
    dataset.add_new("WindowWidth", "LO", ["1024", second])
    table = grey_table(dataset, StoredValues(16, 12, 11, signed=False), invert=False)
    assert table[[1535, 2047, 2560]].tolist() == [0, 32735, 65535]


@pytest.mark.parametrize("syntax", NATIVE, ids=lambda uid: uid.name)
def test_header_values_of_ambiguous_type(decode, syntax):
    """In implicit files and data types that depend on other elements."""
    tags = {"PixelPaddingValue": -7, "VOILUTSequence": [lut(-2, [0, 1023, 511], 10, vr="SS")]}
    pixels = np.array([[-7, -2, -1, 0, 5]], dtype=np.int16)
    assert decode(dicom(pixels, syntax, **tags)).tolist() == [[0, 0, 65535, 32735, 32735]]  # 511 / 1023 * 65535


@pytest.mark.parametrize("syntax", NATIVE, ids=lambda uid: uid.name)
def test_a_long_table_in_every_byte_order(decode, syntax):
    ds = dataset(np.array([[0, 1, 258]], dtype=np.uint16), VOILUTSequence=[lut(0, range(65536), 16)])
    if syntax == ExplicitVRBigEndian:  # pydicom writes OW as it is
        ds.VOILUTSequence[0].LUTData = np.arange(65536, dtype=">u2").tobytes()
    assert decode(content_of(ds, syntax)).tolist() == [[0, 1, 258]]


def test_8_bits_stay_8_bits_unless_something_applies():
    assert shown(3, dtype=np.uint8).dtype == np.uint8
    assert shown(3, dtype=np.uint8, RescaleSlope=1, RescaleIntercept=0).dtype == np.uint8
    assert shown(3, dtype=np.uint16, stored=8) == 3
    assert shown(3, dtype=np.uint8, WindowCenter=128, WindowWidth=256) == 3 * 257  # as Pillow and we widen 8 bits
    assert shown(3, dtype=np.uint8, WindowCenter=128, WindowWidth=256).dtype == np.uint16


def test_unused_bits_do_not_count(decode):
    """An overlay in the high bits, and pixels in the upper bits of their words."""
    overlay = (GREY12 | 0xA000).astype(np.uint16)
    upper = (GREY12 << 4 | 0x9).astype(np.uint16)
    plain = decode(dicom(GREY12, stored=12))
    np.testing.assert_array_equal(decode(dicom(overlay, stored=12)), plain)
    np.testing.assert_array_equal(decode(dicom(upper, stored=12, HighBit=15)), plain)


@given(
    stored=st.integers(8, 16),
    signed=st.booleans(),
    slope=st.sampled_from([None, 1.0, 0.5, 2.0, -1.5]),
    intercept=st.sampled_from([0.0, -1024.0, 3.25]),
    center=st.floats(-3000, 70_000),
    width=st.floats(1.01, 70_000),
    function=st.sampled_from([None, "LINEAR", "LINEAR_EXACT", "SIGMOID"]),
    table=st.none() | st.integers(-50, 50),
)
@settings(max_examples=60, deadline=None)
def test_windows_are_those_of_pydicom(stored, signed, slope, intercept, center, width, function, table):
    low = -(1 << (stored - 1)) if signed else 0
    pixels = np.linspace(low, low + (1 << stored) - 1, 300).astype(np.int16 if signed else np.uint16).reshape(15, 20)
    ds = dataset(pixels, stored=stored, WindowCenter=f"{center:.5f}", WindowWidth=f"{width:.5f}")
    if slope is not None:
        ds.RescaleSlope, ds.RescaleIntercept = slope, intercept
    if function is not None:
        ds.VOILUTFunction = function
    if table is not None and slope is None and (signed or table >= 0):
        ds.VOILUTSequence = [lut(table, RNG.integers(0, 1024, 500).tolist(), 10, vr="SS" if signed else "US")]
    ds = pydicom.dcmread(io.BytesIO(content_of(ds)))
    with np.errstate(over="ignore"):
        expected = apply_voi_lut(apply_modality_lut(pixels, ds), ds).astype(float)
    if "VOILUTSequence" in ds:
        low, high = 0, 1023
    else:  # the range that pydicom gives its output
        factor, offset = (slope, intercept) if slope is not None else (1, 0)
        low, high = factor * low + offset, factor * (low + (1 << stored) - 1) + offset
    found = read_dicom(content_of(ds), max_pixels=300)
    np.testing.assert_allclose(found / 65535, (expected - low) / (high - low), atol=1.1 / 65535)


# -- what is refused --------------------------------------------------------------------------------------------------


def changed(pixels=GREY8, delete=(), **tags):
    ds = dataset(pixels, **tags)
    for keyword in delete:
        delattr(ds, keyword)
    return content_of(ds)


def jpeg(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def j2k(pixels):
    ds = dataset(pixels)
    content_of(ds, JPEG2000Lossless)
    return pydicom.encaps.get_frame(ds.PixelData, 0, number_of_frames=1)


def floats():
    ds = no_image()
    ds.FloatPixelData = bytes(4)
    return content_of(ds)


def broken_lut():
    item = lut(0, [1] * 9, 8)
    item.LUTDescriptor = [10, 0, 8]
    return item


def own_syntax():
    return dicom(GREY8, JPEGBaseline8Bit).replace(b"1.2.840.10008.1.2.4.50", b"1.2.840.99999.1.2.4.50")


REFUSED = {
    "frames": (changed(NumberOfFrames=12), "it holds 12 frames; save the one you mean as a file of its own"),
    "a date of frames": (changed(NumberOfFrames=19700131), "it holds many frames"),
    "float": (floats(), "floating-point"),
    "no image": (content_of(no_image()), "it holds no pixel data: it is a report"),
    "empty": (changed(PixelData=b""), "pixel data are empty"),
    "32 bits": (dicom(np.zeros((2, 2), np.uint32)), r"32 bit\(s\); 8 or 16 bits can be read"),
    "1 bit": (changed(BitsAllocated=1, BitsStored=1, HighBit=0), r"1 bit\(s\)"),
    "deep colour": (dicom(COLOUR.astype(np.uint16)), r"16 bit\(s\); 8 bits can be read"),
    "palette": (changed(photometric="PALETTE COLOR"), "palette"),
    "other colour": (changed(photometric="HSV"), "neither grey nor RGB"),
    "samples": (changed(SamplesPerPixel=3), "neither grey nor RGB"),
    "no rows": (changed(delete=["Rows"]), "lacks Rows"),
    "no photometric": (changed(delete=["PhotometricInterpretation"]), "neither grey"),
    "zero": (changed(Columns=0), "no pixels"),
    "bits": (changed(BitsStored=9), "contradict each other"),
    "window": (changed(WindowCenter=3, WindowWidth=0), "window is narrower"),
    "narrow": (changed(WindowCenter=3, WindowWidth=0.5), "window is narrower"),
    "exact": (changed(WindowCenter=3, WindowWidth=0, VOILUTFunction="LINEAR_EXACT"), "window is narrower"),
    "half a window": (changed(WindowCenter=3), "center without a width"),
    "function": (changed(WindowCenter=3, WindowWidth=9, VOILUTFunction="MAGIC"), "VOILUTFunction"),
    "slope": (changed(RescaleSlope=0, RescaleIntercept=1), "makes no sense"),
    "short lut": (changed(VOILUTSequence=[broken_lut()]), "VOILUTSequence is damaged"),
    "huge": (changed(Rows=8000, Columns=7000), "7000 x 8000 pixels are more than the limit of 50,000,000"),
    "huge colour": (changed(COLOUR, Rows=8000, Columns=3000), "3000 x 8000 pixels of 3 samples each"),
    "short": (changed(Rows=100), "smaller than the header says"),
    "rows swapped": (encapsulated(dataset(GREY8.T), JPEGBaseline8Bit, jpeg(GREY8)), "another size or depth"),
    "one pixel": (encapsulated(dataset(GREY8), JPEGBaseline8Bit, jpeg(GREY8[:1, :1])), "another size or depth"),
    "j2k swapped": (encapsulated(dataset(GREY8.T), JPEG2000, j2k(GREY8)), "another size or depth"),
    "j2k deep": (encapsulated(dataset(GREY8), JPEG2000, j2k(GREY16)), "another size or depth"),
    "j2k colour": (encapsulated(dataset(GREY8), JPEG2000, j2k(COLOUR)), "another size or depth"),
    "no jpeg": (encapsulated(dataset(GREY8), JPEGBaseline8Bit, b"Dear Dr. Smith," * 99), "no JPEG or JPEG 2000 stream"),
    "cut jpeg": (encapsulated(dataset(GREY8), JPEGBaseline8Bit, jpeg(GREY8)[:-99]), "cannot be decoded"),
    "cut j2k": (encapsulated(dataset(GREY8), JPEG2000, j2k(GREY8)[:99]), "cannot be decoded"),
    "rle": (encapsulated(dataset(GREY8), RLELossless, b"\1\0\0\0\x40" + bytes(90)), "cannot be decoded"),
    "12-bit jpeg": (
        encapsulated(dataset(GREY12, stored=12), JPEGExtended12Bit, jpeg(GREY8)),
        r"JPEG of more than 8 bits is not read; convert the file with dcmdjpeg",
    ),
    "lossless jpeg": (
        encapsulated(dataset(GREY8), JPEGLosslessSV1, jpeg(GREY8)),
        r"JPEG Lossless.*\(1\.2\.840\.10008\.1\.2\.4\.70\) is installed: pip install python-gdcm, or convert",
    ),
    "jpeg-ls": (encapsulated(dataset(GREY8), JPEGLSLossless, jpeg(GREY8)), "JPEG-LS.* pip install python-gdcm"),
    "mpeg": (encapsulated(dataset(GREY8), "1.2.840.10008.1.2.4.100", b"1234"), "MPEG2.* is not read"),
    "own syntax": (own_syntax(), "transfer syntax is none that is known"),
    "text": (b"Dear Dr. Smith,\n" * 50, "no readable DICOM file|no pixel data"),
    "preamble only": (bytes(128) + b"DICM", "no pixel data"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused(decode, tmp_path, kind):
    content, reason = REFUSED[kind]
    with pytest.raises(ImageError, match=reason) as caught:
        decode(content)
    assert str(caught.value).startswith(f"{tmp_path / 'image.dcm'}: ")


# -- names stay inside ------------------------------------------------------------------------------------------------

NAME = b"ZQXNAME^SECRET19700131"


def with_element(content, keyword, vr, value):
    """An explicit little-endian file with one element added or replaced, whatever its type and value."""
    wanted, at = tag_for_keyword(keyword), 144 + int.from_bytes(content[140:144], "little")
    while True:
        group, number, found, length = struct.unpack("<HH2sH", content[at : at + 8])
        end = at + 8 + length
        if found in (b"OB", b"OW", b"SQ"):
            end = at + 12 + int.from_bytes(content[at + 8 : at + 12], "little")
        if group << 16 | number >= wanted:
            break
        at = end
    tail = content[end:] if group << 16 | number == wanted else content[at:]
    new = struct.pack("<HH2sH", wanted >> 16, wanted & 0xFFFF, vr.encode(), len(value)) + value
    return content[:at] + new + tail


def named_files():
    """Files that hold NAME where it belongs, and in places where it makes pydicom warn or raise."""
    name = NAME.decode()
    good = changed(PatientName=name, PatientID=name, InstitutionName=name)
    yield "in its place", good
    meta = dicom(GREY8, JPEGBaseline8Bit).replace(b"1.2.840.10008.1.2.4.50", NAME)
    yield "transfer syntax", meta
    windowed = changed(PatientName=name, WindowCenter=3, WindowWidth=3)
    for keyword, vr in [
        ("NumberOfFrames", "IS"),
        ("WindowCenter", "DS"),
        ("WindowWidth", "DS"),
        ("RescaleSlope", "DS"),
        ("PhotometricInterpretation", "CS"),
        ("VOILUTFunction", "CS"),
        ("SpecificCharacterSet", "CS"),
        ("StudyInstanceUID", "UI"),
        ("Rows", "LO"),
        ("BitsAllocated", "PN"),
        ("PixelPaddingValue", "LO"),
        ("VOILUTSequence", "LO"),
        ("ModalityLUTSequence", "LT"),
        ("PixelData", "LO"),
    ]:
        yield f"{keyword} of {vr}", with_element(windowed, keyword, vr, NAME)
    yield "cut off", good[: good.index(NAME) + 30]
    yield "over-long", changed(PatientName=name).replace(b"\x10\0\x10\0PN", b"\x10\0\x10\0CS")
    yield "bad type", good.replace(b"LO", b"??")
    yield "codestream", encapsulated(dataset(GREY8), JPEGBaseline8Bit, NAME * 20)
    yield "deflated", dicom(GREY8, DeflatedExplicitVRLittleEndian)[:-200] + NAME * 9


NAMED = dict(named_files())


@pytest.mark.parametrize("place", NAMED)
def test_no_name_gets_out(decode, capfd, caplog, place):
    content = NAMED[place]
    assert NAME[:4] in content
    caplog.set_level(0)
    said = ""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            decode(content)
        except ImageError as error:
            said = everything_in(error)
    said += "".join(capfd.readouterr()) + caplog.text + " ".join(str(warning.message) for warning in caught)
    harmless = ("in its place", "SpecificCharacterSet of CS", "StudyInstanceUID of UI", "over-long")
    assert ("image.dcm" in said) == (place not in harmless)
    for part in ("ZQX", "SECRET", "1970"):
        assert part not in said


def everything_in(error):
    """The texts of an error and of all errors behind it, with their arguments and notes."""
    said = ""
    while error is not None:
        said += f"{error} {error!r} {error.args} {vars(error)} {getattr(error, '__notes__', '')}"
        error = error.__cause__ or error.__context__
    return said


# -- files made to do harm --------------------------------------------------------------------------------------------


def timed(decode, content, reason, seconds=10):
    start = time.perf_counter()
    with pytest.raises(ImageError, match=reason):
        decode(content)
    assert time.perf_counter() - start < seconds


def test_a_deflated_bomb(decode):
    start = b"\x09\0\x10\0OB\0\0\0\0\0\x80"  # one private value of 2 GiB
    content = deflated_file(start, bytes(1 << 24), repeat=128)
    assert len(content) < 3_000_000
    timed(decode, content, "its data set inflates to more than the limit of 200,000,000 bytes")


def test_deflated_files_that_end_early(decode):
    content = dicom(GREY16, DeflatedExplicitVRLittleEndian)
    for cut in range(200, len(content), 97):
        with pytest.raises(ImageError):
            decode(content[:cut])


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0xFFFFFFFE, 0x7FFFFFFF], ids=hex)
@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_lengths_that_lie(decode, length, syntax):
    content = dicom(GREY8, syntax)
    at = content.rindex(struct.pack("<I", GREY8.size))
    lie = content[:at] + struct.pack("<I", length) + content[at + 4 :]
    if length == 0xFFFFFFFF:
        timed(decode, lie, "no pixel data|no readable")
    else:  # everything up to the end of the file, which is right here
        np.testing.assert_array_equal(decode(lie), GREY8)


@pytest.mark.parametrize("levels", [500, 100_000])
def test_nested_sequences(decode, levels):
    level = b"\x09\0\x10\x10SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff"
    content = dicom(GREY8)
    at = content.index(b"\x10\0\x10\0PN")
    timed(decode, content[:at] + level * levels + content[at:], "nested too deeply")


def test_a_slow_file_meets_the_time_limit(decode, monkeypatch):
    """Millions of elements, one after the other."""
    pool = Pool("cxr_estimator.images:decode_content", cpu_seconds=0.1)
    monkeypatch.setattr(images_module, "_files", pool)
    element = b"\x09\0\x10\x10LO\0\0"
    timed(decode, deflated_file(b"", element * 1_000_000, repeat=12), "takes more than 0 seconds of processor time")
    pool.close()


MUTATIONS = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=4)), max_size=5)
BASES = {
    "window": changed(GREY16, WindowCenter=100, WindowWidth=100, VOILUTSequence=[lut(0, [1, 2, 3], 8)]),
    "rle": dicom(GREY16, RLELossless),
    "j2k": dicom(GREY16, JPEG2000Lossless),
    "jpeg": dicom(COLOUR, JPEGBaseline8Bit),
    "implicit": dicom(COLOUR, ImplicitVRLittleEndian),
    "deflated": dicom(GREY8, DeflatedExplicitVRLittleEndian),
}


def test_nested_items_are_not_searched_again_and_again():
    """Of items without an end, pydicom looked for the end of each in all that follows, for many seconds."""
    content, item = dicom(GREY8), struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    at = content.index(struct.pack("<HH", 0x28, 0x10))
    content = content[:at] + struct.pack("<HH2s2xI", 0x28, 9, b"SQ", 0xFFFFFFFF) + item * 30_000 + content[at:]
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as the child process does
        with pytest.raises(DicomError, match="nested too deeply"):
            read_dicom(content, max_pixels=10_000)
    assert time.process_time() - start < 2


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("scratch") / "image.dcm"


@pytest.mark.parametrize("base", BASES)
@given(mutations=MUTATIONS)
@settings(max_examples=25, deadline=None)
def test_a_damaged_file_decodes_or_is_an_image_error(scratch, base, mutations):
    content = bytearray(BASES[base])
    for place, value in mutations:
        at = int(place * len(content))
        content[at : at + len(value)] = value
    scratch.write_bytes(content)
    try:
        pixels = as_images([scratch])[0].pixels
    except ImageError as error:
        assert error.reason.endswith(".")  # noqa: PT017
    else:
        assert pixels.dtype in (np.uint8, np.uint16)
        assert pixels.ndim in (2, 3)
