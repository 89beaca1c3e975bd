"""Exact and near duplicates."""

from __future__ import annotations

import hashlib
import io
import os
import sys
from collections import defaultdict
from pathlib import Path

import imagehash
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from cxr_estimator import load_image_folder, make_phantoms
from cxr_estimator.curation import _duplicates, duplicates
from cxr_estimator.curation._pictures import hash_distances, hashes, read_pictures, resemblance
from cxr_estimator.errors import DataError, InvalidParameterError, MissingPackageError, SkippedImagesWarning


@pytest.fixture(scope="module")
def strangers():
    """24 phantoms of as many patients."""
    return make_phantoms(24, 128, images_per_patient=1, random_state=3)


def changed(image: np.ndarray) -> dict[str, np.ndarray]:
    """Return what makes near duplicates of an image."""
    picture, buffer = Image.fromarray(image), io.BytesIO()
    picture.save(buffer, "JPEG", quality=60)
    return {
        "re-encoded": np.asarray(Image.open(buffer)),
        "resized": np.asarray(picture.resize((90, 90))),
        "cropped": image[2:-2, 2:-2],
        "brighter": np.clip(image * 1.1, 0, 255).astype(np.uint8),
    }


@pytest.mark.parametrize("how", ["re-encoded", "resized", "cropped", "brighter"])
def test_a_changed_copy_is_found_and_a_stranger_is_not(strangers, how):
    copies = [changed(image)[how] for image in strangers.X[:6]]
    found = duplicates([*strangers.X, *copies])
    pairs = {tuple(rows["position"]) for _, rows in found.groupby("group")}
    assert pairs == {(i, 24 + i) for i in range(6)}
    assert (found["kind"] == "near").all()
    assert found["similarity"].between(0.95, 1).all()
    assert (found["hash_distance"] <= 10).all()


def test_exact_copies_whatever_they_come_as(strangers, tmp_path):
    path = tmp_path / "one.png"
    Image.fromarray(strangers.X[5]).save(path)
    images = [*strangers.X[:3], strangers.X[1].copy(), Image.fromarray(strangers.X[1]), str(path), strangers.X[5]]
    y = ["a", "a", "b", "b", "a", "b", "b"]
    found = duplicates(images, y=y, groups=["p", "q", "r", "s", "q", "t", "t"], splits=["train"] * 6 + ["test"])
    assert found["position"].tolist() == [1, 3, 4, 5, 6]
    assert found["group"].tolist() == [0, 0, 0, 1, 1]
    assert (found["kind"] == "exact").all()
    assert (found["similarity"] == 1).all()
    assert (found["hash_distance"] == 0).all()
    assert found["labels_differ"].tolist() == [True, True, True, False, False]
    assert found["patients_differ"].tolist() == [True, True, True, False, False]
    assert found["splits_differ"].tolist() == [False, False, False, True, True]
    assert found["patient"].tolist() == [1, 3, 1, 4, 4]  # numbers, not names


def test_exact_and_near_copies_make_one_group(strangers):
    found = duplicates([strangers.X[0], strangers.X[1], changed(strangers.X[0])["brighter"], strangers.X[0]])
    assert found["position"].tolist() == [0, 2, 3]
    assert found["group"].tolist() == [0, 0, 0]
    assert found["kind"].tolist() == ["exact", "near", "exact"]
    assert found["similarity"][1] == pytest.approx(0.99, abs=0.01)


def test_nothing_found_has_the_same_columns(strangers):
    some, none = duplicates(strangers.X[[0, 0]], y=[0, 1]), duplicates(strangers.X[:2], y=[0, 1])
    assert len(none) == 0
    assert none.columns.tolist() == some.columns.tolist()


def test_exact_only(strangers):
    images = [strangers.X[0], strangers.X[1], changed(strangers.X[0])["brighter"], strangers.X[1]]
    assert duplicates(images, max_distance=-1)["position"].tolist() == [1, 3]


def test_blocks_change_nothing(strangers, monkeypatch):
    images = [*strangers.X, *(changed(image)["cropped"] for image in strangers.X[:8])]
    whole = duplicates(images)
    monkeypatch.setattr(_duplicates, "_BLOCK", 50)
    assert duplicates(images).equals(whole)
    assert len(whole) == 16


def test_distances_are_those_of_imagehash(strangers):
    pixels = read_pictures(strangers.X, n_jobs=None, verbose=0, caller="test").pixels
    pictures = [Image.fromarray(one) for one in pixels]
    for kind, signs in zip((imagehash.phash, imagehash.dhash), hashes(pixels, caller="test"), strict=True):
        found = hash_distances(signs, slice(2, 5))
        known = [kind(one) for one in pictures]
        assert found.tolist() == [[a - b for b in known[2:]] for a in known[2:5]]


