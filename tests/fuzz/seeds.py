"""The files that are mutated, all made here except for real radiographs from CXR_DATA_DIR."""

from __future__ import annotations

import copy
import io
import os
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

Files = dict[str, bytes]  # by name, as they lie in the folder of a case

REAL_RADIOGRAPHS = 6


def _phantom(size: int = 48) -> np.ndarray:
    from cxr_estimator import make_phantoms

    return make_phantoms(2, size, random_state=0).X[0]


@cache
def _pictures() -> dict[str, Image.Image]:
    grey = Image.fromarray(_phantom())
    wide = np.repeat(np.asarray(grey), 2, axis=1).astype(np.uint16) * 257
    colour = Image.merge("RGB", [grey, grey.rotate(90), grey.rotate(180)])
    palette = colour.quantize(16)
    palette.info["transparency"] = 3
    return {
        "grey": grey,
        "grey16": Image.fromarray(wide),
        "colour": colour,
        "alpha": Image.merge("RGBA", [*colour.split(), grey]),
        "grey_alpha": Image.merge("LA", [grey, grey.rotate(90)]),
        "palette": palette,
        "bilevel": grey.convert("1"),
        "cmyk": colour.convert("CMYK"),
        "float": Image.fromarray(np.asarray(grey, dtype=np.float32) / 255),
        "large": grey.resize((700, 500)),
    }


