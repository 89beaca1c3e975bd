"""Files, PIL images, arrays and tensors: what comes out of every format, and that bad input is named, never a crash."""

from __future__ import annotations

import hashlib
import io
import os
import re
import socket
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageOps

from cxr_estimator import images as images_module
from cxr_estimator.errors import DataError, ImageError, InvalidTypeError
from cxr_estimator.images import ImageSequence, as_images
from tests.fuzz.memory import Peaks

RAMP8 = np.arange(256, dtype=np.uint8).reshape(8, 32)
RAMP16 = np.arange(65536, dtype=np.uint16).reshape(128, 512)
RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (12, 15), dtype=np.uint8)
GREY16 = RNG.integers(0, 65536, (12, 15), dtype=np.uint16)
COLOUR = RNG.integers(0, 256, (12, 15, 3), dtype=np.uint8)
FLOATS = np.array([[-1.5, 0.0, 1e-3], [0.25, 1.0, 3e4]], dtype=np.float32)


def decode(item):
    return as_images([item])[0]


def save(path, image, **options):
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return path


def encode(image, kind, **options):
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def short(value):
    """Return a readable test id."""
    if isinstance(value, np.ndarray | torch.Tensor):
        return f"{value.dtype}{tuple(value.shape)}"
    return value[:30] if isinstance(value, str) else type(value).__name__


