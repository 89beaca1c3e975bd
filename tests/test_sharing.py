"""Saving and loading: what goes into a folder, and what comes back. The Hub is in tests/test_sharing_faults.py."""

from __future__ import annotations

import copy
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError

from cxr_estimator import CXRClassifier, CXREnsemble, ModelCard, checksums, load_image_folder, serialization
from cxr_estimator.checksums import read_sums, write_sums
from cxr_estimator.errors import (
    DataError,
    EditedFilesWarning,
    InvalidParameterError,
    InvalidTypeError,
    ModelFolderError,
)
from tests.conftest import small_classifier
from tests.model_folders import contents, edit_config


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_saving_what_was_loaded_gives_the_same_bytes(fitted, ensemble, tmp_path, dtype):
    for kind, model in ((CXRClassifier, fitted), (CXREnsemble, ensemble)):
        first = model.save(tmp_path / f"{kind.__name__}_first", dtype=dtype)
        again = kind.load(first).save(tmp_path / f"{kind.__name__}_again")
        assert contents(again) == contents(first)


def test_round_trip(fitted, ensemble, phantoms, tmp_path):
    for kind, model in ((CXRClassifier, fitted), (CXREnsemble, ensemble)):
        folder = tmp_path / kind.__name__
        proba = model.predict_proba(phantoms.X)
        exact = kind.load(model.save(folder)).predict_proba(phantoms.X)
        assert np.abs(exact - proba).max() <= 1e-6
        full = sum(map(len, contents(folder).values()))
        half = kind.load(model.save_pretrained(folder, dtype="float16")).predict_proba(phantoms.X)
        assert 0 < np.abs(half - proba).max() <= 2e-3
        assert sum(map(len, contents(folder).values())) < 0.7 * full


def test_half_the_bytes_on_real_radiographs(real_sample, tmp_path):
    X, y, groups = real_sample
    clf = small_classifier(backbone="resnet10t", image_size=64, max_epochs=2, precision="float32")
    clf.fit(X[::2], y[::2], groups=groups[::2])
    proba = clf.predict_proba(X[1::4])
    half = CXRClassifier.load(clf.save(tmp_path, dtype="float16"))
    assert half.model_.fc.weight.dtype == torch.float32
    assert np.abs(half.predict_proba(X[1::4]) - proba).max() <= 2e-3


def test_weights_beyond_float16(fitted, tmp_path):
    clf = copy.deepcopy(fitted)
    clf.model_.head.bias.data += 1e6
    with pytest.raises(DataError, match=r"'head.bias' holds numbers beyond the range of float16; use dtype='float32'"):
        clf.save(tmp_path, dtype="float16")
    clf.save(tmp_path)


def test_weights_of_another_type_than_the_configuration_says(fitted, tmp_path):
    fitted.save(tmp_path, dtype="float16")
    edit_config(tmp_path, lambda config: config.update(weights_dtype="float32"))
    with pytest.raises(ModelFolderError, match=r"is torch.float16, but torch.float32 is expected"):
        CXRClassifier.load(tmp_path)
    edit_config(tmp_path, lambda config: config.update(weights_dtype="int8"))
    with pytest.raises(ModelFolderError, match="'weights_dtype' parameter"):
        CXRClassifier.load(tmp_path)


def test_a_new_fit_is_stored_in_full(fitted, phantoms, tmp_path):
    clf = CXRClassifier.load(fitted.save(tmp_path / "a", dtype="float16")).set_params(max_epochs=1)
    assert clf.weights_dtype_ == "float16"
    assert clf.fit(phantoms.X, phantoms.y, groups=phantoms.groups).weights_dtype_ == "float32"


