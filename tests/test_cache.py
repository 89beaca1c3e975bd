"""The cache of prepared images: what finds an entry, damage, and many writers at once."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from PIL import Image

from cxr_estimator import cache
from cxr_estimator.cache import CachedImage, ImageCache, entry_name
from cxr_estimator.images import as_images
from cxr_estimator.preprocessing import Preprocessing
from cxr_estimator.reading import Reading, prepare

ENTRY = CachedImage(np.arange(64, dtype=np.uint8).reshape(1, 8, 8), "ab" * 32, (30, 20))


def same(one, other):
    return one is not None and one[1:] == other[1:] and np.array_equal(one.pixels, other.pixels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_round_trip(tmp_path, dtype):
    store = ImageCache(tmp_path, Preprocessing(8))
    entry = ENTRY._replace(pixels=ENTRY.pixels.astype(dtype))
    assert store.get("ab12") is None
    store.put("ab12", entry)
    found = ImageCache(tmp_path, Preprocessing(8)).get("ab12")
    assert same(found, entry)
    assert found.pixels.dtype == dtype


@pytest.mark.parametrize(
    "other",
    [Preprocessing(16), Preprocessing(8, 3), Preprocessing(8, resize="pad"), Preprocessing(8, intensity="minmax")],
)
def test_another_preprocessing_has_entries_of_its_own(tmp_path, other):
    ImageCache(tmp_path, Preprocessing(8)).put("ab12", ENTRY)
    assert ImageCache(tmp_path, other).get("ab12") is None


def test_normalisation_comes_after_the_cache(tmp_path):
    ImageCache(tmp_path, Preprocessing(8)).put("ab12", ENTRY)
    assert ImageCache(tmp_path, Preprocessing(8, mean=(0.1,), std=(0.7,))).get("ab12") is not None


def test_another_decoder_has_entries_of_its_own(tmp_path, monkeypatch):
    ImageCache(tmp_path, Preprocessing(8)).put("ab12", ENTRY)
    monkeypatch.setattr(cache, "version", lambda name: "99")
    assert ImageCache(tmp_path, Preprocessing(8)).get("ab12") is None


def entry_file(folder):
    (path,) = folder.rglob("*.npz")
    return path


def test_every_damage_counts_as_missing_and_is_repaired(tmp_path):
    store = ImageCache(tmp_path, Preprocessing(8))
    store.put("ab12", ENTRY)
    path = entry_file(tmp_path)
    sound = path.read_bytes()
    at = sound.index(ENTRY.pixels.tobytes())
    damages = [b"", b"nothing", sound[: len(sound) // 2], sound[:at] + bytes([sound[at] ^ 1]) + sound[at + 1 :]]
    for damage in damages:
        path.write_bytes(damage)
        assert store.get("ab12") is None
    for entry in (ENTRY._replace(pixels=ENTRY.pixels[:, :4]), ENTRY._replace(pixels=ENTRY.pixels.astype(float))):
        store.put("ab12", entry)
        assert store.get("ab12") is None
    store.put("ab12", ENTRY)
    assert same(store.get("ab12"), ENTRY)


def test_no_change_of_any_byte_gives_other_pixels_or_an_error(tmp_path):
    store = ImageCache(tmp_path, Preprocessing(8))
    store.put("ab12", ENTRY)
    path = entry_file(tmp_path)
    sound = path.read_bytes()
    for at in range(len(sound)):
        for flip in (1, 0xFF):
            path.write_bytes(sound[:at] + bytes([sound[at] ^ flip]) + sound[at + 1 :])
            found = store.get("ab12")
            assert found is None or same(found, ENTRY)


@pytest.mark.parametrize("shape", [(0, 5), (-1, 5), (5,), (5, 5, 5), 7, (0.5, 5.0)])
def test_an_impossible_original_shape_counts_as_missing(tmp_path, shape):
    store = ImageCache(tmp_path, Preprocessing(8))
    store.put("ab12", ENTRY._replace(original_shape=shape))
    assert store.get("ab12") is None


def test_a_folder_that_cannot_be_made_is_a_problem_and_no_error(tmp_path):
    (tmp_path / "file").touch()
    store = ImageCache(tmp_path / "file", Preprocessing(8))
    assert store.get("ab12") is None
    store.put("ab12", ENTRY)
    assert isinstance(store.problem, OSError)


def test_entries_can_be_read_by_nobody_whom_the_umask_keeps_out(tmp_path):
    before = os.umask(0o077)
    try:
        ImageCache(tmp_path, Preprocessing(8)).put("ab12", ENTRY)
    finally:
        os.umask(before)
    if os.name == "posix":
        assert entry_file(tmp_path).stat().st_mode & 0o777 == 0o600


def test_the_name_of_an_entry():
    assert entry_name(b"abc", "a.png") == entry_name(b"abc", "folder/b.jpeg") != entry_name(b"abd", "a.png")
    # without the preamble the name decides that a file is read as DICOM
    assert entry_name(b"abc", "a.DCM") == entry_name(b"abc", "a.dicom") != entry_name(b"abc", "a.png")


def _prepare(arguments):
    paths, folder = arguments
    return os.getpid(), prepare(as_images(paths), Preprocessing(32), Reading(n_jobs=2, cache_dir=folder)).pixels


def test_processes_share_a_folder(tmp_path):
    """Four processes fill one cache with the same files at once: all get the same, and no half-written file is left."""
    rng = np.random.default_rng(0)
    paths = [str(tmp_path / f"{number}.png") for number in range(30)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (60, 50), dtype=np.uint8)).save(path)
    expected = prepare(as_images(paths), Preprocessing(32)).pixels
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(4, mp_context=spawn) as pool:
        found = list(pool.map(_prepare, [(paths, str(tmp_path / "cache"))] * 8))
    for _, pixels in found:
        np.testing.assert_array_equal(pixels, expected)
    kept = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert len(kept) == 30
    assert all(path.suffix == ".npz" for path in kept)
