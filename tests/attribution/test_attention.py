"""Attention followed through transformers, against whole matrices that are made position by position."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from timm.utils import AttentionExtract

from cxr_estimator.attribution import METHODS, Problem, TargetRule
from cxr_estimator.attribution._override import Override
from cxr_estimator.attribution.attention import (
    _Recorder,
    attention_rollout,
    gradient_attention,
    without_attention,
    without_token_attention,
)
from cxr_estimator.attribution.cam import resized
from cxr_estimator.backbones import build_backbone
from cxr_estimator.errors import InvalidParameterError
from cxr_estimator.inference import Execution

INDEX = torch.tensor([2, 0])


def problem_for(model, x, index=INDEX):
    return Problem(model, x, TargetRule(None, index=index))


def transformer(name, size=64, **options):
    """A network with random weights, sharpened so that attention differs from uniform."""
    torch.manual_seed(0)
    if options:
        model = timm.create_model(name, num_classes=3, in_chans=1, img_size=size, **options)
    else:
        model = build_backbone(name, num_outputs=3, channels=1, image_size=size)
    for module in model.modules():
        if hasattr(module, "qkv"):
            torch.nn.init.normal_(module.qkv.weight, std=0.1)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def vit():
    return transformer("vit_tiny_patch16_224")


@pytest.fixture(scope="module")
def swin():
    return transformer("swin_tiny_patch4_window7_224")


@pytest.fixture(scope="module")
def x():
    return torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(1))


class unfused:
    """Within the block timm computes attention step by step, so that hooks see it."""

    def __init__(self, model):
        self.modules = [module for module in model.modules() if hasattr(module, "fused_attn")]

    def __enter__(self):
        self.before = [module.fused_attn for module in self.modules]
        for module in self.modules:
            module.fused_attn = False

    def __exit__(self, *error):
        for module, fused in zip(self.modules, self.before, strict=True):
            module.fused_attn = fused


def attention_by_hooks(model, x, index=INDEX):
    """The attention of each block in order, and the gradients of the scores."""
    kept = []

    def keep(module, inputs, output):
        kept.append(output.clone().requires_grad_() if not output.requires_grad else output)
        kept[-1].retain_grad()
        return kept[-1]

    handles = [
        module.register_forward_hook(keep) for name, module in model.named_modules() if name.endswith("attn.attn_drop")
    ]
    with unfused(model):
        model(x).gather(1, index[:, None]).sum().backward()
    for handle in handles:
        handle.remove()
    return [A.detach() for A in kept], [A.grad for A in kept]


def test_the_fused_function_is_replaced_by_what_it_means():
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 4, 5, 8).unbind(0)
    allowed = torch.rand(2, 1, 5, 5) > 0.3
    allowed[..., 0] = True
    for options in (
        {},
        {"scale": 0.7},
        {"attn_mask": torch.randn(2, 4, 5, 5)},
        {"attn_mask": allowed, "scale": 2.0},
        {"is_causal": True},
    ):
        recorder = _Recorder(torch.clone)
        expected = F.scaled_dot_product_attention(q, k, v, **options)
        with Override(recorder.replacements):
            found = F.scaled_dot_product_attention(q, k, v, **options)
        torch.testing.assert_close(found, expected)
        (attention,) = recorder.found
        torch.testing.assert_close(attention.sum(dim=-1), torch.ones(2, 4, 5))
        torch.testing.assert_close(attention @ v, expected)


@pytest.mark.parametrize("fusion", ["mean", "max", "min"])
def test_rollout_equals_the_product_of_matrices(vit, x, fusion):
    with unfused(vit):
        attentions = AttentionExtract(vit, method="hook")(x).values()
    fuse = {"mean": np.mean, "max": np.max, "min": np.min}[fusion]
    maps = []
    for row in range(2):
        product = np.eye(17)
        for attention in attentions:
            mixed = fuse(attention[row].double().numpy(), axis=0) + np.eye(17)
            product = (mixed / mixed.sum(axis=1)[:, None]) @ product
        maps.append(product[0, 1:].reshape(4, 4))
    expected = resized(torch.from_numpy(np.stack(maps)).float(), (64, 64))
    problem = problem_for(vit, x)
    found = attention_rollout(problem, fusion=fusion)
    torch.testing.assert_close(found.values, expected, atol=1e-6, rtol=1e-4)
    assert problem.evaluations == 2
    assert len(attentions) == 12


def test_gradient_attention_equals_the_product_of_matrices(vit, x):
    maps = []
    for row in range(2):
        R = torch.eye(17)
        for A, g in zip(*attention_by_hooks(vit, x), strict=True):
            R = R + (A[row] * g[row]).clamp(min=0).mean(dim=0) @ R  # equation 6
        maps.append(R[0, 1:].view(4, 4))
    found = gradient_attention(problem_for(vit, x))
    torch.testing.assert_close(found.values, resized(torch.stack(maps), (64, 64)), atol=1e-7, rtol=1e-4)
    assert (found.values.std(dim=(1, 2)) > 0).all()


def test_without_a_class_token_all_patches_begin(x):
    model = transformer("test_vit", class_token=False, global_pool="avg", reg_tokens=2)
    attentions, gradients = attention_by_hooks(model, x)
    rollout = relevance = torch.eye(18).expand(2, 18, 18)
    for A, g in zip(attentions, gradients, strict=True):
        rollout = (0.5 * A.mean(dim=1) + 0.5 * torch.eye(18)) @ rollout
        relevance = relevance + (A * g).clamp(min=0).mean(dim=1) @ relevance
    for method, product in ((attention_rollout, rollout), (gradient_attention, relevance)):
        expected = product[:, 2:, 2:].mean(dim=1).view(2, 4, 4) - (method is gradient_attention) / 16
        found = method(problem_for(model, x)).values
        torch.testing.assert_close(found, resized(expected, (64, 64)), atol=1e-6, rtol=1e-4)


def window_matrix(block, attention, rows, columns):
    """The attention (windows, tokens, tokens) of one image in a Swin block, from each token of the grid to each."""
    height, width = block.window_size
    padded = -(-columns // width)  # windows side by side
    matrix = np.zeros((rows, columns, rows, columns))
    places = {}
    for i in range(rows):
        for j in range(columns):
            at_i, at_j = (i - block.shift_size[0]) % rows, (j - block.shift_size[1]) % columns
            window = at_i // height * padded + at_j // width
            places.setdefault(window, []).append((i, j, at_i % height * width + at_j % width))
    for window, tokens in places.items():
        for i, j, query in tokens:
            for k, m, key in tokens:
                matrix[i, j, k, m] = attention[window, query, key]
    return matrix.reshape(rows * columns, rows * columns)


def merging_matrix(rows, columns):
    """A quarter from each merged token to each of those it was made of, on a fine grid of rows x columns."""
    coarse = -(-columns // 2)
    matrix = np.zeros((-(-rows // 2) * coarse, rows * columns))
    for i in range(rows):
        for j in range(columns):
            matrix[i // 2 * coarse + j // 2, i * columns + j] = 0.25
    return matrix


@pytest.mark.parametrize("size", [64, 72])  # grids of 16, 8, 4, 2, and of 18, 9, 5, 3: padded windows, odd merging
def test_swin_equals_the_product_of_matrices(size):
    model = transformer("swin_tiny_patch4_window7_224", size)
    x = torch.randn(2, 1, size, size)
    attentions, gradients = attention_by_hooks(model, x)
    weighed = [(A * g).clamp(min=0).mean(dim=1).double().numpy() for A, g in zip(attentions, gradients, strict=True)]
    expected = []
    for row in range(2):
        grid, number = size // 4, 0
        product = start = np.eye(grid**2)
        for stage, layer in enumerate(model.layers):
            if stage:
                product, start = (merging_matrix(grid, grid) @ matrix for matrix in (product, start))
                grid = -(-grid // 2)
            for block in layer.blocks:
                windows = weighed[number].reshape(2, -1, *weighed[number].shape[1:])[row]
                product = product + window_matrix(block, windows, grid, grid) @ product
                number += 1
        expected.append((product - start).mean(axis=0).reshape(size // 4, size // 4))
    expected = resized(torch.from_numpy(np.stack(expected)).float(), (size, size))
    found = gradient_attention(problem_for(model, x)).values
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-4)
    assert any(any(block.shift_size) for layer in model.layers for block in layer.blocks)


@pytest.mark.parametrize(
    ("name", "method"), [("vit", attention_rollout), ("vit", gradient_attention), ("swin", gradient_attention)]
)
def test_timm_without_its_fused_function_gives_the_same(name, method, x, request):
    model = request.getfixturevalue(name)
    fused = method(problem_for(model, x)).values
    with unfused(model):
        torch.testing.assert_close(method(problem_for(model, x)).values, fused, atol=1e-7, rtol=1e-4)


def test_only_one_of_the_two_depends_on_the_class(vit, x):
    other = torch.tensor([0, 1])
    torch.testing.assert_close(
        attention_rollout(problem_for(vit, x)).values, attention_rollout(problem_for(vit, x, other)).values
    )
    one, two = (gradient_attention(problem_for(vit, x, index)).values.flatten() for index in (INDEX, other))
    assert np.corrcoef(one.numpy(), two.numpy())[0, 1] < 0.99


def test_rollout_bears_bfloat16(vit, x):
    execution = Execution(x.device, precision="bfloat16")
    rough = attention_rollout(Problem(vit, x, TargetRule(None, index=INDEX), execution=execution)).values
    exact = attention_rollout(problem_for(vit, x)).values
    for one, other in zip(rough, exact, strict=True):
        assert spearmanr(one.flatten(), other.flatten()).statistic > 0.99
    assert METHODS["attention_rollout"].bf16_safe


def test_networks_whose_parameters_are_not_frozen(vit, x):
    expected = gradient_attention(problem_for(vit, x)).values
    vit.requires_grad_(True)
    try:
        torch.testing.assert_close(gradient_attention(problem_for(vit, x)).values, expected)
        assert all(parameter.grad is None for parameter in vit.parameters())
    finally:
        vit.requires_grad_(False)


CNN = "it has no attention"
WINDOWS = "its windows are shifted and merged, so attention cannot be multiplied through"
OTHER = "only the attention of plain vision transformers and of Swin can be followed"


@pytest.mark.parametrize(
    ("name", "rollout", "gradient"),
    [
        ("plain_cnn", CNN, CNN),
        ("tf_efficientnetv2_s", CNN, CNN),
        ("convnextv2_atto", CNN, CNN),
        ("vit_tiny_patch16_224", None, None),
        ("deit_tiny_distilled_patch16_224", None, None),
        ("swin_tiny_patch4_window7_224", WINDOWS, None),
        ("swinv2_tiny_window8_256", OTHER, OTHER),
        ("vit_base_patch16_siglip_224", OTHER, OTHER),
        ("coatnet_0_rw_224", OTHER, OTHER),
    ],
)
def test_the_layout_decides_whether_it_works(name, rollout, gradient):
    with torch.device("meta"):
        model = build_backbone(name, num_outputs=1, channels=1, image_size=64)
    assert without_token_attention(model) == rollout
    assert without_attention(model) == gradient
    assert METHODS["attention_rollout"].obstacle(model) == rollout
    assert METHODS["gradient_attention"].obstacle(model) == gradient


def test_bad_options(vit, x):
    with pytest.raises(InvalidParameterError, match="'fusion' parameter of attention_rollout must be one of 'mean'"):
        attention_rollout(problem_for(vit, x), fusion="sum")