def test_an_edited_card_is_kept_and_told(fitted, tmp_path):
    fitted.save(tmp_path)
    fitted.save(tmp_path)  # ours may be replaced
    (tmp_path / "README.md").write_text("mine")
    with pytest.warns(EditedFilesWarning, match="README.md changed since the model was saved"):
        CXRClassifier.load(tmp_path)
    with pytest.warns(EditedFilesWarning, match="README.md was edited by hand and is kept"):
        fitted.save(tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"
    CXRClassifier.load(tmp_path)  # the card is somebody's own now, of which nothing is recorded


def test_what_the_author_said_stays_with_the_model(fitted, ensemble, phantoms, tmp_path):
    for kind, model in ((CXRClassifier, fitted), (CXREnsemble, ensemble)):
        folder, model = tmp_path / kind.__name__, copy.copy(model)
        model.save(folder, card=ModelCard(title="Mine", license="mit", tags=("a", "b")))
        again = kind.load(folder).set_threshold(0.3)
        assert again.card_ == ModelCard(title="Mine", license="mit", tags=("a", "b"))
        again.save(folder)
        text = (folder / "README.md").read_text()
        assert "# Mine" in text
        assert "license: mit" in text
        again.save(folder, card=ModelCard())
        assert "license: mit" not in (folder / "README.md").read_text()
        assert kind.load(folder).card_ is None
    again = copy.copy(fitted)
    again.save(tmp_path / "one", card=ModelCard(license="mit"))
    assert again.set_params(max_epochs=1).fit(phantoms.X, phantoms.y, groups=phantoms.groups).card_ is None


@pytest.mark.parametrize("card", [{"license": 3}, {"evaluation": "good"}, {"license": "MIT License"}, ["mit"], "mit"])
def test_a_card_that_is_none_is_refused(fitted, tmp_path, card):
    fitted.save(tmp_path)
    edit_config(tmp_path, lambda config: config.update(card=card))
    with pytest.raises(ModelFolderError, match=r"config\.json"):
        CXRClassifier.load(tmp_path)


@pytest.mark.parametrize("name", ["SHA256SUMS", "README.md"])
def test_a_crash_while_writing_costs_nothing(fitted, tmp_path, monkeypatch, name):
    fitted.save(tmp_path)
    before = contents(tmp_path)
    original = serialization.atomic_write

    def full(path, **options):
        if path.name == name:
            raise OSError(28, "No space left on device")
        return original(path, **options)

    for module in (serialization, checksums):
        monkeypatch.setattr(module, "atomic_write", full)
    with pytest.raises(OSError, match="No space left"):
        copy.copy(fitted).set_threshold(0.3).save(tmp_path)
    assert contents(tmp_path) == before
    CXRClassifier.load(tmp_path)


def test_other_files_are_left_alone(fitted, tmp_path):
    (tmp_path / "README.md").write_text("mine")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.warns(EditedFilesWarning):
        fitted.save(tmp_path)
    assert (tmp_path / "README.md").read_text() == (tmp_path / "notes.txt").read_text() == "mine"


def test_unknown_sums_remove_nothing(fitted, tmp_path):
    fitted.save(tmp_path)
    (tmp_path / "SHA256SUMS").write_text("damaged")
    with pytest.warns(EditedFilesWarning):  # the card may be anybody's
        fitted.save(tmp_path)
    assert sorted(contents(tmp_path)) == ["README.md", "SHA256SUMS", "config.json", "model.safetensors"]


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "SHA256SUMS"])
def test_a_missing_file_is_named(fitted, tmp_path, name):
    fitted.save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ModelFolderError, match=f"{name}: there is no such file"):
        CXRClassifier.load(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_one_changed_byte_is_noticed(fitted, tmp_path, name):
    fitted.save(tmp_path)
    content = bytearray((tmp_path / name).read_bytes())
    content[-3] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelFolderError, match=name):
        CXRClassifier.load(tmp_path)


def test_a_folder_is_loaded_by_either_name(fitted, phantoms, tmp_path):
    fitted.save_pretrained(tmp_path)
    clf = CXRClassifier.from_pretrained(str(tmp_path), device="cpu")
    assert not clf.model_.training
    assert (clf.predict_proba(phantoms.X[:2]) == fitted.predict_proba(phantoms.X[:2])).all()
    with pytest.raises(InvalidParameterError, match=r"'revision' parameter of .* must be None for a folder"):
        CXRClassifier.from_pretrained(tmp_path, revision="main")


