"""fetch_chest_xray with the real client against a local Hub; the images are phantoms."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from cxr_estimator import CXRError, fetch_chest_xray, load_image_folder, make_phantoms
from cxr_estimator.datasets import _image_parquet
from cxr_estimator.errors import (
    DataError,
    HubError,
    InvalidParameterError,
    InvalidTypeError,
    MissingPackageError,
    PatientLeakWarning,
)
from tests.hub import Fault

REPOSITORY = "hf-vision/chest-xray-pneumonia"
LABELS = ["NORMAL", "PNEUMONIA"]
SHARDS = {"train": 3, "validation": 1, "test": 1}
TRAIN = "data/train-0000{}-of-00003-0123abcd.parquet"


@cache
def jpeg(number):
    content = io.BytesIO()
    Image.fromarray(make_phantoms(2, 32, random_state=number).X[0]).save(content, "JPEG")
    return content.getvalue()


def kaggle_name(number, label):
    return f"IM-{number:04d}-0001.jpeg" if label == "NORMAL" else f"person{number}_bacteria_{number}.jpeg"


def shard_of(rows, *, names=LABELS, metadata=True, row_group_size=3):
    """A parquet file as the library `datasets` writes it, of (label, path, bytes); labels are numbers."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {
        "image": pa.array([{"bytes": content, "path": path} for _, path, content in rows], kind),
        "label": pa.array([label for label, _, _ in rows], pa.int64()),
    }
    table = pa.table(columns)
    if metadata:
        features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    content = io.BytesIO()
    pq.write_table(table, content, row_group_size=row_group_size)
    return content.getvalue()


def rows_of(first, count=8):
    return [(i % 2, kaggle_name(i, LABELS[i % 2]), jpeg(i)) for i in range(first, first + count)]


@cache
def copy_of_the_data():
    """All files of the repository: 24 images to train on, 8 to validate, 8 to test."""
    files, first = {"README.md": b"# A copy\n"}, 100
    for split, shards in SHARDS.items():
        for number in range(shards):
            files[f"data/{split}-{number:05d}-of-{shards:05d}-0123abcd.parquet"] = shard_of(rows_of(first))
            first += 8
    return files


@pytest.fixture
def copy(hub):
    """The Hub with the copy."""
    hub.store.put("datasets", REPOSITORY, copy_of_the_data())
    return hub


def downloads(hub):
    return hub.seen("GET", "signed=get")


# -- what is fetched ---------------------------------------------------------------------------------------------------


def test_the_training_part_with_its_patients(copy, tmp_path):
    shares = []
    data = fetch_chest_xray(folder=tmp_path / "data", progress=lambda done, total: shares.append((done, total)))
    assert len(data.X) == len(set(data.groups)) == 24
    assert sorted(data.y) == ["NORMAL"] * 12 + ["PNEUMONIA"] * 12
    for path, label, patient in zip(data.X, data.y, data.groups, strict=True):
        number = int("".join(filter(str.isdigit, patient)))
        assert Path(path) == tmp_path / "data" / "train" / label / kaggle_name(number, label)
        assert Path(path).read_bytes() == jpeg(number)
    assert len(downloads(copy)) == 3  # the files of the other splits are left there
    assert shares[-1] == (3, 3)
    assert shares == sorted(shares)
    same = load_image_folder(tmp_path / "data")
    np.testing.assert_array_equal(same.X, data.X)
    np.testing.assert_array_equal(same.groups, data.groups)


@pytest.mark.parametrize(("split", "count"), [("validation", 8), ("test", 8), ("all", 40)])
def test_other_parts_only_where_they_are_asked_for(copy, tmp_path, split, count):
    assert len(fetch_chest_xray(folder=tmp_path / "data").X) == 24
    data = fetch_chest_xray(split, folder=tmp_path / "data")
    assert len(data.X) == len(set(data.groups)) == count
    assert len(fetch_chest_xray(folder=tmp_path / "data").X) == 24
    assert len(downloads(copy)) == (5 if split == "all" else 4)


