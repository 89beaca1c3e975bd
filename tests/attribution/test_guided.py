"""Guided backpropagation and guided Grad-CAM: by hand, against captum, and against a slow copy without overrides."""

from __future__ import annotations

import copy

import captum.attr
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cxr_estimator.attribution import METHODS, Problem, TargetRule
from cxr_estimator.attribution.guided import no_relu
from cxr_estimator.backbones import build_backbone
from cxr_estimator.errors import UnsupportedMethodError
from tests.conftest import small_classifier


def run(method, model, x, *index, **options):
    problem = Problem(model, x, TargetRule(None, index=torch.tensor(index)))
    return METHODS[method].function(problem, **options)


def in_place(x):
    x = x.clone()
    x.relu_()
    return x


RELUS = {
    "module": nn.ReLU(),
    "module in place": lambda x: nn.ReLU(inplace=True)(x.clone()),
    "function": F.relu,
    "function in place": lambda x: F.relu(x.clone(), inplace=True),
    "torch.relu": torch.relu,
    "method": lambda x: x.relu(),
    "method in place": in_place,
}


class TwoPaths(nn.Module):
    """The logit is the sum of 2 ReLU(x) - 3 ReLU(2 x); `relu` is used twice."""

    def __init__(self, relu):
        super().__init__()
        self.relu = relu

    def forward(self, x):
        return (2 * self.relu(x) - 3 * self.relu(2 * x)).sum(dim=(1, 2, 3))[:, None]


@pytest.mark.parametrize("relu", RELUS)
def test_by_hand(relu):
    """For the logit only the first path is open, with 2; for its negative only the second, with 3 * 2."""
    x = torch.tensor([[[[1.0, -1.0]]]])
    model = TwoPaths(RELUS[relu])
    assert run("guided_backprop", model, x, 1).values.tolist() == [[[2.0, 0.0]]]
    assert run("guided_backprop", model, x, 0).values.tolist() == [[[6.0, 0.0]]]
    assert run("saliency", model, x, 1).values.tolist() == [[[4.0, 0.0]]]  # and nothing of it remains: |2 - 6|


class _Guided(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x > 0)
        return x * (x > 0)

    @staticmethod
    def backward(ctx, gradient):
        (active,) = ctx.saved_tensors
        return gradient * active * (gradient > 0)


class GuidedReLU(nn.Module):
    def forward(self, x):
        return _Guided.apply(x)


def with_guided_modules(model):
    """A copy of the network in which every ReLU is a module that works out of place and guides."""
    model = copy.deepcopy(model)
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU):
                setattr(module, name, GuidedReLU())
    return model


@pytest.fixture(scope="module", params=["plain_cnn", "resnet18", "densenet121", "mobilenetv3_small_100"])
def network(request):
    torch.manual_seed(0)
    return {n: build_backbone(request.param, num_outputs=n, channels=3, image_size=64).eval() for n in (1, 3)}


def close(ours, theirs, tolerance=1e-5):
    assert theirs.abs().max() > 0
    assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


@pytest.mark.parametrize("num_outputs", [1, 3])
def test_equals_the_slow_way(network, num_outputs):
    torch.manual_seed(1)
    x = torch.randn(2, 3, 64, 64)
    model = network[num_outputs]
    slow = with_guided_modules(model)
    index = (1, 0) if num_outputs == 1 else (2, 0)
    ours = run("guided_backprop", model, x, *index).values
    close(ours, run("saliency", slow, x, *index).values)
    assert (ours - run("saliency", model, x, *index).values).abs().max() > 0.01 * ours.max()


@pytest.mark.parametrize("num_outputs", [1, 3])
@pytest.mark.filterwarnings("ignore:Setting (backward|forward) hooks on ReLU:UserWarning")
def test_equals_captum(num_outputs):
    torch.manual_seed(0)
    model = build_backbone("plain_cnn", num_outputs=num_outputs, channels=3, image_size=64).eval()
    x = torch.randn(2, 3, 64, 64)
    index = (1, 1) if num_outputs == 1 else (2, 0)
    target = None if num_outputs == 1 else list(index)
    leaf = x.clone().requires_grad_()
    theirs = captum.attr.GuidedBackprop(model).attribute(leaf, target=target)
    close(run("guided_backprop", model, x, *index).values, theirs.abs().amax(dim=1))
    theirs = captum.attr.GuidedGradCam(model, model.features).attribute(
        leaf, target=target, interpolate_mode="bilinear"
    )
    ours = run("guided_grad_cam", model, x, *index, layer="features")
    close(ours.values, theirs.abs().amax(dim=1))
    assert ours.layer == "features"


def test_guided_grad_cam_is_the_product(fitted, phantoms):
    maps = fitted.explain(phantoms.X[:3], method=["guided_grad_cam", "guided_backprop", "grad_cam"])
    product = maps["guided_backprop"].values * maps["grad_cam"].values
    torch.testing.assert_close(torch.from_numpy(maps["guided_grad_cam"].values), torch.from_numpy(product))
    assert maps["guided_grad_cam"].layer == maps["grad_cam"].layer


def test_networks_without_a_relu_are_refused(phantoms):
    clf = small_classifier(backbone="vit_tiny_patch16_224", max_epochs=1, validation_fraction=0.0)
    clf.fit(phantoms.X[:8], phantoms.y[:8], groups=phantoms.groups[:8])
    for method in ("guided_backprop", "guided_grad_cam"):
        with pytest.raises(UnsupportedMethodError, match="it has no ReLU, whose gradient is what is guided"):
            clf.explain(phantoms.X[:1], method=method)


def test_what_counts_as_a_relu():
    assert no_relu(nn.Sequential(nn.Linear(1, 1), nn.ReLU(inplace=True))) is None
    assert no_relu(nn.Sequential(nn.ReLU6(), nn.GELU(), nn.LeakyReLU())) is not None