@pytest.mark.parametrize("name", ["bundled", "../x", "a/b/c", "x" * 200])
def test_neither_a_folder_nor_a_name_on_the_hub(hub, name):
    with pytest.raises(ModelFolderError, match="there is no such model folder, and models on the Hub are") as caught:
        CXRClassifier.from_pretrained(name)
    assert len(str(caught.value)) < 300
    assert not hub.requests


def test_bad_parameters(fitted, tmp_path):
    with pytest.raises(InvalidParameterError, match="'dtype' parameter of save must be one of 'float32', 'float16'"):
        fitted.save(tmp_path, dtype="bfloat16")
    with pytest.raises(InvalidTypeError, match="'card' parameter of save must be a ModelCard"):
        fitted.save(tmp_path, card="# Title")
    assert not list(tmp_path.iterdir())
    for method in ("save", "save_pretrained", "push_to_hub"):
        with pytest.raises(NotFittedError):
            getattr(small_classifier(), method)(str(tmp_path))


@pytest.mark.parametrize("bad", [None, 1, b"model"])
def test_folders_of_wrong_types(fitted, bad):
    bundled = [CXRClassifier.from_pretrained] if bad is not None else []
    for function in (fitted.save, CXRClassifier.load, *bundled):
        with pytest.raises(InvalidTypeError, match="must be a path"):
            function(bad)


def test_two_that_save_at_once_never_make_a_third(fitted, phantoms, tmp_path, monkeypatch):
    """The configuration of one with the weights of the other is refused, although nothing was interrupted."""
    other = copy.deepcopy(fitted).set_threshold(0.3)
    other.model_.head.bias.data += 1
    replace, waiting = os.replace, [None]

    def let_the_other_come_between(source, target):
        if target == tmp_path / "config.json" and waiting:
            waiting.clear()
            other.save(tmp_path)
        replace(source, target)

    monkeypatch.setattr(os, "replace", let_the_other_come_between)
    fitted.save(tmp_path)
    with pytest.raises(ModelFolderError, match=r"model.safetensors: is not the file that SHA256SUMS records"):
        CXRClassifier.load(tmp_path)


def test_what_could_not_be_loaded_replaces_nothing(fitted, tmp_path):
    before = contents(fitted.save(tmp_path))
    for changes in ({"batch_size": -1}, {"class_weight": {"NORMAL": float("nan")}}, {"augment": object()}):
        with pytest.raises(InvalidParameterError, match=f"'{next(iter(changes))}' parameter of CXRClassifier"):
            copy.deepcopy(fitted).set_params(**changes).save(tmp_path)
        assert contents(tmp_path) == before


@pytest.mark.parametrize("kind", [str, Path])
def test_where_first_weights_lay_is_not_told(fitted, tmp_path, kind):
    clf = copy.deepcopy(fitted).set_params(pretrained=kind("/home/alice/weights.safetensors"))
    assert CXRClassifier.load(clf.save(tmp_path)).pretrained == "weights.safetensors"
    assert not [name for name, content in contents(tmp_path).items() if b"alice" in content]


def test_a_folder_whose_name_is_no_utf8(fitted, phantoms, tmp_path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    clf = CXRClassifier.load(fitted.save(folder))
    assert (clf.predict_proba(phantoms.X[:2]) == fitted.predict_proba(phantoms.X[:2])).all()


@pytest.mark.parametrize("name", ["notes/mine", "notes", "README.md/mine"])
def test_only_what_an_earlier_saving_left_is_removed(fitted, tmp_path, name):
    fitted.save(tmp_path)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine").write_text("precious")
    sums = read_sums(tmp_path)
    write_sums(tmp_path, {**sums, name: 64 * "0"})
    fitted.save(tmp_path)
    assert (tmp_path / "notes" / "mine").read_text() == "precious"
    assert read_sums(tmp_path) == sums


def test_loading_never_needs_the_network(real_data_dir, fitted, tmp_path, monkeypatch):
    monkeypatch.setattr("socket.socket.connect", None)  # whatever calls it fails
    clf = CXRClassifier.from_pretrained(fitted.save(tmp_path))
    assert clf.predict_proba(load_image_folder(real_data_dir).X[:1]).shape == (1, 2)
