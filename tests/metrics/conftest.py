"""What tests of metrics share."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from cxr_estimator._explaining import ExplanationPlan
from cxr_estimator.metrics import Context


@pytest.fixture(scope="session")
def explained(fitted, phantoms):
    """A function that returns the explanation of some phantoms by a method, and all the context a metric can want."""

    def make(rows, method="occlusion", other="grad_cam", **options):
        plan = ExplanationPlan.check(
            fitted, phantoms.X[rows], None, [method, other], target="PNEUMONIA", random_state=0, **options
        )
        (batch,) = plan.run(lambda one: one)
        mask = phantoms.lung_masks[rows].copy()
        context = Context(batch.problem, batch.explain[method], mask=mask, other=batch.found[other])
        return batch.found[method], context

    return make


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
