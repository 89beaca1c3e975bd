"""Attention of transformers, followed from the layer before the head back to the patches.

A_b is what block b attends to, (heads, tokens, tokens): each row is a query and sums to 1. A row of relevance r over
the tokens goes from the last block to the first, r <- r M_b; that is the wanted row of the product M_B ... M_1, without
the product. The result, on the grid of patches, is resized bilinearly to the image. Values are >= 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cxr_estimator._validation import check_choice
from cxr_estimator.attribution._override import Override, Replacement
from cxr_estimator.attribution._problem import Problem
from cxr_estimator.attribution._types import Attribution
from cxr_estimator.attribution.cam import resized
from cxr_estimator.backbones import token_grid

_FUSIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda A: A.mean(dim=1),
    "max": lambda A: A.amax(dim=1),
    "min": lambda A: A.amin(dim=1),
}


def attention_rollout(problem: Problem, *, fusion: str = "mean") -> Attribution:
    """Multiply the attention of all blocks through, to see from which patches the class token has gathered.

    M_b = (fused A_b + I), each row divided by its sum  (section 3, with 0.5 A + 0.5 I for the mean). The row is that of
    the class token, or the mean of all rows for networks that pool the patches. The target plays no part.

    Parameters
    ----------
    fusion : {"mean", "max", "min"}
        How the heads become one; the paper has the mean.

    Use it for: a quick look at where information flows, in small transformers.

    Fails: it is the same for every class, and takes attention for relevance: what a value holds, and the layers
    between the attentions, are left out (Jain & Wallace 2019, doi:10.48550/arXiv.1902.10186).

    References
    ----------
    Abnar & Zuidema (2020), Quantifying attention flow in transformers, ACL, doi:10.18653/v1/2020.acl-main.385
    """
    check_choice("fusion", fusion, _FUSIONS, caller="attention_rollout")
    recorder = _Recorder(lambda A: _FUSIONS[fusion](A.detach().float()))
    with Override(recorder.replacements):
        problem.score_with_graph()
    row = _first_row(problem, recorder.found[-1])
    for A in reversed(recorder.found):
        M = A + torch.eye(A.shape[-1], device=A.device)
        row = row @ (M / M.sum(dim=-1, keepdim=True))
    return _attribution(problem, _on_grid(problem, row))


def gradient_attention(problem: Problem) -> Attribution:
    """Count attention only as far as more of it would raise the score, and follow that through all blocks.

    M_b = I + mean over heads of ReLU(A_b * d score / d A_b)  (eq. 5 and 6). The row starts at the class token, or
    uniformly where the network pools its tokens; what a patch started with is left out of the map, since it is the same
    for all and often a hundred times the rest. In Swin each window passes relevance on between its own tokens, and a
    merged token hands a quarter to each of its four; that is an extension of the paper.

    Use it for: transformers; it depends on the class, unlike rollout.

    Fails: evidence against the target is cut off, and so is what passes by the values and the dense layers alone.

    References
    ----------
    Chefer et al. (2021), Generic attention-model explainability, ICCV, doi:10.1109/ICCV48922.2021.00045
    """
    recorder = _Recorder(lambda A: A, begins_graph=True)
    with Override(recorder.replacements):
        score = problem.score_with_graph()
    gradients = torch.autograd.grad(score.sum(), recorder.found)
    found = [F.relu(A.detach().float() * g).mean(dim=1) for A, g in zip(recorder.found, gradients, strict=True)]
    follow = _through_windows if _is_swin(problem.model) else _through_tokens
    return _attribution(problem, follow(problem, found))


def without_attention(model: nn.Module) -> str | None:
    """Say why `gradient_attention` cannot follow the attention of a network, if so."""
    return None if _is_swin(model) else without_token_attention(model)


def without_token_attention(model: nn.Module) -> str | None:
    """Say why `attention_rollout` cannot multiply through the attention of a network, if so."""
    from timm.layers import Attention, AttentionRope
    from timm.models.vision_transformer import VisionTransformer

    if _is_swin(model):
        return "its windows are shifted and merged, so attention cannot be multiplied through"
    if not any("Attention" in type(module).__name__ for module in model.modules()):
        return "it has no attention"
    count = sum(isinstance(module, Attention | AttentionRope) for module in model.modules())
    if isinstance(model, VisionTransformer) and model.attn_pool is None and count == len(model.blocks):
        return None
    return "only the attention of plain vision transformers and of Swin can be followed"


def _is_swin(model: nn.Module) -> bool:
    from timm.models.swin_transformer import SwinTransformer

    return isinstance(model, SwinTransformer)


class _Recorder:
    """Takes down the attention of each block, in order, as `keep` returns it.

    The fused function never has it as a matrix, and is replaced by its definition. Where timm does without that
    function, the softmax over keys is the attention. With `begins_graph`, the graph begins at that of the first block.
    """

    def __init__(self, keep: Callable[[Tensor], Tensor], *, begins_graph: bool = False) -> None:
        self.found: list[Tensor] = []
        self.replacements: dict[str, Replacement] = {
            "scaled_dot_product_attention": self._attend,
            "softmax": self._softmax,
        }
        self._keep = keep
        self._begins_graph = begins_graph

    def _note(self, attention: Tensor) -> Tensor:
        if self._begins_graph and not attention.requires_grad:
            attention = attention.detach().requires_grad_()
        self.found.append(self._keep(attention))
        return attention

    def _attend(
        self,
        function: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
    ) -> Tensor:
        scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
        if is_causal:
            attn_mask = torch.ones_like(scores, dtype=torch.bool).tril()
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            scores = scores.masked_fill(~attn_mask, float("-inf"))
        elif attn_mask is not None:
            scores = scores + attn_mask
        return self._note(scores.softmax(dim=-1)) @ value

    def _softmax(self, function: Any, scores: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return self._note(function(scores, *args, **kwargs))


def _attribution(problem: Problem, relevance: Tensor) -> Attribution:
    """Return relevance on the grid of patches, (n, rows, columns), at the size of the image."""
    return Attribution(resized(relevance, problem.x.shape[2:]))


def _first_row(problem: Problem, attention: Tensor) -> Tensor:
    """Return the row (n, 1, tokens) of the class token, which comes first, or of the mean of the patches."""
    model: Any = problem.model
    row = torch.zeros_like(attention[:, :1])
    if model.global_pool == "token":
        row[:, :, 0] = 1.0
    else:
        row[:, :, model.num_prefix_tokens :] = 1.0 / (row.shape[2] - model.num_prefix_tokens)
    return row


def _on_grid(problem: Problem, row: Tensor) -> Tensor:
    model: Any = problem.model
    return row[:, 0, model.num_prefix_tokens :].unflatten(1, token_grid(model) or (-1,))


def _through_tokens(problem: Problem, attentions: Sequence[Tensor]) -> Tensor:
    start = _first_row(problem, attentions[-1])
    gained = torch.zeros_like(start)
    for attention in reversed(attentions):
        gained = gained + (start + gained) @ attention
    return _on_grid(problem, gained)


def _through_windows(problem: Problem, attentions: Sequence[Tensor]) -> Tensor:
    from timm.models.swin_transformer import PatchMerging, SwinTransformerBlock

    kinds = SwinTransformerBlock, PatchMerging
    layers: list[Any] = [layer for layer in problem.model.modules() if isinstance(layer, kinds)]
    rows, columns = layers[-1].input_resolution
    start = problem.x.new_full((len(problem), rows, columns), 1.0 / (rows * columns))
    gained = torch.zeros_like(start)
    left = list(attentions)
    for layer in reversed(layers):
        if isinstance(layer, PatchMerging):
            start, gained = (_unmerged(values) for values in (start, gained))
        else:
            rows, columns = layer.input_resolution  # an odd one was padded before it was merged
            start, gained = (values[:, :rows, :columns] for values in (start, gained))
            gained = gained + _within_windows(layer, start + gained, left.pop())
    return gained


def _unmerged(relevance: Tensor) -> Tensor:
    return relevance.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2) / 4


def _within_windows(block: Any, relevance: Tensor, attention: Tensor) -> Tensor:
    """Return what the queries (n, rows, columns) of a Swin block hand to its keys, which stand on the same grid."""
    from timm.models.swin_transformer import window_partition, window_reverse

    (rows, columns), (height, width), shift = relevance.shape[1:], block.window_size, block.shift_size
    queries = torch.roll(relevance, [-offset for offset in shift], dims=(1, 2))
    queries = F.pad(queries, (0, -columns % width, 0, -rows % height))
    keys = window_partition(queries[..., None], block.window_size).reshape(-1, 1, height * width) @ attention
    keys = window_reverse(keys.view(-1, height, width, 1), block.window_size, *queries.shape[1:])
    return torch.roll(keys[:, :rows, :columns, 0], tuple(shift), dims=(1, 2))
