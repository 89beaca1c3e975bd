"""The contract that every row of METHODS keeps, on every kind of backbone."""

from __future__ import annotations

import copy
import json
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from cxr_estimator._explanation_check import SHOWS
from cxr_estimator.attribution import METHODS, SPEEDS
from cxr_estimator.errors import BatchSizeWarning, InvalidParameterError, InvalidTypeError, UnsupportedMethodError
from tests.attribution import swin  # noqa: F401 - registers small_swin
from tests.attribution.requests import GAPS, batch_tolerance, explain
from tests.conftest import small_classifier

pytestmark = pytest.mark.filterwarnings("ignore::cxr_estimator.errors.BackgroundWarning")

BACKBONES = (
    "plain_cnn",
    "resnet18",
    "densenet121",
    "convnextv2_atto",
    "tf_efficientnetv2_b0",
    "vit_tiny_patch16_224",
    "small_swin",
)


@pytest.fixture(scope="module", params=BACKBONES)
def classifier(request, phantoms):
    """An estimator with a network of each kind at 64 px; a single epoch is enough for the contract."""
    clf = small_classifier(
        backbone=request.param, image_size=64, max_epochs=1, learning_rate=1e-4, validation_fraction=0.0
    )
    return clf.fit(phantoms.X[:16], phantoms.y[:16], groups=phantoms.groups[:16])


@pytest.fixture(scope="module")
def fitted_vit(phantoms):
    """A small vision transformer, for methods that need attention."""
    clf = small_classifier(backbone="test_vit", max_epochs=1)
    return clf.fit(phantoms.X[:32], phantoms.y[:32], groups=phantoms.groups[:32])


@pytest.fixture(scope="module")
def three_classes_vit(three_classes):
    X, y, _ = three_classes
    clf = small_classifier(
        backbone="test_vit", channels=3, max_epochs=1, batch_size=12, pos_label=None, validation_fraction=0.1
    )
    return X, y, clf.fit(X, y, groups=np.arange(60))


@pytest.fixture
def fitted_for(method, fitted, fitted_vit):
    """A fitted network on which the method works."""
    return fitted_vit if "plain_cnn" in GAPS.get(method, ()) else fitted


@pytest.fixture
def three_classes_for(method, three_classes, three_classes_vit):
    return three_classes_vit if "plain_cnn" in GAPS.get(method, ()) else three_classes


def state_of(model):
    return (
        [(name, value.clone()) for name, value in model.state_dict().items()],
        [module.training for module in model.modules()],
        [parameter.requires_grad for parameter in model.parameters()],
        sum(len(module._forward_hooks) + len(module._backward_hooks) for module in model.modules()),
        [module.forward.__func__ for module in model.modules()],
    )


def fail(x):
    raise RuntimeError("boom")


def assert_same_state(one, other):
    assert all((a == b).all() for (_, a), (_, b) in zip(one[0], other[0], strict=True))
    assert one[1:] == other[1:]


@pytest.mark.parametrize("method", METHODS)
def test_contract(classifier, phantoms, method):
    X = phantoms.X[:3]
    if classifier.backbone in GAPS.get(method, ()):
        with pytest.raises(UnsupportedMethodError, match=rf"{method} does not work on .*Methods that do: .*grad_cam"):
            explain(classifier, X, method)
        return
    before, untouched = state_of(classifier.model_), X.copy()
    explanation = explain(classifier, X, method)
    values = explanation.values
    assert values.shape == (3, 64, 64)
    assert values.dtype == np.float32
    assert np.isfinite(values).all()
    assert (explanation.evaluations <= 32).all()
    varied = values.std(axis=(1, 2))
    if not (varied > 0).all():
        # a barely trained network may hold nothing for one class, but then it holds something for the other
        each = [explain(classifier, X, method, target=label, background=X) for label in ("NORMAL", "PNEUMONIA")]
        varied = np.maximum(*(one.values.std(axis=(1, 2)) for one in each))
    assert (varied > 0).all(), "a constant map says nothing"
    if not METHODS[method].signed:
        assert (values >= 0).all()
    assert explanation.method == method
    assert explanation.target.tolist() == classifier.predict(X).tolist()
    sign = np.where(explanation.target == "PNEUMONIA", 1, -1)
    np.testing.assert_allclose(explanation.score, sign * classifier.decision_function(X), atol=1e-4)
    alone = explain(classifier, X[2:3], method, background=X)
    differences, top = np.abs(alone.values[0] - values[2]), np.abs(values[2]).max()
    rounding = 8 * np.finfo(np.float32).eps  # of scores near 1, whose difference is what an occluded pixel holds
    assert differences.max() <= batch_tolerance(method) * top + rounding
    assert np.median(differences) <= 1e-3 * top
    again = explain(classifier, X[2:3], method, background=X)
    assert (again.values == alone.values).all()

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explain(classifier, X[:1], method, progress=stop, background=X)
    assert_same_state(before, state_of(classifier.model_))
    assert (untouched == X).all()


