"""How tests ask for each method."""

from __future__ import annotations

from cxr_estimator.attribution import METHODS

# What makes a method cheap enough to be tested everywhere: at most 32 evaluations of the network per image.
CHEAP: dict[str, dict] = {
    "gradient_shap": {"n_samples": 16},
    "kernel_shap": {"n_samples": 28, "n_segments": 9, "segmentation": "grid"},
    "partition_shap": {"n_evaluations": 30},
    "score_cam": {"channels": 16},
    "lime": {"n_samples": 24, "n_segments": 8},
    "occlusion": {"window": 16, "stride": 12},
    "superpixel_occlusion": {"n_segments": 16},
    "rise": {"n_masks": 24},
}
# The backbones on which a method need not work: the only gaps there may be.
_CNNS = "plain_cnn", "resnet18", "densenet121", "convnextv2_atto", "tf_efficientnetv2_s"
_TRANSFORMERS = "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"
GAPS: dict[str, tuple[str, ...]] = {
    "lrp": ("convnextv2_atto", "tf_efficientnetv2_s", *_TRANSFORMERS),
    "attention_rollout": (*_CNNS, "swin_tiny_patch4_window7_224"),
    "gradient_attention": _CNNS,
}


def explain(clf, X, method, *, background=None, **options):
    """Explain X with the options of `CHEAP`; the first images are the background of methods that need one."""
    if METHODS[method].needs_background:
        options["background"] = X[:4] if background is None else background
    return clf.explain(X, method=method, **{**CHEAP.get(method, {}), **options})
