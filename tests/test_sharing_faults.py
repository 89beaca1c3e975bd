"""push_to_hub and from_pretrained of whole models, where something goes wrong."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from cxr_estimator import CXRClassifier, CXREnsemble
from cxr_estimator.checksums import SUMS_NAME
from cxr_estimator.errors import EditedFilesWarning, HubError, HubWarning, InvalidParameterError, ModelFolderError
from tests.hub import READ, Fault

WEIGHTS = "/storage/.*signed=get"


@pytest.fixture
def shared(hub, fitted):
    fitted.push_to_hub("alice/model")
    hub.requests.clear()
    return "alice/model"


def same(model, other, phantoms) -> bool:
    """Whether two models give the same probabilities, to 1e-6."""
    rows = phantoms.X[:8]
    return np.allclose(model.predict_proba(rows), other.predict_proba(rows), rtol=0, atol=1e-6)


def test_round_trip(hub, fitted, phantoms, tmp_path):
    done = fitted.push_to_hub("alice/model", private=True, commit_message="First")
    loaded = CXRClassifier.from_pretrained("alice/model", revision=done.oid)
    assert same(fitted, loaded, phantoms)
    assert not loaded.model_.training
    assert loaded.push_to_hub("alice/model") == (done.url, done.oid, (), None)  # byte for byte
    assert len(hub.seen("POST", "/commit/")) == 1


def test_a_changed_threshold_sends_no_weights(hub, shared, fitted):
    other = copy.deepcopy(fitted).set_threshold(0.7, name="mine")
    assert "model.safetensors" not in other.push_to_hub(shared).changed
    assert not hub.seen("PUT")
    assert CXRClassifier.from_pretrained(shared).threshold_ == pytest.approx(0.7)


def test_ensembles(hub, ensemble, phantoms):
    done = ensemble.push_to_hub("alice/ensemble")
    assert {"member_0/model.safetensors", "member_2/config.json"} <= set(done.changed)
    assert same(ensemble, CXREnsemble.from_pretrained("alice/ensemble"), phantoms)
    with pytest.raises(ModelFolderError, match=r"CXREnsemble\.load reads an ensemble"):
        CXRClassifier.from_pretrained("alice/ensemble")


@pytest.mark.parametrize("name", [WEIGHTS, "/config.json", "/README.md", f"/{SUMS_NAME}"])
@pytest.mark.parametrize("at", [5, 60])
def test_a_flipped_byte_is_fetched_once_more(hub, shared, fitted, phantoms, name, at):
    hub.faults.append(Fault("GET", name, "flip", at=at))
    assert same(fitted, CXRClassifier.from_pretrained(shared), phantoms)
    assert len(hub.seen("GET", name)) == 2
    hub.requests.clear()
    CXRClassifier.from_pretrained(shared, local_files_only=True)
    assert not hub.requests


def test_bytes_that_are_always_flipped_never_stay_in_the_cache(hub, shared, fitted, phantoms, tmp_path):
    hub.faults.append(Fault("GET", WEIGHTS, "flip", at=900, times=-1))
    with pytest.raises(ModelFolderError, match=r"model\.safetensors: the weights do not fit"):
        CXRClassifier.from_pretrained(shared)
    assert len(hub.seen("GET", WEIGHTS)) == 2
    assert not list((tmp_path / "hub_cache").rglob("model.safetensors"))
    with pytest.raises(HubError, match="only a part of revision 'main' is in the cache"):
        CXRClassifier.from_pretrained(shared, local_files_only=True)
    hub.faults.clear()
    assert same(fitted, CXRClassifier.from_pretrained(shared), phantoms)


def test_a_cache_that_was_damaged_later_is_mended(hub, shared, fitted, phantoms, tmp_path):
    CXRClassifier.from_pretrained(shared)
    (weights,) = (tmp_path / "hub_cache").rglob("snapshots/*/model.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.resolve().write_bytes(content)
    assert same(fitted, CXRClassifier.from_pretrained(shared), phantoms)


def test_a_model_that_is_wrong_on_the_hub_itself(hub, shared):
    files = hub.store.find("models", shared).head().files
    weights = hub.store.contents[files["model.safetensors"].key]
    hub.store.put("models", shared, {"model.safetensors": weights[:-4]})
    with pytest.raises(ModelFolderError, match=r"model\.safetensors"):
        CXRClassifier.from_pretrained(shared)
    assert len(hub.seen("GET", WEIGHTS)) == 1  # it is what the Hub has: another download would not help


def test_a_card_that_was_edited_on_the_hub_is_only_a_warning(hub, shared, fitted, phantoms):
    hub.store.put("models", shared, {"README.md": b"By hand"})
    with pytest.warns(EditedFilesWarning, match=r"README\.md changed since the model was saved") as caught:
        loaded = CXRClassifier.from_pretrained(shared)
    assert caught[0].filename == __file__
    assert same(fitted, loaded, phantoms)


def test_an_interrupted_download_is_completed(hub, shared, fitted, phantoms, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    hub.faults.append(Fault("GET", WEIGHTS, "drop", times=-1))
    with pytest.raises(HubError, match="gave no answer"):
        CXRClassifier.from_pretrained(shared)
    hub.faults.clear()
    hub.requests.clear()
    assert same(fitted, CXRClassifier.from_pretrained(shared), phantoms)
    assert not hub.seen("GET", "resolve/.*(config|README|SUMS)")


def test_server_gone(hub, shared, fitted, phantoms):
    loaded = CXRClassifier.from_pretrained(shared)
    with hub.down():
        with pytest.warns(HubWarning, match="alice/model: the Hub gave no answer") as caught:
            again = CXRClassifier.from_pretrained(shared)
        assert caught[0].filename == __file__
        with pytest.raises(HubError, match="gave no answer"):
            loaded.push_to_hub(shared)
        with pytest.raises(HubError, match="nothing of revision 'v1' is in the cache"):
            CXRClassifier.from_pretrained(shared, revision="v1")
    assert same(loaded, again, phantoms)


def test_who_may_not_push(hub, shared, fitted):
    fitted = copy.deepcopy(fitted).set_threshold(0.6, name="mine")
    with pytest.raises(HubError, match=r"write token.*make one that may write"):
        fitted.push_to_hub(shared, token=READ)
    with pytest.raises(HubError, match="log in with `hf auth login`"):
        fitted.push_to_hub(shared, token=False)
    for name in ("../x", "model", "a/b/c"):
        with pytest.raises(InvalidParameterError, match="'repo_id' parameter of push_to_hub"):
            fitted.push_to_hub(name)
    assert not hub.seen("PUT")
    assert not hub.seen("POST", "/commit/")


def test_a_card_that_was_edited_on_the_hub_is_kept(hub, shared, fitted):
    hub.store.put("models", shared, {"README.md": b"---\nlicense: mit\n---\nBy hand\n"})
    with pytest.warns(EditedFilesWarning, match=r"README\.md was edited on the Hub and is kept") as caught:
        copy.deepcopy(fitted).set_threshold(0.6, name="mine").push_to_hub(shared)
    assert caught[0].filename == __file__
    assert hub.store.read("models", shared, "README.md").endswith(b"By hand\n")


def test_a_hub_that_wants_code_to_run(hub, shared, fitted, phantoms, tmp_path):
    trap = f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()"
    hub.store.put("models", shared, {"modeling.py": trap.encode(), "pytorch_model.bin": b"\x80\x04."})
    assert same(fitted, CXRClassifier.from_pretrained(shared), phantoms)
    assert not hub.seen("GET", "modeling|pytorch")
    assert not (tmp_path / "ran").exists()


def test_float16_on_the_hub(hub, fitted, phantoms):
    fitted.push_to_hub("alice/half", dtype="float16")
    loaded = CXRClassifier.from_pretrained("alice/half")
    assert next(loaded.model_.parameters()).dtype == torch.float32
    rows = phantoms.X[:16]
    assert np.abs(loaded.predict_proba(rows) - fitted.predict_proba(rows)).max() < 2e-3
