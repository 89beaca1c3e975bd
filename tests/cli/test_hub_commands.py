"""`cxr push`, `pull` and `hub-diff`, and models on the Hub in other commands, against the local Hub."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from cxr_estimator import CXRClassifier
from cxr_estimator.cli._common import load_model
from cxr_estimator.errors import DataError, EditedFilesWarning, HubError, ModelFolderError
from cxr_estimator.hub import pull
from tests.cli.running import cxr
from tests.hub import READ, Fault
from tests.model_folders import contents


@pytest.fixture
def model(fitted, tmp_path):
    return fitted.save(tmp_path / "model")


def test_push_and_pull(hub, model, tmp_path):
    said = cxr("push", "alice/model", "--model", model, "--private", "--message", "First")
    commit = hub.store.find("models", "alice/model").history()[0]
    assert "changed: model.safetensors" in said
    assert said.rstrip().endswith(f"pushed: {hub.endpoint}/alice/model/commit/{commit.sha}")
    assert commit.title == "First"
    assert cxr("push", "alice/model", "--model", model).startswith("nothing new; the same files are in: ")
    assert f"at commit {commit.sha}" in cxr("pull", "alice/model", tmp_path / "a" / "pulled")
    assert contents(tmp_path / "a" / "pulled") == contents(model)
    assert not list((tmp_path / "a").glob(".cxr*"))


def test_an_ensemble(hub, ensemble, tmp_path):
    folder = ensemble.save(tmp_path / "several")
    cxr("push", "alice/several", "--model", folder)
    cxr("pull", "alice/several", tmp_path / "pulled")
    assert contents(tmp_path / "pulled") == contents(folder)


def test_pulling_replaces_what_nobody_changed(hub, model, fitted, phantoms, tmp_path):
    place = tmp_path / "pulled"
    cxr("push", "alice/model", "--model", model)
    cxr("pull", "alice/model", place)
    first = hub.store.find("models", "alice/model").history()[0].sha
    CXRClassifier.load(model).set_threshold(0.3).save(model)
    cxr("push", "alice/model", "--model", model)
    cxr("pull", "alice/model", place)
    assert CXRClassifier.load(place).threshold_ == 0.3
    cxr("pull", "alice/model", place, "--revision", first)
    assert CXRClassifier.load(place).threshold_ == 0.5
    (place / "notes.txt").write_text("mine")
    (place / "README.md").write_text("mine")
    with pytest.raises(DataError, match=r"README.md, notes.txt would be lost"):
        cxr("pull", "alice/model", place)
    assert (place / "README.md").read_text() == "mine"


@pytest.mark.parametrize("make", [lambda p: p.write_text("x"), lambda p: p.symlink_to("elsewhere")])
def test_places_that_cannot_be_replaced(hub, model, tmp_path, make):
    place = tmp_path / "place"
    make(place)
    with pytest.raises(DataError, match="place: is no folder"):
        cxr("pull", "alice/model", place)
    assert not hub.requests


def test_a_folder_of_other_things(hub, model, tmp_path):
    cxr("push", "alice/model", "--model", model)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(DataError, match=r"mine: thesis.tex would be lost"):
        cxr("pull", "alice/model", tmp_path / "mine")


def test_a_card_that_was_edited_on_the_hub(hub, model, tmp_path):
    """It comes along, and a newer one may replace it: nobody here wrote it."""
    cxr("push", "alice/model", "--model", model)
    for text in (b"theirs", b"newer"):
        hub.store.put("models", "alice/model", {"README.md": text})
        said = cxr("pull", "alice/model", tmp_path / "pulled")
        assert "warning: alice/model: README.md changed since the model was saved" in said
        assert (tmp_path / "pulled" / "README.md").read_bytes() == text


def test_a_card_that_was_deleted_on_the_hub(hub, model, tmp_path):
    cxr("push", "alice/model", "--model", model)
    HfApi().delete_file("README.md", "alice/model")
    assert "README.md changed since the model was saved, or missing" in cxr("pull", "alice/model", tmp_path / "pulled")
    assert contents(tmp_path / "pulled").keys() == contents(model).keys() - {"README.md"}
    with pytest.warns(EditedFilesWarning, match="or missing; the model is whole"):
        CXRClassifier.load(tmp_path / "pulled")


def test_the_folder_in_which_the_command_runs(hub, model, tmp_path, monkeypatch):
    cxr("push", "alice/model", "--model", model)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(DataError, match=r"cannot be replaced .*name another place"):
        cxr("pull", "alice/model", ".")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "hub_cache", "model"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(39, "Directory not empty")])
def test_stopped_while_it_replaces(hub, model, tmp_path, monkeypatch, error):
    """The model that was there comes back."""
    cxr("push", "alice/model", "--model", model)
    before = contents(CXRClassifier.load(model).set_threshold(0.3).save(tmp_path / "place"))
    rename = Path.rename

    def stopped(self, target):
        if self.name == "new":
            raise error
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", stopped)
    with pytest.raises(DataError if isinstance(error, OSError) else KeyboardInterrupt):
        pull("alice/model", tmp_path / "place")
    assert contents(tmp_path / "place") == before
    assert not list(tmp_path.glob(".cxr*"))


def test_a_checkpoint_of_timm(hub, tmp_path):
    import timm
    from timm.models import save_for_hf

    checkpoint = tmp_path / "timm"
    save_for_hf(timm.create_model("test_resnet", num_classes=3), checkpoint, safe_serialization=True)
    hub.store.put("models", "alice/timm", contents(checkpoint))
    cxr("pull", "alice/timm", tmp_path / "pulled")
    assert (tmp_path / "pulled" / "model.safetensors").read_bytes() == (checkpoint / "model.safetensors").read_bytes()
    assert CXRClassifier.load(tmp_path / "pulled").backbone == "test_resnet"


def test_nothing_is_half_pulled(hub, model, tmp_path):
    cxr("push", "alice/model", "--model", model)
    hub.faults.append(Fault("GET", "/storage/.*signed=get", "flip", times=-1, at=30))
    with pytest.raises(ModelFolderError, match=r"model.safetensors is not what SHA256SUMS records"):
        cxr("pull", "alice/model", tmp_path / "pulled")
    assert not (tmp_path / "pulled").exists()
    hub.faults.clear()
    cxr("pull", "alice/model", tmp_path / "pulled")
    assert contents(tmp_path / "pulled") == contents(model)


def test_a_download_that_was_damaged_once_is_repeated(hub, model, tmp_path):
    cxr("push", "alice/model", "--model", model)
    hub.faults.append(Fault("GET", "/storage/.*signed=get", "flip", at=30))
    cxr("pull", "alice/model", tmp_path / "pulled")
    assert contents(tmp_path / "pulled") == contents(model)


def test_diff(hub, model, tmp_path):
    cxr("push", "alice/model", "--model", model)
    said = cxr("hub-diff", "alice/model", "--model", model)
    assert said.endswith(f"(there): {len(contents(model)) - 1} files are the same\n")
    CXRClassifier.load(model).set_threshold(0.3).save(model)
    said = cxr("hub-diff", "alice/model", "--model", model)
    assert "changed: config.json\n" in said
    assert "config.json: operating_points: here " in said
    assert not hub.seen("GET", "model.safetensors")


def test_other_commands_take_models_of_the_hub(hub, model, phantoms, tmp_path):
    from PIL import Image

    Image.fromarray(phantoms.X[0]).save(tmp_path / "image.png")
    cxr("push", "alice/model", "--model", model)
    first = hub.store.find("models", "alice/model").history()[0].sha
    here, there = (
        json.loads(cxr("predict", "--model", place, tmp_path / "image.png", "--format", "json", "--quiet"))
        for place in (model, f"alice/model@{first}")
    )
    assert here == there
    data = tmp_path / "data"
    for label in ("NORMAL", "PNEUMONIA"):
        (data / label).mkdir(parents=True)
        shutil.copy(tmp_path / "image.png", data / label)
    with pytest.raises(DataError, match="for a model on the Hub, name a new one by --output"):
        cxr("threshold", "--model", "alice/model", "--data", data, "--rule", "youden")
    assert not (tmp_path / "alice").exists()


def test_neither_a_folder_nor_a_repository(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("my-model", str(tmp_path / "model"), "../model", "a/b/c"):
        with pytest.raises(ModelFolderError, match=r"there is no such model folder, and models on the Hub are named"):
            load_model(type(tmp_path)(name), "cpu", quiet=True)
    assert not hub.requests
    with pytest.raises(HubError, match=r"^alice/none: there is no such .* here, and on the Hub: .* no such repo"):
        load_model(type(tmp_path)("alice/none"), "cpu", quiet=True)


def test_no_right_to_push(hub, model, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", READ)
    with pytest.raises(HubError, match="read-only"):
        cxr("push", "alice/model", "--model", model)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError, match="hf auth login"):
        cxr("push", "alice/model", "--model", model)
