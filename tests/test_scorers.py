"""Explanation quality inside scikit-learn's own tools."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold, cross_val_score, cross_validate

from cxr_estimator import xai_scorer, xai_scorers
from cxr_estimator.errors import InvalidParameterError, InvalidTypeError, ScoreWarning
from cxr_estimator.metrics import METRICS, measure
from tests.conftest import small_classifier

FAST = {"steps": 4, "n_references": 2}
GRAD_CAM = xai_scorer("grad_cam:deletion_auc", n_samples=12, **FAST)


def test_it_is_the_mean_of_the_metric(fitted, phantoms, explained):
    explanation, context = explained(slice(0, 8))
    found = xai_scorer("occlusion:deletion_auc", target="PNEUMONIA", **FAST)(fitted, phantoms.X[:8], phantoms.y[:8])
    expected = measure("deletion_auc", explanation, context, **FAST)
    np.testing.assert_allclose(found, expected.mean(), atol=1e-6)


@pytest.mark.parametrize("metric", ["deletion_auc", "sensitivity_n", "sparsity_90", "relevance_mass", "border_mass"])
def test_greater_is_better(fitted, phantoms, explained, metric):
    explanation, context = explained(slice(0, 6))
    scorer = xai_scorer(f"occlusion:{metric}", target="PNEUMONIA", relative=False)
    found = scorer(fitted, phantoms.X[:6], phantoms.y[:6], masks=phantoms.lung_masks[:6])
    sign = 1 if METRICS[metric].greater_is_better else -1
    np.testing.assert_allclose(found, sign * measure(metric, explanation, context, relative=False).mean(), atol=1e-5)


def test_cross_val_score_with_patients_kept_apart(phantoms):
    scores = cross_val_score(
        small_classifier(max_epochs=1, validation_fraction=0.0),
        phantoms.X,
        phantoms.y,
        groups=phantoms.groups,
        cv=StratifiedGroupKFold(2),
        scoring=GRAD_CAM,
        error_score="raise",
    )
    assert scores.shape == (2,)
    assert np.isfinite(scores).all()


def test_one_callable_gives_several_scores_and_explains_once(phantoms, fitted, monkeypatch):
    scorer = xai_scorers(
        {
            "auc": "roc_auc",
            "deletion": "grad_cam:deletion_auc",
            "aopc": "grad_cam:aopc",
            "occlusion": xai_scorer("occlusion:deletion_auc", n_samples=10, **FAST),
            "calibration": "neg_brier",
            "mine": lambda estimator, X, y: float(len(X)),
        },
        n_samples=10,
        **FAST,
    )
    before = fitted.model_.__class__.forward
    count = 0

    def counted(self, x):
        nonlocal count
        count += len(x)
        return before(self, x)

    monkeypatch.setattr(fitted.model_.__class__, "forward", counted)
    found = scorer(fitted, phantoms.X, phantoms.y)
    assert list(found) == ["auc", "deletion", "aopc", "occlusion", "calibration", "mine"]
    assert found["mine"] == len(phantoms.X)
    together = count
    count = 0
    for label, spec in (("deletion", "grad_cam:deletion_auc"), ("aopc", "grad_cam:aopc")):
        alone = xai_scorer(spec, n_samples=10, **FAST)(fitted, phantoms.X, phantoms.y)
        np.testing.assert_allclose(found[label], alone, atol=1e-6)
    xai_scorer("occlusion:deletion_auc", n_samples=10, **FAST)(fitted, phantoms.X, phantoms.y)
    assert together < count + 2 * len(phantoms.X)  # the images of roc_auc and neg_brier came on top


def test_cross_validate_and_grid_search(phantoms):
    scoring = xai_scorers({"auc": "roc_auc", "faithfulness": "grad_cam:aopc"}, n_samples=8, **FAST)
    cv = StratifiedGroupKFold(2)
    clf = small_classifier(max_epochs=1, validation_fraction=0.0)
    found = cross_validate(
        clf, phantoms.X, phantoms.y, groups=phantoms.groups, cv=cv, scoring=scoring, error_score="raise", n_jobs=2
    )
    assert np.isfinite(found["test_auc"]).all()
    assert np.isfinite(found["test_faithfulness"]).all()
    search = GridSearchCV(clf, {"max_epochs": [1, 2]}, scoring=scoring, refit="faithfulness", cv=cv)
    search.fit(phantoms.X, phantoms.y, groups=phantoms.groups)
    assert {"mean_test_auc", "mean_test_faithfulness"} <= set(search.cv_results_)
    assert search.best_params_["max_epochs"] in (1, 2)
    assert repr(clone(search).scoring) == repr(scoring)


@pytest.mark.usefixtures("metadata_routing")
@pytest.mark.parametrize("as_dict", [False, True])
def test_masks_arrive_by_metadata_routing(phantoms, as_dict):
    scorer = xai_scorer("grad_cam:relevance_mass", n_samples=8)
    scoring = xai_scorers({"mass": scorer, "auc": "roc_auc"}) if as_dict else scorer
    scoring = scoring.set_score_request(masks="lungs")
    found = cross_validate(
        small_classifier(max_epochs=1).set_fit_request(groups=True),
        phantoms.X,
        phantoms.y,
        cv=StratifiedGroupKFold(2),
        scoring=scoring,
        params={"groups": phantoms.groups, "lungs": phantoms.lung_masks},
        error_score="raise",
    )
    assert np.isfinite(found["test_mass" if as_dict else "test_score"]).all()


def test_masks_are_asked_for(fitted, phantoms):
    scorer = xai_scorer("grad_cam:relevance_mass")
    with pytest.raises(InvalidParameterError, match="'masks' parameter of relevance_mass"):
        scorer(fitted, phantoms.X[:4], phantoms.y[:4])
    with pytest.raises(InvalidParameterError, match="one mask for each of the 4 images"):
        scorer(fitted, phantoms.X[:4], phantoms.y[:4], masks=phantoms.lung_masks[:3])


def test_images_without_a_value_are_counted(fitted, phantoms):
    masks = phantoms.lung_masks[:6].copy()
    masks[1:3] = False
    scorer = xai_scorer("grad_cam:relevance_mass", target="PNEUMONIA")
    with pytest.warns(ScoreWarning, match="undefined for 2 of 6 images"):
        found = scorer(fitted, phantoms.X[:6], phantoms.y[:6], masks=masks)
    rest = [0, 3, 4, 5]
    np.testing.assert_allclose(found, scorer(fitted, phantoms.X[rest], phantoms.y[rest], masks=masks[rest]), rtol=1e-5)
    with pytest.warns(ScoreWarning):
        assert np.isnan(scorer(fitted, phantoms.X[:2], phantoms.y[:2], masks=np.zeros_like(masks[:2])))


def test_a_sample_above_the_fold_uses_all_and_warns(fitted, phantoms):
    scorer = xai_scorer("grad_cam:aopc", n_samples=50, **FAST)
    with pytest.warns(UserWarning, match="n_samples=50, but there are 6 images"):
        found = scorer(fitted, phantoms.X[:6], phantoms.y[:6])
    np.testing.assert_allclose(found, xai_scorer("grad_cam:aopc", **FAST)(fitted, phantoms.X[:6], phantoms.y[:6]))


def test_a_sample_is_the_same_for_lists_arrays_and_series(fitted, phantoms):
    found = GRAD_CAM(fitted, phantoms.X, phantoms.y)
    assert GRAD_CAM(fitted, list(phantoms.X), pd.Series(phantoms.y, index=np.arange(80)[::-1])) == found
    assert GRAD_CAM(fitted, phantoms.X, None) == found


def test_pickle_clone_repr_and_equality(fitted, phantoms):
    for scorer in (GRAD_CAM, xai_scorers(["grad_cam:aopc", "roc_auc"], n_samples=4)):
        for copy in (pickle.loads(pickle.dumps(scorer)), clone(scorer), clone(scorer, safe=False)):
            assert repr(copy) == repr(scorer)
            assert copy(fitted, phantoms.X, phantoms.y) == scorer(fitted, phantoms.X, phantoms.y)
    assert repr(GRAD_CAM) == (
        "xai_scorer('grad_cam:deletion_auc', n_samples=12, random_state=0, relative=True, n_references=2, steps=4)"
    )
    assert eval(repr(GRAD_CAM)) == GRAD_CAM
    assert xai_scorer("grad_cam:deletion_auc", n_samples=13, **FAST) != GRAD_CAM


def test_a_trained_network_outscores_an_untrained_one(phantoms, fitted):
    untrained = small_classifier(max_epochs=1, learning_rate=1e-9, validation_fraction=0.0)
    untrained.fit(phantoms.X, phantoms.y, groups=phantoms.groups)
    scorer = xai_scorer("occlusion:deletion_auc", n_samples=20, method_options={"window": 8, "stride": 8})
    assert scorer(fitted, phantoms.X, phantoms.y) > scorer(untrained, phantoms.X, phantoms.y)


def test_a_constant_network_scores_nothing(phantoms, fitted):
    constant = clone(fitted).set_params(max_epochs=1)
    constant.fit(phantoms.X[:32], phantoms.y[:32], groups=phantoms.groups[:32])
    for parameter in constant.model_.head.parameters():
        parameter.data.zero_()
    for method in ("grad_cam", "occlusion", "saliency"):
        for metric in ("deletion_auc", "insertion_auc", "aopc"):
            score = xai_scorer(f"{method}:{metric}", n_samples=6, **FAST)(constant, phantoms.X, phantoms.y)
            np.testing.assert_allclose(score, 0.0, atol=1e-7)


@pytest.mark.parametrize(
    ("spec", "options", "match"),
    [
        ("grad_cam", {}, "'method:metric'"),
        ("gradcam:aopc", {}, "Did you mean 'grad_cam'"),
        ("grad_cam:aop", {}, "Did you mean 'aopc'"),
        (7, {}, "'method:metric'"),
        ("grad_cam:aopc", {"stepps": 3}, "Did you mean 'steps'"),
        ("grad_cam:aopc", {"n_samples": 0}, "n_samples"),
        ("grad_cam:aopc", {"n_references": 0}, "n_references"),
        ("grad_cam:aopc", {"relative": "yes"}, "relative"),
    ],
)
def test_bad_requests_fail_at_once(spec, options, match):
    with pytest.raises((InvalidParameterError, InvalidTypeError), match=match):
        xai_scorer(spec, **options)


@pytest.mark.parametrize("scorers", ["roc_auc", {}, [], {"a": "no_such_score"}, {"a": 3}, 5])
def test_bad_collections_fail_at_once(scorers):
    with pytest.raises(InvalidParameterError, match="scorers"):
        xai_scorers(scorers)


def test_other_estimators_are_refused(phantoms):
    from sklearn.dummy import DummyClassifier

    with pytest.raises(InvalidTypeError, match="a CXRClassifier"):
        GRAD_CAM(DummyClassifier(), phantoms.X, phantoms.y)


def test_methods_take_their_options(fitted, phantoms):
    narrow, wide = (
        xai_scorer("occlusion:aopc", method_options={"window": window, "stride": window}, **FAST)(
            fitted, phantoms.X[:4], phantoms.y[:4]
        )
        for window in (4, 16)
    )
    assert narrow != wide
    with pytest.raises(InvalidParameterError, match="options of occlusion"):
        xai_scorer("occlusion:aopc", method_options={"windoww": 3})(fitted, phantoms.X[:4], phantoms.y[:4])
