"""Several labels per image, from fit to explanations."""

from __future__ import annotations

import copy
import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.special import expit, logit
from sklearn.base import clone
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.model_selection import GroupKFold, KFold, cross_val_predict, cross_val_score
from sklearn.utils import get_tags

from cxr_estimator import CXRClassifier, Explanation, evaluate, load_nih, xai_scorer
from cxr_estimator._explaining import ExplanationPlan
from cxr_estimator._fitting import validation_split
from cxr_estimator._outputs import Task
from cxr_estimator.attribution import METHODS
from cxr_estimator.benchmark import benchmark_images
from cxr_estimator.datasets import BoxMasks
from cxr_estimator.errors import (
    DataError,
    InvalidParameterError,
    ModelFolderError,
    SameDataWarning,
    SkippedImagesWarning,
    UnknownLabelsWarning,
    UnsupportedMethodError,
)

NAN = np.nan
NAMES = ["top", "left", "bottom"]
OPTIONS = {
    "backbone": "plain_cnn", "image_size": 24, "max_epochs": 8, "batch_size": 16, "learning_rate": 5e-3,
    "augment": "none", "validation_fraction": 0.2, "random_state": 0, "precision": "float32",
}  # fmt: skip


def squares(n, seed=0):
    """Images in which each label is a bright square of its own; two images per patient."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, (n, 3)).astype(float)
    X = rng.integers(0, 90, (n, 24, 24), dtype=np.uint8)
    for k, part in enumerate((np.s_[2:8, 9:15], np.s_[9:15, 2:8], np.s_[16:22, 9:15])):
        X[(y[:, k] == 1, *part)] += 110
    return X, y, np.arange(n) // 2


@pytest.fixture(scope="module")
def data():
    return squares(120)


@pytest.fixture(scope="module")
def model(data):
    X, y, groups = data
    hidden = np.where(np.random.default_rng(1).random(y.shape) < 0.2, NAN, y)
    hidden[:, 0] = y[:, 0]
    return CXRClassifier(**OPTIONS).fit(X, pd.DataFrame(hidden, columns=NAMES), groups=groups)


@pytest.fixture(scope="module")
def two(data):
    """As many labels as a binary problem has classes."""
    X, y, groups = data
    return CXRClassifier(**{**OPTIONS, "max_epochs": 2}).fit(X, y[:, :2], groups=groups)


def test_it_learns_each_label_from_what_is_known(model):
    X, y, _ = squares(60, seed=5)
    proba = model.predict_proba(X)
    for k in range(3):
        assert roc_auc_score(y[:, k], proba[:, k]) > 0.95
    assert model.classes_.tolist() == NAMES
    assert model.task_ is Task.MULTILABEL
    assert (model.pos_label_, model.threshold_) == (None, None)
    assert model.thresholds_ == dict.fromkeys(NAMES, 0.5)
    assert model.history_["val_auroc"].max() > 0.9


@pytest.mark.parametrize("name", ["model", "two"])
def test_shapes_and_meaning(request, data, name):
    clf, X = request.getfixturevalue(name), data[0][:20]
    K = len(clf.classes_)
    scores, proba, said = clf.decision_function(X), clf.predict_proba(X), clf.predict(X)
    assert scores.shape == proba.shape == said.shape == (20, K)
    np.testing.assert_allclose(proba, expit(scores))
    assert said.dtype == np.int64
    np.testing.assert_array_equal(said, (proba >= 0.5).astype(int))
    assert not np.allclose(proba.sum(axis=1), 1.0)
    assert clf.model_(torch.zeros(1, 1, 24, 24)).shape == (1, K)


def test_images_without_any_known_label_are_left_out_and_counted(data):
    X, y, _ = data
    X = np.concatenate([X[:40], np.full((2, 24, 24), 255, np.uint8)])
    unknown = np.concatenate([y[:40], np.full((2, 3), NAN)])
    options = {**OPTIONS, "max_epochs": 1, "validation_fraction": 0.0}
    with pytest.warns(UnknownLabelsWarning, match="2 of 42 images have no known label"):
        clf = CXRClassifier(**options).fit(X, unknown)
    without = CXRClassifier(**options).fit(X[:40], y[:40])
    np.testing.assert_array_equal(clf.predict_proba(X), without.predict_proba(X))


def test_names_and_clone(data, model):
    X, y, _ = data
    options = {**OPTIONS, "max_epochs": 1, "validation_fraction": 0.0}
    named = CXRClassifier(**options, label_names=NAMES).fit(X, y)
    assert named.classes_.tolist() == NAMES
    assert clone(named).fit(X, y).classes_.tolist() == NAMES
    assert CXRClassifier(**options).fit(X, y).classes_.tolist() == [0, 1, 2]
    assert get_tags(named).classifier_tags.multi_label


def test_save_and_load(data, model, two, tmp_path):
    X = data[0][:8]
    for number, clf in enumerate((model, two)):
        again = CXRClassifier.load(clf.save(tmp_path / str(number)))
        np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))
        np.testing.assert_array_equal(again.predict(X), clf.predict(X))
        assert again.task_ is Task.MULTILABEL
        assert again.classes_.tolist() == clf.classes_.tolist()
        assert again.classes_.dtype == clf.classes_.dtype


def test_a_damaged_task_is_refused(two, tmp_path):
    folder = two.save(tmp_path / "model")
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace('"multilabel"', '"multiclass"'))
    with pytest.raises(ModelFolderError, match="the task is 'multiclass', but there are 2 classes"):
        CXRClassifier.load(folder)
    for change, message in (
        ({"classes": {"dtype": "int64", "values": [0, 0]}}, "different"),
        ({"pos_label": 1}, "the positive label 1 is for one class per image"),
    ):
        (folder / "config.json").write_text(json.dumps({**json.loads(text), **change}))
        with pytest.raises(ModelFolderError, match=message):
            CXRClassifier.load(folder)


def test_score_is_subset_accuracy_over_known_rows(data, model):
    X, y, _ = data
    said = model.predict(X)
    assert model.score(X, y) == accuracy_score(y.astype(int), said)
    hidden = y.copy()
    hidden[:100, 1] = NAN
    assert model.score(X, hidden) == accuracy_score(y[100:].astype(int), said[100:])
    weights = np.arange(120) + 1.0
    expected = accuracy_score(y[100:].astype(int), said[100:], sample_weight=weights[100:])
    assert model.score(X, hidden, sample_weight=weights) == pytest.approx(expected)
    hidden[:, 0] = NAN
    with pytest.raises(DataError, match="no row without NaN"):
        model.score(X, hidden)
    with pytest.raises(DataError, match="3 columns, one for each label"):
        model.score(X, y[:, :2])


def test_unreadable_images(data, model):
    X = data[0]
    mixed = [*X[:2], "missing.png"]
    clf = copy.copy(model).set_params(on_error="skip")
    with pytest.warns(SkippedImagesWarning):
        said = clf.predict(mixed)
    np.testing.assert_array_equal(said[:2], model.predict(X[:2]))
    assert np.isnan(said[2]).all()
    with pytest.warns(SkippedImagesWarning):
        assert clf.score(mixed, np.vstack([said[:2], [0, 0, 0]])) == pytest.approx(2 / 3)


def test_a_label_that_the_readable_images_lack(data):
    X, y, _ = data
    rare = np.column_stack([y[:20, 0], np.zeros(20)])
    rare[3, 1] = 1
    mixed = [*X[:3], "missing.png", *X[4:20]]
    clf = CXRClassifier(**{**OPTIONS, "validation_fraction": 0.0}, on_error="skip")
    with (
        pytest.raises(DataError, match=r"in the images that could be read, \[1\] is never present"),
        pytest.warns(SkippedImagesWarning),
    ):
        clf.fit(mixed, rare)


@pytest.mark.parametrize("seed", range(5))
def test_the_inner_split_spreads_labels_and_keeps_rare_ones_in_training(data, seed):
    y, groups = data[1], data[2]
    rare = np.column_stack([y[:, 0], np.zeros(120), np.ones(120), np.full(120, NAN)])
    rare[6, 1] = 1  # of one patient
    rare[[20, 80], 2] = 0  # of two
    rare[:40, 3] = y[:40, 1]
    train, validation = validation_split(np.arange(4), rare, groups, 0.2, seed)
    assert not set(groups[train]) & set(groups[validation])
    np.testing.assert_array_equal(np.sort(np.concatenate([train, validation])), np.arange(120))
    assert 6 in train
    assert (rare[train, 2] == 0).any()
    assert (rare[validation, 2] == 0).any()
    for k, known in ((0, 120), (3, 40)):
        assert (~np.isnan(rare[validation, k])).sum() == pytest.approx(0.2 * known, abs=3)
        assert rare[validation, k][~np.isnan(rare[validation, k])].mean() == pytest.approx(
            np.nanmean(rare[:, k]), abs=0.15
        )


def test_early_stopping_does_without_a_label_that_validation_lacks(data):
    X, y, groups = data
    rare = np.column_stack([y[:, 0], np.zeros(120)])
    rare[6, 1] = 1
    clf = CXRClassifier(**{**OPTIONS, "max_epochs": 2}).fit(X, rare, groups=groups)
    assert not clf.history_["val_auroc"].isna().any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pos_label": "top"}, "'pos_label' .* None for several labels per image"),
        ({"threshold": 0.4}, "'threshold'"),
        ({"threshold": "youden"}, "'threshold'"),
        ({"class_weight": {0: 2.0}}, "'class_weight'"),
        ({"label_names": ["a", "b"]}, "3 columns, but there are 2 label_names"),
        ({"label_names": "abc"}, "'label_names'"),
    ],
)
def test_parameters_that_make_no_sense(data, options, message):
    with pytest.raises((InvalidParameterError, DataError), match=message):
        CXRClassifier(**OPTIONS, **options).fit(data[0], data[1], groups=data[2])


def test_balanced_weights_raise_the_probability_of_rare_labels(data):
    X, y, _ = data
    options = {**OPTIONS, "max_epochs": 2, "validation_fraction": 0.0}
    rare = y.copy()
    rare[20:, 0] = 0
    plain = CXRClassifier(**options).fit(X, rare).predict_proba(X)[:, 0].mean()
    balanced = CXRClassifier(**options, class_weight="balanced").fit(X, rare).predict_proba(X)[:, 0].mean()
    assert logit(balanced) > logit(plain) + 0.3


def test_each_label_has_its_operating_point(data, model, tmp_path):
    X, y, groups = data
    clf = copy.deepcopy(model)
    clf.set_threshold("sensitivity>=0.9", X=X, y=y, groups=groups, label="left")
    clf.set_threshold(0.9, label="top", name="strict_top")
    scores = clf.decision_function(X)
    point = clf.operating_points_["left"]
    known = ~np.isnan(y[:, 1])
    assert point.n_images == known.sum()
    assert (scores[:, 1] >= point.score)[y[:, 1] == 1].mean() >= 0.9
    said = clf.predict(X)
    np.testing.assert_array_equal(said[:, 0], expit(scores[:, 0]) >= 0.9)
    np.testing.assert_array_equal(said[:, 1], scores[:, 1] >= point.score)
    np.testing.assert_array_equal(said[:, 2], scores[:, 2] >= 0.0)
    np.testing.assert_array_equal(clf.flag(X, "left"), said[:, 1] == 1)
    with pytest.raises(InvalidParameterError, match="'label' parameter of set_threshold"):
        clf.set_threshold(0.3)
    with pytest.raises(InvalidParameterError, match="another than that of the operating point of 'left'"):
        clf.set_threshold(0.3, label="top", name="left")
    again = CXRClassifier.load(clf.save(tmp_path / "m"))
    np.testing.assert_array_equal(again.predict(X), said)
    explained = clf.explain(X[:4], method="saliency", target="top")
    assert explained.prediction.threshold == 0.9
    np.testing.assert_array_equal(explained.prediction.label == "top", said[:4, 0] == 1)


@pytest.mark.parametrize("method", ["temperature", "platt"])
def test_each_label_is_calibrated(data, model, method, tmp_path):
    X, y, groups = data
    clf = copy.deepcopy(model).set_threshold("youden", X=X, y=y, label="left")
    before = clf.predict(X)
    clf.calibrate(X, y, groups=groups, method=method)
    proba = clf.predict_proba(X)
    assert len(clf.calibration_.maps) == 3
    said = clf.predict(X)
    np.testing.assert_array_equal(said[:, 1], before[:, 1])  # chosen by a rule: the decisions stay
    np.testing.assert_array_equal(said[:, 0], proba[:, 0] >= 0.5)  # a number: it is of the calibrated probability
    for k, label in enumerate(NAMES):
        near = np.abs(proba[:, k] - clf.thresholds_[label]) < 1e-9
        np.testing.assert_array_equal(said[:, k][~near], (proba[:, k] >= clf.thresholds_[label])[~near])
    again = CXRClassifier.load(clf.save(tmp_path / "m"))
    np.testing.assert_array_equal(again.predict_proba(X), proba)
    with pytest.raises(InvalidParameterError, match="'prevalence' parameter of calibrate"):
        clf.calibrate(X, y, prevalence=0.2)


def test_evaluate(data, model):
    with pytest.warns(SameDataWarning, match="100% of the images that trained the network"):
        report = evaluate(model, data[0], data[1], data[2], n_resamples=20)
    assert report.overall["macro_auroc"].value > 0.9
    assert list(report.decisions) == NAMES


# -- scikit-learn ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("K", [2, 3])
@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function"])
def test_cross_val_predict(data, K, method):
    X, y, groups = data
    clf = CXRClassifier(**{**OPTIONS, "max_epochs": 1, "validation_fraction": 0.0})
    cv = GroupKFold(2)
    found = cross_val_predict(clf, X, y[:, :K], groups=groups, cv=cv, method=method)
    assert found.shape == (120, K)
    for train, test in cv.split(X, y, groups):
        expected = getattr(clone(clf).fit(X[train], y[train, :K]), method)(X[test])
        np.testing.assert_array_equal(found[test], expected)


def test_cross_validation_with_unknown_values(data):
    X, y, groups = data
    hidden = np.where(np.random.default_rng(0).random(y.shape) < 0.1, NAN, y)
    clf = CXRClassifier(**{**OPTIONS, "max_epochs": 1, "validation_fraction": 0.0}, label_names=NAMES)
    options = {"groups": groups, "cv": GroupKFold(2)}
    for truth in (hidden, pd.DataFrame(hidden, columns=NAMES)):
        scores = cross_val_score(clf, X, truth, error_score="raise", **options)
        assert ((scores >= 0) & (scores <= 1)).all()
    with pytest.raises(DataError, match="As cross_val_predict encodes NaN"):
        cross_val_predict(clf, X, hidden, method="predict_proba", **options)


def test_roc_auc_scorer(data):
    clf = CXRClassifier(**{**OPTIONS, "validation_fraction": 0.0})
    scores = cross_val_score(clf, data[0], data[1], cv=KFold(2), scoring="roc_auc", error_score="raise")
    assert (scores > 0.7).all()


# -- explanations ------------------------------------------------------------------------------------------------------


FEW = {
    "rise": {"n_masks": 20},
    "kernel_shap": {"n_samples": 60, "n_segments": 10},
    "partition_shap": {"n_evaluations": 20},
    "lime": {"n_samples": 20},
}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_explains_a_label(data, model, method):
    request = {"method": method, "target": "left", "background": data[0][:4], **FEW.get(method, {})}
    if METHODS[method].obstacle(model.model_):
        with pytest.raises(UnsupportedMethodError):
            model.explain(data[0][:2], **request)
        return
    found = model.explain(data[0][:2], **request)
    assert found.values.shape == (2, 24, 24)  # noqa: PD011
    assert found.target.tolist() == ["left", "left"]
    np.testing.assert_allclose(found.score, model.decision_function(data[0][:2])[:, 1], atol=1e-4)
    assert np.isfinite(found.values).all()


def test_maps_show_the_square_of_the_label(data, model):
    X, y, _ = data
    rows = np.flatnonzero((y == 1).all(axis=1))[:6]
    for label, part in (("top", np.s_[:, 2:8, 9:15]), ("left", np.s_[:, 9:15, 2:8]), ("bottom", np.s_[:, 16:22, 9:15])):
        found = model.explain(X[rows], method="occlusion", target=label, window=6, stride=3).values.clip(min=0)  # noqa: PD011
        inside = found[part].sum() / found.sum()
        assert inside > 3 * 36 / 576


@pytest.mark.parametrize("target", ["predicted", "true", "margin"])
def test_rules_mean_nothing(data, model, target):
    with pytest.raises(InvalidParameterError, match=rf"one of \['top', 'left', 'bottom'\].*'{target}' one"):
        model.explain(data[0][:1], data[1][:1], target=target)


def test_the_target_must_be_named(data, model):
    with pytest.raises(InvalidParameterError, match=r"'target'.*'top', 'left', 'bottom'"):
        model.explain(data[0][:1])
    with pytest.raises(InvalidParameterError, match=r"Did you mean 'left'\?"):
        model.explain(data[0][:1], target="lef")


def test_the_prediction_is_about_the_label(data, model, two, tmp_path):
    X, y, _ = data
    found = model.explain(X[:10], y[:10], target="left")
    said = found.prediction
    assert said.label.tolist() == ["left" if one else "not left" for one in model.predict(X[:10])[:, 1]]
    assert said.true_label.tolist() == ["left" if one else "not left" for one in y[:10, 1]]
    assert (said.pos_label, said.threshold, said.classes) == ("left", 0.5, tuple(NAMES))
    np.testing.assert_array_equal(said.proba, model.predict_proba(X[:10]))
    found.plot(int(np.argmax(said.label == "left")))
    found.plot(int(np.argmax(said.label != "left")))
    found.save(tmp_path / "map")
    again = Explanation.load(tmp_path / "map")
    assert again.prediction.label.tolist() == said.label.tolist()
    assert two.explain(X[:2], target=1).prediction.pos_label == "1"


def test_true_values_must_be_known_for_the_label(data, model):
    X, y, _ = data
    hidden = y[:4].copy()
    hidden[2, 1] = NAN
    assert model.explain(X[:4], hidden, target="top").prediction.true_label is not None
    with pytest.raises(DataError, match=r"does not know whether 1 images have 'left', first that at index 2"):
        model.explain(X[:4], hidden, target="left")


def test_the_proba_that_metrics_see(data, model):
    """Probability degradation starts from the label's own probability, not from a softmax."""
    found = model.explain(data[0][:4], target="bottom")
    plan = ExplanationPlan.check(model, data[0][:4], None, ["grad_cam"], target="bottom")
    (batch,) = plan.run(lambda one: one)
    proba = batch.problem.target.proba(batch.problem.logits).numpy()
    np.testing.assert_allclose(proba, found.prediction.proba[:, 2], atol=1e-6)


