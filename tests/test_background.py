"""Reference images: means of many patients."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_estimator import CXRClassifier
from cxr_estimator._background import PATIENTS, _cluster_weights, _thumbnails, make_background
from cxr_estimator.errors import BackgroundWarning, DataError, ModelFolderError, SkippedImagesWarning
from cxr_estimator.reading import PixelRows
from tests.conftest import small_classifier


def flat_images(levels, dtype=np.uint8):
    return np.broadcast_to(np.array(levels, dtype)[:, None, None, None], (len(levels), 1, 8, 8)).copy()


def test_a_mean_by_hand():
    """20 patients, of which one has three images: 19 at level 100 and one at (0 + 60 + 240) / 3 = 100."""
    pixels = flat_images([100] * 19 + [0, 60, 240])
    patients = [*range(19), 19, 19, 19]
    background = make_background(pixels, np.zeros(22, np.int64), np.array(patients), seed=0)
    assert background.dtype == np.uint8
    assert background.shape == (1, 1, 8, 8)
    assert (background == 100).all()


def test_several_labels_per_image_make_no_classes():
    pixels = flat_images([10] * 20 + [90] * 5 + [100] * 20)
    labels = np.zeros((45, 3), np.float32)
    labels[:25, 1] = 1
    np.testing.assert_array_equal(
        make_background(pixels, labels, None, seed=0), make_background(pixels, np.zeros(45, np.int64), None, seed=0)
    )


def test_classes_and_clusters_are_kept_apart():
    """Class 0: 25 dark and 25 bright patients; class 1: 20 of level 80."""
    pixels = flat_images([10] * 25 + [200] * 25 + [80] * 20)
    target = np.repeat([0, 1], [50, 20])
    background = make_background(pixels, target, None, seed=0)
    assert sorted(background[:, 0, 0, 0].tolist()) == [10, 80, 200]
    order = np.random.default_rng(0).permutation(70)
    rows = PixelRows(pixels, order)
    again = make_background(rows, target[order], None, seed=0)
    assert sorted(again[:, 0, 0, 0].tolist()) == [10, 80, 200]


@pytest.mark.filterwarnings("ignore::cxr_estimator.errors.BackgroundWarning")
def test_unreadable_background_images_are_told(phantoms, tmp_path):
    clf = small_classifier(max_epochs=1, on_error="skip").fit(phantoms.X, phantoms.y, groups=phantoms.groups)
    given = [*phantoms.X[:3], str(tmp_path / "nowhere.png")]
    with pytest.warns(SkippedImagesWarning, match="nowhere.png"):
        found = clf.explain(phantoms.X[:1], method="gradient_shap", n_samples=4, background=given)
    expected = clf.explain(phantoms.X[:1], method="gradient_shap", n_samples=4, background=phantoms.X[:3])
    np.testing.assert_array_equal(found.values, expected.values)
    with pytest.raises(DataError, match=r"none of the background images could be read.*nowhere"):
        clf.explain(phantoms.X[:1], method="deep_shap", background=given[3:])


def test_sixteen_bits_and_colour_become_eight_bits():
    pixels = np.full((20, 3, 24, 24), 257 * 77, dtype=np.uint16)
    background = make_background(pixels, np.zeros(20, np.int64), None, seed=0)
    assert background.shape == (1, 3, 24, 24)
    assert (background == 77).all()


def test_too_few_patients():
    pixels = flat_images([50] * 30)
    assert make_background(pixels, np.zeros(30, np.int64), np.arange(30) // 2, seed=0) is None
    # neither class has 20, both together have
    target = np.arange(30) % 2
    assert make_background(pixels, target, None, seed=0).shape == (1, 1, 8, 8)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n_patients=st.integers(PATIENTS, 120), extra=st.integers(0, 60))
def test_every_mean_is_of_twenty_patients(seed, n_patients, extra):
    rng = np.random.default_rng(seed)
    owner = np.concatenate([np.arange(n_patients), rng.integers(0, n_patients, extra)])
    pixels = rng.integers(0, 256, (len(owner), 1, 8, 8), dtype=np.uint8) // rng.integers(1, 4, (len(owner), 1, 1, 1))
    rows = np.arange(len(owner))
    for weight in _cluster_weights(_thumbnails(pixels), owner, rows, seed=0):
        assert weight.sum() == pytest.approx(1.0)
        assert len(np.unique(owner[weight > 0])) >= PATIENTS
        share = np.bincount(owner, weights=weight)
        np.testing.assert_allclose(share[share > 0], share.max())


def test_fit_keeps_it_and_so_does_a_folder(fitted, phantoms, tmp_path):
    assert fitted.background_.dtype == np.uint8
    assert fitted.background_.shape[1:] == (1, 32, 32)
    assert not any((image == phantoms.X).all(axis=(1, 2)).any() for image in fitted.background_[:, 0])
    fitted.save(tmp_path / "model")
    again = CXRClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(again.background_, fitted.background_)
    assert not any("background" in name for name in again.model_.state_dict())


def test_a_background_that_does_not_fit_is_refused(fitted, tmp_path):
    from safetensors.torch import load_file, save_file

    fitted.save(tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    state = load_file(path)
    for wrong in (torch.zeros(1, 1, 31, 32, dtype=torch.uint8), torch.zeros(1, 1, 32, 32), torch.zeros(0)):
        save_file({**state, "cxr_estimator.background": wrong}, path)
        with pytest.raises(ModelFolderError, match=r"background' is .* not uint8 of"):
            CXRClassifier.load(tmp_path / "model")


def test_few_patients_give_a_model_without_one(phantoms, tmp_path):
    clf = small_classifier(max_epochs=1, validation_fraction=0.0)
    clf.fit(phantoms.X[:10], phantoms.y[:10], groups=phantoms.groups[:10])
    assert clf.background_ is None
    clf.save(tmp_path / "model")
    assert CXRClassifier.load(tmp_path / "model").background_ is None
    with pytest.raises(DataError, match=r"fit kept no background, for want of 20 patients. Pass background="):
        clf.explain(phantoms.X[:1], method="gradient_shap")


def test_a_background_of_one_class_is_told(fitted, phantoms):
    own = copy.deepcopy(fitted)
    said = own.predict(phantoms.X)
    normal = phantoms.X[said == "NORMAL"][:3]
    with pytest.warns(BackgroundWarning, match="says 'NORMAL' to all 3 background images"):
        own.explain(phantoms.X[:1], method="gradient_shap", background=normal, n_samples=2)
