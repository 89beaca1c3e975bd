"""A model that means nothing, also shared, and a client that does not wait."""

from __future__ import annotations

import pytest

from cxr_estimator.hub import push
from tests.hub.folders import write_model


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "model")


@pytest.fixture
def shared(hub, model):
    """The id of a repository that holds `model`; requests up to here are forgotten."""
    push(model, "alice/model")
    hub.requests.clear()
    return "alice/model"


@pytest.fixture
def waits(monkeypatch):
    """The seconds that the client would have waited between its attempts."""
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    return waited
