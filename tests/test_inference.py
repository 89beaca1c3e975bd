"""The one place that runs models: mode, lock, batches, device."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from cxr_estimator.backbones import build_backbone
from cxr_estimator.errors import ImageError, InvalidParameterError
from cxr_estimator.images import as_images
from cxr_estimator.inference import (
    check_device,
    evaluating,
    forward,
    normalise,
    pixel_logits,
    predict_logits,
    unit_tensor,
)
from cxr_estimator.preprocessing import Preprocessing

CPU = torch.device("cpu")
PREPROCESSING = Preprocessing(32, mean=(0.25,), std=(0.5,))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return build_backbone("plain_cnn", num_outputs=1, channels=1, image_size=32)


@pytest.fixture
def X():
    return np.random.default_rng(0).integers(0, 256, (7, 40, 36), dtype=np.uint8)


def test_unit_tensor_and_normalise_by_hand():
    eight = unit_tensor(np.array([0, 51, 255], dtype=np.uint8).reshape(3, 1, 1, 1), CPU)
    sixteen = unit_tensor(np.array([0, 13107, 65535], dtype=np.uint16).reshape(3, 1, 1, 1), CPU)
    np.testing.assert_allclose(eight.flatten(), [0.0, 0.2, 1.0], rtol=1e-6)
    np.testing.assert_allclose(sixteen.flatten(), [0.0, 0.2, 1.0], rtol=1e-6)
    np.testing.assert_allclose(normalise(eight, PREPROCESSING).flatten(), [-0.5, -0.1, 1.5], rtol=1e-5)


def fail_while_evaluating(model):
    with evaluating(model):
        assert not any(module.training for module in model.modules())
        assert not any(parameter.requires_grad for parameter in model.parameters())
        raise KeyError


def test_evaluating_restores_modes_and_gradients_after_an_error(model):
    model.train()
    model.features[0].eval()
    model.head.weight.requires_grad_(False)
    before = [m.training for m in model.modules()], [p.requires_grad for p in model.parameters()]
    with pytest.raises(KeyError):
        fail_while_evaluating(model)
    assert before == ([m.training for m in model.modules()], [p.requires_grad for p in model.parameters()])


def test_evaluating_holds_others_back_but_not_itself(model):
    order = []

    def other():
        with evaluating(model):
            order.append("other")

    with evaluating(model), evaluating(model):  # the same thread may enter again
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "other"]


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_batches_do_not_change_the_result(model, X, batch_size):
    options = {"num_outputs": 1, "device": CPU}
    one = predict_logits(model, as_images(X), PREPROCESSING, batch_size=7, **options).values
    other = predict_logits(model, as_images(X), PREPROCESSING, batch_size=batch_size, n_jobs=2, **options).values
    np.testing.assert_allclose(other, one, atol=1e-5)


def test_pixel_logits_equal_a_plain_forward(model):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 1, 32, 32), dtype=np.uint8)
    model.eval()
    expected = model((torch.from_numpy(pixels).float() / 255 - 0.25) / 0.5).detach().numpy()
    got = pixel_logits(model, pixels, PREPROCESSING, batch_size=2, device=CPU)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_a_skipped_image_is_a_row_of_nan(model, X):
    images = as_images([X[0], np.full((8, 8), np.nan), X[1]])
    done = []
    options = {"num_outputs": 1, "batch_size": 2, "device": CPU, "progress": done.append}
    logits = predict_logits(model, images, PREPROCESSING, on_error="skip", **options)
    assert np.isnan(logits.values[:, 0]).tolist() == [False, True, False]
    assert [(item.position, item.source) for item in logits.skipped] == [(1, "X[1]")]
    assert sum(done) == 3
    with pytest.raises(ImageError, match=r"X\[1\]"):
        predict_logits(model, images, PREPROCESSING, **options)


def test_forward_keeps_no_graph(model):
    assert not forward(model, torch.randn(2, 1, 32, 32)).requires_grad


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "cpu:x", ""])
def test_unknown_device(device):
    with pytest.raises(InvalidParameterError, match="'device' parameter of here"):
        check_device(device, caller="here")


def test_known_devices():
    assert check_device("cpu", caller="here") == CPU
    assert check_device("auto", caller="here").type in ("cpu", "cuda")