def test_finished_is_instant_and_needs_no_network(copy, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    first = fetch_chest_xray()
    assert first.X[0].startswith(str(tmp_path / "home" / "cxr_estimator" / "chest-xray-pneumonia" / "train"))
    before = len(copy.requests)
    with copy.down():
        again = fetch_chest_xray()
    np.testing.assert_array_equal(again.X, first.X)
    fetch_chest_xray()
    assert len(copy.requests) == before


def test_labels_in_the_other_order(copy, tmp_path):
    rows = [(1 - label, name, content) for label, name, content in rows_of(500)]
    copy.store.put("datasets", REPOSITORY, {TRAIN.format(1): shard_of(rows, names=LABELS[::-1])})
    data = fetch_chest_xray(folder=tmp_path)
    for path, label in zip(data.X, data.y, strict=True):
        assert (label == "NORMAL") == os.path.basename(path).startswith("IM-")


# -- taken up, offline -------------------------------------------------------------------------------------------------

KILLED = """
import os, signal
from cxr_estimator import fetch_chest_xray
fetch_chest_xray(folder={folder!r}, cache_dir={cache!r},
                 progress=lambda done, total: done >= {at} and os.kill(os.getpid(), signal.SIGKILL))
"""


@pytest.mark.parametrize("at", [0.5, 1.4])
def test_a_killed_run_is_taken_up(copy, tmp_path, at):
    folder, cache = str(tmp_path / "data"), str(tmp_path / "cache")
    script = KILLED.format(folder=folder, cache=cache, at=at)
    code = subprocess.run([sys.executable, "-c", script], env=os.environ, check=False, timeout=100).returncode
    assert code == -signal.SIGKILL
    there = {path: path.stat().st_mtime_ns for path in Path(folder).rglob("*.jpeg")}
    assert len(there) == {0.5: 4, 1.4: 12}[at]  # 8 in each of 3 files
    done = len(downloads(copy))
    assert done == {0.5: 1, 1.4: 2}[at]
    assert len(fetch_chest_xray(folder=folder, cache_dir=cache).X) == 24
    assert len(downloads(copy)) == 3  # none was sent twice
    assert all(path.stat().st_mtime_ns == before for path, before in there.items())


def test_stopped_by_progress_and_a_broken_connection(copy, tmp_path, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the client waits before it tries again

    def stop(done, total):
        if done > 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_chest_xray(folder=tmp_path, progress=stop)
    copy.faults = [Fault("GET", "signed=get", "drop", times=20)]
    with pytest.raises(HubError, match=r"use load_image_folder"):
        fetch_chest_xray(folder=tmp_path)
    copy.faults = []
    assert len(fetch_chest_xray(folder=tmp_path).X) == 24
    assert not list(tmp_path.rglob(".*.jpeg.*"))  # nothing half-written is left


def test_offline_with_what_the_cache_holds(copy, tmp_path):
    fetch_chest_xray(folder=tmp_path / "one")
    before = len(copy.requests)
    data = fetch_chest_xray(folder=tmp_path / "two", local_files_only=True)
    assert len(copy.requests) == before
    assert len(data.X) == 24
    with copy.down():
        assert len(fetch_chest_xray(folder=tmp_path / "three").X) == 24
    with pytest.raises(HubError, match="files of the test split are missing"):
        fetch_chest_xray("test", folder=tmp_path / "two", local_files_only=True)


@pytest.mark.parametrize("local_files_only", [False, True])
def test_offline_with_nothing_says_what_to_do(copy, tmp_path, local_files_only):
    with copy.down(), pytest.raises(HubError, match=r"10\.17632/rscbjbr9sj") as caught:
        fetch_chest_xray(folder=tmp_path / "data", local_files_only=local_files_only)
    assert isinstance(caught.value, CXRError | OSError)
    assert ("Call once without local_files_only" in str(caught.value)) is local_files_only
    assert not (tmp_path / "data").exists()


def test_a_flipped_byte_is_fetched_once_more(copy, tmp_path):
    copy.faults = [Fault("GET", "signed=get", "flip", at=300)]
    assert len(fetch_chest_xray(folder=tmp_path).X) == 24
    assert len(downloads(copy)) == 4
    copy.faults = [Fault("GET", "signed=get", "flip", at=300, times=-1)]
    with pytest.raises(HubError, match="damaged on its way, twice"):
        fetch_chest_xray("test", folder=tmp_path)


def test_revisions(copy, tmp_path):
    old = copy.store.find("datasets", REPOSITORY).head().sha
    fetch_chest_xray(folder=tmp_path / "old")
    new = copy.store.put("datasets", REPOSITORY, {TRAIN.format(0): shard_of(rows_of(900))}).sha
    assert len(fetch_chest_xray("all", folder=tmp_path / "old").X) == 40  # of the commit that the folder has
    assert fetch_chest_xray(folder=tmp_path / "old", revision=old).X[0].endswith("IM-0100-0001.jpeg")
    with pytest.raises(DataError, match=f"holds revision {old} of the copy, not {new}"):
        fetch_chest_xray(folder=tmp_path / "old", revision=new)
    data = fetch_chest_xray(folder=tmp_path / "new", revision="main")
    assert any(path.endswith("IM-0900-0001.jpeg") for path in data.X)


# -- names -------------------------------------------------------------------------------------------------------------

TRICKS = [
    None, "", "../../person1_bacteria_1.jpeg", "/tmp/person1_bacteria_1.jpeg", "a\\person1_bacteria_1.jpeg", "..",
    ".person1_bacteria_1.jpeg", "person1_bacteria_1.jpeg\0", "person1_bacteria_1.jpeg\n", "person1_bacteria_1.exe",
    "C:person1_bacteria_1.jpeg", "person1_bacteria_1.jpeg/..", "p" * 300 + ".jpeg", "person101_bacteria_101.JPEG",
]  # fmt: skip


@pytest.mark.parametrize("name", TRICKS, ids=repr)
def test_names_that_are_lost_or_no_plain_ones(copy, tmp_path, name):
    rows = rows_of(100)
    rows[3] = (1, name, rows[3][2])
    copy.store.put("datasets", REPOSITORY, {TRAIN.format(1): shard_of([*rows, rows_of(101, 1)[0]])})
    with pytest.warns(PatientLeakWarning, match="lost the file names, which tell the patients"):
        data = fetch_chest_xray(folder=tmp_path / "data")
    assert data.groups is None
    made = [Path(path) for path in data.X if "train-00001" in path]
    assert sorted(path.name for path in made) == [f"train-00001-{row:06d}.jpeg" for row in range(9)]
    assert [path.read_bytes() for path in sorted(made, key=lambda path: path.name)] == [
        content for _, _, content in [*rows, rows_of(101, 1)[0]]
    ]
    everything = {path for path in tmp_path.rglob("*.*") if path.is_file() and "hub_cache" not in path.parts}
    assert everything == {*map(Path, data.X), tmp_path / "data" / ".fetched.json"}


def test_png_images_keep_their_ending(copy, tmp_path):
    content = io.BytesIO()
    Image.new("L", (8, 8)).save(content, "PNG")
    files = {TRAIN.format(1): shard_of([(0, None, content.getvalue()), (1, None, jpeg(1))])}
    copy.store.put("datasets", REPOSITORY, files)
    with pytest.warns(PatientLeakWarning):
        data = fetch_chest_xray(folder=tmp_path)
    made = sorted(os.path.basename(path) for path in data.X if "train-00001" in path)
    assert made == ["train-00001-000000.png", "train-00001-000001.jpeg"]


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no parquet at all", "train-00001.*cannot be used"),
        (shard_of(rows_of(1))[:-100], "train-00001.*cannot be used"),
        (shard_of(rows_of(1), metadata=False), "does not say what its labels are called"),
        (shard_of(rows_of(1), names=["NORMAL", "COVID"]), r"its labels are \['NORMAL', 'COVID'\], not"),
        (shard_of(rows_of(1), names=["NORMAL"]), "its labels are"),
        (shard_of(rows_of(1), names=[["../x"], "NORMAL"]), "its labels are"),
        (shard_of([(None, "IM-0001-0001.jpeg", jpeg(1))]), "row 0 has the label None"),
        (shard_of([(0, "a.jpeg", jpeg(1)), (2, "IM-0001-0001.jpeg", jpeg(1))]), "row 1 has the label 2"),
        (shard_of([(-1, "IM-0001-0001.jpeg", jpeg(1))]), "row 0 has the label -1"),
        (shard_of([(0, "IM-0001-0001.jpeg", b"GIF89a")]), "row 0 holds no JPEG or PNG"),
        (shard_of([(0, "IM-0001-0001.jpeg", None)]), "row 0 holds no JPEG or PNG"),
        (shard_of([(0, "IM-0001-0001.jpeg", b"")]), "row 0 holds no JPEG or PNG"),
    ],
)
def test_files_that_are_not_what_they_should_be(copy, tmp_path, content, message):
    copy.store.put("datasets", REPOSITORY, {TRAIN.format(1): content})
    with pytest.raises(DataError, match=message):
        fetch_chest_xray(folder=tmp_path)
    with pytest.raises(DataError, match=message):  # also when it is taken up
        fetch_chest_xray(folder=tmp_path)


