"""What the tests of the audit share."""

from __future__ import annotations

import pytest

from cxr_estimator import make_phantoms


@pytest.fixture(scope="module")
def held_out():
    """40 phantoms of 20 other patients."""
    return make_phantoms(40, 32, difficulty=0.0, random_state=9)
