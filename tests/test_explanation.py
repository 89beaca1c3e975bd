"""Explanation: slicing, joining, saving, geometry."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from cxr_estimator import CXRClassifier, Explanation
from cxr_estimator.errors import DataError, ModelFolderError


@pytest.fixture(scope="module")
def explanation(fitted, phantoms):
    return fitted.explain(phantoms.X[:5], phantoms.y[:5])


def assert_equal(one: Explanation, other: Explanation, ignore=()):
    for item in dataclasses.fields(Explanation):
        a, b = getattr(one, item.name), getattr(other, item.name)
        if item.name in ignore:
            continue
        if item.name == "prediction":
            for part in dataclasses.fields(a):
                assert np.array_equal(getattr(a, part.name), getattr(b, part.name)), part.name
        elif isinstance(a, np.ndarray):
            assert np.array_equal(a, b, equal_nan=a.dtype.kind == "f"), item.name
        else:
            assert a == b, item.name


def test_it_says_what_is_needed_to_repeat_it(explanation, fitted):
    assert explanation.layer == "features"
    assert explanation.options == {"target": "predicted", "layer": None}
    assert explanation.seed is None
    assert {"cxr_estimator", "torch", "timm"} <= set(explanation.versions)
    assert all(len(content_id) == 64 for content_id in explanation.image_ids)
    assert explanation.names == tuple(f"X[{i}]" for i in range(5))
    assert np.isnan(explanation.completeness_residual).all()
    assert explanation.prediction.threshold == fitted.threshold_


def test_it_is_frozen(explanation):
    with pytest.raises(dataclasses.FrozenInstanceError):
        explanation.method = "other"


def test_slices_and_joins(explanation):
    assert len(explanation) == 5
    assert len(explanation[1:3]) == 2
    assert (explanation[-1].values[0] == explanation.values[4]).all()
    assert explanation[2].image_ids == (explanation.image_ids[2],)
    assert_equal(Explanation.concatenate([explanation[:2], explanation[2:]]), explanation)
    for bad in (5, -6, slice(5, None)):
        with pytest.raises(IndexError):
            explanation[bad]


@pytest.mark.parametrize("include_image", [False, True])
def test_save_and_load(explanation, tmp_path, include_image):
    explanation.save(tmp_path / "new" / "map", include_image=include_image)
    again = Explanation.load(tmp_path / "new" / "map")
    assert_equal(explanation, again, ignore={"names", *(() if include_image else ("images",))})
    assert (again.images is not None) == include_image
    assert again.names == ()


def test_what_the_map_shows_is_saved_and_was_evidence_before(fitted, phantoms, tmp_path):
    fitted.explain(phantoms.X[:1], method="saliency").save(tmp_path / "map")
    assert Explanation.load(tmp_path / "map").shows == "sensitivity"
    description = json.loads((tmp_path / "map.json").read_text())
    del description["shows"]
    (tmp_path / "map.json").write_text(json.dumps(description))
    assert Explanation.load(tmp_path / "map").shows == "evidence"


def test_nothing_private_is_saved(fitted, phantoms, tmp_path):
    path = tmp_path / "Jane_Doe_1970.png"
    Image.fromarray(phantoms.X[0]).save(path)
    fitted.explain([path]).save(tmp_path / "map")
    assert "Doe" not in (tmp_path / "map.json").read_text()
    with np.load(tmp_path / "map.npz") as archive:
        assert "images" not in archive.files


def test_labels_of_other_types_survive(phantoms, tmp_path):
    clf = CXRClassifier("plain_cnn", image_size=16, max_epochs=1, validation_fraction=0, random_state=0)
    explanation = clf.fit(phantoms.X, (phantoms.y == "PNEUMONIA").astype(int)).explain(phantoms.X[:3])
    explanation.save(tmp_path / "map")
    again = Explanation.load(tmp_path / "map")
    assert again.target.dtype == explanation.target.dtype
    assert again.prediction.classes == (0, 1)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "map.npz").unlink(),
        lambda folder: (folder / "map.json").unlink(),
        lambda folder: (folder / "map.npz").write_bytes(b"PK nonsense"),
        lambda folder: (folder / "map.npz").write_bytes((folder / "map.npz").read_bytes()[:200]),
        lambda folder: (folder / "map.json").write_text("{}"),
        lambda folder: edit(folder, version=2),
        lambda folder: edit(folder, geometry=3),
        lambda folder: edit(folder, prediction={}),
        lambda folder: edit(folder, signed="yes"),
        lambda folder: edit(folder, shows="brightness"),
        lambda folder: edit(folder, shows=["evidence"]),
        lambda folder: edit(folder, seed=True),
        lambda folder: edit(folder, options=[]),
        lambda folder: edit(folder, versions={"torch": 2}),
        lambda folder: edit(folder, target=[["a"]] * 5),
        lambda folder: edit(folder, target=["NORMAL", 1, 2, 3, 4]),
        lambda folder: edit_prediction(folder, threshold="0.5"),
        lambda folder: edit_prediction(folder, pos_label="other"),
        lambda folder: edit_prediction(folder, true_label=["NORMAL"]),
        lambda folder: edit_prediction(folder, label=[*"abcd", "x" * 10_000_000]),
        lambda folder: edit_geometry(folder, original_shape=[10**6, 10**6]),
        lambda folder: edit_geometry(folder, original_shape=["32", 32]),
        lambda folder: edit_geometry(folder, original_shape=[32, 32, 3]),
        lambda folder: edit_geometry(folder, model_shape=[16, 16]),
        lambda folder: edit_geometry(folder, source=[0, 0, 33, 32]),
        lambda folder: edit_geometry(folder, source=[-1, 0, 32, 32]),
        lambda folder: edit_geometry(folder, target=[0, 0, 0, 0]),
        lambda folder: edit_arrays(folder, values=np.zeros((5, 32, 32))),
        lambda folder: edit_arrays(folder, values=np.zeros((5, 0, 0), np.float32)),
        lambda folder: edit_arrays(folder, score=np.zeros(5, int)),
        lambda folder: edit_arrays(folder, images=np.zeros((5, 32, 31), np.uint8)),
        lambda folder: np.savez(folder / "map.npz", values=np.array([{"a": 1}], dtype=object)),
    ],
)
def test_damaged_files_are_refused(explanation, tmp_path, damage):
    explanation.save(tmp_path / "map")
    damage(tmp_path)
    with pytest.raises(ModelFolderError, match=r"map\.(json|npz)"):
        Explanation.load(tmp_path / "map")


def edit(folder, **changes):
    description = json.loads((folder / "map.json").read_text())
    (folder / "map.json").write_text(json.dumps({**description, **changes}))


def edit_prediction(folder, **changes):
    description = json.loads((folder / "map.json").read_text())
    edit(folder, prediction={**description["prediction"], **changes})


def edit_geometry(folder, **changes):
    description = json.loads((folder / "map.json").read_text())
    edit(folder, geometry=[{**item, **changes} for item in description["geometry"]])


def edit_arrays(folder, **changes):
    with np.load(folder / "map.npz") as archive:
        arrays = dict(archive)
    np.savez(folder / "map.npz", **{**arrays, **changes})


def test_maps_lead_back_to_the_original(phantoms):
    """A wide image, fitted inside the square: the map covers all of it; cut out of it: the sides are zero."""
    wide = np.repeat(phantoms.X, 2, axis=2)
    for resize, seen in (("pad", np.s_[:, :]), ("crop", np.s_[:, 16:48])):
        clf = CXRClassifier(
            "plain_cnn", image_size=32, resize=resize, max_epochs=1, validation_fraction=0, random_state=0
        )
        explanation = clf.fit(wide, phantoms.y).explain(wide[:1], layer="features.stage1")
        original = explanation.to_original(0)
        assert original.shape == (32, 64)
        outside = np.ones_like(original, dtype=bool)
        outside[seen] = False
        assert (original[outside] == 0).all()
        assert original[seen].max() > 0


def test_images_are_as_the_model_sees_them(three_classes, phantoms, fitted):
    X, _, clf = three_classes
    explanation = clf.explain(X[:2])
    assert explanation.images.shape == (2, 24, 24, 3)
    assert (explanation.images == X[:2]).all()
    assert (fitted.explain(phantoms.X[:2]).images == phantoms.X[:2]).all()
    sixteen = fitted.explain(phantoms.X[:2].astype(np.uint16) * 257)
    assert (sixteen.images == phantoms.X[:2]).all()


def test_a_dot_in_the_name_is_no_suffix(explanation, tmp_path):
    explanation[0].save(tmp_path / "scan.1")
    explanation[1].save(tmp_path / "scan.2")
    assert (Explanation.load(tmp_path / "scan.1").values == explanation[0].values).all()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["scan.1.json", "scan.1.npz", "scan.2.json", "scan.2.npz"]


def test_indices_of_numpy_and_others(explanation):
    assert (explanation[np.int64(1)].values == explanation[1].values).all()
    with pytest.raises(TypeError):
        explanation["a"]


def test_parts_of_different_length_are_refused(explanation, tmp_path):
    with pytest.raises(DataError, match="N entries of each kind"):
        dataclasses.replace(explanation, geometry=explanation.geometry[:1])
    explanation.save(tmp_path / "map")
    edit(tmp_path, target=["NORMAL"])
    with pytest.raises(ModelFolderError, match="damaged"):
        Explanation.load(tmp_path / "map")
