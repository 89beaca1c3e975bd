"""Class activation maps, against pytorch-grad-cam and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import pytorch_grad_cam
import torch
from torch import nn

from cxr_estimator.attribution import METHODS, Problem, TargetRule
from cxr_estimator.attribution.cam import _first_component, grad_cam, resized
from cxr_estimator.backbones import build_backbone, default_cam_layer, named_layer, to_grid
from cxr_estimator.errors import InvalidParameterError, InvalidTypeError
from cxr_estimator.thresholds import number_point
from tests.attribution.networks import NEGATIVE, POSITIVE


class TwoChannels(nn.Module):
    """Feature maps are the image and its negative; the logit is 3 * mean(first) + 1 * mean(second)."""

    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(1, 2, 1, bias=False)
        self.features.weight.data = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)

    def forward(self, x):
        means = self.features(x).mean(dim=(2, 3))
        return (3 * means[:, 0] + means[:, 1])[:, None]


def test_by_hand():
    """Weights are the gradients 3/4 and 1/4, so the map is ReLU((3/4 - 1/4) x) = ReLU(x / 2)."""
    x = torch.tensor([[1.0, -2.0], [4.0, 0.0]]).view(1, 1, 2, 2)
    problem = Problem(TwoChannels(), x, POSITIVE)
    result = grad_cam(problem)
    assert result.layer == "features"
    assert result.values.tolist() == [[[0.5, 0.0], [2.0, 0.0]]]
    assert problem.logits.item() == pytest.approx(2 * 0.75)
    assert problem.evaluations == 1
    other = grad_cam(Problem(TwoChannels(), x, NEGATIVE))  # the other class: the map of -logit
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


PEERS = {
    "grad_cam": "GradCAM",
    "grad_cam_plus_plus": "GradCAMPlusPlus",
    "x_grad_cam": "XGradCAM",
    "layer_cam": "LayerCAM",
    "eigen_cam": "EigenCAM",
}


@pytest.fixture(scope="module", params=LAYERS)
def network(request):
    torch.manual_seed(0)
    models = {n: build_backbone(request.param, num_outputs=n, channels=1, image_size=64).eval() for n in (1, 3)}
    return request.param, models


@pytest.mark.parametrize("method", PEERS)
@pytest.mark.parametrize("num_outputs", [1, 3])
def test_equals_pytorch_grad_cam(network, num_outputs, method, request):
    name, model = network[0], network[1][num_outputs]
    torch.manual_seed(1)
    x = torch.randn(2, 1, 64, 64)
    assert default_cam_layer(model, x) == LAYERS[name]
    index = torch.tensor([1, 0] if num_outputs == 1 else [2, 0])
    ours = METHODS[method].function(Problem(model, x, TargetRule(None, index=index))).values.clamp(min=0).numpy()

    signs = (1.0, -1.0) if num_outputs == 1 else (1.0, 1.0)
    column = (0, 0) if num_outputs == 1 else (2, 0)
    targets = [lambda out, s=sign, c=c: s * out[c] for sign, c in zip(signs, column, strict=True)]
    if method == "grad_cam_plus_plus":  # beside large gradients the constant in the peer's denominator is nothing
        handle = model.register_forward_hook(lambda module, inputs, logits: 1e6 * logits)
        request.addfinalizer(handle.remove)
        ours = METHODS[method].function(Problem(model, x, TargetRule(None, index=index))).values.numpy()
    reshape = (lambda tensor: to_grid(model, tensor)) if name.startswith(("vit", "swin")) else None
    with getattr(pytorch_grad_cam, PEERS[method])(
        model, [named_layer(model, LAYERS[name])], reshape_transform=reshape
    ) as cam:
        theirs = cam(x, targets=targets)
    if method == "eigen_cam":  # the peer leaves the sign to the decomposition: compare where it agrees with ours
        agree = [np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0 for one, other in zip(ours, theirs, strict=True)]
        ours, theirs = ours[agree], theirs[agree]
    np.testing.assert_allclose(stretched(ours), theirs, atol=2e-4)


@pytest.mark.parametrize("scale", [1.0, 1e-5])
def test_grad_cam_plus_plus_by_hand(scale):
    """Weights are sum over positions of g / (2 + g sum A), where g > 0; A sums to 3 and to -3."""
    x = torch.tensor([[1.0, -2.0], [4.0, 0.0]]).view(1, 1, 2, 2)
    model = TwoChannels()
    model.register_forward_hook(lambda module, inputs, logits: scale * logits)
    g = (0.75 * scale, 0.25 * scale)
    weights = (4 * g[0] / (2 + 3 * g[0]), 4 * g[1] / (2 - 3 * g[1]))
    found = METHODS["grad_cam_plus_plus"].function(Problem(model, x, POSITIVE)).values
    torch.testing.assert_close(found, torch.relu((weights[0] - weights[1]) * x[:, 0]), rtol=1e-4, atol=0.0)


def test_hi_res_cam_equals_pytorch_grad_cam_before_that_cuts_it_off_at_zero(network):
    name, model = network[0], network[1][3]
    layer = named_layer(model, LAYERS[name])
    x = torch.randn(2, 1, 64, 64)
    ours = METHODS["hi_res_cam"].function(Problem(model, x, TargetRule(None, index=torch.tensor([2, 0])))).values
    reshape = (lambda tensor: to_grid(model, tensor)) if name.startswith(("vit", "swin")) else None
    targets = [lambda out: out[2], lambda out: out[0]]
    with pytorch_grad_cam.HiResCAM(model, [layer], reshape_transform=reshape) as cam:
        cam(x, targets=targets)
        seen = cam.activations_and_grads
        activations, gradients = seen.activations[0].numpy(), seen.gradients[0].numpy()
        theirs = torch.from_numpy(cam.get_cam_image(x, layer, targets, activations, gradients, False))
    assert ours.min() < 0
    torch.testing.assert_close(ours, resized(theirs, x.shape[2:]), atol=1e-5, rtol=1e-3)


def stretched(maps):
    """Each map from 0 to 1, as the peer returns them."""
    maps = maps - maps.min(axis=(1, 2), keepdims=True)
    top = maps.max(axis=(1, 2), keepdims=True)
    return np.divide(maps, top, out=np.zeros_like(maps), where=top > 0)


def test_the_others_by_hand():
    """A = (x, -x) with gradients 3/4 and 1/4 everywhere, x = 1 -2 / 4 0, sum x = 3."""
    x = torch.tensor([[1.0, -2.0], [4.0, 0.0]]).view(1, 1, 2, 2)

    def values(method):
        return METHODS[method].function(Problem(TwoChannels(), x, POSITIVE)).values[0].tolist()

    assert values("hi_res_cam") == [[0.5, -1.0], [2.0, 0.0]]  # (3/4 - 1/4) x
    assert values("layer_cam") == [[0.5, 0.0], [2.0, 0.0]]
    np.testing.assert_allclose(values("x_grad_cam"), [[0.5, 0.0], [2.0, 0.0]], atol=1e-5)  # g is constant
    # a = g^2 / (2 g^2 + sum A g^3) = 1 / (2 + sum A g) = 1 / (2 + 9/4) and 1 / (2 - 3/4); w = 4 a g
    w = 4 * 0.75 / 4.25 - 4 * 0.25 / 1.25
    expected = np.maximum(w * x[0, 0].numpy(), 0)
    np.testing.assert_allclose(values("grad_cam_plus_plus"), expected, atol=1e-4)
    # x - 3/4 and its negative have the first component +-(x - 3/4) sqrt(2); the mean activation is 0: either sign
    component = np.sqrt(2) * (x[0, 0].numpy() - 0.75)
    found = np.array(values("eigen_cam"))
    assert np.allclose(found, np.maximum(component, 0)) or np.allclose(found, np.maximum(-component, 0))


def test_the_first_component_goes_with_the_mean_activation():
    rng = np.random.default_rng(0)
    pattern = rng.random((4, 4))
    activation = torch.from_numpy(pattern[None, None] * rng.random((1, 6, 1, 1)) + 0.01 * rng.random((1, 6, 4, 4)))
    found = _first_component(activation.float())[0].numpy()
    assert np.corrcoef(found.ravel(), pattern.ravel())[0, 1] > 0.99


def test_several_layers_are_averaged_on_one_scale(fitted, phantoms):
    one, other = (fitted.explain(phantoms.X[:3], layer=name).values for name in ("features.stage1", "features"))
    both = fitted.explain(phantoms.X[:3], layer=["features.stage1", "features"])
    expected = sum(maps / np.maximum(maps.max(axis=(1, 2), keepdims=True), 1e-30) for maps in (one, other)) / 2
    np.testing.assert_allclose(both.values, expected, atol=1e-5)
    assert both.layer == "features.stage1, features"
    with pytest.raises(InvalidParameterError, match="a list of one at least"):
        fitted.explain(phantoms.X[:3], layer=[])


@pytest.mark.parametrize("method", ["grad_cam", "score_cam", "eigen_cam", "guided_grad_cam"])
@pytest.mark.parametrize(
    ("layer", "error"),
    [
        (5, InvalidTypeError),
        (True, InvalidTypeError),
        ([["features"]], InvalidTypeError),
        (["features", None], InvalidTypeError),
        (b"features", InvalidTypeError),
        ("", InvalidParameterError),
        ([], InvalidParameterError),
        (["features", "nowhere"], InvalidParameterError),
    ],
)
def test_a_bad_layer_is_refused_with_a_list_of_layers(fitted, phantoms, method, layer, error):
    listed = "a layer with a spatial map, or a list of one at least: 'features.stage1.0', .*, 'features'. Got "
    with pytest.raises(error, match=f"'layer' parameter of PlainCNN must be {listed}"):
        fitted.explain(phantoms.X[:1], method=method, layer=layer)


def test_of_many_layers_the_nearest_are_named():
    model = build_backbone("resnet18", num_outputs=1, channels=1, image_size=64).eval()
    for layer, near in (("layer5", "'layer4'"), ("zzz", "'conv1', 'bn1', 'act1', 'maxpool', 'layer1'")):
        with pytest.raises(InvalidParameterError, match=rf"such as .*{near}.*named_modules\(\) has all \d\d\)"):
            grad_cam(Problem(model, torch.randn(1, 1, 64, 64), POSITIVE), layer=layer)


def test_class_token_transformers_need_the_norm_before_the_last_attention():
    """Behind the last block only the class token reaches the head: patch gradients are zero, the map is empty."""
    torch.manual_seed(0)
    model = build_backbone("vit_tiny_patch16_224", num_outputs=1, channels=1, image_size=64).eval()
    x = torch.randn(1, 1, 64, 64)
    assert grad_cam(Problem(model, x, POSITIVE), layer="norm").values.abs().max() == 0
    assert grad_cam(Problem(model, x, POSITIVE)).values.std() + grad_cam(Problem(model, x, NEGATIVE)).values.std() > 0


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
    assert TargetRule(None, index=index).resolve(lambda: logits).score(logits).item() == 3.0
    p = torch.softmax(logits, dim=1)[0, 2]
    margin = TargetRule(None, index=index, margin=True).resolve(lambda: logits).score(logits).item()
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
        grad_cam(Problem(model, torch.randn(1, 1, 64, 64), POSITIVE), layer=layer)
