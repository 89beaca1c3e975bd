"""What tests of metrics share."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest


@pytest.fixture(scope="session")
def explain_values(fitted, phantoms):
    """A function that returns an explanation with given maps (N, H, W), for metrics that see nothing else of it."""
    template = fitted.explain(phantoms.X[:8])

    def make(values):
        values = np.asarray(values, dtype=np.float32)
        return dataclasses.replace(template[: len(values)], values=values)

    return make


@pytest.fixture(scope="session")
def random_maps():
    """Signed maps (8, 12, 10) without ties."""
    return np.random.default_rng(0).normal(size=(8, 12, 10)).astype(np.float32)
