"""How tests ask for each method."""

from __future__ import annotations

from cxr_estimator.attribution import METHODS

# What makes a method cheap enough to be tested everywhere: at most 32 evaluations of the network per image.
CHEAP: dict[str, dict] = {
    "score_cam": {"channels": 4},
    "smooth_grad": {"n_samples": 3},
    "var_grad": {"n_samples": 3},
    "integrated_gradients": {"n_steps": 4},
    "gradient_shap": {"n_samples": 4},
    "partition_shap": {"n_evaluations": 16},
    "kernel_shap": {"n_samples": 14, "n_segments": 6, "segmentation": "grid"},
    "lime": {"n_samples": 12, "n_segments": 6},
    "occlusion": {"window": 16, "stride": 16},
    "superpixel_occlusion": {"n_segments": 9},
    "rise": {"n_masks": 10},
    "ensemble": {"methods": ["grad_cam", "saliency"]},
}
# The backbones on which a method need not work: the only gaps there may be.
_CNNS = "plain_cnn", "resnet18", "densenet121", "convnextv2_atto", "tf_efficientnetv2_b0"
_TRANSFORMERS = "vit_tiny_patch16_224", "small_swin"
_WITHOUT_RELU = "convnextv2_atto", "tf_efficientnetv2_b0", *_TRANSFORMERS
GAPS: dict[str, tuple[str, ...]] = {
    "guided_backprop": _WITHOUT_RELU,
    "guided_grad_cam": _WITHOUT_RELU,
    "lrp": _WITHOUT_RELU,
    "attention_rollout": (*_CNNS, "small_swin"),
    "gradient_attention": _CNNS,
}


def batch_tolerance(method):
    """Return how far a map may depend on the images beside it, as a share of its largest value.

    One of a million ReLUs may find an input of 0 up to rounding, which differs with the size of the batch. That moves a
    gradient with respect to the pixels by up to 1% (seen on densenet121), whereas in float64 nothing moves.
    """
    return 0.05 if METHODS[method].family in ("gradient", "combination") else 2e-4


def explain(clf, X, method, *, background=None, **options):
    """Explain X with the options of `CHEAP`; the first images are the background of methods that need one."""
    if METHODS[method].needs_background:
        options["background"] = X[:4] if background is None else background
    return clf.explain(X, method=method, **{**CHEAP.get(method, {}), **options})
