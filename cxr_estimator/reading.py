"""Many images -> one array at model size: on threads, ahead of the consumer, from the cache where there is one."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cxr_estimator.cache import CachedImage, ImageCache, entry_name
from cxr_estimator.errors import CacheWarning, DataError, ImageError, SkippedImage
from cxr_estimator.images import DecodedImage, ImageSequence
from cxr_estimator.preprocessing import Geometry, Preprocessing

MEMORY_LIMIT = 2**30  # bytes of pixels beyond which they lie in a file instead of in memory


@dataclass(frozen=True)
class Reading:
    """How images are read.

    Parameters
    ----------
    on_error : {"raise", "skip"}
        Raise the first ImageError, or leave unreadable images out and list them.
    n_jobs : int
        Threads that decode.
    cache_dir : path, optional
        Where decoded files are kept; see `cache.ImageCache`.
    """

    on_error: str = "raise"
    n_jobs: int = 1
    cache_dir: str | Path | None = None


@dataclass(frozen=True)
class PreparedImages:
    """Images at model size.

    Attributes
    ----------
    pixels : ndarray (M, C, S, S), uint8 or uint16
        The readable images, in order; a memory map above `MEMORY_LIMIT`.
    index : ndarray (M,), int64
        Position of each in the input.
    content_ids : tuple of str, length M
    geometry : tuple of Geometry, length M
    skipped : tuple of SkippedImage
        The unreadable images; never silent: callers report them.
    """

    pixels: np.ndarray
    index: np.ndarray
    content_ids: tuple[str, ...]
    geometry: tuple[Geometry, ...]
    skipped: tuple[SkippedImage, ...]

    def part(self, rows: slice) -> PreparedImages:
        """Return some of the images, without copying them; `skipped` is left empty."""
        return PreparedImages(
            self.pixels[rows], self.index[rows], self.content_ids[rows], self.geometry[rows], skipped=()
        )


class PixelRows:
    """Some rows of an array of pixels, without a copy: that array may be larger than the memory.

    Parameters
    ----------
    pixels : ndarray (M, C, S, S)
    rows : ndarray (N,), int64
        Positions in `pixels`.
    """

    def __init__(self, pixels: np.ndarray, rows: np.ndarray) -> None:
        self._pixels = pixels
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        return self._pixels[self._rows[index]]


def prepare(
    images: ImageSequence,
    preprocessing: Preprocessing,
    reading: Reading | None = None,
    *,
    indices: Sequence[int] | None = None,
    progress: Callable[[int], Any] | None = None,
) -> PreparedImages:
    """Decode images (all, or those at `indices`) to model size, each once.

    `progress` is called with 1 after each image.
    """
    positions = range(len(images)) if indices is None else indices
    results = _read(images, preprocessing, reading or Reading(), positions, ahead=64)
    return _collect(results, len(positions), preprocessing, progress)


def iter_prepared(
    images: ImageSequence, preprocessing: Preprocessing, reading: Reading | None = None, *, batch_size: int
) -> Iterator[PreparedImages]:
    """Yield the images in batches, in flat memory; while one is used, the next two are decoded."""
    results = _read(images, preprocessing, reading or Reading(), range(len(images)), ahead=2 * batch_size)
    while batch := list(islice(results, batch_size)):
        yield _collect(batch, len(batch), preprocessing)


class _Loaded(NamedTuple):
    position: int
    image: CachedImage


def _read(
    images: ImageSequence, preprocessing: Preprocessing, reading: Reading, positions: Sequence[int], *, ahead: int
) -> Iterator[_Loaded | SkippedImage]:
    cache = None if reading.cache_dir is None else ImageCache(reading.cache_dir, preprocessing)

    def load(index: int) -> _Loaded | SkippedImage:
        try:
            return _Loaded(index, _load(images, index, preprocessing, cache))
        except ImageError as error:
            if reading.on_error == "raise":
                raise
            return SkippedImage(index, error.source, error.reason)

    yield from _map(load, positions, reading.n_jobs, ahead)
    if cache is not None and cache.problem is not None:
        warnings.warn(
            f"{reading.cache_dir}: not all decoded images could be kept ({cache.problem.strerror}).",
            CacheWarning,
            stacklevel=5,
        )


def _load(images: ImageSequence, index: int, preprocessing: Preprocessing, cache: ImageCache | None) -> CachedImage:
    path = images.path(index)
    if cache is None or path is None:
        return _prepared(images[index], preprocessing)
    content = images.content(index)  # read once: what is decoded is what the entry is named by
    name = entry_name(content or b"", path)
    found = cache.get(name)
    if found is None:
        found = _prepared(images.decode(index, content), preprocessing)
        cache.put(name, found)
    return found


def _prepared(image: DecodedImage, preprocessing: Preprocessing) -> CachedImage:
    rows, columns = image.pixels.shape[:2]
    return CachedImage(preprocessing.pixels(image), image.content_id, (rows, columns))


def _map(function: Callable[[int], Any], items: Iterable[int], n_threads: int, ahead: int) -> Iterator[Any]:
    """Like `map`, on threads that work at most `ahead` items beyond the one asked for."""
    pool = ThreadPoolExecutor(n_threads)
    waiting: deque[Future] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:  # also after an error, or where the consumer stops early
        pool.shutdown(cancel_futures=True)


def _collect(
    results: Iterable[_Loaded | SkippedImage],
    size: int,
    preprocessing: Preprocessing,
    progress: Callable[[int], Any] | None = None,
) -> PreparedImages:
    pixels = _Pixels(size, (preprocessing.channels, preprocessing.image_size, preprocessing.image_size))
    loaded: list[tuple[int, str, Geometry]] = []
    skipped: list[SkippedImage] = []
    for result in results:
        if isinstance(result, SkippedImage):
            skipped.append(result)
        else:
            pixels.append(result.image.pixels)
            geometry = preprocessing.geometry(result.image.original_shape)
            loaded.append((result.position, result.image.content_id, geometry))
        if progress is not None:
            progress(1)
    return PreparedImages(
        pixels=pixels.filled(),
        index=np.array([index for index, _, _ in loaded], dtype=np.int64),
        content_ids=tuple(content_id for _, content_id, _ in loaded),
        geometry=tuple(geometry for _, _, geometry in loaded),
        skipped=tuple(skipped),
    )


class _Pixels:
    """The array that images are collected in: uint8 until the first image of 16 bits comes."""

    def __init__(self, size: int, shape: tuple[int, int, int]) -> None:
        self._array = _allocate((size, *shape), np.dtype(np.uint8))
        self._filled = 0

    def append(self, pixels: np.ndarray) -> None:
        if pixels.dtype == np.uint16 and self._array.dtype == np.uint8:
            wide = _allocate(self._array.shape, np.dtype(np.uint16))
            _widen(self.filled(), out=wide[: self._filled])
            self._array = wide
        if pixels.dtype == self._array.dtype:
            self._array[self._filled] = pixels
        else:
            _widen(pixels, out=self._array[self._filled])
        self._filled += 1

    def filled(self) -> np.ndarray:
        return self._array[: self._filled]


def _widen(pixels: np.ndarray, out: np.ndarray) -> None:
    # 257 = 65535 / 255: widening is exact, so an 8-bit image means the same beside a 16-bit one
    np.multiply(pixels, np.uint16(257), out=out, dtype=np.uint16, casting="unsafe")


def _allocate(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return an array in memory or, above the limit, in a file without a name, which vanishes with the array."""
    size = int(np.prod(shape)) * dtype.itemsize
    if size <= MEMORY_LIMIT:
        return np.empty(shape, dtype)
    try:
        with tempfile.TemporaryFile() as file:
            if hasattr(os, "posix_fallocate"):  # a full disk is an error now, and no crash in the middle of a write
                os.posix_fallocate(file.fileno(), 0, size)
            return np.memmap(file, dtype=dtype, mode="w+", shape=shape)
    except OSError as error:
        raise DataError(
            f"{size / 1e9:.1f} GB for images of {shape[-1]} pixels a side do not fit into {tempfile.gettempdir()} "
            f"({error.strerror}); set TMPDIR to a folder on a larger disk."
        ) from error
