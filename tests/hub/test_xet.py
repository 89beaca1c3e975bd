"""Xet: the real client with hf_xet, whose local store stands for the remote one."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from cxr_estimator.hub import fetch, push
from tests.hub.folders import write_model

if importlib.util.find_spec("hf_xet"):  # not installed everywhere, and tests that are skipped fail in CI

    @pytest.fixture
    def xet(hub, tmp_path, monkeypatch):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", False)
        hub.store.xet = tmp_path / "xet"
        hub.store.xet.mkdir()
        return hub

    def test_push_and_fetch_through_xet(xet, tmp_path):
        model = write_model(tmp_path / "model", extra={"big.png": np.random.default_rng(1).bytes(100_000)})
        done = push(model, "alice/model")
        assert not xet.seen(path="lfs|storage")
        assert len(xet.seen("GET", "xet-write-token/main")) == 1
        entry = xet.store.find("models", "alice/model").head().files["model.safetensors"]
        assert len(entry.xet_hash) == 64
        folder = fetch("alice/model")
        assert folder.name == done.oid
        for name in ("model.safetensors", "big.png", "config.json"):
            assert (folder / name).read_bytes() == (model / name).read_bytes()
        assert xet.seen("GET", "xet-read-token")
        assert not xet.seen("GET", "resolve/.*safetensors")
        assert push(model, "alice/model").changed == ()
