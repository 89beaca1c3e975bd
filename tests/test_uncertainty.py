"""Uncertainty from several answers to the same image."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit
from scipy.stats import entropy
from sklearn.exceptions import NotFittedError
from torch import nn

from cxr_estimator import CXREnsemble
from cxr_estimator._outputs import Task
from cxr_estimator._sampling import _Dropping, _generators, _with_dropout
from cxr_estimator.backbones import build_backbone
from cxr_estimator.errors import InvalidParameterError, InvalidTypeError, SkippedImagesWarning, UnsupportedMethodError
from cxr_estimator.uncertainty import SAMPLERS, Uncertainty
from tests.conftest import small_classifier

ONE_NETWORK = [name for name in SAMPLERS if name != "ensemble"]


def ids(count):
    return [f"{number:064x}" for number in range(1, count + 1)]


def dropped_logits(model, x, seed=0, n_samples=3, names=None):
    with torch.no_grad():
        draw = _with_dropout(model, x, names or ids(len(x)), seed)
        return torch.stack([draw(number) for number in range(n_samples)])


# -- the numbers


def test_numbers_by_hand():
    samples = np.array([[[0.9, 0.1], [0.5, 0.5]], [[0.5, 0.5], [0.5, 0.5]]])
    found = Uncertainty.of(samples, Task.BINARY, method="mc_dropout", seed=3)
    np.testing.assert_allclose(found.proba, [[0.7, 0.3], [0.5, 0.5]])
    np.testing.assert_allclose(found.std, [[0.2, 0.2], [0.0, 0.0]], atol=1e-15)
    total = -0.7 * np.log(0.7) - 0.3 * np.log(0.3)
    within = (-0.9 * np.log(0.9) - 0.1 * np.log(0.1) + np.log(2)) / 2
    np.testing.assert_allclose(found.entropy, [total, np.log(2)])
    np.testing.assert_allclose(found.expected_entropy, [within, np.log(2)])
    np.testing.assert_allclose(found.mutual_information, [total - within, 0.0], atol=1e-15)
    assert (found.method, found.seed) == ("mc_dropout", 3)


def test_labels_have_an_entropy_each():
    found = Uncertainty.of(np.array([[[0.5, 1.0, 0.2]]]), Task.MULTILABEL, method="mc_dropout", seed=0)
    np.testing.assert_allclose(found.entropy, [[np.log(2), 0.0, entropy([0.2, 0.8])]])
    np.testing.assert_array_equal(found.mutual_information, np.zeros((1, 3)))


@given(logits=arrays(np.float64, (4, 3, 5), elements=st.floats(-30, 30)))
@settings(deadline=None)
def test_the_parts_of_the_entropy(logits):
    samples = np.exp(logits - logits.max(axis=2, keepdims=True))
    samples /= samples.sum(axis=2, keepdims=True)
    found = Uncertainty.of(samples, Task.MULTICLASS, method="mc_dropout", seed=0)
    np.testing.assert_allclose(found.entropy, entropy(samples.mean(axis=0), axis=1), atol=1e-9)
    assert (found.mutual_information >= 0).all()
    assert (found.expected_entropy <= found.entropy + 1e-9).all()
    assert (found.entropy <= np.log(5) + 1e-9).all()
    divergence = entropy(samples, found.proba[None], axis=2).mean(axis=0)  # the other way to write it
    np.testing.assert_allclose(found.mutual_information, divergence, atol=1e-9)


# -- dropout


class Head(nn.Module):
    """Dropout and one linear layer, whose output under dropout has a mean and a variance that are known."""

    def __init__(self, p=0.4):
        super().__init__()
        self.drop, self.linear = nn.Dropout(p), nn.Linear(6, 1)

    def forward_features(self, x):
        return x

    def forward_head(self, x):
        return self.linear(self.drop(x))

    def forward(self, x):
        return self.forward_head(self.forward_features(x))


def test_mean_and_variance_of_a_linear_head():
    model, x, p = Head(0.4).eval(), torch.randn(2, 6, generator=torch.Generator().manual_seed(1)), 0.4
    found = dropped_logits(model, x, n_samples=4000)[..., 0].double()
    weight = model.linear.weight.detach()[0]
    variance = (p / (1 - p) * (weight * x) ** 2).sum(dim=1)
    error = (variance / 4000).sqrt()
    assert ((found.mean(dim=0) - model(x)[:, 0].detach()).abs() < 4 * error).all()
    np.testing.assert_allclose(found.var(dim=0), variance, rtol=0.12)


@pytest.mark.parametrize(("function", "shape"), [(F.dropout2d, (3, 5, 4, 4)), (F.dropout1d, (3, 5, 7))])
def test_whole_channels_are_left_out(function, shape):
    with _Dropping(_generators(0, ids(3), 0)) as mode:
        found = function(torch.ones(shape), 0.5, training=False)
    each = found.flatten(2)
    assert mode.count == 1
    assert set(each.unique().tolist()) == {0.0, 2.0}
    assert (each == each[..., :1]).all()


def test_dropout_of_zero_does_not_count():
    with _Dropping(_generators(0, ids(3), 0)) as mode:
        assert torch.equal(F.dropout(torch.ones(3, 4), 0.0, training=False), torch.ones(3, 4))
    assert mode.count == 0


def test_each_image_has_its_own_masks():
    model = Head().eval()
    x = torch.randn(4, 6)
    whole = dropped_logits(model, x)
    names = ids(4)
    order = [2, 0, 3, 1]
    shuffled = dropped_logits(model, x[order], names=[names[row] for row in order])
    assert torch.allclose(shuffled, whole[:, order], atol=1e-6)
    assert torch.allclose(dropped_logits(model, x[2:3], names=names[2:3]), whole[:, 2:3], atol=1e-6)
    assert not torch.allclose(dropped_logits(model, x, seed=1), whole)
    assert not torch.allclose(whole[0], whole[1])


@pytest.mark.parametrize(
    "name",
    [
        "plain_cnn", "resnet10t", "densenet121", "efficientnet_b0", "mobilenetv3_small_050", "convnext_atto",
        "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224",
    ],
)  # fmt: skip
def test_backbones_drop_before_their_last_layer(name):
    model = build_backbone(name, num_outputs=2, channels=1, image_size=64, dropout=0.3).eval()
    x = torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    modes = [module.training for module in model.modules()]
    state = {key: value.clone() for key, value in model.state_dict().items()}
    passes = []
    hook = model.register_forward_hook(lambda *_: passes.append(1))
    found = dropped_logits(model, x)
    hook.remove()
    assert not passes  # only the head was run again
    for number, logits in enumerate(found):
        with torch.no_grad(), _Dropping(_generators(0, ids(2), number)) as mode:
            expected = model(x)
        assert mode.count == 1
        assert torch.allclose(logits, expected, atol=1e-5)
    assert found.std(dim=0).min() > 0
    assert modes == [module.training for module in model.modules()]
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_dropout_within_the_features_takes_whole_passes():
    class Early(Head):
        def forward_features(self, x):
            return self.linear.weight * F.dropout(x, 0.5, self.training)

        def forward_head(self, x):
            return x.sum(dim=1, keepdim=True)

    model, x = Early().eval(), torch.randn(2, 6)
    found = dropped_logits(model, x)
    assert found.std(dim=0).min() > 0
    assert torch.allclose(model(x), model(x))  # dropout is off again


def test_dropout_of_what_images_share_is_refused():
    class Shared(Head):
        def forward_features(self, x):
            return x + self.drop(torch.ones(7, 6)).sum()

    with pytest.raises(UnsupportedMethodError, match="drops more than values of single images"):
        dropped_logits(Shared().eval(), torch.randn(2, 6))


# -- the estimator


@pytest.fixture(scope="module")
def timm_classifier(phantoms):
    clf = small_classifier(backbone="resnet10t", dropout=0.3, max_epochs=1)
    return clf.fit(phantoms.X[:40], phantoms.y[:40], groups=phantoms.groups[:40])


@pytest.mark.parametrize("method", ONE_NETWORK)
@pytest.mark.parametrize("which", ["fitted", "timm_classifier"])
def test_rows_do_not_depend_on_their_neighbours(method, which, request, phantoms):
    clf = copy.deepcopy(request.getfixturevalue(which)).set_params(precision="float32")
    X = phantoms.X[:7]
    whole = clf.uncertainty(X, method=method, n_samples=4)
    assert whole.samples.shape == (4, 7, 2)
    assert whole.std.min() > 0
    np.testing.assert_allclose(whole.samples.sum(axis=2), 1.0)
    alone = clf.uncertainty(X[4:5], method=method, n_samples=4)
    np.testing.assert_allclose(alone.samples[:, 0], whole.samples[:, 4], atol=1e-5)
    few = clf.set_params(batch_size=2).uncertainty(X[::-1], method=method, n_samples=4)
    np.testing.assert_allclose(few.samples[:, ::-1], whole.samples, atol=1e-5)
    more = clf.uncertainty(X[:2], method=method, n_samples=6)
    np.testing.assert_allclose(more.samples[:4], whole.samples[:, :2], atol=1e-5)
    other = clf.uncertainty(X, method=method, n_samples=4, random_state=9)
    assert other.seed == 9
    assert not np.allclose(other.samples[1:], whole.samples[1:])


@pytest.mark.parametrize("method", ONE_NETWORK)
def test_eight_threads_get_what_one_gets(method, fitted, phantoms):
    clf = copy.deepcopy(fitted)
    expected = clf.uncertainty(phantoms.X[:3], method=method, n_samples=3)
    plain = clf.predict_proba(phantoms.X[:3])
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: clf.uncertainty(phantoms.X[:3], method=method, n_samples=3), range(8)))
        np.testing.assert_array_equal(clf.predict_proba(phantoms.X[:3]), plain)
    for one in found:
        np.testing.assert_array_equal(one.samples, expected.samples)


def test_the_image_itself_is_the_first_sample(fitted, phantoms):
    clf = copy.deepcopy(fitted).set_params(precision="float32")
    proba = clf.predict_proba(phantoms.X[:3])
    one = clf.uncertainty(phantoms.X[:3], n_samples=1)
    np.testing.assert_allclose(one.proba, proba, atol=1e-6)
    np.testing.assert_array_equal(one.mutual_information, 0.0)
    np.testing.assert_array_equal(one.std, 0.0)
    strong = clf.uncertainty(phantoms.X[:3], n_samples=3, augment="strong").samples
    light = clf.uncertainty(phantoms.X[:3], n_samples=3).samples
    np.testing.assert_array_equal(strong[0], light[0])
    assert not np.allclose(strong[1:], light[1:])


@pytest.mark.parametrize("method", ONE_NETWORK)
def test_samples_are_calibrated(method, fitted, phantoms):
    clf = copy.deepcopy(fitted)
    raw = clf.uncertainty(phantoms.X[:3], method=method, n_samples=2).samples[..., 1]
    clf.calibrate(phantoms.X, phantoms.y, method="platt")
    found = clf.uncertainty(phantoms.X[:3], method=method, n_samples=2).samples[..., 1]
    line = clf.calibration_.maps[0]
    np.testing.assert_allclose(found, expit(line.slope * np.log(raw / (1 - raw)) + line.intercept), rtol=1e-6)


@pytest.mark.parametrize("method", ONE_NETWORK)
def test_three_classes(method, three_classes):
    X, _, clf = three_classes
    found = clf.uncertainty(X[:4], method=method, n_samples=3)
    assert found.proba.shape == (4, 3)
    assert found.entropy.shape == (4,)
    np.testing.assert_allclose(found.samples.sum(axis=2), 1.0)


def test_several_labels_and_unreadable_images(phantoms, tmp_path):
    y = np.stack([phantoms.y == "PNEUMONIA", np.arange(len(phantoms.y)) % 2], axis=1).astype(float)
    clf = small_classifier(pos_label=None, max_epochs=1, on_error="skip").fit(phantoms.X, y, groups=phantoms.groups)
    X = [phantoms.X[0], tmp_path / "missing.png", phantoms.X[1]]
    told = []
    with pytest.warns(SkippedImagesWarning, match="1 image"):
        found = clf.uncertainty(X, method="mc_dropout", n_samples=3, progress=lambda *at: told.append(at))
    assert found.entropy.shape == found.proba.shape == (3, 2)
    np.testing.assert_array_equal(np.isnan(found.mutual_information).all(axis=1), [False, True, False])
    assert np.isfinite(found.samples[:, [0, 2]]).all()
    assert told[-1] == (3, 3)


def test_no_dropout_says_what_works_instead(fitted, phantoms):
    clf = copy.deepcopy(fitted)
    clf.model_.dropout.p = 0.0
    with pytest.raises(UnsupportedMethodError, match=r"test_time_augmentation.*CXREnsemble.*dropout=0\.2"):
        clf.uncertainty(phantoms.X[:2], method="mc_dropout")
    assert clf.uncertainty(phantoms.X[:2], n_samples=2).std.max() > 0


def test_progress_stops_the_work(fitted, phantoms):
    clf = copy.deepcopy(fitted)

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        clf.uncertainty(phantoms.X[:2], progress=stop)
    assert all(parameter.requires_grad for parameter in clf.model_.parameters())
    assert F.dropout(torch.ones(9), 0.5, training=False).sum() == 9


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"method": "ensembel"}, InvalidParameterError, "'method' parameter of uncertainty must be one of"),
        ({"n_samples": 0}, InvalidParameterError, "'n_samples' parameter of uncertainty must be an integer >= 1"),
        ({"n_samples": 2.5}, InvalidTypeError, "'n_samples' parameter"),
        ({"augment": "none"}, InvalidParameterError, "'augment' parameter of uncertainty must be one of 'light', 'str"),
        ({"method": "mc_dropout", "augment": "light"}, InvalidParameterError, r"the options of 'mc_dropout' are \[\]"),
        ({"random_state": -1}, InvalidParameterError, "'random_state' parameter of uncertainty"),
        ({"progress": 3}, InvalidTypeError, "'progress' parameter of uncertainty"),
    ],
)
def test_bad_options(options, error, message, fitted, phantoms):
    with pytest.raises(error, match=message):
        fitted.uncertainty(phantoms.X[:2], **options)


def test_unfitted_and_estimators_of_several_networks(fitted, phantoms):
    with pytest.raises(NotFittedError):
        small_classifier().uncertainty(phantoms.X[:2])
    with pytest.raises(UnsupportedMethodError, match="One network: method='test_time_augmentation'"):
        fitted.uncertainty(phantoms.X[:2], method="ensemble")
    ensemble = CXREnsemble.from_fitted([fitted, fitted])
    for method in ONE_NETWORK:
        with pytest.raises(UnsupportedMethodError, match="For a CXREnsemble: method='ensemble'"):
            ensemble.uncertainty(phantoms.X[:2], method=method)


def test_the_members_of_an_ensemble_are_asked(fitted, phantoms, tmp_path):
    other = small_classifier(max_epochs=1, random_state=5).fit(phantoms.X, phantoms.y, groups=phantoms.groups)
    ensemble = CXREnsemble.from_fitted([fitted, other])
    ensemble.estimator.set_params(on_error="skip")
    X = [*phantoms.X[:3], tmp_path / "missing.png"]
    told = []
    with pytest.warns(SkippedImagesWarning):
        found = ensemble.uncertainty(X, method="ensemble", progress=lambda *at: told.append(at))
    assert told == [(4, 4)]
    expected = [member.predict_proba(phantoms.X[:3]) for member in (fitted, other)]
    np.testing.assert_allclose(found.samples[:, :3], expected, atol=1e-6)
    assert np.isnan(found.mutual_information[3])
    assert (found.mutual_information[:3] > 0).all()
