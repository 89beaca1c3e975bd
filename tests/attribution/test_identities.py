"""What must hold between methods: on a linear network they all say weight times difference."""

from __future__ import annotations

import pytest
import torch

from cxr_estimator.attribution import METHODS, Problem
from tests.attribution.networks import Linear, positive

# Each with as many evaluations as it takes to be exact, on 3 x 4 pixels.
EXACT = {
    "integrated_gradients": {"n_steps": 1},
    "deep_shap": {},
    "gradient_shap": {"n_samples": 1},
    "kernel_shap": {"n_segments": 12, "segmentation": "grid", "n_samples": 4096},
    "partition_shap": {"n_evaluations": 2000},
    "occlusion": {"window": 1},
    "superpixel_occlusion": {"n_segments": 12, "segmentation": "grid"},
}


@pytest.mark.parametrize("method", EXACT)
@pytest.mark.parametrize("channels", [1, 3])
def test_weight_times_difference(method, channels):
    draw = torch.Generator().manual_seed(0)
    weights, x = torch.randn(channels, 3, 4, generator=draw), torch.randn(2, channels, 3, 4, generator=draw)
    background = torch.randn(1, channels, 3, 4, generator=draw)
    problem = Problem(Linear(weights).requires_grad_(False), x, positive(2), background=background)
    found = METHODS[method].function(problem, **EXACT[method])
    assert found.baseline == "background"
    torch.testing.assert_close(found.values, (weights * (x - background)).sum(dim=1), atol=1e-4, rtol=1e-4)
    if METHODS[method].complete:
        torch.testing.assert_close(found.values.sum(dim=(1, 2)), found.difference, atol=1e-4, rtol=1e-4)
