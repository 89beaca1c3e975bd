"""The one place that runs models: mode, lock, batches, device, precision, memory."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cxr_estimator import inference
from cxr_estimator.backbones import build_backbone
from cxr_estimator.errors import BatchSizeWarning, ImageError, InvalidParameterError, NotEnoughMemoryError
from cxr_estimator.images import as_images
from cxr_estimator.inference import (
    Execution,
    batches,
    check_device,
    check_precision,
    evaluating,
    forward,
    give_way,
    normalise,
    pixel_logits,
    predict_logits,
    unit_tensor,
)
from cxr_estimator.preprocessing import Preprocessing
from cxr_estimator.reading import Reading

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
    one = predict_logits(model, as_images(X), PREPROCESSING, Execution(CPU, 7), num_outputs=1).values
    how = Execution(CPU, batch_size), Reading(n_jobs=2)
    other = predict_logits(model, as_images(X), PREPROCESSING, *how, num_outputs=1).values
    np.testing.assert_allclose(other, one, atol=1e-5)


def test_pixel_logits_equal_a_plain_forward(model):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 1, 32, 32), dtype=np.uint8)
    model.eval()
    expected = model((torch.from_numpy(pixels).float() / 255 - 0.25) / 0.5).detach().numpy()
    got = pixel_logits(model, pixels, PREPROCESSING, Execution(CPU, 2))
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_a_skipped_image_is_a_row_of_nan(model, X):
    images = as_images([X[0], np.full((8, 8), np.nan), X[1]])
    done = []
    options = {"num_outputs": 1, "progress": done.append}
    logits = predict_logits(model, images, PREPROCESSING, Execution(CPU, 2), Reading("skip"), **options)
    assert np.isnan(logits.values[:, 0]).tolist() == [False, True, False]
    assert [(item.position, item.source) for item in logits.skipped] == [(1, "X[1]")]
    assert sum(done) == 3
    with pytest.raises(ImageError, match=r"X\[1\]"):
        predict_logits(model, images, PREPROCESSING, Execution(CPU, 2), **options)


def test_forward_keeps_no_graph(model):
    assert not forward(model, torch.randn(2, 1, 32, 32), Execution(CPU)).requires_grad


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "cpu:x", ""])
def test_unknown_device(device):
    with pytest.raises(InvalidParameterError, match="'device' parameter of here"):
        check_device(device, caller="here")


def test_known_devices():
    assert check_device("cpu", caller="here") == CPU
    assert check_device("auto", caller="here").type in ("cpu", "cuda")


# -- precision ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fpu sse avx2 avx512f", "float32"),
        ("fpu avx512_bf16", "bfloat16"),
        ("amx_bf16 fpu", "bfloat16"),
        ("", "float32"),
    ],
)
def test_auto_is_bfloat16_where_the_processor_has_it(monkeypatch, flags, expected):
    monkeypatch.setattr(inference, "_cpu_flags", lambda: frozenset(flags.split()))
    assert check_precision("auto", CPU, caller="here") == expected


def test_the_flags_are_those_of_this_processor():
    if Path("/proc/cpuinfo").exists() and "flags" in Path("/proc/cpuinfo").read_text():
        assert {"fpu", "sse2"} <= inference._cpu_flags()
    else:
        assert inference._cpu_flags() == frozenset()


@pytest.mark.parametrize("native", [True, False])
def test_auto_on_a_gpu(monkeypatch, native):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    expected = "bfloat16" if native else "float32"
    assert check_precision("auto", torch.device("cuda"), caller="here") == expected
    assert check_precision("auto", torch.device("mps"), caller="here") == "float32"


def test_a_named_precision_is_obeyed_and_a_wrong_one_refused():
    assert check_precision("bfloat16", CPU, caller="here") == "bfloat16"
    with pytest.raises(InvalidParameterError, match=r"'precision' parameter of here .*'float32'.* Did you mean"):
        check_precision("float23", CPU, caller="here")


def test_bfloat16_computes_in_bfloat16_and_gives_nearly_the_same(model):
    seen = []
    handle = model.head.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    x = torch.randn(8, 1, 32, 32)
    exact = torch.sigmoid(forward(model, x, Execution(CPU)))
    rough = forward(model, x, Execution(CPU, precision="bfloat16"))
    handle.remove()
    assert seen == [torch.float32, torch.bfloat16]
    assert rough.dtype == torch.float32
    assert (torch.sigmoid(rough) - exact).abs().max() < 0.01
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


# -- memory ------------------------------------------------------------------------------------------------------------


def too_large_above(model, size, error):
    """Let the model fail for batches above `size`."""

    def hook(module, inputs):
        if len(inputs[0]) > size:
            raise error

    model.register_forward_pre_hook(hook)


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("MPS backend out of memory"),
    MemoryError(),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: type(error).__name__)
def test_out_of_memory_halves_the_batch_and_says_so_once(model, X, error):
    expected = predict_logits(model, as_images(X), PREPROCESSING, Execution(CPU, 7), num_outputs=1).values
    too_large_above(model, 2, error)
    with pytest.warns(BatchSizeWarning) as said:
        found = predict_logits(model, as_images(X), PREPROCESSING, Execution(CPU, 6), num_outputs=1).values
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert [str(warning.message) for warning in said] == [
        "Out of memory: going on with batches of 3.",
        "Out of memory: going on with batches of 1.",
    ]


def test_not_even_one_image_fits(model, X):
    too_large_above(model, 0, torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.warns(BatchSizeWarning), pytest.raises(NotEnoughMemoryError, match="a smaller image_size"):
        predict_logits(model, as_images(X), PREPROCESSING, Execution(CPU, 2), num_outputs=1)


def test_another_error_is_not_taken_for_it(model, X):
    too_large_above(model, 2, RuntimeError("the shapes do not fit"))
    with pytest.raises(RuntimeError, match="shapes"):
        predict_logits(model, as_images(X), PREPROCESSING, Execution(CPU, 7), num_outputs=1)


def test_batches_by_hand():
    assert [(rows.start, rows.stop) for rows in batches(7, 3)] == [(0, 2), (2, 5), (5, 7)]
    assert [(rows.start, rows.stop) for rows in batches(6, 3)] == [(0, 3), (3, 6)]
    assert batches(0, 3) == []


@given(st.integers(1, 500), st.integers(1, 50), st.integers(1, 3))
def test_batches_cover_all_rows_evenly(size, batch_size, least):
    parts = batches(size, batch_size, least)
    lengths = [rows.stop - rows.start for rows in parts]
    assert [row for rows in parts for row in range(rows.start, rows.stop)] == list(range(size))
    assert max(lengths) - min(lengths) <= 1
    assert min(lengths) >= min(size, least)
    assert max(lengths) <= max(batch_size, 2 * least - 1)


def test_one_that_waits_goes_first_where_the_holder_gives_way(model):
    order, seen = [], []
    model.train()

    def other():
        with evaluating(model):
            order.append("other")
            seen.append([module.training for module in model.modules()])

    with evaluating(model), evaluating(model):
        thread = threading.Thread(target=other)
        thread.start()
        while not order:
            give_way(model)
        order.append("first")
        assert not any(parameter.requires_grad for parameter in model.parameters())
        thread.join()
    assert order == ["other", "first"]
    assert not any(seen[0])  # neither left it in training mode before the other was done
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
