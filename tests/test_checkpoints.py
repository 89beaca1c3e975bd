"""Checkpoint files: round trip, whose they are, damage, and a disk that is full."""

from __future__ import annotations

import contextlib
import math
import os
import time

import numpy as np
import pytest
import torch

from cxr_estimator import checkpoints
from cxr_estimator.checkpoints import Checkpoint, CheckpointFile, fingerprint
from cxr_estimator.errors import CheckpointWarning, DataError
from cxr_estimator.serialization import atomic_write

resource = pytest.importorskip("resource") if os.name == "posix" else None
CHECKPOINT = Checkpoint(
    {"model.weight": torch.tensor([[1.5, -0.1]]), "steps": torch.tensor(7)},
    {"epoch": 3, "rows": [{"val_loss": 0.1 + 0.2, "val_auroc": math.nan}], "best": None},
)


def test_round_trip_is_exact(tmp_path):
    file = CheckpointFile(tmp_path / "new" / "folder", "ab" * 32)
    assert file.load() is None
    file.save(CHECKPOINT)
    found = CheckpointFile(tmp_path / "new" / "folder", "ab" * 32).load()
    assert found.tensors.keys() == CHECKPOINT.tensors.keys()
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in CHECKPOINT.tensors.items())
    assert found.facts["rows"][0]["val_loss"] == 0.1 + 0.2
    assert math.isnan(found.facts["rows"][0]["val_auroc"])
    assert set(found.facts) == {"epoch", "rows", "best"}


def test_another_run_never_sees_it(tmp_path):
    CheckpointFile(tmp_path, "ab" * 32).save(CHECKPOINT)
    assert CheckpointFile(tmp_path, "ac" * 32).load() is None
    same_name = CheckpointFile(tmp_path, "ab" * 31 + "ac")
    with pytest.warns(CheckpointWarning, match="it belongs to another run.*begins anew"):
        assert same_name.load() is None


@pytest.mark.parametrize("damage", [b"", b"nothing", "half", "no facts"])
def test_a_damaged_file_begins_the_run_anew(tmp_path, damage):
    from safetensors.torch import save

    file = CheckpointFile(tmp_path, "ab" * 32)
    file.save(CHECKPOINT)
    whole = file.path.read_bytes()
    special = {"half": whole[: len(whole) // 2], "no facts": save({"a": torch.zeros(1)})}
    file.path.write_bytes(special.get(damage, damage))
    with pytest.warns(CheckpointWarning, match=r"\.safetensors: the checkpoint is damaged .*begins anew"):
        assert file.load() is None


def test_a_single_wrong_bit_is_noticed(tmp_path):
    file = CheckpointFile(tmp_path, "ab" * 32)
    file.save(CHECKPOINT)
    whole = bytearray(file.path.read_bytes())
    whole[-1] ^= 1
    file.path.write_bytes(whole)
    with pytest.warns(CheckpointWarning, match="its checksum is wrong"):
        assert file.load() is None


def test_a_folder_that_vanishes_is_made_again(tmp_path):
    file = CheckpointFile(tmp_path / "folder", "ab" * 32)
    (tmp_path / "folder").rmdir()
    file.save(CHECKPOINT)
    assert file.load() is not None


@pytest.mark.parametrize("name", ["cxr_estimator", "torch", "timm"])
def test_another_version_begins_anew(monkeypatch, name):
    before = fingerprint({}, {}, [])
    versions = {**checkpoints.package_versions(), name: "99"}
    monkeypatch.setattr(checkpoints, "package_versions", lambda: versions)
    assert fingerprint({}, {}, []) != before


@contextlib.contextmanager
def full_disk():
    """Let every write beyond 100 bytes fail, as the operating system does it (so pytest must not print meanwhile)."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_leaves_the_old_file_whole(tmp_path):
    file = CheckpointFile(tmp_path, "ab" * 32)
    file.save(CHECKPOINT)
    before = file.path.read_bytes()
    with full_disk(), pytest.warns(CheckpointWarning, match=r"could not be written \(.*\); training goes on"):
        file.save(CHECKPOINT._replace(tensors={"large": torch.zeros(1000)}))
    with full_disk():
        file.save(CHECKPOINT._replace(tensors={"large": torch.zeros(1000)}))  # said once, not at every step
    assert file.path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [file.path.name]


def test_every_atomic_write_leaves_the_old_file_whole(tmp_path):
    path = tmp_path / "config.json"
    path.write_text("old")
    with full_disk(), pytest.raises(OSError, match="large"), atomic_write(path) as file:
        file.write(b"x" * 1000)
    assert path.read_text() == "old"


def test_what_killed_runs_left_is_removed_when_it_is_old(tmp_path):
    file = CheckpointFile(tmp_path, "ab" * 32)
    old, young, other = (tmp_path / name for name in (f".{file.path.name}.1", f".{file.path.name}.2", ".other.1"))
    for path in (old, young, other):
        path.write_bytes(b"half")
    for path in (old, other):
        os.utime(path, (time.time() - 7200,) * 2)
    CheckpointFile(tmp_path, "ab" * 32)
    assert not old.exists()
    assert young.exists()
    assert other.exists()


def test_due_after_the_interval(tmp_path, monkeypatch):
    file = CheckpointFile(tmp_path, "ab" * 32)
    assert not file.is_due
    monkeypatch.setattr(checkpoints, "INTERVAL", 0.0)
    assert file.is_due


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written to"):
        CheckpointFile(tmp_path / "file", "ab" * 32)


def test_the_fingerprint_sees_everything_and_only_that():
    state = {"w": torch.arange(4.0)}
    pixels = np.arange(600, dtype=np.uint8).reshape(300, 2)
    first = fingerprint({"seed": 0}, state, [pixels, np.zeros(3)])
    assert first == fingerprint({"seed": 0}, {"w": torch.arange(4.0)}, [pixels.copy(), np.zeros(3)])
    changed = pixels.copy()
    changed[-1, -1] += 1
    others = [
        fingerprint({"seed": 1}, state, [pixels, np.zeros(3)]),
        fingerprint({"seed": 0}, {"v": torch.arange(4.0)}, [pixels, np.zeros(3)]),
        fingerprint({"seed": 0}, {"w": torch.arange(4.0) + 1e-7}, [pixels, np.zeros(3)]),
        fingerprint({"seed": 0}, {"w": torch.arange(4.0).reshape(2, 2)}, [pixels, np.zeros(3)]),
        fingerprint({"seed": 0}, state, [changed, np.zeros(3)]),
        fingerprint({"seed": 0}, state, [pixels.astype(np.uint16), np.zeros(3)]),
        fingerprint({"seed": 0}, state, [pixels, np.zeros(2)]),
    ]
    assert len({first, *others}) == 8
