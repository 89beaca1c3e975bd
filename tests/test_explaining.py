"""What `explain` does around the methods: lists, error bars, batches, progress, seeds."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from cxr_estimator.errors import (
    BackgroundWarning,
    BatchSizeWarning,
    DataError,
    InvalidParameterError,
    InvalidTypeError,
)
from cxr_estimator.explanation import Explanation


@pytest.fixture
def own(fitted):
    return copy.deepcopy(fitted)


def test_several_methods_give_a_dict_and_share_the_forward_pass(own, phantoms):
    names = ["grad_cam", "hi_res_cam", "layer_cam"]
    alone = {name: own.explain(phantoms.X[:5], method=name, layer="features.stage1").values for name in names}
    calls = []
    own.model_.features.register_forward_hook(lambda *_: calls.append(1))
    together = own.explain(phantoms.X[:5], method=names, layer="features.stage1")
    assert list(together) == names
    assert len(calls) == 1
    for name in names:
        assert together[name].method == name
        np.testing.assert_allclose(together[name].values, alone[name], atol=1e-6)
    assert together["grad_cam"].evaluations.tolist() == [1] * 5
    assert together["layer_cam"].evaluations.tolist() == [0] * 5  # shared with the first


def test_chunks_of_several_methods(fitted, phantoms):
    chunks = list(fitted.iter_explain(phantoms.X[:20], method=("grad_cam", "eigen_cam")))
    assert [len(chunk["eigen_cam"]) for chunk in chunks] == [16, 4]


def test_each_method_takes_the_options_it_knows(fitted, phantoms):
    found = fitted.explain(phantoms.X[:2], method=["grad_cam", "saliency"], layer="features.stage1")
    assert found["grad_cam"].layer == "features.stage1"
    assert "layer" not in found["saliency"].options
    with pytest.raises(InvalidParameterError, match="'options of grad_cam, saliency' parameter of explain must be one"):
        fitted.explain(phantoms.X[:2], method=["grad_cam", "saliency"], n_samples=3)
    with pytest.raises(InvalidParameterError, match="'options of saliency' parameter of explain must be empty"):
        fitted.explain(phantoms.X[:2], method="saliency", n_samples=3)


def test_options_say_all_that_was_done(fitted, phantoms):
    found = fitted.explain(phantoms.X[:1], method="occlusion", window=8, background=phantoms.X[:20])
    assert {"target": "predicted", "window": 8, "stride": None, "baseline": None}.items() <= found.options.items()
    other = fitted.explain(phantoms.X[:1], method="occlusion", window=8, background=phantoms.X[1:21])
    assert found.options["background"] != other.options["background"]
    assert "background" not in fitted.explain(phantoms.X[:1], method="occlusion", baseline="blur").options


@pytest.mark.parametrize("methods", [[], 3, None, ("grad_cam", 3)])
def test_methods_must_be_names(fitted, phantoms, methods):
    with pytest.raises((InvalidParameterError, InvalidTypeError), match="'method' parameter of explain"):
        fitted.explain(phantoms.X[:2], method=methods)


def test_error_bars_of_a_method_without_randomness(fitted, phantoms, tmp_path):
    plain = fitted.explain(phantoms.X[:3])
    found = fitted.explain(phantoms.X[:3], error_bars=True)
    assert plain.spread is None
    assert plain.seed is None
    assert found.spread.shape == found.values.shape
    assert (found.spread >= 0).all()
    assert (found.spread.max(axis=(1, 2)) > 0).all()
    assert found.seed == 0
    assert found.options["error_bars"] is True
    assert found.target.tolist() == plain.target.tolist()
    np.testing.assert_allclose(found.score, plain.score, atol=1e-5)  # of the image itself
    correlation = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(found.values, plain.values, strict=True)]
    assert min(correlation) > 0.9
    alone = fitted.explain(phantoms.X[1:2], error_bars=True)
    np.testing.assert_allclose(alone.values[0], found.values[1], rtol=1e-4, atol=1e-8)
    found.save(tmp_path / "map")
    np.testing.assert_array_equal(Explanation.load(tmp_path / "map").spread, found.spread)
    assert found[1:].spread.shape == (2, 32, 32)


def test_error_bars_of_a_random_method_are_over_seeds(fitted, phantoms):
    fitted = copy.copy(fitted).set_params(precision="float32")  # else the decision may be made in another one
    options = {"method": "smooth_grad", "n_samples": 4}
    seeds = [int(np.random.SeedSequence([0, number]).generate_state(1)[0]) for number in range(5)]
    runs = [fitted.explain(phantoms.X[:2], random_state=seed, **options).values for seed in seeds]
    found = fitted.explain(phantoms.X[:2], error_bars=True, random_state=0, **options)
    np.testing.assert_allclose(found.values, np.mean(runs, axis=0), rtol=1e-4)
    np.testing.assert_allclose(found.spread, np.std(runs, axis=0, ddof=1), rtol=1e-3, atol=1e-7)
    assert found.evaluations.tolist() == [21, 21]  # once more for the decision


def test_error_bars_of_neighbouring_seeds_are_independent(fitted, phantoms):
    bars = [
        fitted.explain(phantoms.X[:1], method="rise", n_masks=20, error_bars=True, random_state=seed).values.ravel()
        for seed in (0, 1, 7000)
    ]
    near, far = (np.corrcoef(bars[0], other)[0, 1] for other in bars[1:])
    assert abs(near - far) < 0.15


def test_error_bars_of_an_ensemble_of_methods_without_randomness(fitted, phantoms):
    found = fitted.explain(phantoms.X[:2], method="ensemble", methods=["grad_cam", "saliency"], error_bars=True)
    assert (found.spread.max(axis=(1, 2)) > 0).all()


def test_out_of_memory_is_found_once(own, phantoms):
    def hook(module, inputs):
        if len(inputs[0]) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")

    own.model_.register_forward_pre_hook(hook)
    with pytest.warns(BatchSizeWarning) as caught:
        own.explain(phantoms.X[:48], method="smooth_grad", n_samples=2)
    assert len(caught) <= 4  # 16, 8, 4, 2, in all three batches together


def test_all_methods_explain_the_class_that_predict_decides(own, phantoms):
    """Near the cut-off, where bfloat16 and float32 decide differently."""
    own.set_params(precision="bfloat16")
    own.set_threshold(float(np.median(own.predict_proba(phantoms.X[:20])[:, 1])))
    for parameter in own.model_.head.parameters():
        parameter.data *= 5
    found = own.explain(phantoms.X[:40], method=["grad_cam", "saliency"])
    predicted = own.predict(phantoms.X[:40])
    for explanation in found.values():
        assert explanation.target.tolist() == predicted.tolist()
        assert explanation.prediction.label.tolist() == predicted.tolist()


def test_progress_may_explain_too(own, phantoms):
    expected = own.explain(phantoms.X[:1], method="saliency").values
    within = []

    def progress(done, total):
        within.append(own.explain(phantoms.X[:1], method="saliency").values)

    own.explain(phantoms.X[:1], method="guided_backprop", progress=progress)
    assert all((values == expected).all() for values in within)


def test_the_seed_is_that_of_the_classifier_unless_given(own, phantoms):
    def values(**options):
        return own.explain(phantoms.X[:1], method="smooth_grad", n_samples=2, **options).values

    np.testing.assert_array_equal(values(), values(random_state=0))
    assert not np.array_equal(values(), values(random_state=1))
    explanation = own.set_params(random_state=None).explain(phantoms.X[:1], method="smooth_grad", n_samples=2)
    np.testing.assert_array_equal(explanation.values, values(random_state=explanation.seed))


@pytest.mark.parametrize("methods", ["grad_cam", "smooth_grad", ["grad_cam", "smooth_grad"]])
@pytest.mark.parametrize("error_bars", [False, True])
def test_progress_runs_from_nothing_to_all(fitted, phantoms, methods, error_bars):
    told = []
    options = {} if methods == "grad_cam" else {"n_samples": 4}
    fitted.explain(
        phantoms.X[:20], method=methods, error_bars=error_bars, progress=lambda *at: told.append(at), **options
    )
    done = [at[0] for at in told]
    assert {at[1] for at in told} == {20}
    assert done == sorted(done)
    assert done[-1] == pytest.approx(20)
    assert len(told) >= 2


def test_what_progress_raises_stops_the_work(own, phantoms):
    seen = []
    own.model_.features.register_forward_hook(lambda *_: seen.append(1))

    def stop(done, total):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        own.explain(phantoms.X, method="smooth_grad", n_samples=64, progress=stop)
    assert len(seen) <= 3
    own.predict_proba(phantoms.X[:2])  # the lock was given back


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("batch_size", 0),
        ("batch_size", "all"),
        ("batch_size", 2.5),
        ("random_state", -1),
        ("random_state", "x"),
        ("error_bars", 3),
        ("progress", 3),
    ],
)
def test_bad_parameters(fitted, phantoms, parameter, value):
    with pytest.raises((InvalidParameterError, InvalidTypeError), match=f"'{parameter}' parameter of explain"):
        fitted.explain(phantoms.X[:1], **{parameter: value})


@pytest.mark.parametrize(
    "X", [None, 5, (image for image in "ab"), np.array(5), {"a": 1}], ids=["None", "5", "generator", "0-d", "dict"]
)
def test_what_are_no_images_is_refused_as_predict_does_it(fitted, X):
    with pytest.raises((DataError, InvalidTypeError), match="X must") as expected:
        fitted.predict(X)
    with pytest.raises(type(expected.value)) as found:
        fitted.explain(X)
    assert str(found.value) == str(expected.value)


@pytest.mark.parametrize("function", ["explain", "iter_explain"])
def test_the_warning_of_the_background_points_to_the_caller(fitted, phantoms, function):
    normal = phantoms.X[fitted.predict(phantoms.X) == "NORMAL"][:4]
    with pytest.warns(BackgroundWarning) as found:
        getattr(fitted, function)(phantoms.X[:1], method="gradient_shap", background=normal, n_samples=2)
    assert [warning.filename for warning in found] == [__file__]


def test_empty(fitted, phantoms):
    with pytest.raises(DataError, match="X is empty"):
        fitted.explain(phantoms.X[:0])


@pytest.mark.parametrize("batch_size", [1, 3, "auto"])
def test_the_batch_size_does_not_change_the_map(own, phantoms, batch_size):
    sizes = []
    own.model_.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    found = own.explain(phantoms.X[:7], method="smooth_grad", n_samples=3, batch_size=batch_size)
    assert max(sizes) == (21 if batch_size == "auto" else batch_size)
    expected = own.explain(phantoms.X[:7], method="smooth_grad", n_samples=3)
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-3, atol=1e-6)
