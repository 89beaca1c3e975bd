"""The table of what is fuzzed: files to mutate, the function that reads them, and what a right answer is."""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydicom import dcmread

from cxr_estimator import CXRClassifier, Explanation, load_image_table, load_medmnist
from cxr_estimator.audit import AuditReport
from cxr_estimator.errors import EditedFilesWarning
from cxr_estimator.images import MAX_PIXELS, DecodedImage, as_images
from cxr_estimator.receipts import Receipt, compared, replay
from cxr_estimator.verdicts import SIGNS
from tests.model_folders import seal

from . import seeds
from .archive_mutations import ON_NPZ, ON_SAFETENSORS
from .bytes_mutations import Mutation
from .dicom_mutations import ON_DICOM
from .image_mutations import ON_JPEG, ON_PNG, ON_TIFF
from .json_mutations import ON_CONFIG, ON_JSON, ON_TABLE
from .seeds import Files

_SIZES = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated")
_GREY = np.full((1, 16, 16), 100, dtype=np.uint8)


@dataclass(frozen=True)
class Target:
    """One kind of file.

    Attributes
    ----------
    name : str
    file : str
        Which file of a case's folder is mutated.
    seeds : callable
        Returns the folders to start from.
    mutations : tuple
        Those that know the format.
    read : callable
        Reads a folder; the function under test.
    check : callable
        Raises for a value that breaks the contract. May use it, as a user would: a `CXRError` is a right answer too.
    decoded_size : callable
        How many bytes a folder's content has decoded, so far as its (mutated) headers tell; 0 where they are refused.
    """

    name: str
    file: str
    seeds: Callable[[], list[Files]]
    mutations: tuple[Mutation, ...]
    read: Callable[[Path], Any]
    check: Callable[[Any], None]
    decoded_size: Callable[[Path], int]


class ContractError(Exception):
    """A value came back that breaks the contract."""


def require(holds: Any, what: str) -> None:
    if not holds:
        raise ContractError(what)


# -- images


def read_image(file: str, folder: Path) -> DecodedImage:
    return as_images([folder / file])[0]


def check_image(image: Any) -> None:
    require(isinstance(image, DecodedImage), "a DecodedImage is expected")
    pixels = image.pixels
    require(pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3), f"shape {pixels.shape}")
    require(0 < pixels.shape[0] * pixels.shape[1] <= MAX_PIXELS, f"{pixels.shape} pixels")
    require(pixels.dtype.kind in "ui" or pixels.dtype == np.float32, f"type {pixels.dtype}")
    require(
        pixels.dtype.isnative and np.isfinite((pixels.min(), pixels.max())).all(), "pixels in native order and finite"
    )


def image_size(file: str, folder: Path) -> int:
    """Return the bytes of Pillow's own pixels, of which colour takes 4 a pixel.

    A progressive JPEG counts with its coefficients as well (2 bytes each): no decoder can do without all of them.
    """
    try:
        with warnings.catch_warnings(), Image.open(folder / file) as image:
            warnings.simplefilter("ignore")
            pixels = image.width * image.height
            each = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2}.get(image.mode, 4)
            each += 2 * len(image.getbands()) * bool(image.info.get("progressive"))
            return each * pixels if pixels <= MAX_PIXELS else 0
    except Exception:  # noqa: BLE001 - not even a header is left
        return 0


def dicom_size(folder: Path) -> int:
    """Return the bytes of the pixels that the header declares."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = dcmread(folder / "a.dcm", stop_before_pixels=True, force=True, specific_tags=list(_SIZES))
            rows, columns, samples, bits = (int(dataset.get(name, 1)) for name in _SIZES)
        return rows * columns * samples * max(2, bits // 8) if rows * columns * samples <= MAX_PIXELS else 0
    except Exception:  # noqa: BLE001 - not even a header is left
        return 0


# -- data sets


def read_medmnist(folder: Path) -> Any:
    return load_medmnist(folder / "a.npz")


def read_table(folder: Path) -> Any:
    return load_image_table(folder / "table.csv")


def check_dataset(data: Any) -> None:
    require(len(data.X) == len(data.y) > 0, f"{len(data.X)} images, {len(data.y)} labels")
    require(data.X.dtype.kind in "buifU" and data.y.dtype.kind in "buifU", f"types {data.X.dtype} and {data.y.dtype}")
    if data.X.dtype.kind != "U":
        check_image(as_images(data.X)[0])


def archive_size(name: str, folder: Path) -> int:
    """Return the bytes of all members of an archive, at most what deflate can make of what is there."""
    try:
        with zipfile.ZipFile(folder / name) as archive:
            there = (folder / name).stat().st_size
            return sum(min(item.file_size, 1032 * min(item.compress_size, there)) for item in archive.infolist())
    except Exception:  # noqa: BLE001 - no archive
        return 0


def stored_size(folder: Path) -> int:
    """Return the bytes of all files; of text those of Python's objects: an integer, say, takes 36 for 2 characters."""
    return sum(path.stat().st_size * (18 if path.suffix in (".json", ".csv") else 1) for path in folder.iterdir())


# -- models, explanations, receipts and audits


def read_sealed_model(folder: Path) -> CXRClassifier:
    """Read a model whose checksums are right; they would refuse every change, and so hide how the files are read."""
    seal(folder)
    return CXRClassifier.load(folder)


