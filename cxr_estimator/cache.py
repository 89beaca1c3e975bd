"""Prepared images on disk, so that a file is decoded once for all folds, runs and processes."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cxr_estimator import __version__
from cxr_estimator._arrays import read_arrays
from cxr_estimator.errors import DataError
from cxr_estimator.images import has_dicom_name
from cxr_estimator.preprocessing import Preprocessing
from cxr_estimator.serialization import atomic_write

# another version may give other pixels
_DECODERS = ("numpy", "pillow", "pydicom", "pylibjpeg-openjpeg", "pylibjpeg-rle", "python-gdcm")
_ARRAYS = ("pixels", "content_id", "original_shape")


class CachedImage(NamedTuple):
    """What is kept of one image file."""

    pixels: np.ndarray  # (C, S, S), uint8 or uint16
    content_id: str
    original_shape: tuple[int, int]


def entry_name(content: bytes, path: str) -> str:
    """Return the name under which the image file with this content is kept."""
    return hashlib.sha256(content).hexdigest() + (".dcm" if has_dicom_name(path) else "")  # decides how it is read


class ImageCache:
    """A folder with one small file per image file and preprocessing.

    Entries are found by the SHA-256 of the image file's bytes, so renamed and copied files are found, and changed ones
    are not. An entry is written beside its place and renamed, so any number of processes may share the folder; one that
    is damaged counts as missing.

    Parameters
    ----------
    folder : path
        Made with the first entry.
    preprocessing : Preprocessing

    Attributes
    ----------
    problem : OSError or None
        Why entries are no longer written; those that are there are still read.
    """

    def __init__(self, folder: str | Path, preprocessing: Preprocessing) -> None:
        self._shape = (preprocessing.channels, preprocessing.image_size, preprocessing.image_size)
        self._folder = Path(folder) / _key(preprocessing)
        self.problem: OSError | None = None

    def get(self, name: str) -> CachedImage | None:
        """Return an entry, or None where there is no sound one."""
        try:
            entry = read_arrays(self._path(name), _ARRAYS)
        except DataError:
            return None
        pixels, digest, shape = (entry[key] for key in _ARRAYS)
        if pixels.shape != self._shape or pixels.dtype not in (np.uint8, np.uint16) or digest.dtype != np.uint8:
            return None
        if shape.shape != (2,) or shape.dtype.kind != "i" or shape.min() < 1:
            return None
        return CachedImage(pixels, digest.tobytes().hex(), (int(shape[0]), int(shape[1])))

    def put(self, name: str, image: CachedImage) -> None:
        """Keep an entry; on a full disk stop keeping any more."""
        if self.problem is not None:
            return
        try:
            path = self._path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path, durable=False) as file:
                digest = np.frombuffer(bytes.fromhex(image.content_id), dtype=np.uint8)
                np.savez(file, pixels=image.pixels, content_id=digest, original_shape=np.array(image.original_shape))
        except OSError as error:
            self.problem = error

    def _path(self, name: str) -> Path:
        return self._folder / name[:2] / f"{name}.npz"


def _key(preprocessing: Preprocessing) -> str:
    """Name everything but the file that the pixels depend on; normalisation comes after them."""
    steps = {key: value for key, value in preprocessing.to_dict().items() if key not in ("mean", "std")}
    versions = {"cxr_estimator": __version__, **{name: _version(name) for name in _DECODERS}}
    text = json.dumps([steps, versions], sort_keys=True)
    return f"{preprocessing.image_size}px-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
