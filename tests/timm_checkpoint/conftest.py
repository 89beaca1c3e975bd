"""Images, and a checkpoint of timm."""

from __future__ import annotations

import pytest

from cxr_estimator import make_phantoms
from tests.timm_checkpoint.writing import write_checkpoint


@pytest.fixture(scope="module")
def radiographs():
    """Eight grey images, 80 x 100."""
    return make_phantoms(8, 100, random_state=0).X[:, 10:90]


@pytest.fixture
def checkpoint(tmp_path, radiographs):
    """A checkpoint of three classes with the labels c, a, b."""
    return write_checkpoint(tmp_path, radiographs, "test_resnet", 3, labels=["c", "a", "b"], in_chans=1, size=32)
