"""Class activation maps, against pytorch-grad-cam and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from cxr_estimator.attribution import TargetRule
from cxr_estimator.attribution.cam import grad_cam
from cxr_estimator.backbones import build_backbone, default_cam_layer, named_layer, to_grid
from cxr_estimator.errors import InvalidParameterError
from cxr_estimator.thresholds import number_point


class TwoChannels(nn.Module):
    """Feature maps are the image and its negative; the logit is 3 * mean(first) + 1 * mean(second)."""

    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(1, 2, 1, bias=False)
        self.features.weight.data = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)

    def forward(self, x):
        means = self.features(x).mean(dim=(2, 3))
        return (3 * means[:, 0] + means[:, 1])[:, None]


POSITIVE = TargetRule(None, index=torch.tensor([1]))
NEGATIVE = TargetRule(None, index=torch.tensor([0]))


def test_by_hand():
    """Weights are the gradients 3/4 and 1/4, so the map is ReLU((3/4 - 1/4) x) = ReLU(x / 2)."""
    x = torch.tensor([[1.0, -2.0], [4.0, 0.0]]).view(1, 1, 2, 2)
    result = grad_cam(TwoChannels(), x, POSITIVE)
    assert result.layer == "features"
    assert result.values.tolist() == [[[0.5, 0.0], [2.0, 0.0]]]
    assert result.logits.item() == pytest.approx(2 * 0.75)
    other = grad_cam(TwoChannels(), x, NEGATIVE)  # the other class: the map of -logit
    assert other.values.tolist() == [[[0.0, 1.0], [0.0, 0.0]]]


LAYERS = {
    "resnet18": "layer4",
    "densenet121": "features",
    "convnextv2_atto": "stages",
    "tf_efficientnetv2_s": "bn2",
    "mobilenetv3_small_100": "blocks",
    "vit_tiny_patch16_224": "blocks.11.norm1",
    "swin_tiny_patch4_window7_224": "norm",
    "plain_cnn": "features",
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("num_outputs", [1, 3])
def test_equals_pytorch_grad_cam(name, num_outputs):
    from pytorch_grad_cam import GradCAM

    torch.manual_seed(0)
    model = build_backbone(name, num_outputs=num_outputs, channels=1, image_size=64).eval()
    x = torch.randn(2, 1, 64, 64)
    assert default_cam_layer(model, x) == LAYERS[name]
    index = torch.tensor([1, 0] if num_outputs == 1 else [2, 0])
    ours = grad_cam(model, x, TargetRule(None, index=index)).values.numpy()

    signs = (1.0, -1.0) if num_outputs == 1 else (1.0, 1.0)
    column = (0, 0) if num_outputs == 1 else (2, 0)
    targets = [lambda out, s=sign, c=c: s * out[c] for sign, c in zip(signs, column, strict=True)]
    reshape = (lambda tensor: to_grid(model, tensor)) if name.startswith(("vit", "swin")) else None
    with GradCAM(model, [named_layer(model, LAYERS[name])], reshape_transform=reshape) as cam:
        theirs = cam(x, targets=targets)
    ours = ours - ours.min(axis=(1, 2), keepdims=True)
    top = ours.max(axis=(1, 2), keepdims=True)
    scaled = np.divide(ours, top, out=np.zeros_like(ours), where=top > 0)
    np.testing.assert_allclose(scaled, theirs, atol=1e-4)


def test_class_token_transformers_need_the_norm_before_the_last_attention():
    """Behind the last block only the class token reaches the head: patch gradients are zero, the map is empty."""
    torch.manual_seed(0)
    model = build_backbone("vit_tiny_patch16_224", num_outputs=1, channels=1, image_size=64).eval()
    x = torch.randn(1, 1, 64, 64)
    assert grad_cam(model, x, POSITIVE, layer="norm").values.abs().max() == 0
    assert grad_cam(model, x, POSITIVE).values.std() + grad_cam(model, x, NEGATIVE).values.std() > 0


def test_another_layer(fitted, phantoms):
    deep = fitted.explain(phantoms.X[:2], layer="features")
    early = fitted.explain(phantoms.X[:2], layer="features.stage1")
    assert (deep.layer, early.layer) == ("features", "features.stage1")
    assert not np.allclose(deep.values, early.values)


@pytest.mark.parametrize(("positive_index", "expected"), [(1, [1, 1, 0]), (0, [1, 1, 0])])
def test_predicted_target_follows_the_operating_point(positive_index, expected):
    """Log-odds of class 1 of 2, 1, -1 against a threshold of 0.7 for either label (log-odds 0.85)."""
    rule = TargetRule(number_point(0.7, name="x", caller="t"), positive_index)
    logits = torch.tensor([[2.0], [1.0], [-1.0]])
    assert rule.predicted(logits).tolist() == expected
    assert rule.predicted(torch.tensor([[0.5]])).item() == 1 - positive_index


def test_scores_of_several_classes_by_hand():
    logits = torch.tensor([[1.0, 2.0, 3.0]])
    index = torch.tensor([2])
    assert TargetRule(None, index=index).resolve(logits).score(logits).item() == 3.0
    p = torch.softmax(logits, dim=1)[0, 2]
    margin = TargetRule(None, index=index, margin=True).resolve(logits).score(logits).item()
    assert margin == pytest.approx(torch.logit(p).item())


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("plain_cnn", "pool"),
        ("plain_cnn", "head"),
        ("mobilenetv3_small_100", "conv_head"),
        ("vit_tiny_patch16_224", "fc_norm"),
        ("vit_tiny_patch16_224", "blocks.0.attn.attn_drop"),
    ],
)
def test_layers_without_a_map_are_refused(name, layer):
    model = build_backbone(name, num_outputs=1, channels=1, image_size=64).eval()
    with pytest.raises(InvalidParameterError, match="'layer' parameter"):
        grad_cam(model, torch.randn(1, 1, 64, 64), POSITIVE, layer=layer)
