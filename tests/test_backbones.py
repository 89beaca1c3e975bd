"""Networks and their layers."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import socket
import subprocess
import sys
import threading

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from cxr_estimator.backbones import (
    build_backbone,
    capture,
    default_cam_layer,
    named_layer,
    normalisation,
    to_grid,
    token_grid,
)
from cxr_estimator.errors import InvalidParameterError, WeightsError


def build(name, **changes):
    return build_backbone(name, **{"num_outputs": 1, "channels": 1, "image_size": 64, **changes}).eval()


@pytest.mark.parametrize("size", [16, 28, 64, 224])
def test_plain_cnn_leaves_a_map_of_about_eight(size):
    model = build("plain_cnn", image_size=size, num_outputs=3, channels=3)
    x = torch.randn(2, 3, size, size)
    assert model(x).shape == (2, 3)
    assert 4 <= model.features(x).shape[-1] <= 8


def test_every_relu_of_plain_cnn_is_its_own_and_out_of_place():
    modules = [module for module in build("plain_cnn").modules() if isinstance(module, nn.ReLU)]
    assert len(modules) == len({id(module) for module in modules}) == 6
    assert not any(module.inplace for module in modules)


@pytest.mark.parametrize(
    ("name", "layer", "grid"),
    [
        ("plain_cnn", "features", (8, 8)),
        ("resnet18", "layer4", (2, 2)),
        ("densenet121", "features", (2, 2)),
        ("convnextv2_atto", "stages", (2, 2)),
        ("tf_efficientnetv2_s", "bn2", (2, 2)),
        ("mobilenetv3_small_100", "blocks", (2, 2)),
        ("vit_tiny_patch16_224", "blocks.11.norm1", (4, 4)),
        ("swin_tiny_patch4_window7_224", "norm", (2, 2)),
    ],
)
def test_default_cam_layer(name, layer, grid):
    model, x = build(name), torch.randn(1, 1, 64, 64)
    assert default_cam_layer(model, x) == layer
    with torch.enable_grad(), capture(model, layer) as captured:
        logits = model(x)
    activation = to_grid(model, captured[layer])
    assert activation.shape[0] == 1
    assert activation.shape[2:] == grid
    (gradient,) = torch.autograd.grad(logits.sum(), captured[layer])
    assert to_grid(model, gradient).abs().max() > 0


def test_the_layer_moves_up_where_the_last_map_is_one_pixel():
    model = build("resnet18", image_size=32)
    assert default_cam_layer(model, torch.randn(1, 1, 32, 32)) == "layer3"


def test_tokens_are_laid_out_row_by_row():
    model = build("vit_tiny_patch16_224")
    assert token_grid(model) == (4, 4)
    tokens = torch.arange(17.0).view(1, 17, 1).expand(1, 17, 192)
    assert to_grid(model, tokens)[0, 0].tolist() == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12], [13, 14, 15, 16]]


def test_capture_leaves_no_hook_even_after_an_error():
    model = build("plain_cnn")
    with pytest.raises(RuntimeError, match="stop"), capture(model, "features"):
        raise RuntimeError("stop")
    assert not any(module._forward_hooks for module in model.modules())


def test_in_place_layers_behind_the_captured_one():
    head = (nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 1))
    model = nn.Sequential(nn.Conv2d(1, 2, 3), *head)
    with capture(model, "0") as captured:
        out = model(torch.randn(1, 1, 8, 8))
    assert torch.autograd.grad(out.sum(), captured["0"])[0].shape == (1, 2, 6, 6)


def test_the_graph_starts_at_the_first_of_several_layers_and_reaches_all():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True), nn.Conv2d(2, 2, 3), nn.Flatten(), nn.Linear(32, 1))
    x = torch.randn(1, 1, 8, 8, requires_grad=True)
    with capture(model, "2", "0") as captured:
        out = model(x).sum()
    assert captured.keys() == {"0", "2"}
    assert captured["0"].is_leaf
    early, late = torch.autograd.grad(out, [captured["0"], captured["2"]], retain_graph=True)
    assert torch.equal(late.flatten(), model[4].weight.flatten())
    expected = torch.nn.functional.conv_transpose2d(late, model[2].weight) * (captured["0"] > 0)
    torch.testing.assert_close(early, expected)
    with pytest.raises(RuntimeError, match="not have been used"):
        torch.autograd.grad(out, x)


def test_normalisation():
    assert normalisation(build("plain_cnn"), 1) == ((0.5,), (0.25,))
    mean, std = normalisation(build("resnet18"), 1)
    assert mean[0] == pytest.approx((0.485 + 0.456 + 0.406) / 3)
    assert std[0] == pytest.approx((0.229 + 0.224 + 0.225) / 3)
    assert normalisation(build("resnet18", channels=3), 3)[0] == (0.485, 0.456, 0.406)


def test_unknown_backbone_suggests_the_nearest():
    with pytest.raises(InvalidParameterError, match=r"Did you mean .*'resnet18'"):
        build("resnet_18")
    with pytest.raises(InvalidParameterError, match="'backbone' parameter"):
        build(18)


def test_unknown_layer_suggests_the_nearest():
    with pytest.raises(InvalidParameterError, match="'layer4'"):
        named_layer(build("resnet18"), "layer5")


@pytest.mark.parametrize("pretrained", ["weights.pth", 3, None, "bundle"])
def test_pretrained_must_be_safetensors(pretrained):
    with pytest.raises(InvalidParameterError, match="safetensors"):
        build("resnet18", pretrained=pretrained)


@pytest.mark.parametrize("pretrained", [True, "x.safetensors"])
def test_plain_cnn_has_no_pretrained_weights(pretrained):
    with pytest.raises(InvalidParameterError, match="False or 'bundled' for 'plain_cnn'"):
        build("plain_cnn", pretrained=pretrained)


def test_pretrained_from_a_local_file(tmp_path):
    source = timm.create_model("resnet10t", num_classes=1000, in_chans=3)
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    model = build("resnet10t", pretrained=tmp_path / "weights.safetensors")
    assert torch.equal(model.layer4[0].conv1.weight, source.layer4[0].conv1.weight)
    grey = source.conv1[0].weight.sum(dim=1, keepdim=True)  # timm sums the input weights, for grey in three channels
    assert torch.allclose(model.conv1[0].weight, grey)
    assert model.fc.weight.shape == (1, 512)


def test_pretrained_file_that_is_missing_or_does_not_fit(tmp_path):
    with pytest.raises(WeightsError, match="there is no such weights file"):
        build("resnet18", pretrained=tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"nonsense")
    with pytest.raises(WeightsError, match=r"bad\.safetensors: these weights cannot be loaded"):
        build("resnet18", pretrained=tmp_path / "bad.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="are not of 'resnet18': only 0 of its 122"):
        build("resnet18", pretrained=tmp_path / "other.safetensors")


def test_dropout_of_a_network():
    assert build("plain_cnn").dropout.p == 0.1
    assert build("plain_cnn", dropout=0.4).dropout.p == 0.4
    assert build("resnet10t").drop_rate == 0.0
    assert build("resnet10t", dropout=0.4).drop_rate == 0.4
    assert build("densenet121", dropout=0.4).head_drop.p == 0.4


def test_a_family_that_takes_no_dropout(monkeypatch):
    def without(name, **options):
        if "drop_rate" in options:
            raise TypeError("Other.__init__() got an unexpected keyword argument 'drop_rate'")
        raise TypeError("something else")

    monkeypatch.setattr(timm, "create_model", without)
    with pytest.raises(InvalidParameterError, match=r"'dropout' parameter .* must be None for 'resnet18'"):
        build("resnet18", dropout=0.2)
    with pytest.raises(TypeError, match="something else"):
        build("resnet18")


# -- pretrained=True: the real Hub client, in a process of its own, against a local server that comes and goes

BUILD = """
import sys, time
time.sleep = lambda seconds: None  # between the library's retries
from cxr_estimator.backbones import build_backbone
from cxr_estimator.errors import WeightsError
for line in sys.stdin:
    try:
        model = build_backbone("resnet10t", num_outputs=1, channels=3, image_size=64, pretrained=True)
        print("sum", model.layer4[0].conv1.weight.sum().item(), flush=True)
    except WeightsError as error:
        print("WeightsError", " ".join(str(error).split()), flush=True)
