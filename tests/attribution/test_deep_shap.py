"""DeepSHAP, by hand, against captum and shap, and its budget on networks that those two cannot take."""

from __future__ import annotations

import captum.attr
import numpy as np
import pytest
import shap
import torch
import torch.nn.functional as F
from torch import nn

from cxr_estimator.attribution import Problem, TargetRule
from cxr_estimator.attribution.deep_shap import deep_shap
from cxr_estimator.backbones import build_backbone
from cxr_estimator.errors import InvalidParameterError


class Net(nn.Module):
    """A function of the images as a network with one logit."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x).flatten(1).sum(dim=1, keepdim=True)


def explained(model, x, background, *, index=None, margin=False):
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    index = torch.ones(len(x), dtype=torch.int64) if index is None else torch.tensor(index)
    return deep_shap(Problem(model.eval(), x, TargetRule(None, index=index, margin=margin), background=background))


def pixels(*values):
    """One image of a single row."""
    return torch.tensor(values).view(1, 1, 1, -1)


def residual(result):
    total = result.values.sum(dim=(1, 2))
    return float(((total - result.difference).abs() / result.difference.abs().clamp(min=0.1)).max())


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        # z goes from -1 to 2, ReLU from 0 to 2: the multiplier is 2/3, times the differences 4 and -1
        (lambda x: F.relu(x.sum(dim=3)), [8 / 3, -2 / 3]),
        (lambda x: F.relu(x.sum(dim=3), inplace=True), [8 / 3, -2 / 3]),
        (lambda x: x.sum(dim=3).relu_(), [8 / 3, -2 / 3]),
        (lambda x: F.leaky_relu(x.sum(dim=3), 0.5), [4 * 2.5 / 3, -2.5 / 3]),
        (lambda x: F.hardtanh(x.sum(dim=3), -1.0, 1.0), [8 / 3, -2 / 3]),
        # the maximum goes from 0 to 3: 3 to the pixel with 3, which differs by 4
        (lambda x: F.max_pool2d(x, (1, 2)), [3.0, 0.0]),
        # the minimum stays at -1
        (lambda x: -F.max_pool2d(-x, (1, 2)), [0.0, 0.0]),
        # a product: differences times the mean of the other: 4 * (-1 + 0) / 2 and -1 * (3 - 1) / 2
        (lambda x: x[..., 0] * x[..., 1], [-2.0, -1.0]),
        (lambda x: x * x, [8.0, 1.0]),
        (lambda x: 3 * x[..., :1] - x[..., 1:] / 2, [12.0, 0.5]),
    ],
)
def test_by_hand(function, expected):
    """From b = (-1, 0) to x = (3, -1)."""
    result = explained(Net(function), pixels(3.0, -1.0), pixels(-1.0, 0.0))
    np.testing.assert_allclose(result.values[0, 0].tolist(), expected, atol=1e-6)
    assert result.difference.item() == pytest.approx(sum(expected), abs=1e-6)
    assert result.baseline == "background"


def test_the_baseline_can_win_a_window():
    """The maximum goes from 5 (first pixel) to 2 (second): -3 to the first, which falls from 5 to 1."""
    result = explained(Net(lambda x: F.max_pool2d(x, (1, 2))), pixels(1.0, 2.0), pixels(5.0, 0.0))
    np.testing.assert_allclose(result.values[0, 0].tolist(), [-3.0, 0.0], atol=1e-6)


def test_where_nothing_differs_the_derivative_stands():
    """ReLU does not move at 2, but its input is 2 a - b: the multiplier is 1, not 0/0."""
    net = Net(lambda x: F.relu(2 * x[..., 0] - x[..., 1]))
    result = explained(net, pixels(2.0, 2.0), pixels(1.0, 0.0))
    np.testing.assert_allclose(result.values[0, 0].tolist(), [2.0, -2.0], atol=1e-6)


def test_linear_networks_give_weight_times_difference():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 1))
    x, background = torch.randn(3, 1, 4, 4), torch.randn(5, 1, 4, 4)
    result = explained(net, x, background, index=[1, 0, 1])
    sign = torch.tensor([1.0, -1.0, 1.0]).view(3, 1, 1)
    expected = sign * (net[1].weight.view(4, 4) * (x - background.mean(dim=0))[:, 0])
    torch.testing.assert_close(result.values, expected, atol=1e-6, rtol=1e-5)


class Residual(nn.Module):
    """What breaks hooks: one ReLU for all calls, in place, and a sum in place behind it."""

    def __init__(self, relu):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.relu, self.head = relu, nn.Linear(4, 1)

    def forward(self, x):
        x = self.relu(self.first(x))
        shortcut = x
        x = self.second(x)
        x += shortcut
        return self.head(self.relu(x).mean(dim=(2, 3)))


def test_reuse_and_in_place_operations_change_nothing():
    torch.manual_seed(0)
    one, other = Residual(nn.ReLU(inplace=True)), Residual(F.relu)
    other.load_state_dict(one.state_dict())
    x, background = torch.randn(2, 1, 6, 6), torch.randn(3, 1, 6, 6)
    result = explained(one, x, background)
    torch.testing.assert_close(result.values, explained(other, x, background).values, atol=1e-7, rtol=1e-6)
    assert residual(result) < 1e-5


def small_cnn(pool):
    return nn.Sequential(
        nn.Conv2d(2, 6, 3), nn.ReLU(), pool(2), nn.Conv2d(6, 8, 3), nn.Tanh(), nn.Flatten(),
        nn.Linear(8 * 16, 10), nn.ReLU(), nn.Linear(10, 3),
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore:Setting forward, backward hooks", "ignore:Converting a tensor with requires_grad")
@pytest.mark.parametrize("name", ["plain_cnn", "small"])
def test_equals_captum(name):
    """Without maximum pooling, where captum's values do not sum to the difference."""
    torch.manual_seed(0)
    is_small = name == "small"
    model = small_cnn(nn.AvgPool2d) if is_small else build_backbone(name, num_outputs=3, channels=2, image_size=14)
    x, background = torch.randn(4, 2, 14, 14), torch.randn(5, 2, 14, 14)
    index = [2, 0, 1, 1]
    ours = explained(model, x, background, index=index)
    theirs = captum.attr.DeepLiftShap(model).attribute(x, background, target=torch.tensor(index)).sum(dim=1)
    torch.testing.assert_close(ours.values, theirs.detach(), atol=1e-4 * float(theirs.abs().max()), rtol=0.0)
    assert residual(ours) < 1e-5


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad", "ignore:__array_wrap__ must accept")
@pytest.mark.parametrize("pool", [nn.AvgPool2d, nn.MaxPool2d])
def test_equals_shap(pool):
    torch.manual_seed(0)
    model = small_cnn(pool).eval()
    x, background = torch.randn(3, 2, 14, 14), torch.randn(5, 2, 14, 14)
    theirs = shap.DeepExplainer(model, background).shap_values(x)  # (n, C, H, W, K)
    ours = explained(model, x, background, index=[2, 0, 1]).values
    expected = torch.from_numpy(theirs).float().sum(dim=1)[torch.arange(3), :, :, torch.tensor([2, 0, 1])]
    torch.testing.assert_close(ours, expected, atol=1e-4 * float(expected.abs().max()), rtol=0.0)