def test_benchmark_and_scorer(data, model):
    X, y, _ = data
    table = benchmark_images(model, X[:6], y[:6], methods=["grad_cam"], metrics=["gini"], target="top")
    truth, said = y[:6, 0] == 1, model.predict(X[:6])[:, 0] == 1
    expected = [("T" if t == s else "F") + ("P" if s else "N") for t, s in zip(truth, said, strict=True)]
    assert table.sort_values("index")["bucket"].tolist() == expected
    hidden = y[:6].copy()
    hidden[0] = NAN
    scorer = xai_scorer("saliency:gini", target="left")
    assert scorer(model, X[:6], hidden) == pytest.approx(scorer(model, X[:6], None))
    with pytest.raises(DataError, match="3 columns"):
        scorer(model, X[:6], hidden[:, :2])


def test_the_background_is_of_all_images(model):
    assert model.background_.shape[1:] == (1, 24, 24)
    assert 1 <= len(model.background_) <= 4


# -- from a table to a map ---------------------------------------------------------------------------------------------


def test_from_the_tables_of_the_nih_to_an_explanation(data, tmp_path):
    X, y, groups = data
    rows = []
    for i in range(40):
        Image.fromarray(X[i]).save(tmp_path / f"{groups[i]:08d}_{i % 2:03d}.png")
        found = [name for name, one in zip(("Edema", "Mass", "Nodule"), y[i], strict=True) if one]
        rows.append(f"{groups[i]:08d}_{i % 2:03d}.png,{'|'.join(found) or 'No Finding'},{groups[i]}")
    (tmp_path / "Data_Entry_2017.csv").write_text("\n".join(["Image Index,Finding Labels,Patient ID", *rows]))
    found = load_nih(tmp_path, split="all", findings=["Nodule", "Edema"])
    clf = CXRClassifier(**{**OPTIONS, "max_epochs": 1}, label_names=found.label_names)
    clf.fit(found.X, found.y, groups=found.groups)
    again = CXRClassifier.load(clf.save(tmp_path / "model"))
    assert again.classes_.tolist() == ["Nodule", "Edema"]
    assert again.label_names == ("Nodule", "Edema")
    explained = again.explain(found.X[:2], found.y[:2], target="Edema")
    assert explained.prediction.true_label.tolist() == ["Edema" if one else "not Edema" for one in y[:2, 0]]


def test_boxes_judge_maps(data, model):
    X, y, _ = data
    rows = np.flatnonzero(y[:, 0] == 1)[:5]
    masks = BoxMasks([np.array([[9, 2, 6, 6]]) if one else np.empty((0, 4)) for one in y[:, 0]], (24, 24))
    request = {"methods": ["occlusion"], "metrics": ["relevance_mass"], "target": "top"}
    table = benchmark_images(model, X[rows], masks=masks[rows], **request)
    drawn = np.zeros((5, 24, 24), dtype=bool)
    drawn[:, 2:8, 9:15] = True
    expected = benchmark_images(model, X[rows], masks=drawn, **request)
    np.testing.assert_array_equal(table["value"], expected["value"])
    assert table["value"].mean() > 2 * 36 / 576