def test_other_columns(copy, tmp_path):
    content = io.BytesIO()
    pq.write_table(pa.table({"image": ["a.jpeg"], "label": [0]}), content)
    copy.store.put("datasets", REPOSITORY, {TRAIN.format(0): content.getvalue()})
    with pytest.raises(DataError, match="no column 'image' of the expected type"):
        fetch_chest_xray(folder=tmp_path)


def test_limits(copy, tmp_path, monkeypatch):
    for name, limit, message in [
        ("_MOST_IN_IMAGE", 100, "at most 100 bytes"),
        ("_MOST_IN_GROUP", 1000, "more than 1,000 bytes in one part"),
        ("_MOST_ROWS", 7, "more than 7 rows"),
    ]:
        with monkeypatch.context() as patch:
            patch.setattr(_image_parquet, name, limit)
            with pytest.raises(DataError, match=message):
                fetch_chest_xray(folder=tmp_path)


def test_a_file_of_a_split_is_missing(copy, tmp_path):
    del copy.store.find("datasets", REPOSITORY).head().files[TRAIN.format(1)]
    with pytest.raises(HubError, match="files of the train split are missing"):
        fetch_chest_xray(folder=tmp_path)


def test_two_images_of_one_name_in_different_files(copy, tmp_path):
    copy.store.put("datasets", REPOSITORY, {TRAIN.format(1): shard_of(rows_of(100))})
    with pytest.raises(DataError, match="holds 16 files instead of the 24 images"):
        fetch_chest_xray(folder=tmp_path)