def briefly_trained(model, phantoms):
    """A few steps, enough for batch norm and weights to be those of no initial state."""
    x = torch.from_numpy(phantoms.X[:16, None].astype(np.float32)) / 127.5 - 1
    x = F.interpolate(x, size=(64, 64), mode="bilinear")
    y = torch.from_numpy((phantoms.y[:16] == "PNEUMONIA").astype(np.float32))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model.train()
    for _ in range(2):
        for rows in (slice(0, 8), slice(8, 16)):
            loss = F.binary_cross_entropy_with_logits(model(x[rows])[:, 0], y[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return x


@pytest.mark.parametrize("name", ["plain_cnn", "resnet18", "densenet121", "mobilenetv3_small_100"])
def test_complete_on_convolutional_networks(name, phantoms):
    torch.manual_seed(0)
    model = build_backbone(name, num_outputs=1, channels=1, image_size=64)
    noise = torch.randn(6, 1, 64, 64)
    assert residual(explained(model, noise[:2], noise[2:])) < 1e-3
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    x = briefly_trained(model, phantoms)
    result = explained(model, x[:2], x[12:], index=[1, 0])
    assert residual(result) < 1e-3
    off = (result.values.sum(dim=(1, 2)) - result.difference).abs()
    assert (off < 1e-4 * result.values.abs().sum(dim=(1, 2))).all()  # however small the scores of such a network are


@pytest.mark.parametrize("margin", [True, False])
def test_complete_for_several_classes(margin):
    torch.manual_seed(0)
    model = build_backbone("plain_cnn", num_outputs=3, channels=1, image_size=16)
    model.head.weight.data *= 20  # logits far apart: the margin is far from linear in them
    noise = 3 * torch.randn(7, 1, 16, 16)
    result = explained(model, noise[:3], noise[3:], index=[2, 0, 1], margin=margin)
    assert result.difference.abs().max() > 0.1
    assert residual(result) < 1e-4


@pytest.mark.filterwarnings("ignore::cxr_estimator.errors.BackgroundWarning")
def test_where_a_rule_is_missing_the_residual_tells(fitted, phantoms):
    torch.manual_seed(0)
    model = build_backbone("vit_tiny_patch16_224", num_outputs=1, channels=1, image_size=64)
    noise = torch.randn(4, 1, 64, 64)
    result = explained(model, noise[:2], noise[2:])
    assert result.values.isfinite().all()
    assert residual(result) > 0.01
    exact = fitted.explain(phantoms.X[:3], method="deep_shap", background=phantoms.X[40:45])
    assert (exact.completeness_residual < 1e-4).all()
    assert exact.evaluations.tolist() == [13, 13, 13]  # itself, 5 / 3 for their scores, and 5 pairs: 1 + 5/3 + 10


def test_pairs_fill_batches_and_need_a_background():
    torch.manual_seed(0)
    model = build_backbone("plain_cnn", num_outputs=1, channels=1, image_size=16).eval()
    x, background = torch.randn(3, 1, 16, 16), torch.randn(5, 1, 16, 16)
    told = []
    rule = TargetRule(None, index=torch.tensor([1, 1, 0]))
    problem = Problem(model, x, rule, background=background, progress=told.append)
    deep_shap(problem)
    assert told == [1.0]  # 15 pairs at once
    with pytest.raises(InvalidParameterError, match="'background' parameter of explain must be given"):
        deep_shap(Problem(model, x, rule))