def read_model(folder: Path) -> CXRClassifier:
    """Read a model; that a card may have been edited is no fault."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EditedFilesWarning)
        return CXRClassifier.load(folder)


def check_model(clf: Any) -> None:
    require(isinstance(clf, CXRClassifier) and not clf.model_.training, "a CXRClassifier in eval mode is expected")
    require(clf.threshold_ is None or 0 <= clf.threshold_ <= 1, f"threshold {clf.threshold_}")
    proba = clf.predict_proba(_GREY)
    require(proba.shape == (1, len(clf.classes_)), f"probabilities of shape {proba.shape}")
    require(clf.predict(_GREY)[0] in clf.classes_, "a label is expected")
    require(np.isfinite(proba).all() and abs(proba.sum() - 1) < 1e-6, f"probabilities {proba}")
    if clf.conformal_ is not None:
        sets = clf.predict_set(_GREY, coverage=0.5)
        require(sets.shape == proba.shape and sets.dtype == bool, f"sets {sets}")


def read_explanation(folder: Path) -> Explanation:
    return Explanation.load(folder / "map")


def check_explanation(explanation: Any) -> None:
    require(isinstance(explanation, Explanation) and len(explanation) > 0, "an Explanation is expected")
    require(explanation.values.dtype == np.float32, f"values of type {explanation.values.dtype}")
    require(explanation.score.dtype.kind == "f" and explanation.index.dtype.kind == "i", "types of score and index")
    require(isinstance(explanation.method, str) and isinstance(explanation.options, dict), "method and options")
    require(explanation.prediction.proba.ndim == 2, "probabilities (N, K)")
    require(explanation.to_original(0).shape == explanation.geometry[0].original_shape, "a map of the original's shape")
    require(len(explanation[0]) == 1, "a slice of one")
    require(explanation.images is None or explanation.overlay(0).ndim == 3, "an overlay")


def read_receipt(folder: Path) -> Receipt:
    return Receipt.load(folder / "a.receipt.json")


def check_receipt(receipt: Any) -> None:
    require(isinstance(receipt, Receipt), "a Receipt is expected")
    require(Receipt.from_json(receipt.to_json()) == receipt, "what is written is read again")
    require(all(0 <= p <= 1 for _, p in receipt.probabilities), "probabilities")
    require(compared(receipt, receipt).is_exact, "a receipt is the same as itself")
    receipt.model.encode()  # for people, so that it can be printed
    numbers = [value for value in receipt.options.values() if isinstance(value, int | float)]
    if max(numbers, default=0) <= 100:  # a billion masks are a wish that `explain` grants as well
        clf, data = seeds._fitted()
        replay(receipt, data.X[0], clf=clf)


def read_audit(folder: Path) -> AuditReport:
    return AuditReport.load(folder)


def check_audit(report: Any) -> None:
    require(isinstance(report, AuditReport), "an AuditReport is expected")
    require(all(one.verdict in SIGNS for one in report.checks), "known verdicts")
    require(all(one.verdict in SIGNS for one in report.maps.values()), "known verdicts of maps")
    require(json.loads(report.to_json())["n_images"] == report.n_images, "it can be written")
    report.to_markdown()
    report.to_html()


def explanation_size(folder: Path) -> int:
    return archive_size("map.npz", folder) + stored_size(folder)


def _made(sources: tuple[Callable, ...], file: str) -> list[Files]:
    return [{file: content} for source in sources for content in source()]


def _image_target(name: str, file: str, mutations: tuple[Mutation, ...], *sources: Callable) -> Target:
    size = dicom_size if name == "dicom" else partial(image_size, file)
    return Target(name, file, partial(_made, sources, file), mutations, partial(read_image, file), check_image, size)


def _models() -> list[Files]:
    return list(seeds.models())


def _explanations() -> list[Files]:
    return list(seeds.explanations())


_MODEL = (read_sealed_model, check_model, stored_size)
_EXPLANATION = (read_explanation, check_explanation, explanation_size)
TARGETS = {
    target.name: target
    for target in (
        _image_target("png", "a.png", ON_PNG, seeds.pngs),
        _image_target("jpeg", "a.jpg", ON_JPEG, seeds.jpegs, seeds.real_jpegs),
        _image_target("tiff", "a.tif", ON_TIFF, seeds.tiffs),
        _image_target("dicom", "a.dcm", ON_DICOM, seeds.dicoms),
        Target("medmnist", "a.npz", partial(_made, (seeds.medmnist,), "a.npz"), ON_NPZ, read_medmnist, check_dataset,
               partial(archive_size, "a.npz")),
        Target("table", "table.csv", partial(_made, (seeds.tables,), "table.csv"), ON_TABLE, read_table, check_dataset,
               stored_size),
        Target("config", "config.json", _models, ON_CONFIG, *_MODEL),
        Target("safetensors", "model.safetensors", _models, ON_SAFETENSORS, *_MODEL),
        Target("sums", "SHA256SUMS", _models, ON_TABLE, read_model, check_model, stored_size),
        Target("map_json", "map.json", _explanations, ON_JSON, *_EXPLANATION),
        Target("receipt", "a.receipt.json", partial(_made, (seeds.receipts,), "a.receipt.json"), ON_JSON, read_receipt,
               check_receipt, stored_size),
        Target("audit", "audit.json", partial(_made, (seeds.audits,), "audit.json"), ON_JSON, read_audit, check_audit,
               stored_size),
        Target("map_npz", "map.npz", _explanations, ON_NPZ, *_EXPLANATION),
    )
}  # fmt: skip