def _encode(name: str, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    _pictures()[name].save(buffer, kind, **options)
    return buffer.getvalue()


def _turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def _interlaced_png() -> bytes:
    """Return an Adam7 PNG of 8 x 8 grey pixels, which Pillow cannot write."""
    from .image_mutations import png_bytes

    rows = np.asarray(_pictures()["grey"].resize((8, 8)))
    steps = ((0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1))
    raw = b"".join(b"\0" + row.tobytes() for top, down, left, right in steps for row in rows[top::down, left::right])
    return png_bytes(8, 8, raw, interlaced=True)


def pngs() -> Iterator[bytes]:
    for name in ("grey", "grey16", "colour", "alpha", "grey_alpha", "palette", "bilevel", "large"):
        yield _encode(name, "PNG")
    yield _encode("grey", "PNG", exif=_turned(6))
    yield _encode("palette", "PNG", transparency=bytes(range(16)))
    yield _encode("grey", "PNG", transparency=7)
    yield _interlaced_png()


def jpegs() -> Iterator[bytes]:
    for name in ("grey", "colour", "cmyk", "large"):
        yield _encode(name, "JPEG", quality=80)
    yield _encode("colour", "JPEG", progressive=True, subsampling=0)
    yield _encode("large", "JPEG", progressive=True)
    yield _encode("colour", "JPEG", exif=_turned(8), restart_marker_blocks=2)
    yield _encode("grey", "JPEG", icc_profile=bytes(3000), comment=b"made for tests")


def real_jpegs() -> Iterator[bytes]:
    """Yield the smallest radiographs of the folder in CXR_DATA_DIR, or nothing."""
    folder = os.environ.get("CXR_DATA_DIR")
    paths = sorted(Path(folder).rglob("*.jpeg"), key=lambda path: (path.stat().st_size, path.name)) if folder else []
    for path in paths[:REAL_RADIOGRAPHS]:
        yield path.read_bytes()


def tiffs() -> Iterator[bytes]:
    for name in ("grey", "grey16", "colour", "float", "alpha", "palette", "bilevel", "large"):
        yield _encode(name, "TIFF")
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        yield _encode("colour", "TIFF", compression=compression)
    yield _encode("bilevel", "TIFF", compression="group4")
    yield _encode("grey16", "TIFF", compression="tiff_lzw", tiffinfo={317: 2})
    yield _encode("grey", "TIFF", save_all=True, append_images=[_pictures()["grey16"]])
    yield _encode("large", "TIFF", exif=_turned(6))
    yield _tiled_tiff()
    yield _encode("grey", "TIFF", big_tiff=True)
    big = Image.fromarray(np.asarray(_pictures()["grey16"]).astype(">u2"))
    yield _saved(big, "TIFF", tiffinfo={})


def _saved(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _tiled_tiff() -> bytes:
    """Return a grey TIFF of 32 x 32 pixels in four tiles."""
    import struct

    pixels = np.asarray(_pictures()["grey"].resize((32, 32)))
    tiles = [pixels[y : y + 16, x : x + 16].tobytes() for y in (0, 16) for x in (0, 16)]
    tags = [(256, 32), (257, 32), (258, 8), (259, 1), (262, 1), (277, 1), (322, 16), (323, 16)]
    ifd, offsets = 8, 8 + 2 + 12 * (len(tags) + 2) + 4
    first = offsets + 32
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags]
    entries += [struct.pack("<HHII", 324, 4, 4, offsets), struct.pack("<HHII", 325, 4, 4, offsets + 16)]
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + struct.pack("<I", 0)
    places = struct.pack("<4I", *(first + 256 * i for i in range(4))) + struct.pack("<4I", *[256] * 4)
    return b"II*\0" + struct.pack("<I", ifd) + directory + places + b"".join(tiles)


def dicoms() -> Iterator[bytes]:
    """Yield files of each kind of pixels, window and transfer syntax."""
    from pydicom import uid

    from tests.dicom_files import dicom, lut

    grey = _phantom(40)
    twelve, sixteen = grey.astype(np.uint16) * 16, grey.astype(np.uint16) * 257
    window = {"WindowCenter": [1500, 40], "WindowWidth": [2000, 400], "RescaleSlope": 1, "RescaleIntercept": -1024}
    table = lut(0, range(4096), 16)
    yield dicom(grey)
    yield dicom(grey, uid.ImplicitVRLittleEndian, photometric="MONOCHROME1")
    yield dicom(twelve, stored=12, **window)
    yield dicom(twelve, stored=12, VOILUTSequence=[table])
    yield dicom(sixteen, photometric="MONOCHROME1", PixelPaddingValue=0)
    yield dicom(sixteen, uid.ExplicitVRBigEndian)
    yield dicom(sixteen, uid.DeflatedExplicitVRLittleEndian)
    yield dicom(np.stack([grey, grey.T, grey[::-1]], axis=2))
    yield dicom(np.stack([grey, grey.T, grey[::-1]], axis=2), uid.JPEGBaseline8Bit, photometric="YBR_FULL")
    yield dicom(grey, uid.JPEGBaseline8Bit)
    yield dicom(twelve, uid.RLELossless, stored=12)
    yield dicom(grey, uid.JPEG2000Lossless)
    yield dicom(sixteen, uid.JPEG2000Lossless)


def medmnist() -> Iterator[bytes]:
    rng = np.random.default_rng(0)
    arrays = {}
    for split, n in (("train", 12), ("val", 4), ("test", 4)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        arrays[f"{split}_labels"] = rng.integers(0, 2, (n, 1), dtype=np.uint8)
    for save in (np.savez, np.savez_compressed):
        buffer = io.BytesIO()
        save(buffer, **arrays)
        yield buffer.getvalue()


def tables() -> Iterator[bytes]:
    rows = [f"image_{i}.png,{'NORMAL' if i % 2 else 'PNEUMONIA'},{i // 2:03d},{i % 3}" for i in range(30)]
    yield "\n".join(["path,label,patient,site", *rows]).encode() + b"\n"
    yield "\n".join(["path,label", *(f'"a, {i}.png",{i % 2}' for i in range(9))]).encode()


@cache
def _fitted():
    from cxr_estimator import CXRClassifier, make_phantoms

    data = make_phantoms(40, 16, random_state=0)
    options = {"image_size": 16, "max_epochs": 1, "batch_size": 16, "validation_fraction": 0.2, "random_state": 0}
    clf = CXRClassifier("plain_cnn", pos_label="PNEUMONIA", device="cpu", **options)
    clf.fit(data.X, data.y, groups=data.groups)
    clf.history_["seconds"] = 0.5  # so that a case has the same bytes in each run
    clf.provenance_ = replace(clf.provenance_, seconds=0.5)
    return clf, data


def models() -> Iterator[Files]:
    clf, data = _fitted()
    for one in (clf, copy.copy(clf).conformalize(data.X[:12], data.y[:12])):
        with TemporaryDirectory() as folder:
            one.save(folder)
            yield _read(folder)


def explanations() -> Iterator[Files]:
    clf, data = _fitted()
    for include_image in (False, True):
        with TemporaryDirectory() as folder:
            clf.explain(data.X[:3], data.y[:3]).save(Path(folder) / "map", include_image=include_image)
            yield _read(folder)


def receipts() -> Iterator[bytes]:
    from cxr_estimator.receipts import receipt_of

    clf, data = _fitted()
    for method, options in (("grad_cam", {}), ("rise", {"n_masks": 20, "target": "margin"})):
        explanation = clf.explain(data.X[:1], method=method, **options)
        one = receipt_of(clf, explanation, model_name="alice/model" if options else "bundled")
        yield replace(one, created="2026-01-31", versions={"torch": "2"}).to_json().encode()


def audits() -> Iterator[bytes]:
    from cxr_estimator.audit import AuditCheck, AuditReport

    found = (
        AuditCheck("gain", "maps", "grad_cam", 0.01, (-0.1, 0.1), 0.02, "doubtful", "Grad-CAM: said."),
        AuditCheck(
            "transfer", "model", None, float("nan"), (float("nan"), float("inf")), 0.1, "not enough data", "None."
        ),
    )
    yield AuditReport(found, ("a", "b"), ("grad_cam",), 40, 20, 1, 9, "A note.", {"torch": "2"}).to_json().encode()


def _read(folder: str) -> Files:
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}