"""


@contextlib.contextmanager
def building(endpoint: str, home):
    """Yield a function that lets that process build the network and returns what it said."""
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    environment |= {"HF_HUB_DOWNLOAD_TIMEOUT": "2", "HF_HUB_ETAG_TIMEOUT": "2", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    command, pipes = [sys.executable, "-c", BUILD], {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:

        def build() -> str:
            process.stdin.write("build\n")
            process.stdin.flush()
            return process.stdout.readline()

        yield build
        process.stdin.close()
        assert process.wait(timeout=60) == 0


class WeightsHandler(http.server.BaseHTTPRequestHandler):
    """Serves one file, model.safetensors, as a Hub does."""

    content = b""

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body):
        found = self.path.split("?")[0].endswith("/model.safetensors")
        body = self.content if found else json.dumps({"error": "Entry not found"}).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("ETag", '"weights"')
        if not found:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *arguments):
        pass


def test_pretrained_needs_a_hub_once(tmp_path):
    """Without a network the message says what to do; what was downloaded is there when the network is gone again."""
    source = timm.create_model("resnet10t")
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    expected = pytest.approx(source.layer4[0].conv1.weight.sum().item(), rel=1e-4)
    WeightsHandler.content = (tmp_path / "weights.safetensors").read_bytes()
    with socket.socket() as closed:  # bound and not listening: whoever connects is refused
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        with building(f"http://127.0.0.1:{port}", tmp_path / "home") as build:
            said = build()
            assert said.startswith("WeightsError The pretrained weights of 'resnet10t' could not be downloaded")
            assert "pretrained=False" in said
            assert "HF_HOME" in said
            closed.close()
            with http.server.ThreadingHTTPServer(("127.0.0.1", port), WeightsHandler) as server:
                threading.Thread(target=server.serve_forever, daemon=True).start()
                assert float(build().split()[1]) == expected
                server.shutdown()
            assert float(build().split()[1]) == expected