@pytest.mark.parametrize("method", METHODS)
def test_state_is_restored_after_an_error(fitted_for, phantoms, method, monkeypatch):
    before = state_of(fitted_for.model_)
    with monkeypatch.context() as patch:
        patch.setattr(fitted_for.model_.head, "forward", fail)
        with pytest.raises(RuntimeError, match="boom"):
            explain(fitted_for, phantoms.X[:2], method)
    assert_same_state(before, state_of(fitted_for.model_))


@pytest.mark.parametrize("method", METHODS)
def test_eight_threads_give_what_one_gives(fitted_for, phantoms, method):
    expected = [explain(fitted_for, phantoms.X[i : i + 2], method, background=phantoms.X[:4]).values for i in range(8)]
    got: dict[int, np.ndarray] = {}

    def work(i):
        got[i] = explain(fitted_for, phantoms.X[i : i + 2], method, background=phantoms.X[:4]).values
        fitted_for.predict_proba(phantoms.X[i : i + 2])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, values in enumerate(expected):
        np.testing.assert_allclose(got[i], values, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_where_memory_runs_out_batches_are_halved(fitted_for, phantoms, method):
    X = phantoms.X[:5]
    expected = explain(fitted_for, X, method, background=phantoms.X[:4])
    clf = copy.deepcopy(fitted_for)

    def hook(module, inputs):
        if len(inputs[0]) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")

    clf.model_.register_forward_pre_hook(hook)
    with pytest.warns(BatchSizeWarning, match="going on with batches of"):
        found = explain(clf, X, method, background=phantoms.X[:4])
    top = np.abs(expected.values).max()
    np.testing.assert_allclose(found.values, expected.values, atol=batch_tolerance(method) * top)
    assert found.image_ids == expected.image_ids


@pytest.mark.parametrize("method", METHODS)
def test_only_methods_that_bear_it_run_in_bfloat16(fitted_for, phantoms, method):
    exact = explain(fitted_for, phantoms.X[:6], method)
    clf = copy.deepcopy(fitted_for).set_params(precision="bfloat16")
    rough = explain(clf, phantoms.X[:6], method)
    assert rough.values.dtype == np.float32
    if METHODS[method].bf16_safe:
        assert spearmanr(exact.values.ravel(), rough.values.ravel()).statistic > 0.98
    else:
        np.testing.assert_array_equal(rough.values, exact.values)


def test_bfloat16_is_for_methods_that_were_measured_to_bear_it():
    results = Path(__file__).parents[2] / "benchmarks" / "results" / "bf16_maps.json"
    measured = json.loads(results.read_text())["correlations"]
    safe = {name for name, each in measured.items() if min(map(np.mean, each.values())) >= 0.99}
    assert {name for name, method in METHODS.items() if method.bf16_safe} == safe


@pytest.mark.parametrize("method", METHODS)
def test_error_bars_say_that_nothing_is_certain(fitted_for, phantoms, method):
    found = explain(fitted_for, phantoms.X[:2], method, target="PNEUMONIA", error_bars=True)
    assert found.spread.shape == found.values.shape
    assert np.isfinite(found.spread).all()
    assert (found.spread.max(axis=(1, 2)) > 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_several_classes_and_colour(three_classes_for, method):
    X, y, clf = three_classes_for
    explanation = explain(clf, X[:6], method, y=y[:6], target="true")
    assert explanation.values.shape == (6, clf.image_size, clf.image_size)
    assert explanation.target.tolist() == y[:6].tolist()
    rows = np.arange(6)
    np.testing.assert_allclose(
        explanation.score, clf.decision_function(X[:6])[rows, np.searchsorted(clf.classes_, y[:6])], atol=1e-4
    )
    margin = explain(clf, X[:2], method, target="margin")  # of the likeliest class against the rest
    assert np.isfinite(margin.values).all()
    proba = clf.predict_proba(X[:2]).max(axis=1)
    np.testing.assert_allclose(margin.score, np.log(proba / (1 - proba)), atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_binary_margin_map_is_the_map_of_the_decided_class(fitted_for, phantoms, method):
    margin = explain(fitted_for, phantoms.X[:6], method, target="margin")
    decided = explain(fitted_for, phantoms.X[:6], method, target="predicted")
    np.testing.assert_allclose(margin.values, decided.values, atol=1e-6)
    cutoff = fitted_for.operating_points_[fitted_for.active_point_].score
    sign = np.where(decided.target == "PNEUMONIA", 1, -1)
    np.testing.assert_allclose(margin.score, sign * (fitted_for.decision_function(phantoms.X[:6]) - cutoff), atol=1e-5)
    assert (margin.score >= 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_what_a_map_shows(fitted_for, phantoms, method):
    """Maps of features are the same for both classes; others are not, or hold the same magnitudes."""
    found = [explain(fitted_for, phantoms.X[:4], method, target=label) for label in ("NORMAL", "PNEUMONIA")]
    same = np.allclose(found[0].values, found[1].values, atol=1e-6)
    magnitudes = "saliency", "smooth_grad", "var_grad"  # the log-odds of one class are those of the other, negated
    assert same == (method in magnitudes or METHODS[method].shows == "features")
    assert {one.shows for one in found} == {METHODS[method].shows}


def test_unknown_method_and_option(fitted, phantoms):
    with pytest.raises(InvalidParameterError, match=r"one of 'grad_cam'.*Did you mean 'grad_cam'"):
        fitted.explain(phantoms.X[:1], method="gradcam")
    with pytest.raises(
        InvalidParameterError, match="'options of grad_cam' parameter of explain must be one of 'layer'"
    ):
        fitted.explain(phantoms.X[:1], layr="features")
    with pytest.raises(InvalidParameterError, match="'layer' parameter of PlainCNN"):
        fitted.explain(phantoms.X[:1], layer="nowhere")
    with pytest.raises(InvalidParameterError, match="with a spatial map"):
        fitted.explain(phantoms.X[:1], layer="head")


@pytest.mark.parametrize(
    ("methods", "error", "said"),
    [
        (5, InvalidTypeError, "'methods' parameter of ensemble must be a list of two methods at least. Got 5"),
        (None, InvalidTypeError, "'methods' parameter of ensemble"),
        ("grad_cam", InvalidTypeError, "'methods' parameter of ensemble"),
        (["grad_cam"], InvalidParameterError, "a list of two methods at least"),
        (["grad_cam", ["saliency"]], InvalidParameterError, "'methods' parameter of ensemble must be one of"),
        (["grad_cam", "ensemble"], InvalidParameterError, "'methods' parameter of ensemble must be one of"),
        (["grad_cam", "saliency", "grad_cam"], InvalidParameterError, "without duplicates"),
    ],
)
def test_methods_of_an_ensemble(fitted, phantoms, methods, error, said):
    with pytest.raises(error, match=said):
        fitted.explain(phantoms.X[:1], method="ensemble", methods=methods)


@pytest.mark.parametrize(
    ("method", "option", "values"),
    [
        ("integrated_gradients", "n_steps", (10**30, 100_001)),
        ("smooth_grad", "n_samples", (10**30,)),
        ("var_grad", "n_samples", (10**30,)),
        ("kernel_shap", "n_samples", (10**13,)),
        ("lime", "n_samples", (10**13, 10**30)),
        ("lime", "n_runs", (10**13,)),
        ("lime", "kernel_width", (1e-200, 1e300, 0.001, 101)),
        ("rise", "n_masks", (10**13, 10**30)),
        ("rise", "p", (1e-300, 0.001, 0.999)),
        ("lrp", "beta", (1e38, 101)),
        ("lrp", "gamma", (1e38,)),
        ("lrp", "epsilon", (1e-50, 1e38)),
    ],
)
def test_numbers_without_a_sensible_map_are_refused(fitted, phantoms, method, option, values):
    for value in values:
        with pytest.raises(InvalidParameterError, match=f"'{option}' parameter of {method} must be .* >= .* and <= "):
            fitted.explain(phantoms.X[:1], method=method, **{option: value})


def test_table_entries_are_complete():
    for method in METHODS.values():
        assert method.shows in SHOWS
        assert method.shows == "evidence" or not (method.signed or method.complete)
        assert "References" in method.function.__doc__
        assert "doi:" in method.function.__doc__


@pytest.mark.parametrize("method", METHODS)
def test_speed_tells_how_often_the_network_runs_by_default(fitted_for, phantoms, method):
    background = {"background": phantoms.X[:4]} if METHODS[method].needs_background else {}
    evaluations = fitted_for.explain(phantoms.X[:1], method=method, **background).evaluations[0]
    most = SPEEDS[METHODS[method].speed]
    assert most is None or evaluations <= most
