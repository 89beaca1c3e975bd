"""Reading many images: order, errors, threads, the look-ahead, and where the pixels lie."""

from __future__ import annotations

import threading
import time
import tracemalloc
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from cxr_estimator import reading
from cxr_estimator.errors import CacheWarning, DataError, ImageError
from cxr_estimator.images import DecodedImage, ImageSequence, as_images
from cxr_estimator.preprocessing import RESIZE_MODES, Preprocessing
from cxr_estimator.reading import PixelRows, Reading, iter_prepared, prepare

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (13, 17), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (13, 17, 3), dtype=np.uint8)
RAMP = np.arange(64).reshape(8, 8)


class Counting(ImageSequence):
    """Grey images that note when they are read; image `bad` cannot be."""

    def __init__(self, size, bad=None):
        super().__init__([None] * size)
        self.reads, self.bad = [], bad

    def __getitem__(self, index):
        self.reads.append(index)
        if index == self.bad:
            raise ImageError(f"X[{index}]", "bad.")
        return DecodedImage(GREY, f"X[{index}]")


def unit(pixels):
    return pixels / np.iinfo(pixels.dtype).max


MIXED = [GREY, COLOUR, GREY.astype(np.uint16) * 257, (GREY / 255).astype(np.float32), GREY[:5], GREY > 128]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("resize", RESIZE_MODES)
def test_an_image_does_not_depend_on_its_neighbours(channels, resize):
    preprocessing = Preprocessing(16, channels, resize)
    together = prepare(as_images(MIXED), preprocessing)
    assert together.pixels.dtype == np.uint16
    for index, item in enumerate(MIXED):
        alone = prepare(as_images([item]), preprocessing)
        np.testing.assert_array_equal(unit(alone.pixels[0]), unit(together.pixels[index]))
        assert alone.content_ids[0] == together.content_ids[index]
        assert alone.geometry[0] == together.geometry[index]


def test_eight_bit_images_stay_eight_bit():
    assert prepare(as_images([GREY, COLOUR]), Preprocessing(16)).pixels.dtype == np.uint8


@pytest.mark.parametrize("indices", [None, [3, 0, 5], np.array([4]), range(2, 4)])
def test_order_and_indices(indices):
    prepared = prepare(as_images(MIXED), Preprocessing(16), indices=indices)
    expected = list(range(6)) if indices is None else list(indices)
    assert (prepared.index.tolist(), prepared.index.dtype) == (expected, np.int64)
    assert prepared.content_ids == tuple(as_images(MIXED)[index].content_id for index in expected)
    assert [geometry.original_shape for geometry in prepared.geometry] == [MIXED[index].shape[:2] for index in expected]
    assert prepared.pixels.shape == (len(expected), 1, 16, 16)
    assert prepared.skipped == ()


BAD = [GREY, "missing.png", COLOUR, np.full((4, 4), np.nan), RAMP.astype(np.int64), GREY.T]


def test_skip_lists_what_was_left_out():
    prepared = prepare(as_images(BAD), Preprocessing(16), Reading("skip"))
    assert prepared.index.tolist() == [0, 2, 5]
    assert [(position, source) for position, source, _ in prepared.skipped] == [
        (1, "missing.png"),
        (3, "X[3]"),
        (4, "X[4]"),
    ]
    reasons = [reason for _, _, reason in prepared.skipped]
    assert [word in reason for word, reason in zip(("no such file", "NaN", "int64"), reasons, strict=True)] == [
        True
    ] * 3
    np.testing.assert_array_equal(prepared.pixels, prepare(as_images([GREY, COLOUR, GREY.T]), Preprocessing(16)).pixels)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_raise_names_the_first_bad_image(n_jobs):
    with pytest.raises(ImageError, match=r"^missing\.png: there is no such file"):
        prepare(as_images(BAD), Preprocessing(16), Reading(n_jobs=n_jobs))


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_two_jobs_give_what_one_gives(on_error):
    X = (BAD if on_error == "skip" else MIXED) * 5
    one, two = (prepare(as_images(X), Preprocessing(16), Reading(on_error, n_jobs)) for n_jobs in (1, 2))
    np.testing.assert_array_equal(one.pixels, two.pixels)
    np.testing.assert_array_equal(one.index, two.index)
    assert (one.content_ids, one.geometry, one.skipped) == (two.content_ids, two.geometry, two.skipped)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_progress_is_called_once_per_image_in_the_callers_thread(n_jobs):
    calls = []
    prepare(
        as_images(BAD),
        Preprocessing(16),
        Reading("skip", n_jobs),
        progress=lambda done: calls.append((done, threading.current_thread() is threading.main_thread())),
    )
    assert calls == [(1, True)] * 6


