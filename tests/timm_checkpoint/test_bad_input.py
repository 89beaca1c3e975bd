"""Checkpoints that are damaged, hostile or of others."""

from __future__ import annotations

import json
import resource

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.models import save_for_hf

from cxr_estimator import CXRClassifier
from cxr_estimator._timm_checkpoint import read
from cxr_estimator.errors import ModelFolderError
from cxr_estimator.serialization import is_timm
from tests.timm_checkpoint.writing import edit


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"architecture": "resnet18", "pretrained_cfg": {}}, True),
        ({"architecture": "resnet18", "num_classes": 2}, True),
        ({"architectures": ["ViTForImageClassification"], "model_type": "vit"}, False),
        ({"architecture": "resnet18", "model_type": "timm_wrapper"}, False),
        ({"format": "cxr_estimator", "architecture": "resnet18"}, False),
        ({}, False),
    ],
)
def test_what_is_timms(config, expected):
    assert is_timm(config) is expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": None, "model_type": "vit"}, "found {'model_type': 'vit'}, expected the 'architecture'"),
        ({"architecture": "resnet19"}, "Did you mean 'resnet18'"),
        ({"architecture": ["resnet18"]}, "backbone"),
        ({"architecture": "plain_cnn"}, "no architecture of timm"),
        ({"architecture": "hf-hub:user/model"}, "backbone"),
        ({"architecture": "test_convnext"}, "weights do not fit"),
        ({"num_classes": 4, "label_names": None}, "weights do not fit"),
        ({"num_classes": None, "pretrained_cfg": {}}, "'num_classes' .* must be an integer"),
        ({"num_classes": 0}, "'num_classes' .* >= 1"),
        ({"num_classes": 10**12}, "'num_classes' .* <= 100000"),
        ({"label_names": ["a", "b"]}, "must be 3 different texts for 3 logit"),
        ({"label_names": ["a", "b", "a"]}, "must be 3 different texts"),
        ({"label_names": ["a", "b", 3]}, "must be 3 different texts"),
        ({"label_names": "abc"}, "must be 3 different texts"),
        ({"label_names": {"0": "a", "1": "b", "5": "c"}}, "must be 3 different texts"),
        ({"model_args": {"output_stride": 8}}, "that make another network .* {'output_stride': 8}"),
        ({"model_args": {"global_pool": "max"}}, "{'global_pool': 'max'}"),
        ({"model_args": {"img_size": 64}}, "{'img_size': 64}"),
        ({"model_args": {"img_size": 6.4}}, "not a valid configuration"),
        ({"model_args": [1]}, "not a valid configuration"),
        ({"pretrained_cfg": 3}, "not a valid configuration"),
    ],
    ids=str,
)
def test_bad_configurations(checkpoint, changes, message):
    edit(checkpoint, **changes)
    with pytest.raises(ModelFolderError, match=message) as caught:
        read(CXRClassifier, checkpoint, "cpu")
    assert str(caught.value).startswith(str(checkpoint))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"input_size": [1, 32, 64]}, "must be a square"),
        ({"input_size": [1, 10**9, 10**9]}, "'image_size' .* <= 4096"),
        ({"input_size": 32}, "not a valid configuration"),
        ({"crop_mode": "random"}, "'crop_mode' must be one of"),
        ({"crop_pct": 1.2}, "'crop_pct' .* <= 1"),
        ({"interpolation": "nearest"}, "'interpolation' .* one of 'bilinear'"),
        ({"mean": ["black"]}, "not a valid configuration"),
        ({"std": [0.0]}, "'std' .* > 0"),
        ({"first_conv": None, "input_size": [2, 32, 32]}, "'channels' .* one of 1, 3"),
    ],
    ids=str,
)
def test_bad_settings(checkpoint, settings, message):
    old = json.loads((checkpoint / "config.json").read_text())["pretrained_cfg"]
    edit(checkpoint, pretrained_cfg={**old, **settings})
    with pytest.raises(ModelFolderError, match=message):
        read(CXRClassifier, checkpoint, "cpu")


def test_arguments_that_change_nothing_are_accepted(checkpoint):
    edit(checkpoint, model_args={"in_chans": 1, "drop_rate": 0.3, "drop_path_rate": 0.1, "img_size": None})
    assert read(CXRClassifier, checkpoint, "cpu").backbone == "test_resnet"


def test_pickles_are_not_read(checkpoint):
    (checkpoint / "model.safetensors").rename(checkpoint / "pytorch_model.bin")
    with pytest.raises(ModelFolderError, match="pickles, which can run code and are not read"):
        read(CXRClassifier, checkpoint, "cpu")


def test_damaged_weights(checkpoint):
    path = checkpoint / "model.safetensors"
    state = load_file(path)
    state["fc.bias"] = state["fc.bias"] * torch.nan
    content = path.read_bytes()
    path.unlink()
    save_file(state, path)
    with pytest.raises(ModelFolderError, match=r"'fc\.bias' holds NaN"):
        read(CXRClassifier, checkpoint, "cpu")
    path.write_bytes(content[:1000])
    with pytest.raises(ModelFolderError, match="damaged"):
        read(CXRClassifier, checkpoint, "cpu")


def test_a_giant_network_is_refused_before_it_takes_memory(checkpoint):
    edit(checkpoint, architecture="vit_giant_patch14_dinov2", model_args=None)  # 4.5 GB
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelFolderError, match="the weights do not fit"):
        read(CXRClassifier, checkpoint, "cpu")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB on Linux, and less elsewhere


def test_two_heads_are_no_linear_layer(tmp_path):
    torch.manual_seed(0)
    model = timm.create_model("deit_tiny_distilled_patch16_224", num_classes=2)
    save_for_hf(model, tmp_path, safe_serialization=True)
    with pytest.raises(ModelFolderError, match="the last layer of the network is tuple, not one linear layer"):
        read(CXRClassifier, tmp_path, "cpu")
