"""How a classifier runs: precision, memory, threads, the cache of decoded files."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from PIL import Image

from cxr_estimator import CXRClassifier, _predicting, inference
from cxr_estimator._predicting import execution
from cxr_estimator._validation import plain
from cxr_estimator.errors import BatchSizeWarning, CacheWarning, DataError, InvalidParameterError, InvalidTypeError
from cxr_estimator.images import ImageSequence
from tests.conftest import small_classifier


@pytest.fixture
def own(fitted):
    return copy.deepcopy(fitted)


def test_bfloat16_moves_no_probability_by_more_than_a_hundredth(own, phantoms):
    exact = own.predict_proba(phantoms.X)
    rough = own.set_params(precision="bfloat16").predict_proba(phantoms.X)
    assert 0 < np.abs(rough - exact).max() < 0.01
    assert own.model_.head.weight.dtype == torch.float32


def test_fit_measures_what_bfloat16_does(phantoms):
    X, y, groups = phantoms.X[:60], phantoms.y[:60], phantoms.groups[:60]
    clf = small_classifier(validation_fraction=0.0).fit(X, y, groups=groups)
    exact, rough = (clf.set_params(precision=name).predict_proba(X) for name in ("float32", "bfloat16"))
    assert clf.bfloat16_change_ == pytest.approx(np.abs(exact - rough).max(), abs=1e-6)
    assert clf.bfloat16_change_ > 0


@pytest.mark.parametrize(
    ("asked", "change", "expected"),
    [
        ("auto", 0.004, "bfloat16"),
        ("auto", 0.006, "float32"),
        ("auto", float("nan"), "float32"),
        ("bfloat16", 0.006, "bfloat16"),
        ("float32", 0.0, "float32"),
    ],
)
def test_predictions_are_in_bfloat16_only_where_the_network_bears_it(own, monkeypatch, asked, change, expected):
    monkeypatch.setattr(inference, "_has_bfloat16", lambda device: True)
    own.set_params(precision=asked).bfloat16_change_ = change
    assert execution(own).precision == expected


def test_what_bfloat16_does_is_saved(own, tmp_path):
    own.save(tmp_path / "model")
    assert type(own).load(tmp_path / "model").bfloat16_change_ == own.bfloat16_change_


def test_it_learns_in_bfloat16(phantoms):
    clf = small_classifier(precision="bfloat16", max_epochs=4, learning_rate=1e-3)
    clf.fit(phantoms.X, phantoms.y, groups=phantoms.groups)
    assert clf.history_.val_auroc.max() > 0.9
    assert {parameter.dtype for parameter in clf.model_.parameters()} == {torch.float32}


def test_explanations_where_memory_runs_out(own, phantoms):
    labels = own.classes_[np.arange(7) % 2]
    expected = own.explain(phantoms.X[:7], labels, target="true")

    def hook(module, inputs):
        if len(inputs[0]) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")

    own.model_.register_forward_pre_hook(hook)
    with pytest.warns(BatchSizeWarning, match="going on with batches of 2"):
        found = own.set_params(batch_size=4).explain(phantoms.X[:7], labels, target="true")
    np.testing.assert_allclose(found.values, expected.values, atol=1e-5)
    assert found.image_ids == expected.image_ids
    assert found.target.tolist() == expected.target.tolist()
    assert found.index.tolist() == list(range(7))


@pytest.mark.parametrize(("n_jobs", "expected"), [(None, torch.get_num_threads()), (3, 3), (-1, None), (1, 1)], ids=str)
def test_threads_that_decode(own, n_jobs, expected):
    found = _predicting.reading(own.set_params(n_jobs=n_jobs)).n_jobs
    assert found == expected or (expected is None and found >= 1)


@pytest.mark.parametrize(
    ("parameter", "value", "error"),
    [
        ("precision", "half", InvalidParameterError),
        ("precision", None, InvalidParameterError),
        ("cache_dir", 3, InvalidTypeError),
        ("cache_dir", "", InvalidTypeError),
    ],
)
def test_bad_parameters_are_named_before_predicting_too(own, phantoms, parameter, value, error):
    own.set_params(**{parameter: value})
    with pytest.raises(error, match=f"'{parameter}' parameter of CXRClassifier"):
        own.predict(phantoms.X[:2])
    with pytest.raises(error, match=f"'{parameter}' parameter of CXRClassifier"):
        own.fit(phantoms.X, phantoms.y, groups=phantoms.groups)


@pytest.mark.parametrize("value", [3, ""])
def test_a_bad_checkpoint_folder_is_named(phantoms, value):
    with pytest.raises(InvalidTypeError, match="'checkpoint_dir' parameter of CXRClassifier"):
        small_classifier(checkpoint_dir=value).fit(phantoms.X, phantoms.y, groups=phantoms.groups)


def test_folds_predictions_and_explanations_share_one_cache(phantoms, tmp_path, monkeypatch):
    decoded = []
    original = ImageSequence.decode

    def noting(self, index, content):
        decoded.append(self.source(index))
        return original(self, index, content)

    monkeypatch.setattr(ImageSequence, "decode", noting)
    paths = [str(tmp_path / f"{number}.png") for number in range(20)]
    for path, image in zip(paths, phantoms.X[:20], strict=True):
        Image.fromarray(image).save(path)
    y, groups = phantoms.y[:20], phantoms.groups[:20]
    clf = small_classifier(cache_dir=tmp_path / "cache", max_epochs=1)
    clf.fit(paths, y, groups=groups)
    assert sorted(decoded) == sorted(paths)
    decoded.clear()
    plain = small_classifier(max_epochs=1).fit(phantoms.X[:20], y, groups=groups)
    clf.fit(paths, y, groups=groups)
    np.testing.assert_array_equal(clf.predict_proba(paths), plain.predict_proba(phantoms.X[:20]))
    assert len(clf.explain(paths)) == 20
    assert not set(decoded) & set(paths)


def test_a_saved_model_does_not_tell_where_it_was_fitted(own, tmp_path):
    own.set_params(cache_dir=tmp_path / "secret", checkpoint_dir=str(tmp_path / "secret"), n_jobs=2, verbose=1)
    own.save(tmp_path / "model")
    config = (tmp_path / "model" / "config.json").read_text()
    assert "secret" not in config
    assert not {"cache_dir", "checkpoint_dir", "n_jobs", "verbose"} & set(json.loads(config)["parameters"])
    loaded = CXRClassifier.load(tmp_path / "model")
    assert (loaded.cache_dir, loaded.checkpoint_dir, loaded.n_jobs, loaded.verbose) == (None, None, None, 0)


def test_folders_are_tried_before_any_image_is_read(phantoms, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(ImageSequence, "__getitem__", lambda self, index: pytest.fail("an image was read"))
    for folder in ("checkpoint_dir", "cache_dir"):
        for path in (tmp_path / "file" / "x", f"{tmp_path}/null\0byte"):
            with pytest.raises(DataError, match="cannot be written to"):
                small_classifier(**{folder: path}).fit(phantoms.X, phantoms.y, groups=phantoms.groups)


def test_predictions_need_no_writable_cache(own, phantoms, tmp_path):
    (tmp_path / "file").touch()
    Image.fromarray(phantoms.X[0]).save(tmp_path / "0.png")
    own.set_params(cache_dir=tmp_path / "file" / "x")
    expected = own.predict_proba(phantoms.X[:1])
    with pytest.warns(CacheWarning, match="could be kept"):
        found = own.predict_proba([tmp_path / "0.png"])
    np.testing.assert_array_equal(found, expected)


def test_numbers_of_numpy_are_as_good_as_those_of_python(phantoms, tmp_path):
    """They come from the grids of a search, or from `X.min()`."""
    numbers = {
        "image_size": np.int64(32), "max_epochs": np.int32(1), "batch_size": np.int64(16), "patience": np.uint8(2),
        "learning_rate": np.float32(2**-10), "weight_decay": np.float64(0.05), "label_smoothing": np.float32(0.5),
        "validation_fraction": np.float64(0.25), "random_state": np.int64(0),
        "intensity": (phantoms.X.min(), np.float32(255)),
    }  # fmt: skip
    folders = {"checkpoint_dir": tmp_path / "checkpoints", "cache_dir": tmp_path / "cache"}
    fits = [
        small_classifier(**parameters, **folders).fit(phantoms.X, phantoms.y, groups=phantoms.groups)
        for parameters in (
            numbers,
            {name: plain(value) for name, value in numbers.items()} | {"intensity": (int(phantoms.X.min()), 255.0)},
        )
    ]
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1
    loaded = CXRClassifier.load(fits[0].save(tmp_path / "model"))
    for clf in (fits[1], loaded):
        np.testing.assert_array_equal(clf.predict_proba(phantoms.X), fits[0].predict_proba(phantoms.X))