def test_deleted_images_are_missed(copy, tmp_path):
    data = fetch_chest_xray(folder=tmp_path)
    os.remove(data.X[3])
    with pytest.raises(DataError, match="holds 23 files instead of the 24"):
        fetch_chest_xray(folder=tmp_path)


def test_folders_of_others_are_left_alone(copy, tmp_path):
    (tmp_path / "train" / "NORMAL").mkdir(parents=True)
    with pytest.raises(DataError, match="Choose an empty folder"):
        fetch_chest_xray(folder=tmp_path)
    (tmp_path / ".fetched.json").write_text('{"commit": "a", "asked": null, "shards": 3}')
    with pytest.raises(DataError, match="is damaged; delete"):
        fetch_chest_xray(folder=tmp_path)
    assert not copy.requests


def test_no_such_copy(hub, tmp_path):
    with pytest.raises(HubError, match="no such repository"):
        fetch_chest_xray(folder=tmp_path)


def test_bad_parameters(tmp_path):
    with pytest.raises(InvalidParameterError, match="'split' parameter of fetch_chest_xray"):
        fetch_chest_xray("val", folder=tmp_path)
    with pytest.raises(InvalidParameterError, match="'revision' parameter"):
        fetch_chest_xray(folder=tmp_path, revision="../x")
    with pytest.raises(InvalidParameterError, match="'revision' parameter"):
        fetch_chest_xray(folder=tmp_path, revision="")
    with pytest.raises(InvalidParameterError, match="'local_files_only' parameter"):
        fetch_chest_xray(folder=tmp_path, local_files_only="no")
    for name in ("folder", "cache_dir", "progress"):
        with pytest.raises(InvalidTypeError, match=f"'{name}' parameter of fetch_chest_xray"):
            fetch_chest_xray(**{"folder": tmp_path, name: 1})


def test_without_pyarrow(copy, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'cxr_estimator\[data\]'"):
        fetch_chest_xray(folder=tmp_path)
    assert not copy.requests  # before anything large is downloaded
