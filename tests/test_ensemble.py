"""Several networks that answer, and are explained, as one."""

from __future__ import annotations

import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.special import expit
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score

from cxr_estimator import CXRClassifier, CXREnsemble, evaluate, xai_scorer
from cxr_estimator.errors import (
    CXRError,
    DataError,
    InvalidParameterError,
    InvalidTypeError,
    SkippedImagesWarning,
)
from tests.conftest import small_classifier


@pytest.fixture
def own(ensemble):
    return copy.deepcopy(ensemble)


@pytest.fixture
def files(phantoms, tmp_path):
    paths = []
    for number, image in enumerate(phantoms.X[:6]):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(image).save(paths[-1])
    paths[2].write_bytes(b"no image")
    return paths


def test_the_logit_is_the_mean_of_the_members_logits(ensemble, phantoms):
    each = [member._logits(phantoms.X) for member in ensemble.estimators_]
    assert not np.allclose(each[0], each[1])
    mean = np.mean(each, axis=0)[:, 0]
    np.testing.assert_allclose(ensemble.decision_function(phantoms.X), mean, atol=1e-6)
    np.testing.assert_allclose(ensemble.predict_proba(phantoms.X), np.stack([expit(-mean), expit(mean)], 1), atol=1e-6)
    assert (ensemble.predict(phantoms.X) == np.where(mean >= 0, "PNEUMONIA", "NORMAL")).all()


def test_members_differ_by_seed_only_and_are_those_of_a_fit_by_hand(ensemble, phantoms):
    seeds = [member.random_state for member in ensemble.estimators_]
    assert len(set(seeds)) == 3
    same = [member.get_params() | {"random_state": 0} for member in ensemble.estimators_]
    assert same == [small_classifier().get_params()] * 3
    again = small_classifier(random_state=seeds[1]).fit(phantoms.X, phantoms.y, groups=phantoms.groups)
    np.testing.assert_array_equal(again._logits(phantoms.X), ensemble.estimators_[1]._logits(phantoms.X))


def test_seeds_come_from_the_template_or_from_the_ensemble(phantoms):
    def seeds(template_seed, own_seed):
        template = small_classifier(random_state=template_seed, max_epochs=1)
        ensemble = CXREnsemble(template, 2, random_state=own_seed)
        ensemble.fit(phantoms.X[:20], phantoms.y[:20], groups=phantoms.groups[:20])
        return [member.random_state for member in ensemble.estimators_]

    assert seeds(0, None) == seeds(1, 0) == seeds(None, 0)
    assert seeds(0, None) != seeds(0, 1)


@pytest.mark.parametrize("method", ["integrated_gradients", "occlusion", "deep_shap"])
def test_the_map_of_a_linear_method_is_complete_for_the_ensemble(ensemble, phantoms, method):
    """sum of the mean map = mean of the members' (score - score of the baseline)."""
    X = phantoms.X[:3]
    found = ensemble.explain(X, method=method, target="PNEUMONIA")
    each = [member.explain(X, method=method, target="PNEUMONIA", random_state=0) for member in ensemble.estimators_]
    np.testing.assert_allclose(found.values, np.mean([one.values for one in each], axis=0), atol=1e-6)
    spread = np.std([one.values for one in each], axis=0, ddof=1)
    np.testing.assert_allclose(found.spread, spread, atol=1e-5)
    np.testing.assert_allclose(found.score, ensemble.decision_function(X), atol=1e-5)
    if method != "occlusion":
        assert found.completeness_residual.max() < 0.05


def test_explains_what_the_ensemble_decides_whatever_its_members_would(ensemble, phantoms):
    decided = ensemble.predict(phantoms.X)
    votes = np.array([member.predict(phantoms.X) for member in ensemble.estimators_])
    disputed = np.flatnonzero((votes != decided).any(axis=0))[:4]
    assert len(disputed)
    found = ensemble.explain(phantoms.X[disputed], y=phantoms.y[disputed])
    assert found.target.tolist() == decided[disputed].tolist() == found.prediction.label.tolist()
    assert found.prediction.true_label.tolist() == phantoms.y[disputed].tolist()
    np.testing.assert_allclose(found.prediction.proba, ensemble.predict_proba(phantoms.X[disputed]), atol=1e-6)
    assert found.options["target"] == "predicted"
    assert found.options["members"] == 3
    for part, member in enumerate(ensemble.estimators_):
        alone = member.explain(phantoms.X[disputed], phantoms.y[disputed], target="true")
        assert alone.prediction.label.tolist() == votes[part, disputed].tolist()