@pytest.mark.parametrize("channels", [1, 3])
def test_nothing_readable(channels):
    prepared = prepare(as_images(["a.png", "b.png"]), Preprocessing(16, channels), Reading("skip"))
    assert prepared.pixels.shape == (0, channels, 16, 16)
    assert prepared.index.shape == (0,)
    assert (prepared.content_ids, prepared.geometry, len(prepared.skipped)) == ((), (), 2)


def test_each_image_is_decoded_once():
    images = Counting(3)
    prepare(images, Preprocessing(16))
    assert images.reads == [0, 1, 2]


# -- batches and look-ahead --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 4, 6, 100])
def test_batches_are_the_whole_in_parts(batch_size):
    whole = prepare(as_images(BAD), Preprocessing(16), Reading("skip"))
    parts = list(iter_prepared(as_images(BAD), Preprocessing(16), Reading("skip", 2), batch_size=batch_size))
    assert [len(part.index) + len(part.skipped) for part in parts[:-1]] == [batch_size] * (len(parts) - 1)
    np.testing.assert_array_equal(np.concatenate([part.pixels for part in parts]), whole.pixels)
    assert sum((part.content_ids for part in parts), ()) == whole.content_ids
    assert sum((part.skipped for part in parts), ()) == whole.skipped


def test_while_a_batch_is_used_two_more_are_read_and_no_others():
    threads = threading.active_count()
    images = Counting(100)
    batches = iter_prepared(images, Preprocessing(16), batch_size=5)
    next(batches)
    deadline = time.monotonic() + 10
    while len(images.reads) < 15 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert len(images.reads) == 15
    batches.close()
    assert len(images.reads) <= 15
    assert threading.active_count() == threads


def test_an_error_ends_the_reading_soon():
    images = Counting(10_000, bad=3)
    with pytest.raises(ImageError, match=r"X\[3\]: bad"):
        prepare(images, Preprocessing(16), Reading(n_jobs=2))
    assert len(images.reads) < 200


def test_a_part_copies_nothing():
    whole = prepare(as_images(MIXED), Preprocessing(16))
    part = whole.part(slice(2, 5))
    assert np.shares_memory(part.pixels, whole.pixels)
    assert part.index.tolist() == [2, 3, 4]
    assert part.content_ids == whole.content_ids[2:5]
    assert part.geometry == whole.geometry[2:5]


def test_pixel_rows():
    pixels = np.arange(24, dtype=np.uint8).reshape(6, 1, 2, 2)
    rows = PixelRows(pixels, np.array([5, 0, 3]))
    assert len(rows) == 3
    np.testing.assert_array_equal(rows[np.array([2, 0])], pixels[[3, 5]])
    np.testing.assert_array_equal(rows[1:], pixels[[0, 3]])


# -- memory ------------------------------------------------------------------------------------------------------------


def test_above_the_limit_pixels_lie_in_a_file(monkeypatch):
    expected = prepare(as_images(MIXED), Preprocessing(16))
    monkeypatch.setattr(reading, "MEMORY_LIMIT", 1000)
    found = prepare(as_images(MIXED), Preprocessing(16))
    assert isinstance(found.pixels.base, np.memmap)
    assert found.pixels.dtype == np.uint16
    np.testing.assert_array_equal(found.pixels, expected.pixels)


def test_nothing_is_held_twice():
    X = np.zeros((400, 64, 64), dtype=np.uint8)  # 1.6 MB
    tracemalloc.start()
    try:
        prepared = prepare(as_images(X), Preprocessing(64))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1.6 * prepared.pixels.nbytes


