"""`locate`: what a Space may show, found without downloading weights."""

from __future__ import annotations

import json

import pytest

from cxr_estimator.checksums import SUMS_NAME
from cxr_estimator.errors import HubError, InvalidParameterError, ModelFolderError
from cxr_estimator.hub import fetch, locate
from tests.hub import OTHER, READ
from tests.hub.folders import names, refused
from tests.model_folders import contents, edit_config


@pytest.fixture
def saved(hub, fitted, tmp_path):
    """The folder of a real model, which lies on the Hub too."""
    folder = fitted.save(tmp_path / "saved")
    hub.store.put("models", "alice/model", contents(folder))
    return folder


def test_a_model_of_ours(hub, saved):
    first = hub.store.find("models", "alice/model").head().sha
    hub.store.find("models", "alice/model").tags["v1"] = first
    hub.store.put("models", "alice/model", {"notes.txt": b"later"})
    found = locate("alice/model", revision="v1")
    assert (found.name, found.is_restricted) == (f"alice/model@{first}", False)
    assert set(found.files) == names(saved) == names(fetch("alice/model", revision=found.commit))
    assert locate("alice/model").commit == hub.store.find("models", "alice/model").head().sha != first


def test_no_weights_are_fetched(hub, saved):
    locate("alice/model")
    assert not hub.seen("GET", "safetensors|storage")
    assert {one.method for one in hub.requests} == {"GET", "HEAD"}


def test_a_checkpoint_of_timm(hub):
    config = json.dumps({"architecture": "resnet18", "num_classes": 2}).encode()
    hub.store.put(
        "models", "timm/one", {"config.json": config, "model.safetensors": b"x" * 99, "pytorch_model.bin": b"y"}
    )
    assert locate("timm/one").files == ("config.json", "model.safetensors")
    hub.store.put("models", "timm/old", {"config.json": config, "pytorch_model.bin": b"y"})
    with refused("model.safetensors is missing, so no model can be read"):
        locate("timm/old")


def test_who_may_read_it(hub, saved):
    repository = hub.store.find("models", "alice/model")
    repository.gated = True
    assert locate("alice/model").is_restricted
    repository.gated, repository.private = False, True
    assert locate("alice/model", token=READ).is_restricted
    with refused("there is no such repository"):
        locate("alice/model", token=OTHER)


def test_what_is_no_model(hub, saved, ensemble, tmp_path):
    hub.store.put("models", "alice/bert", {"config.json": b'{"model_type": "bert", "architecture": "x"}'})
    hub.store.put("models", "alice/empty", {})
    hub.store.put("models", "alice/odd", {**contents(saved), SUMS_NAME: b"odd"})
    for name in ("alice/bert", "alice/empty", "alice/odd"):
        with refused("no model of cxr_estimator, nor a config.json of timm"):
            locate(name)
    hub.store.put("models", "alice/several", contents(ensemble.save(tmp_path / "several")))
    with pytest.raises(ModelFolderError, match=r"not a cxr_estimator model .*the commands take single models"):
        locate("alice/several")
    edit_config(saved, lambda config: config.update(schema_version=1))
    hub.store.put("models", "alice/model", contents(saved))
    with pytest.raises(ModelFolderError, match=r"alice/model: config\.json: schema version 1 is not supported"):
        locate("alice/model")


def test_names_and_revisions(hub, saved):
    with pytest.raises(InvalidParameterError, match="'repo_id' parameter of deploy-space must be 'user/model'"):
        locate("../model", caller="deploy-space")
    with pytest.raises(InvalidParameterError, match="'revision'"):
        locate("alice/model", revision="a b")
    assert not hub.requests
    with pytest.raises(HubError, match=r"has no revision .* 'none'"):
        locate("alice/model", revision="none")
    with hub.down(), pytest.raises(HubError, match="gave no answer"):
        locate("alice/model")