def test_explains_by_several_methods_and_in_parts(ensemble, phantoms):
    methods = ["saliency", "grad_cam"]
    whole = ensemble.explain(phantoms.X[:20], method=methods)
    assert list(whole) == methods
    parts = list(ensemble.iter_explain(phantoms.X[:20], method=methods))
    assert len(parts) == 2
    assert [len(part) for part in ensemble.iter_explain(phantoms.X[:8], batch_size=4)] == [4, 4]
    for method in methods:
        joined = np.concatenate([part[method].values for part in parts])
        np.testing.assert_allclose(joined, whole[method].values, atol=1e-5)
        assert np.concatenate([part[method].index for part in parts]).tolist() == list(range(20))
        assert [name for part in parts for name in part[method].names] == [f"X[{row}]" for row in range(20)]


def test_an_explanation_can_be_saved_and_drawn(ensemble, phantoms, tmp_path):
    found = ensemble.explain(phantoms.X[:2])
    found.save(tmp_path / "map")
    loaded = type(found).load(tmp_path / "map")
    np.testing.assert_array_equal(loaded.spread, found.spread)
    assert found.plot().axes


def test_progress_counts_all_members(ensemble, phantoms):
    told = []
    ensemble.explain(phantoms.X[:20], progress=lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert told[-1] == (pytest.approx(20), 20)
    assert len(told) >= 6


def test_decides_calibrates_and_is_evaluated_as_a_classifier_is(own, phantoms):
    labelled = {"X": phantoms.X, "y": phantoms.y, "groups": phantoms.groups}
    own.set_threshold("sensitivity>=0.8", name="screening", **labelled)
    before = own.predict(phantoms.X)
    own.calibrate(**labelled)
    assert (own.predict(phantoms.X) == before).all()
    assert own.active_point_ == "screening"
    with pytest.warns(UserWarning, match="Among these images"):
        report = evaluate(own, phantoms.X, phantoms.y, phantoms.groups, n_resamples=20)
    assert report.decisions["screening"].estimates["sensitivity"].value >= 0.8


def test_cross_validation_and_search(phantoms):
    ensemble = CXREnsemble(small_classifier(max_epochs=1, validation_fraction=0.0), 2)
    X, y, groups = phantoms.X[:40], phantoms.y[:40], phantoms.groups[:40]
    ensemble = ensemble.set_params(estimator__patience=2)
    assert clone(ensemble).estimator.patience == 2
    assert cross_val_score(ensemble, X, y, groups=groups, cv=GroupKFold(2)).shape == (2,)
    search = GridSearchCV(ensemble, {"estimator__learning_rate": [1e-3, 3e-3]}, cv=GroupKFold(2))
    assert search.fit(X, y, groups=groups).best_estimator_.n_estimators == 2


def test_tells_unusual_images_by_its_first_member(own, phantoms, tmp_path):
    own.fit_ood(phantoms.X, groups=phantoms.groups)
    first = own.estimators_[0]
    assert own.ood_ is first.ood_
    alone = copy.deepcopy(first)
    alone.ood_ = None
    CXREnsemble.from_fitted([alone, first]).fit_ood(phantoms.X, groups=phantoms.groups)
    assert alone.ood_ is None  # the model itself is left as it was
    np.testing.assert_array_equal(own.ood_score(phantoms.X), first.ood_score(phantoms.X))
    loaded = CXREnsemble.load(own.save(tmp_path))
    assert loaded.check_images(255 - phantoms.X[:3]).sentences == own.check_images(255 - phantoms.X[:3]).sentences


def test_asks_its_members_unless_told_otherwise(own, phantoms):
    found = own.uncertainty(phantoms.X[:4])
    assert (found.method, found.samples.shape) == ("ensemble", (3, 4, 2))


def test_a_seeded_template_makes_all_that_follows_reproducible(own, phantoms):
    first, again = (
        own.conformalize(phantoms.X, phantoms.y, groups=phantoms.groups).conformal_.logits for _ in range(2)
    )
    np.testing.assert_array_equal(first, again)


def test_members_that_cannot_read_the_same_images(phantoms):
    """A float image above 1 is refused where no range is set; only what all members read counts."""
    train = {"X": phantoms.X[:40], "y": phantoms.y[:40], "groups": phantoms.groups[:40]}
    strict, wide = (small_classifier(max_epochs=1, intensity=one).fit(**train) for one in (None, (0, 255)))
    images = [*phantoms.X[40:59], phantoms.X[59].astype(float)]
    for members in ([strict, wide], [wide, strict]):
        joined = CXREnsemble.from_fitted(members).set_params(estimator__on_error="skip")
        with pytest.warns(SkippedImagesWarning):
            found = joined._run(images)
        assert np.isnan(found.values).any(axis=1).tolist() == [False] * 19 + [True]
        assert len(found.content_ids) == 19
        assert [item.position for item in found.skipped] == [19]
        with pytest.warns(SkippedImagesWarning):
            joined.conformalize(images, phantoms.y[40:60], groups=np.arange(20))


def test_unreadable_images_are_rows_of_nan_and_no_maps(own, files):
    with pytest.raises(CXRError, match=r"2\.png"):
        own.predict_proba(files)
    own.set_params(estimator__on_error="skip")
    with pytest.warns(SkippedImagesWarning) as told:
        proba = own.predict_proba(files)
    assert len(told) == 1  # not one for each member
    assert np.isnan(proba).all(axis=1).tolist() == [False, False, True, False, False, False]
    with pytest.warns(SkippedImagesWarning):
        found = own.explain(files)
    assert found.index.tolist() == [0, 1, 3, 4, 5]
    assert found.names[2] == str(files[3])
    with pytest.warns(SkippedImagesWarning), pytest.raises(DataError, match="none of the 1 images"):
        own.explain(files[2:3])


def test_other_backbones_and_sizes_can_join(fitted, phantoms):
    other = small_classifier(backbone="resnet10t", image_size=48, max_epochs=1, random_state=3)
    other.fit(phantoms.X, phantoms.y, groups=phantoms.groups)
    joined = CXREnsemble.from_fitted([fitted, other])
    mean = (fitted._logits(phantoms.X) + other._logits(phantoms.X)) / 2
    np.testing.assert_allclose(joined._logits(phantoms.X), mean, atol=1e-5)
    with pytest.raises(DataError, match="such maps have no mean"):
        joined.explain(phantoms.X[:2])


def test_maps_of_images_seen_in_different_ways_have_no_mean(fitted, phantoms):
    padded = small_classifier(resize="pad", max_epochs=1).fit(phantoms.X, phantoms.y, groups=phantoms.groups)
    with pytest.raises(DataError, match=r"pad to 32 pixels, stretch to 32 pixels"):
        CXREnsemble.from_fitted([fitted, padded]).explain(phantoms.X[:2])


def test_joined_models_keep_their_own_settings_and_points(fitted, phantoms):
    one, two = copy.deepcopy(fitted), copy.deepcopy(fitted)
    one.set_threshold(0.2)
    joined = CXREnsemble.from_fitted([one, two]).set_params(estimator__batch_size=7)
    joined.predict(phantoms.X)
    assert (one.batch_size, one.threshold_, joined.threshold_) == (fitted.batch_size, 0.2, 0.5)
    np.testing.assert_allclose(joined.predict_proba(phantoms.X), fitted.predict_proba(phantoms.X), atol=1e-6)


def test_class_weights_are_undone_for_the_mean(phantoms, fitted):
    """Weights w shift the log-odds by log(w1 / w0); the mean of logits by the mean of these."""
    weighted = copy.deepcopy(fitted)
    weighted.class_weights_ = np.array([1.0, 4.0])
    joined = CXREnsemble.from_fitted([fitted, weighted])
    np.testing.assert_allclose(joined.class_weights_, [1.0, 2.0])
    weighted.class_weights_ = np.array([0.0, 4.0])
    assert CXREnsemble.from_fitted([fitted, weighted]).class_weights_.tolist() == [0.0, pytest.approx(2.0)]


def test_three_classes_and_several_labels(three_classes):
    X, y, clf = three_classes
    joined = CXREnsemble.from_fitted([clf, clf])
    np.testing.assert_allclose(joined.predict_proba(X), clf.predict_proba(X), atol=1e-6)
    assert joined.threshold_ is None
    assert joined.explain(X[:2], target="green").target.tolist() == ["green", "green"]
    labels = np.stack([y == "red", y == "blue"], axis=1).astype(float)
    template = CXRClassifier("plain_cnn", image_size=24, channels=3, max_epochs=1, batch_size=12, random_state=0)
    several = CXREnsemble(template, 2).fit(X, labels, groups=np.arange(60))
    assert several.predict(X).shape == (60, 2)
    found = several.explain(X[:3], labels[:3], target=1)
    assert found.target.tolist() == [1, 1, 1]
    assert found.prediction.true_label.tolist() == ["1" if has else "not 1" for has in labels[:3, 1]]
    with pytest.raises(InvalidParameterError, match="several labels"):
        several.explain(X[:3])


def test_rows_of_a_table(phantoms):
    rows = phantoms.X[:40].reshape(40, -1).astype(float)
    template = small_classifier(image_shape=(32, 32), max_epochs=1)
    ensemble = CXREnsemble(template, 2).fit(rows, phantoms.y[:40], groups=phantoms.groups[:40])
    assert ensemble.n_features_in_ == 1024
    assert ensemble.explain(rows[:2]).values.shape == (2, 32, 32)
    with pytest.raises(DataError, match="expecting 1024 features"):
        ensemble.predict(rows[:, :9])


def test_a_killed_fit_goes_on_member_by_member(phantoms, tmp_path):
    template = small_classifier(max_epochs=1, checkpoint_dir=tmp_path)
    CXREnsemble(template, 2).fit(phantoms.X[:40], phantoms.y[:40], groups=phantoms.groups[:40])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["member_0", "member_1"]


def test_threads_get_what_one_gets_in_whatever_order_members_stand(ensemble, phantoms):
    turned = CXREnsemble.from_fitted(ensemble.estimators_[::-1])
    expected = ensemble.predict_proba(phantoms.X)

    def ask(number):
        return (ensemble, turned)[number % 2].predict_proba(phantoms.X)

    with ThreadPoolExecutor(4) as pool:
        found = [pool.submit(ask, number) for number in range(8)]
        for one in found:
            np.testing.assert_allclose(one.result(timeout=60), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda clf: CXREnsemble("resnet18"), InvalidTypeError, "'estimator' parameter"),
        (lambda clf: CXREnsemble(clf, 1), InvalidParameterError, ">= 2"),
        (lambda clf: CXREnsemble(clf, 2.5), InvalidTypeError, "an integer"),
        (lambda clf: CXREnsemble(clf, 2, random_state="a"), InvalidTypeError, "'random_state'"),
        (lambda clf: CXREnsemble(clone(clf).set_params(threshold="youden"), 2), InvalidParameterError, "set_threshold"),
        (lambda clf: CXREnsemble(clone(clf).set_params(backbone="nothing"), 2), InvalidParameterError, "'backbone'"),
    ],
)
def test_bad_parameters(fitted, phantoms, make, error, message):
    with pytest.raises(error, match=message):
        make(fitted).fit(phantoms.X, phantoms.y, groups=phantoms.groups)


