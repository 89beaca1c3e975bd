"""Score-CAM, against pytorch-grad-cam and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import pytorch_grad_cam
import torch
from torch import nn

from cxr_estimator.attribution import METHODS, Problem, TargetRule
from cxr_estimator.backbones import build_backbone, default_cam_layer, named_layer, to_grid
from cxr_estimator.errors import InvalidParameterError, InvalidTypeError
from tests.attribution.networks import NEGATIVE, POSITIVE

score_cam = METHODS["score_cam"].function
NETWORKS = (
    ("plain_cnn", 1),
    ("plain_cnn", 3),
    ("resnet18", 3),
    ("convnextv2_atto", 1),
    ("vit_tiny_patch16_224", 3),
)


class Quadrants(nn.Module):
    """Two feature maps of 2 x 2, image and negative; the logit is a weighted sum over the image."""

    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(1, 2, 1, bias=False)
        self.features.weight.data = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)
        self.register_buffer("weights", torch.tensor([[1.0, 2.0], [3.0, 4.0]]))

    def forward(self, x):
        return (self.features(x)[:, 0] * self.weights).sum(dim=(1, 2))[:, None]


def test_by_hand():
    """x = 1 0 / 0 -1: scaled, x is 1 1/2 / 1/2 0 and -x is 0 1/2 / 1/2 1; so the scores are 1 and -4."""
    x = torch.tensor([[1.0, 0.0], [0.0, -1.0]]).view(1, 1, 2, 2)
    problem = Problem(Quadrants(), x, POSITIVE)
    result = score_cam(problem)
    a = torch.softmax(torch.tensor([1.0, -4.0]), dim=0)
    expected = torch.relu((a[0] - a[1]) * x[0])
    torch.testing.assert_close(result.values, expected)
    assert result.layer == "features"
    assert problem.evaluations == 1 + 2
    other = score_cam(Problem(Quadrants(), x, NEGATIVE))  # scores -1 and 4
    torch.testing.assert_close(other.values, torch.relu((a[1] - a[0]) * x[0]))


@pytest.mark.parametrize(("name", "num_outputs"), NETWORKS)
def test_equals_pytorch_grad_cam(name, num_outputs):
    torch.manual_seed(0)
    model = build_backbone(name, num_outputs=num_outputs, channels=1, image_size=64).eval()
    torch.manual_seed(1)
    x = torch.randn(1, 1, 64, 64)
    index, column, sign = (0, 0, -1.0) if num_outputs == 1 else (2, 2, 1.0)
    ours = score_cam(Problem(model, x, TargetRule(None, index=torch.tensor([index])))).values.numpy()
    layer = named_layer(model, default_cam_layer(model, x))
    reshape = (lambda tensor: to_grid(model, tensor)) if name.startswith(("vit", "swin")) else None
    with pytorch_grad_cam.ScoreCAM(model, [layer], reshape_transform=reshape) as cam:
        theirs = cam(x, targets=[lambda out: sign * out[column]])
    ours = ours - ours.min()
    assert ours.max() > 0
    np.testing.assert_allclose(ours / ours.max(), theirs, atol=2e-5)


def test_the_channels_that_vary_most(fitted, phantoms):
    X = phantoms.X[:3]
    everything = fitted.explain(X, method="score_cam")
    assert (fitted.explain(X, method="score_cam", channels=10_000).values == everything.values).all()
    problem = Problem(fitted.model_, torch.randn(2, 1, 32, 32), TargetRule(None, index=torch.tensor([1, 0])))
    (A,) = problem.activations(["features"])
    best = A.flatten(2).std(dim=2).argmax(dim=1)
    shown = score_cam(problem, channels=1).values
    alone = torch.relu(A[torch.arange(2), best])  # a softmax over one channel is 1
    torch.testing.assert_close(shown, torch.nn.functional.interpolate(alone[:, None], (32, 32), mode="bilinear")[:, 0])
    few = fitted.explain(X, method="score_cam", channels=5)
    assert few.evaluations.tolist() == [1 + 5] * 3


def test_several_layers_and_progress(fitted, phantoms):
    told = []
    both = fitted.explain(
        phantoms.X[:3],
        method="score_cam",
        layer=["features.stage1", "features"],
        channels=40,
        progress=lambda done, total: told.append(done / total),
    )
    assert both.layer == "features.stage1, features"
    assert told == sorted(told)
    assert told[-1] == pytest.approx(1.0)
    assert told[-2] <= 1 + 1e-9


def test_activations_need_no_backward_pass_and_are_shared(fitted, phantoms):
    problem = Problem(fitted.model_, torch.randn(2, 1, 32, 32), TargetRule(None, index=torch.tensor([1, 0])))
    (first,) = problem.activations(["features"])
    assert not first.requires_grad
    assert problem.activations(["features"])[0] is first
    assert problem.logits.shape == (2, 1)
    assert problem.evaluations == 2
    torch.testing.assert_close(problem.at_layers(["features"])[0].activation, first)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"channels": 0}, InvalidParameterError, "'channels' parameter of score_cam must be an integer >= 1"),
        ({"channels": 2.5}, InvalidTypeError, "'channels' parameter of score_cam must be an integer"),
        ({"layer": "nowhere"}, InvalidParameterError, "'layer' parameter"),
        ({"layer": "head"}, InvalidParameterError, "with a spatial map"),
    ],
)
def test_bad_options(fitted, phantoms, options, error, said):
    with pytest.raises(error, match=said):
        fitted.explain(phantoms.X[:1], method="score_cam", **options)
