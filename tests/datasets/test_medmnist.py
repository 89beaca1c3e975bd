"""MedMNIST archives, made here."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_estimator import load_medmnist
from cxr_estimator.errors import DataError, InvalidParameterError

RNG = np.random.default_rng(0)


def content(shape=(28, 28), labels=1):
    """Return arrays as MedMNIST names them: 6, 4 and 2 images."""
    arrays = {}
    for split, n in (("train", 6), ("val", 4), ("test", 2)):
        arrays[f"{split}_images"] = RNG.integers(0, 256, (n, *shape), dtype=np.uint8)
        arrays[f"{split}_labels"] = RNG.integers(0, 2, (n, labels), dtype=np.uint8)
    return arrays


def write(path, arrays, save=np.savez_compressed):
    save(path, **arrays)
    return path


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 3), (64, 64)])
@pytest.mark.parametrize(("split", "n"), [("train", 6), ("val", 4), ("test", 2)])
def test_each_split(tmp_path, shape, split, n, save):
    arrays = content(shape)
    data = load_medmnist(write(tmp_path / "a.npz", arrays, save), split=split)
    assert data.X.shape == (n, *shape)
    np.testing.assert_array_equal(data.X, arrays[f"{split}_images"])
    np.testing.assert_array_equal(data.y, arrays[f"{split}_labels"][:, 0])
    assert (data.y.shape, data.groups) == ((n,), None)


def test_train_is_the_default_and_a_str_will_do(tmp_path):
    assert len(load_medmnist(str(write(tmp_path / "a.npz", content()))).X) == 6


def test_several_labels_per_image(tmp_path):
    assert load_medmnist(write(tmp_path / "a.npz", content(labels=14))).y.shape == (6, 14)


def test_flat_labels(tmp_path):
    arrays = {"train_images": np.zeros((3, 28, 28), np.uint8), "train_labels": np.array([0, 1, 2])}
    assert load_medmnist(write(tmp_path / "a.npz", arrays)).y.tolist() == [0, 1, 2]


def test_a_missing_split_is_named(tmp_path):
    arrays = content()
    del arrays["val_labels"]
    path = write(tmp_path / "a.npz", arrays)
    with pytest.raises(DataError, match=f"^{path}: is no readable MedMNIST archive .*val_labels"):
        load_medmnist(path, split="val")
    with pytest.raises(InvalidParameterError, match=r"one of 'train', 'val', 'test'\. Got 'all'"):
        load_medmnist(path, split="all")


class Bomb:
    def __reduce__(self):
        return pytest.fail, ("something was unpickled",)


def test_nothing_is_unpickled(tmp_path):
    bomb = np.array([Bomb()] * 3, dtype=object)
    path = write(tmp_path / "a.npz", {"train_images": np.zeros((3, 28, 28), np.uint8), "train_labels": bomb})
    with pytest.raises(DataError, match=f"^{path}: is no readable MedMNIST archive .*else than plain numbers"):
        load_medmnist(path)
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DataError, match=f"^{path}: is no readable"):
        load_medmnist(path)


def npy(path):
    with path.open("wb") as file:
        np.save(file, np.zeros((3, 28, 28)))


@pytest.mark.parametrize(
    "make",
    [
        lambda path: None,
        lambda path: path.mkdir(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"not an archive"),
        lambda path: path.write_bytes(b"PK\x03\x04"),
        npy,
    ],
    ids=["missing", "folder", "empty", "text", "signature", "npy"],
)
def test_what_is_no_archive_is_named(tmp_path, make):
    path = tmp_path / "a.npz"
    make(path)
    with pytest.raises(DataError, match=f"^{path}: "):
        load_medmnist(path)


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ((3, 28), (3, 1)),
        ((3, 28, 28, 3, 1), (3, 1)),
        ((3, 28, 28), (2, 1)),
        ((3, 28, 28), (3, 1, 1)),
        ((), ()),
        ((3, 28, 28), ()),
    ],
)
def test_shapes_that_do_not_match(tmp_path, images, labels):
    path = write(tmp_path / "a.npz", {"train_images": np.zeros(images), "train_labels": np.zeros(labels)})
    with pytest.raises(DataError, match=f"^{path}: has images of shape .* which do not match"):
        load_medmnist(path)


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    folder = tmp_path_factory.mktemp("medmnist")
    return folder / "damaged.npz", [
        write(folder / "a.npz", content((8, 8)), s).read_bytes() for s in (np.savez, np.savez_compressed)
    ]


@given(
    which=st.integers(0, 1),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6),
    cut=st.floats(0.1, 1.5),
)
@settings(max_examples=150, deadline=None)
def test_a_damaged_archive_loads_or_is_a_data_error(archives, which, changes, cut):
    path, whole = archives
    damaged = bytearray(whole[which][: int(cut * len(whole[which]))])
    for place, value in changes:
        damaged[int(place * len(damaged))] = value
    path.write_bytes(damaged)
    try:
        data = load_medmnist(path)
    except DataError:
        return
    assert len(data.X) == len(data.y)