@pytest.mark.parametrize("models", [[], 3])
def test_too_few_models(models):
    with pytest.raises(InvalidParameterError, match="list of 2 to 100"):
        CXREnsemble.from_fitted(models)


def test_models_that_do_not_go_together(fitted, three_classes):
    with pytest.raises(DataError, match=r"same task, but models\[0\] has 'binary' and models\[1\] has 'multiclass'"):
        CXREnsemble.from_fitted([fitted, three_classes[2]])
    other = copy.deepcopy(fitted)
    other.classes_ = np.array(["BACTERIA", "VIRUS"])
    with pytest.raises(DataError, match=r"same classes.*'NORMAL', 'PNEUMONIA'.*'BACTERIA', 'VIRUS'"):
        CXREnsemble.from_fitted([fitted, other])
    other.classes_, other.pos_label_ = fitted.classes_, "NORMAL"
    with pytest.raises(DataError, match="same positive label"):
        CXREnsemble.from_fitted([fitted, other])
    with pytest.raises(InvalidTypeError, match="CXRClassifiers"):
        CXREnsemble.from_fitted([fitted, "model"])
    with pytest.raises(InvalidParameterError, match="unfitted one at index 1"):
        CXREnsemble.from_fitted([fitted, small_classifier()])


def test_what_is_asked_too_early_or_of_the_wrong_thing(ensemble, phantoms):
    with pytest.raises(NotFittedError):
        CXREnsemble(small_classifier()).predict(phantoms.X)
    for ask in (CXREnsemble.check_images, CXREnsemble.ood_score, CXREnsemble.uncertainty, CXREnsemble.explain):
        with pytest.raises(NotFittedError):
            ask(CXREnsemble(small_classifier()), phantoms.X)
    with pytest.raises(NotFittedError):
        CXREnsemble(small_classifier()).save("nowhere")
    with pytest.raises(InvalidParameterError, match="'error_bars'"):
        ensemble.explain(phantoms.X[:1], error_bars=True)
    with pytest.raises(InvalidTypeError, match="'progress'"):
        ensemble.explain(phantoms.X[:1], progress=3)
    with pytest.raises(InvalidParameterError, match="'target'"):
        ensemble.explain(phantoms.X[:1], target="margin")
    with pytest.raises(InvalidParameterError, match="'method'"):
        ensemble.explain(phantoms.X[:1], method="crystal_ball")
    with pytest.raises(InvalidTypeError, match="CXRClassifier"):
        xai_scorer("grad_cam:deletion_auc")(ensemble, phantoms.X[:2], phantoms.y[:2])


def test_networks_are_left_as_they_were(ensemble, phantoms):
    member = ensemble.estimators_[0].model_
    member.train()
    ensemble.predict(phantoms.X[:3])
    assert member.training
    assert all(parameter.requires_grad for parameter in member.parameters())
    assert not any(module._forward_hooks for module in member.modules())
    member.eval()
    assert threading.active_count() < 50
    assert torch.is_grad_enabled()