def png_header(width, height):
    """A PNG file that promises many pixels and holds none."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + b"\0\0\1\0IDAT"
    )


def oriented(orientation):
    exif = Image.Exif()
    exif[274] = orientation
    return exif


# -- formats ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pixels", "extension", "options"),
    [
        (RAMP8, ".png", {}),
        (RAMP8, ".tif", {}),
        (RAMP8, ".TIFF", {"compression": "tiff_lzw"}),
        (RAMP8, ".jpeg", {"quality": 100}),
        (RAMP16, ".png", {}),
        (RAMP16, ".tiff", {}),
        (RAMP16, ".tif", {"compression": "tiff_adobe_deflate"}),
        (RAMP16.astype(">u2"), ".tiff", {}),
        (RAMP16.astype(np.int32) - 30_000, ".tiff", {}),
        (FLOATS, ".tiff", {}),
        (COLOUR, ".PNG", {}),
        (COLOUR, ".tiff", {}),
    ],
    ids=short,
)
def test_stored_values_survive_exactly(tmp_path, pixels, extension, options):
    image = decode(save(tmp_path / f"image{extension}", pixels, **options))
    np.testing.assert_array_equal(image.pixels, pixels)
    assert image.pixels.dtype == pixels.dtype.newbyteorder("=")
    assert image.source == str(tmp_path / f"image{extension}")


def test_the_big_endian_tiff_above_is_one(tmp_path):
    assert save(tmp_path / "a.tiff", RAMP16.astype(">u2")).read_bytes().startswith(b"MM")


def test_jpeg_colour_is_close(tmp_path):
    smooth = np.stack([*np.meshgrid(np.arange(0, 256, 4), np.arange(0, 256, 4)), np.full((64, 64), 90)], axis=-1)
    image = decode(save(tmp_path / "image.jpg", smooth.astype(np.uint8), quality=95))
    assert image.pixels.shape == (64, 64, 3)
    assert np.abs(image.pixels.astype(int) - smooth).mean() < 2


@pytest.mark.parametrize("extension", [".png", ".tiff"])
def test_alpha_is_laid_over_black(tmp_path, extension):
    rgba = np.array([[[200, 100, 50, 128], [200, 100, 50, 255], [200, 100, 50, 0]]], dtype=np.uint8)
    expected = [[[100, 50, 25], [200, 100, 50], [0, 0, 0]]]  # 200 * 128 / 255 = 100.4
    assert decode(save(tmp_path / f"a{extension}", rgba)).pixels.tolist() == expected
    assert decode(rgba).pixels.tolist() == expected
    assert decode(torch.from_numpy(rgba).movedim(2, 0)).pixels.tolist() == expected
    floats = decode(rgba.astype(np.float32) / 255).pixels
    np.testing.assert_allclose(
        floats,
        [
            [
                [200 / 255 * 128 / 255, 100 / 255 * 128 / 255, 50 / 255 * 128 / 255],
                [200 / 255, 100 / 255, 50 / 255],
                [0, 0, 0],
            ]
        ],
        rtol=1e-5,
    )


def test_every_grey_and_alpha_is_the_same_from_pil_and_array():
    grey, alpha = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    rgba = np.stack([grey, grey, grey, alpha], axis=-1)
    assert decode(rgba).content_id == decode(Image.fromarray(rgba)).content_id


def test_grey_with_alpha(tmp_path):
    la = np.array([[[200, 128], [200, 255], [200, 0]]], dtype=np.uint8)
    image = decode(save(tmp_path / "a.png", Image.fromarray(la, "LA")))
    assert image.pixels.tolist() == [[[100] * 3, [200] * 3, [0] * 3]]


@pytest.mark.parametrize(("transparency", "second"), [(None, [0, 255, 0]), (1, [0, 0, 0]), (b"\xff\x80", [0, 128, 0])])
def test_palette(tmp_path, transparency, second):
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 10, 20, 30])
    image.putdata([0, 1, 2])
    options = {} if transparency is None else {"transparency": transparency}
    assert decode(save(tmp_path / "a.png", image, **options)).pixels.tolist() == [[[255, 0, 0], second, [10, 20, 30]]]


@pytest.mark.parametrize("extension", [".png", ".tiff"])
def test_one_bit(tmp_path, extension):
    path = save(tmp_path / f"a{extension}", Image.fromarray(np.array([[0, 255, 255]], dtype=np.uint8)).convert("1"))
    pixels = decode(path).pixels
    assert (pixels.tolist(), pixels.dtype) == ([[0, 255, 255]], np.uint8)


@pytest.mark.parametrize("extension", [".jpg", ".tiff"])
def test_cmyk(tmp_path, extension):
    inks = [(0, 0, 0, 0), (255, 0, 0, 0), (0, 64, 255, 0), (0, 0, 0, 255), (0, 0, 0, 128)]
    colours = [[255, 255, 255], [0, 255, 255], [255, 191, 0], [0, 0, 0], [127, 127, 127]]
    for ink, colour in zip(inks, colours, strict=True):
        pixels = decode(save(tmp_path / f"a{extension}", Image.new("CMYK", (8, 8), ink))).pixels
        np.testing.assert_allclose(pixels, np.broadcast_to(colour, (8, 8, 3)), atol=2 if extension == ".jpg" else 0)


ORIENTATIONS = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).T,
    8: np.rot90,
}


@pytest.mark.parametrize("extension", [".png", ".tiff"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_exif_orientation(tmp_path, orientation, extension):
    pixels = decode(save(tmp_path / f"a{extension}", GREY16, exif=oriented(orientation))).pixels
    np.testing.assert_array_equal(pixels, ORIENTATIONS[orientation](GREY16))


@pytest.mark.parametrize("kind", ["L", "I;16", "RGB", "1", "F"])
def test_large_images_are_read_strip_by_strip(monkeypatch, kind):
    image = Image.fromarray({"I;16": GREY16, "RGB": COLOUR, "F": GREY.astype(np.float32)}.get(kind, GREY))
    image = image.convert("1") if kind == "1" else image
    whole = decode(image)
    for pixels in (1, 31, 70):
        monkeypatch.setattr(images_module, "_STRIP_PIXELS", pixels)
        assert decode(image).content_id == whole.content_id


def test_exif_orientation_of_a_jpeg_also_as_a_pil_image(tmp_path):
    left_white = np.zeros((16, 32), dtype=np.uint8)
    left_white[:, :8] = 255
    path = save(tmp_path / "a.jpg", left_white, exif=oriented(6))
    image = decode(path)
    assert image.pixels.shape == (32, 16)
    assert (image.pixels[:8] > 250).all()
    assert (image.pixels[8:] < 5).all()
    with Image.open(path) as opened:
        assert decode(opened).content_id == image.content_id


# -- kinds of items and of X ------------------------------------------------------------------------------------------


def strided(array):
    return np.repeat(np.repeat(array, 2, axis=0), 3, axis=1)[::2, ::3]


KINDS = {
    "path": lambda a, folder: save(folder / "a.png", a),
    "str": lambda a, folder: str(save(folder / "a.png", a)),
    "np.str_": lambda a, folder: np.str_(save(folder / "a.png", a)),
    "tiff": lambda a, folder: save(folder / "a.tiff", a),
    "pil": lambda a, folder: Image.fromarray(a),
    "opened": lambda a, folder: Image.open(io.BytesIO(encode(a, "PNG"))),
    "array": lambda a, folder: a,
    "fortran": lambda a, folder: np.asfortranarray(a),
    "strided": lambda a, folder: strided(a),
    "reversed twice": lambda a, folder: a[::-1].copy()[::-1],
    "tensor": lambda a, folder: torch.from_numpy(a if a.ndim == 2 else np.moveaxis(a, 2, 0).copy()),
    "parameter": lambda a, folder: torch.nn.Parameter(
        torch.from_numpy(np.atleast_3d(a)).movedim(2, 0), requires_grad=False
    ),
}
EXTRA_KINDS = {
    "grey": {
        "(H, W, 1)": lambda a, folder: a[..., None],
        "(1, H, W)": lambda a, folder: a[None],
    },
    "grey16": {
        "big-endian": lambda a, folder: a.astype(">u2"),
        "big-endian tiff": lambda a, folder: save(folder / "a.tiff", a.astype(">u2")),
        "I;16B": lambda a, folder: Image.fromarray(a.astype(">u2")),
        "(1, H, W)": lambda a, folder: a[None],
    },
    "colour": {
        "(3, H, W)": lambda a, folder: np.moveaxis(a, 2, 0),
        "opaque": lambda a, folder: np.dstack([a, np.full(a.shape[:2], 255, dtype=np.uint8)]),
        "opaque png": lambda a, folder: save(folder / "a.png", Image.fromarray(a).convert("RGBA")),
        "(4, H, W) tensor": lambda a, folder: torch.cat(
            [torch.from_numpy(a).movedim(2, 0), torch.full((1, *a.shape[:2]), 255, dtype=torch.uint8)]
        ),
    },
}
PICTURES = {"grey": GREY, "grey16": GREY16, "colour": COLOUR}


@pytest.mark.parametrize(
    ("picture", "kind"),
    [(name, kind) for name in PICTURES for kind in {**KINDS, **EXTRA_KINDS[name]}],
)
def test_one_picture_has_one_content_id(tmp_path, picture, kind):
    pixels = PICTURES[picture]
    image = decode({**KINDS, **EXTRA_KINDS[picture]}[kind](pixels, tmp_path))
    np.testing.assert_array_equal(image.pixels, pixels)
    assert image.content_id == decode(pixels.copy()).content_id


def test_content_id_is_this_hash():
    assert decode(np.array([[0, 255]], dtype=np.uint8)).content_id == hashlib.sha256(b"|u1 (1, 2)\x00\xff").hexdigest()


def test_content_ids_differ():
    one_pixel = GREY.copy()
    one_pixel[3, 4] ^= 1
    pictures = [GREY, one_pixel, GREY.T, GREY[::-1], GREY[:, :-1], GREY.reshape(15, 12), GREY.astype(np.uint16)]
    pictures += [GREY.astype(np.int8), GREY.astype(np.float32), np.dstack([GREY] * 3), COLOUR, COLOUR[..., ::-1]]
    assert len({decode(picture).content_id for picture in pictures}) == len(pictures)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_float_tensors(dtype):
    pixels = decode(torch.tensor([[0.0, 0.5], [0.25, 1.0]], dtype=dtype)).pixels
    assert (pixels.tolist(), pixels.dtype) == ([[0.0, 0.5], [0.25, 1.0]], np.float32)


def test_bool_becomes_black_and_white():
    pixels = decode(np.array([[True, False]])).pixels
    assert (pixels.tolist(), pixels.dtype) == ([[255, 0]], np.uint8)


@pytest.fixture(scope="module")
def three_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("three")
    return [str(save(folder / f"{i}.png", np.full((4, 5), 10 * i, dtype=np.uint8))) for i in range(3)]


THREE = np.stack([np.full((4, 5), 10 * i, dtype=np.uint8) for i in range(3)])
THREE_RGB = np.stack([THREE, THREE + 1, THREE + 2], axis=-1)


@pytest.mark.parametrize(
    "container",
    [
        list,
        tuple,
        np.array,
        lambda paths: np.array(paths, dtype=object),
        lambda paths: np.array(paths)[:, None],
        lambda paths: np.array(paths, dtype=object)[:, None],
        lambda paths: np.array(paths, dtype=np.dtypes.StringDType()),
        lambda paths: [Path(path) for path in paths],
        lambda paths: np.array([Path(path) for path in paths], dtype=object),
        pd.Series,
        lambda paths: pd.Series(paths, index=[7, 8, 9], dtype=object),
        lambda paths: pd.DataFrame({"path": paths}),
        lambda paths: [Image.open(path) for path in paths],
        lambda paths: [paths[0], Image.open(paths[1]), THREE[2]],
        lambda paths: THREE,
        lambda paths: THREE.tolist(),
        lambda paths: list(THREE),
        lambda paths: THREE[..., None],
        lambda paths: THREE[:, None],
        lambda paths: torch.from_numpy(THREE),
        lambda paths: torch.from_numpy(THREE)[:, None],
    ],
)
def test_containers(three_files, container):
    images = as_images(container(three_files))
    assert len(images) == 3
    assert not images.is_rows
    for index in (2, 0, 1):
        assert (images[index].pixels == 10 * index).all()
        assert images[index].pixels.shape == (4, 5)


@pytest.mark.parametrize("X", [THREE_RGB, np.moveaxis(THREE_RGB, 3, 1), torch.from_numpy(THREE_RGB).movedim(3, 1)])
def test_colour_containers(X):
    np.testing.assert_array_equal([image.pixels for image in as_images(X)], THREE_RGB)


def test_images_may_differ_in_size_and_depth():
    images = as_images([GREY, COLOUR, GREY16[:3], torch.zeros(3, 7, 9)])
    assert [image.pixels.shape for image in images] == [(12, 15), (12, 15, 3), (3, 15), (7, 9, 3)]
    assert [images.source(index) for index in range(4)] == ["X[0]", "X[1]", "X[2]", "X[3]"]


def test_where_both_readings_fit_arrays_are_channels_last_and_tensors_channels_first():
    X = np.arange(2 * 3 * 5 * 3, dtype=np.uint8).reshape(2, 3, 5, 3)
    np.testing.assert_array_equal(as_images(X)[1].pixels, X[1])
    np.testing.assert_array_equal(as_images(torch.from_numpy(X))[1].pixels, np.moveaxis(X[1], 0, 2))
    np.testing.assert_array_equal(as_images([torch.from_numpy(X[1])])[0].pixels, np.moveaxis(X[1], 0, 2))


def test_source_and_path(three_files):
    images = as_images([three_files[0], Path(three_files[1]), GREY])
    assert [images.source(index) for index in range(3)] == [*three_files[:2], "X[2]"]
    assert [images.path(index) for index in range(3)] == [*three_files[:2], None]


@pytest.mark.parametrize("to_rows", [lambda a: a, lambda a: a.tolist(), torch.from_numpy, pd.DataFrame])
def test_rows(to_rows):
    rows = as_images(to_rows(THREE.reshape(3, 20)))
    assert rows.is_rows
    images = rows.with_row_shape((4, 5))
    assert not images.is_rows
    np.testing.assert_array_equal([image.pixels for image in images], THREE)
    with pytest.raises(DataError, match=re.escape("rows of 20 values, but image_shape (3, 5) needs 15")):
        rows.with_row_shape((3, 5))


def test_nothing_is_read_before_it_is_asked_for(three_files):
    images = as_images([three_files[0], "/nowhere.png"])
    assert isinstance(images, ImageSequence)
    assert images[0].pixels.shape == (4, 5)
    with pytest.raises(ImageError, match=r"^/nowhere.png: there is no such file"):
        images[1]


DTYPES = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="="),
    hnp.unsigned_integer_dtypes(endianness="="),
    hnp.integer_dtypes(endianness=">"),
    hnp.unsigned_integer_dtypes(endianness=">"),
    hnp.floating_dtypes(sizes=(16, 32), endianness="<"),
    hnp.floating_dtypes(sizes=(32,), endianness=">"),
)


@given(
    data=st.data(),
    dtype=DTYPES,
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([(), (1,), (3,)])).map(
        lambda s: (*s[:2], *s[2])
    ),
)
@settings(max_examples=150, deadline=None)
def test_arrays_decode_to_themselves(data, dtype, shape):
    elements = {"allow_nan": False, "allow_infinity": False} if dtype.kind == "f" else None
    array = data.draw(hnp.arrays(dtype, shape, elements=elements and hnp.from_dtype(dtype, **elements)))
    pixels = decode(array).pixels
    expected = array[..., 0] if shape[2:] == (1,) else array
    np.testing.assert_array_equal(pixels, expected * np.uint8(255) if dtype.kind == "b" else expected)
    assert pixels.dtype == {"b": np.dtype(np.uint8), "f": np.dtype(np.float32)}.get(dtype.kind, dtype.newbyteorder("="))
    assert decode(np.asfortranarray(array)).content_id == decode(array).content_id


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("missing.png", None, "there is no such file"),
        ("a.png/b.png", None, "there is no such file"),
        ("x" * 300 + ".png", None, "cannot be reached"),
        ("null\0byte.png", None, "cannot be reached"),
        ("empty.jpg", b"", r"empty \(0 bytes\)"),
        ("text.png", b"Dear Dr. Smith,\n" * 50, "no readable PNG, JPEG, TIFF or DICOM"),
        ("gif.png", encode(GREY, "GIF"), "no readable PNG, JPEG, TIFF or DICOM"),
        ("bmp.jpg", encode(GREY, "BMP"), "no readable PNG, JPEG, TIFF or DICOM"),
        ("drawing.svg", b'<svg xmlns="http://www.w3.org/2000/svg"/>', "no readable PNG, JPEG, TIFF or DICOM"),
        ("page.jpeg", b"<!DOCTYPE html><html><body>404</body></html>", "no readable PNG, JPEG, TIFF or DICOM"),
        ("signature.png", b"\x89PNG\r\n\x1a\n", "no readable|damaged"),
        ("signature.tiff", b"II*\0", "no readable|damaged"),
        ("56MP.png", png_header(8000, 7000), "more than the limit of 50,000,000"),
        ("100MP.png", png_header(10_000, 10_000), "more than the limit of 50,000,000"),
        ("400MP.png", png_header(20_000, 20_000), "more than the limit of 50,000,000"),
    ],
    ids=short,
)
def test_bad_files_are_named(tmp_path, name, content, reason):
    (tmp_path / "a.png").write_bytes(encode(GREY, "PNG"))
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImageError, match=reason) as caught:
        decode(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert caught.value.source == str(path)


def test_a_folder_is_no_image(tmp_path):
    with pytest.raises(ImageError, match=f"^{re.escape(str(tmp_path))}: this is a folder"):
        decode(tmp_path)


@pytest.mark.parametrize("name", ["pipe.png", "pipe.dcm"])
def test_a_pipe_is_no_image(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(ImageError, match="this is no regular file"):
        decode(tmp_path / name)


def test_devices_and_sockets_are_no_images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.png")
        for path in ("s.png", "/dev/zero"):
            with pytest.raises(ImageError, match="this is no regular file"):
                decode(path)


def test_a_file_of_many_bytes_is_not_read(tmp_path):
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(10**12)  # a sparse file
    with pytest.raises(ImageError, match="the file has 1,000,000,000,000 bytes, more than the limit of 400,000,000"):
        decode(tmp_path / "a.png")


def corrupt_exif():
    """A JPEG file whose EXIF data make Pillow warn."""
    exif = b"Exif\0\0II*\0\x08\0\0\0\x02\0\x12\x01\x03\0\xff\xff\xff\0\x99\x99\x99\x09\x1a\x01"
    return encode(GREY, "JPEG", exif=exif)


def circular_tiff():
    """A TIFF file whose second page is again the first."""
    content = bytearray(encode(GREY, "TIFF"))
    start = int.from_bytes(content[4:8], "little")
    after = start + 2 + 12 * int.from_bytes(content[start : start + 2], "little")
    content[after : after + 4] = content[4:8]
    return bytes(content)


def test_files_that_make_pillow_warn(tmp_path):
    content = corrupt_exif()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    assert caught
    (tmp_path / "a.jpg").write_bytes(content)
    (tmp_path / "b.png").write_bytes(png_header(10_000, 10_000))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        decode(tmp_path / "a.jpg")
        with pytest.raises(ImageError, match="10000 x 10000 pixels are more than the limit"):
            decode(tmp_path / "b.png")
    assert not caught


def test_a_circular_tiff_ends(tmp_path):
    (tmp_path / "a.tiff").write_bytes(circular_tiff())
    np.testing.assert_array_equal(decode(tmp_path / "a.tiff").pixels, GREY)


def test_the_name_is_the_one_that_was_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ImageError, match=r"^\./a//b\.png: there is no such file"):
        decode("./a//b.png")


def test_pages(tmp_path):
    first, second = Image.fromarray(GREY), Image.fromarray(GREY[::-1])
    path = save(tmp_path / "pages.tiff", first, save_all=True, append_images=[second])
    with pytest.raises(ImageError, match=f"^{re.escape(str(path))}: it holds 2 pages"):
        decode(path)
    with Image.open(path) as opened, pytest.raises(ImageError, match=r"^X\[0\]: it holds 2 pages"):
        decode(opened)


def test_limit_of_pixels(monkeypatch, tmp_path):
    monkeypatch.setattr(images_module, "MAX_PIXELS", GREY.size)
    assert decode(Image.fromarray(GREY)).pixels.shape == GREY.shape
    monkeypatch.setattr(images_module, "MAX_PIXELS", GREY.size - 1)
    for item in (save(tmp_path / "a.png", GREY), Image.fromarray(GREY)):
        with pytest.raises(ImageError, match="15 x 12 pixels are more than the limit of 179"):
            decode(item)


ENCODED = {
    "png": encode(COLOUR, "PNG", exif=oriented(6)),
    "png16": encode(GREY16, "PNG"),
    "jpeg": encode(np.kron(COLOUR, np.ones((3, 3, 1), dtype=np.uint8)), "JPEG", exif=oriented(6)),
    "progressive": encode(np.kron(GREY, np.ones((4, 4), dtype=np.uint8)), "JPEG", progressive=True),
    "tiff": encode(COLOUR, "TIFF"),
    "big-endian": encode(GREY16.astype(">u2"), "TIFF"),
    "lzw": encode(GREY, "TIFF", compression="tiff_lzw"),
}


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("scratch") / "image.bin"


def decode_or_image_error(path, content):
    """Return the pixels or None; anything but an ImageError, and any warning, comes through."""
    path.write_bytes(content)
    try:
        return decode(path).pixels
    except ImageError:
        return None


@pytest.mark.parametrize("name", ENCODED)
def test_a_truncated_file_is_right_or_an_image_error(scratch, name):
    content = ENCODED[name]
    whole = decode_or_image_error(scratch, content)
    cuts = sorted(
        {
            *range(1, 40, 3),
            *np.linspace(40, len(content) - 1, 40, dtype=int),
            *(len(content) - n for n in (1, 2, 4, 12)),
        }
    )
    refused = 0
    for cut in cuts:
        for filters in ("error", "ignore"):
            with warnings.catch_warnings():
                warnings.simplefilter(filters)
                pixels = decode_or_image_error(scratch, content[:cut])
            refused += pixels is None
            if pixels is not None:
                np.testing.assert_array_equal(pixels, whole)
    assert refused > len(cuts)


def test_a_truncated_pil_image_is_an_image_error():
    with pytest.raises(ImageError, match=r"^X\[1\]: the image is damaged"):
        as_images([Image.fromarray(GREY), Image.open(io.BytesIO(ENCODED["png"][:300]))])[1]


MUTATIONS = st.lists(
    st.tuples(
        st.sampled_from(["flip", "set", "delete", "insert"]),
        st.floats(0, 1, exclude_max=True),
        st.binary(min_size=1, max_size=6),
    ),
    min_size=1,
    max_size=5,
)


def mutate(content, mutations):
    changed = bytearray(content)
    for kind, place, value in mutations:
        i = int(place * len(changed))
        if kind == "flip":
            changed[i] ^= 1 << (value[0] % 8)
        elif kind == "set":
            changed[i] = value[0]
        elif kind == "delete":
            del changed[i : i + len(value)]
        else:
            changed[i:i] = value
    return bytes(changed)


@pytest.mark.parametrize("name", ENCODED)
@given(mutations=MUTATIONS)
@settings(max_examples=40, deadline=None)
def test_a_damaged_file_decodes_or_is_an_image_error(scratch, name, mutations):
    pixels = decode_or_image_error(scratch, mutate(ENCODED[name], mutations))
    assert pixels is None or (pixels.dtype.kind in "uif" and pixels.ndim in (2, 3))


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (np.zeros(5), "must have shape"),
        (np.zeros((1, 2, 3, 4, 5)), "must have shape"),
        (np.zeros((2, 2, 2, 3)), "must have shape"),
        (np.uint8(3), "must be a path"),
        (np.zeros((0, 4)), "no pixels"),
        (np.zeros((4, 0, 3)), "no pixels"),
        (np.zeros((6, 5, 2)), "no axis of"),
        (np.zeros((2, 4, 5)), "no axis of"),
        (np.zeros((3, 3), dtype=complex), "must be numbers. Got complex128"),
        (np.zeros((3, 3), dtype=object), "must be numbers. Got object"),
        (np.array([["a", "b"]]), "must be numbers. Got <U1"),
        (np.zeros((3, 3), dtype="M8[s]"), "must be numbers"),
        (torch.zeros(3, 3, dtype=torch.complex64), "must be numbers. Got complex64"),
        (np.array([[0.0, np.nan]]), "NaN or infinite"),
        (np.array([[0.0, np.inf]], dtype=np.float16), "NaN or infinite"),
        (np.array([[0.0, 1e300]]), "NaN or infinite"),
        (torch.full((2, 2), torch.nan), "NaN or infinite"),
        (None, "must be a path, a PIL image, an array or a tensor. Got NoneType"),
        (b"a.png", "Got bytes"),
        ({"path": "a.png"}, "Got dict"),
        (float("nan"), "Got float"),
        (Image.new("La", (2, 2)), "damaged"),
    ],
    ids=short,
)
@pytest.mark.parametrize("position", [0, 1])
def test_bad_items_are_named_by_index(item, reason, position):
    X = [GREY, "a.png"]
    X.insert(position, item)
    with pytest.raises(ImageError, match=rf"^X\[{position}\]: .*{reason}"):
        as_images(X)[position]


@pytest.mark.parametrize(
    ("X", "reason"),
    [
        ("a.png", r"Got one str; pass \[image\]"),
        (Path("a.png"), r"pass \[image\]"),
        (Image.new("L", (4, 4)), r"Got one Image; pass \[image\]"),
        (None, "Got NoneType"),
        (7, "Got int"),
        ({"a": GREY}, "Got dict"),
        ({"a.png"}, "Got set"),
        ((GREY for _ in range(3)), "Got generator"),
        (b"a.png", "must hold numbers"),
        (np.zeros((2, 3, 3), dtype=complex), "complex128"),
        (np.zeros((2, 3, 3), dtype="M8[s]"), "datetime64"),
        ([["a", "b"], ["c", "d"]], "must hold numbers"),
    ],
    ids=short,
)
def test_what_is_no_sequence_of_images_is_a_type_error(X, reason):
    with pytest.raises(InvalidTypeError, match=reason):
        as_images(X)


@pytest.mark.parametrize(
    ("X", "reason"),
    [
        ([], "X is empty"),
        ((), "X is empty"),
        (np.array([]), "X is empty"),
        (np.zeros((0, 8, 8)), "X is empty"),
        (np.array([], dtype=str), "X is empty"),
        (torch.zeros(0, 3, 8, 8), "X is empty"),
        (pd.Series([], dtype=object), "X is empty"),
        (np.array(3.0), "must have shape"),
        (np.zeros(5), "must have shape"),
        (np.zeros((1, 2, 3, 4, 5)), "must have shape"),
        ([1.0, 2.0], "must have shape"),
        ([[[1, 2], [3]], [[4, 5], [6, 7]]], "different lengths"),
        (np.array([["a", "b"], ["c", "d"]]), "one-dimensional"),
    ],
    ids=short,
)
def test_impossible_x_is_a_data_error(X, reason):
    with pytest.raises(DataError, match=reason):
        as_images(X)


def test_real_duplicates_have_equal_content_ids(real_data_dir):
    files = {}
    for path in sorted(real_data_dir.rglob("*.jpeg")):
        files.setdefault(hashlib.md5(path.read_bytes()).hexdigest(), []).append(os.fspath(path))
    groups = [paths for paths in files.values() if len(paths) > 1]
    ids = [{image.content_id for image in as_images(paths)} for paths in groups]
    assert len(groups) >= 20
    assert all(len(group) == 1 for group in ids)
    assert len(set.union(*ids)) == len(groups)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "I;16", "F", "P", "PA", "RGB", "RGBA", "CMYK"])
def test_strips_join_to_the_whole_image(mode, monkeypatch):
    image = Image.fromarray(GREY16 if mode == "I;16" else COLOUR)
    image = image if mode == "I;16" else image.convert(mode)
    if mode == "P":
        image.info["transparency"] = 3
    whole = decode(image).pixels
    monkeypatch.setattr(images_module, "_STRIP_PIXELS", 2 * image.width)
    np.testing.assert_array_equal(decode(image).pixels, whole)
    assert whole.shape[:2] == (12, 15)


def test_a_turned_image_of_the_user_stays_as_it_is():
    image = Image.fromarray(GREY)
    image.getexif()[0x0112] = 6
    np.testing.assert_array_equal(decode(image).pixels, np.rot90(GREY, -1))
    assert image.size == (15, 12)
    np.testing.assert_array_equal(np.asarray(image), GREY)


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_file_takes_twice_its_size_at_most(tmp_path, orientation):
    """Pillow holds 4 bytes a pixel; beside them there is the result, or while the image is turned one more copy."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "large.tif", Image.new("RGBA", (4000, 2500), (200, 100, 50, 128)), exif=exif)
    content = path.read_bytes()
    peaks = Peaks()
    pixels = images_module.decode_content(content, is_dicom_name=False, max_pixels=10_000_000)
    assert pixels.shape == ((2500, 4000, 3) if orientation == 1 else (4000, 2500, 3))
    assert peaks.growth() < 2 * 4 * 10_000_000 + (24 << 20)  # and a strip or two