def test_resemblance_is_the_fit_of_least_squares(strangers):
    """The slow way: `lstsq` of one band-passed picture on the other and its six derivatives, in both directions."""
    pixels = read_pictures(strangers.X[:2], n_jobs=None, verbose=0, caller="test").pixels

    def band(picture):
        fine = ndimage.gaussian_filter(picture.astype(float), 0.7)
        return fine - ndimage.gaussian_filter(fine, 2.0)

    def explained(model, shown):
        down, across = np.gradient(model)
        axis = np.linspace(-1, 1, 32)
        y, x = axis[:, None], axis[None, :]
        columns = [model, down, across, x * down, y * down, x * across, y * across, np.ones_like(model)]
        design = np.stack([one[2:-2, 2:-2].ravel() for one in columns], axis=1)
        target = shown[2:-2, 2:-2].ravel()
        fitted = design @ np.linalg.lstsq(design, target, rcond=None)[0]
        return np.corrcoef(fitted, target)[0, 1]

    a, b = map(band, pixels)
    found = resemblance(pixels, np.array([0]), np.array([1]), 0.0)
    assert found[0] == pytest.approx(min(explained(a, b), explained(b, a)), abs=1e-5)
    assert 0.1 < found[0] < 0.9


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.2, 1.0), st.integers(0, 40))
def test_resemblance_does_not_see_exposure_or_order(seed, contrast, brightness):
    rng = np.random.default_rng(seed)
    picture = ndimage.gaussian_filter(rng.uniform(0, 255, (32, 32)), 2)
    pixels = np.stack([picture, picture * contrast * 0.8 + brightness, rng.uniform(0, 255, (32, 32))])
    found = resemblance(pixels, np.array([0, 0, 2]), np.array([1, 2, 0]), 0.0)
    assert found[0] == pytest.approx(1.0, abs=1e-6)
    assert found[1] == pytest.approx(found[2])
    assert 0 <= found[1] < 0.8


def test_pictures_without_contrast_resemble_nothing():
    flat = [np.full((40, 40), level, dtype=np.uint8) for level in (0, 0, 200)]
    found = duplicates(flat)
    assert found["position"].tolist() == [0, 1]
    assert found["kind"].tolist() == ["exact", "exact"]


def test_unreadable_images_are_left_out_and_listed(strangers, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    with pytest.warns(SkippedImagesWarning) as caught:
        found = duplicates([str(broken), strangers.X[0], strangers.X[0]])
    assert found["position"].tolist() == [1, 2]
    assert caught[0].message.skipped[0].position == 0
    with pytest.raises(DataError, match="none of the 1 images could be read"):
        duplicates([str(broken)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_distance": 65}, "'max_distance' parameter"),
        ({"min_similarity": 1.1}, "'min_similarity' parameter"),
        ({"y": [1]}, "y must have one entry"),
        ({"groups": [1]}, "groups must have one entry"),
        ({"splits": [1]}, "splits must have one entry"),
        ({"X": np.zeros((3, 100))}, "rows of numbers"),
        ({"X": []}, "X is empty"),
    ],
)
def test_bad_input(strangers, change, message):
    with pytest.raises((DataError, InvalidParameterError), match=message):
        duplicates(**{"X": strangers.X[:3], **change})


def test_a_missing_package_is_named(strangers, monkeypatch):
    monkeypatch.setitem(sys.modules, "imagehash", None)
    with pytest.raises(MissingPackageError, match=r"duplicates needs the package ImageHash: pip install"):
        duplicates(strangers.X)


def test_byte_identical_files_among_real_radiographs(real_data_dir):
    """All groups of byte-identical files are found, by hashing bytes: they have equal sizes, so others are spared."""
    paths = load_image_folder(real_data_dir).X
    sizes = np.array([os.path.getsize(path) for path in paths])
    values, counts = np.unique(sizes, return_counts=True)
    rows = np.flatnonzero(np.isin(sizes, values[counts > 1]))
    by_bytes = defaultdict(set)
    for row in rows:
        by_bytes[hashlib.sha256(Path(paths[row]).read_bytes()).hexdigest()].add(int(row))
    expected = {frozenset(group) for group in by_bytes.values() if len(group) > 1}
    chosen = np.union1d(sorted(set().union(*expected)), rows[:200])
    found = duplicates(paths[chosen], max_distance=-1)
    assert {frozenset(chosen[group["position"]].tolist()) for _, group in found.groupby("group")} == expected
    assert len(expected) >= 20
