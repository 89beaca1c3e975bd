"""The folder of uploads: private, swept, and the only one that is read."""

from __future__ import annotations

import os
import stat
import time

import pytest

from cxr_estimator.demo import _folder
from cxr_estimator.errors import DataError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The private folder, as in a new process whose GRADIO_TEMP_DIR is `tmp_path`."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    _folder.private_folder.cache_clear()
    yield _folder.private_folder()
    _folder.private_folder.cache_clear()


def test_it_is_made_for_this_user_alone_and_gradio_told(folder, tmp_path):
    assert folder.parent == tmp_path
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert os.environ["GRADIO_TEMP_DIR"] == str(folder)
    assert _folder.private_folder() is folder


@pytest.mark.parametrize("place", ["gone", "file"])
def test_a_place_that_cannot_be_had_is_told_of(tmp_path, monkeypatch, place):
    (tmp_path / "file").touch()
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / place))
    _folder.private_folder.cache_clear()
    with pytest.raises(DataError, match=f"{place}: uploads cannot be kept there .*GRADIO_TEMP_DIR"):
        _folder.private_folder()


def test_a_sweep_deletes_what_is_old_and_folders_that_are_empty_then(folder):
    old, young = _folder.new_file("old.png"), _folder.new_file("young.png")
    link = folder / "link"
    link.symlink_to("/etc/passwd")
    for path in (old, young):
        path.write_bytes(b"x")
    for path in (old, old.parent):
        os.utime(path, (time.time() - 100,) * 2)
    os.utime(link, (time.time() - 100,) * 2, follow_symlinks=False)
    _folder.sweep(folder, 50)
    assert not old.exists()
    assert not link.is_symlink()
    assert young.exists()
    assert os.path.exists("/etc/passwd")
    os.utime(old.parent, (time.time() - 100,) * 2)  # a file that goes leaves its folder changed just now
    _folder.sweep(folder, 50)
    assert not old.parent.exists()


def test_only_files_in_it_are_uploads(folder, tmp_path):
    path = _folder.new_file("film.png")
    path.write_bytes(b"x")
    assert _folder.uploaded(str(path)) == path
    assert _folder.uploaded(str(path.with_name("gone.png"))).name == "gone.png"
    (folder / "link").symlink_to("/etc/passwd")
    beside = tmp_path / f"{folder.name}_too"
    for wrong in (
        folder, path.parent, folder / "link", beside, f"{folder}/../x", "film.png", "/etc/passwd", "", None, 3,
        f"{path}\0", "/" + "x" * 5000,
    ):  # fmt: skip
        with pytest.raises(DataError, match="no file that was uploaded here"):
            _folder.uploaded(str(wrong) if isinstance(wrong, os.PathLike) else wrong)


def test_a_store_that_is_full_takes_nothing_until_something_is_deleted(folder, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(_folder.time, "monotonic", lambda: now[0])
    store, path = _folder.Store(1_000_000), _folder.new_file("film.png")
    path.write_bytes(bytes(500_000))
    store.count()
    store.take(300_000)  # counted as it arrives, before it is a file
    with pytest.raises(DataError, match="as many files as it may"):
        store.take(300_000)
    path.unlink()
    now[0] = 11.0
    store.count()
    store.take(300_000)


def test_tiny_files_count_as_small_ones_and_a_full_disk_as_a_full_store(folder, monkeypatch):
    for number in range(20):
        (folder / str(number)).touch()
    store = _folder.Store(20 * (1 << 16))
    store.count()
    with pytest.raises(DataError):
        store.take(1)
    store = _folder.Store(1 << 40)
    store.count()
    store.take(1)
    usage = _folder.shutil.disk_usage(folder)._replace(free=1 << 20)
    monkeypatch.setattr(_folder.shutil, "disk_usage", lambda _: usage)
    store = _folder.Store(1 << 40)
    store.count()
    with pytest.raises(DataError):
        store.take(1)