def test_no_room_for_the_file(monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(reading, "MEMORY_LIMIT", 1000)
    monkeypatch.setattr(reading.os, "posix_fallocate", full)
    with pytest.raises(DataError, match=r"GB for images of 16 pixels a side .*No space left.* set TMPDIR"):
        prepare(as_images(MIXED), Preprocessing(16))


# -- the cache ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(4)]
    for path, array in zip(paths, [GREY, COLOUR, GREY.astype(np.uint16) * 257, GREY.T], strict=True):
        Image.fromarray(array).save(path)
    return [str(path) for path in paths]


@pytest.fixture
def decoded(monkeypatch):
    """How often each file was decoded."""
    counts = Counter()
    original = ImageSequence.decode

    def counting(self, index, content):
        counts[self.source(index)] += 1
        return original(self, index, content)

    monkeypatch.setattr(ImageSequence, "decode", counting)
    return counts


def assert_same(one, other):
    np.testing.assert_array_equal(one.pixels, other.pixels)
    assert (one.content_ids, one.geometry, one.skipped) == (other.content_ids, other.geometry, other.skipped)


def test_the_second_reading_comes_from_the_cache(files, decoded, tmp_path):
    without = prepare(as_images(files), Preprocessing(16))
    first = prepare(as_images(files), Preprocessing(16), Reading(cache_dir=tmp_path / "cache"))
    assert decoded == dict.fromkeys(files, 2)
    second = prepare(as_images(files), Preprocessing(16), Reading(cache_dir=tmp_path / "cache", n_jobs=2))
    (batch,) = iter_prepared(
        as_images(files), Preprocessing(16), Reading(cache_dir=str(tmp_path / "cache")), batch_size=9
    )
    assert decoded == dict.fromkeys(files, 2)
    for found in (first, second, batch):
        assert_same(found, without)


def test_a_changed_file_is_read_anew_and_a_copied_one_is_not(files, decoded, tmp_path):
    how = Reading(cache_dir=tmp_path / "cache")
    before = prepare(as_images(files[:1]), Preprocessing(16), how)
    Image.fromarray(255 - GREY).save(files[0])
    after = prepare(as_images(files[:1]), Preprocessing(16), how)
    assert decoded[files[0]] == 2
    assert before.content_ids != after.content_ids
    copy = tmp_path / "copy.png"
    copy.write_bytes((tmp_path / "0.png").read_bytes())
    assert_same(prepare(as_images([str(copy)]), Preprocessing(16), how), after)
    assert decoded[str(copy)] == 0


def test_a_file_that_is_replaced_while_it_is_read_spoils_no_entry(files, tmp_path, monkeypatch):
    """What is kept under the name of a content is made of that very content."""
    original = ImageSequence.content

    def replaced_at_once(self, index):
        content = original(self, index)
        Image.fromarray(255 - GREY).save(files[0])
        return content

    how = Reading(cache_dir=tmp_path / "cache")
    with monkeypatch.context() as patch:
        patch.setattr(ImageSequence, "content", replaced_at_once)
        prepare(as_images(files[:1]), Preprocessing(16), how)
    Image.fromarray(GREY).save(files[0])
    found = prepare(as_images(files[:1]), Preprocessing(16), how)
    np.testing.assert_array_equal(found.pixels, prepare(as_images([GREY]), Preprocessing(16)).pixels)


def test_arrays_make_no_cache(tmp_path):
    prepare(as_images([GREY, Image.fromarray(COLOUR)]), Preprocessing(16), Reading(cache_dir=tmp_path / "cache"))
    assert not (tmp_path / "cache").exists()


def test_unreadable_files_are_reported_as_without_a_cache(files, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    X = [*files, str(tmp_path / "bad.png"), "missing.png", str(tmp_path), "nul\0byte"]
    without = prepare(as_images(X), Preprocessing(16), Reading("skip"))
    for _ in range(2):
        assert_same(prepare(as_images(X), Preprocessing(16), Reading("skip", 2, tmp_path / "cache")), without)


def test_a_full_disk_costs_the_cache_and_nothing_else(files, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cxr_estimator.cache.atomic_write", full)
    with pytest.warns(CacheWarning, match=r"cache: not all decoded images could be kept \(No space left on device\)"):
        found = prepare(as_images(files), Preprocessing(16), Reading(cache_dir=tmp_path / "cache"))
    assert_same(found, prepare(as_images(files), Preprocessing(16)))
