"""timm's checkpoints, written by timm itself, and what timm makes of them."""

from __future__ import annotations

import json

import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_data_config
from timm.models import save_for_hf

NO_DEFAULT = {"interpolation": "bilinear", "crop_mode": "squash", "crop_pct": 1.0}


def logits_of_timm(folder, X):
    """What timm makes of images, from the files of a checkpoint to logits (N, K)."""
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    config = resolve_data_config({}, model=model)
    transform = create_transform(**config)
    mode = {1: "L", 3: "RGB"}[config["input_size"][0]]
    with torch.no_grad():
        return model(torch.stack([transform(Image.fromarray(x).convert(mode)) for x in X])).double()


def write_checkpoint(folder, X, name, num_classes, *, labels=None, in_chans=3, size=64, model_args=None, **data):
    """Write a checkpoint whose logits for X vary by about 1; the weights are drawn."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=num_classes, in_chans=in_chans, **(model_args or {}))
    size = 160 if "vit" in name else size  # these take no other size
    data = {**NO_DEFAULT, **data, "input_size": (in_chans, size, size), "mean": (0.4,), "std": (0.2,)}
    data = {key: value if key != "mean" and key != "std" else value * in_chans for key, value in data.items()}

    def save():
        save_for_hf(model, folder, model_config={"label_names": labels}, data_config=data, safe_serialization=True)

    save()
    logits = logits_of_timm(folder, X).float()
    head = model.get_classifier()
    with torch.no_grad():
        spread = logits.std(dim=0) + 1e-12
        head.weight /= spread.reshape(-1, *[1] * (head.weight.ndim - 1))
        head.bias.copy_((head.bias - logits.mean(dim=0)) / spread)
    save()
    return folder


def edit(folder, **changes):
    """Change values of config.json; None deletes one."""
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
