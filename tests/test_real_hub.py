"""A whole round trip in a process of its own: always on the local Hub, and on the real one where a token is given."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.hub import WRITE

REAL = os.environ.get("CXR_TEST_HUB_TOKEN")  # of an account in which a private repository is made, and deleted again

ROUND_TRIP = """
import secrets, sys
import numpy as np
from huggingface_hub import HfApi
from cxr_estimator import CXRClassifier, make_phantoms
model, X = CXRClassifier.load(sys.argv[1]), make_phantoms(8, 32, random_state=1).X
api = HfApi()
name = f"{api.whoami()['name']}/cxr-estimator-test-{secrets.token_hex(4)}"
try:
    done = model.push_to_hub(name, private=True)
    assert api.model_info(name).private
    assert model.push_to_hub(name).changed == ()
    for revision in (None, done.oid):
        loaded = CXRClassifier.from_pretrained(name, revision=revision)
        assert np.abs(loaded.predict_proba(X) - model.predict_proba(X)).max() <= 1e-6
    print(name, len(done.changed))
finally:
    api.delete_repo(name, missing_ok=True)
assert not api.repo_exists(name)
"""


@pytest.mark.parametrize("place", ["local", *["real"] * bool(REAL)])
def test_round_trip_in_a_process_of_its_own(hub, fitted, tmp_path, place):
    fitted.save(tmp_path / "model")
    environment = {**os.environ, "HF_TOKEN": WRITE}
    if place == "real":
        environment["HF_TOKEN"] = REAL
        for name in ("HF_ENDPOINT", "HF_HUB_DISABLE_XET"):
            del environment[name]
    environment["HF_HUB_CACHE"] = str(tmp_path / "cache")
    command = [sys.executable, "-c", ROUND_TRIP, str(tmp_path / "model")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "cxr-estimator-test-" in done.stdout
    assert bool(hub.seen("DELETE", "/api/repos/delete")) == (place == "local")
    assert not hub.store.repositories
