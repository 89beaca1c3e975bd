"""Explanation quality inside scikit-learn's own tools."""

from __future__ import annotations

import copy
import inspect
import itertools
import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.metrics import get_scorer, make_scorer, roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold, cross_val_score, cross_validate

from cxr_estimator import CXRClassifier, xai_scorer, xai_scorers
from cxr_estimator.errors import (
    DataError,
    InvalidParameterError,
    InvalidTypeError,
    ScoreWarning,
    SkippedImagesWarning,
)
from cxr_estimator.metrics import METRICS, measure
from tests.conftest import small_classifier

FAST = {"steps": 4, "n_references": 2}
GRAD_CAM = xai_scorer("grad_cam:deletion_auc", n_samples=12, **FAST)


@pytest.fixture
def fits_at_once(fitted, monkeypatch):
    """Let every classifier become `fitted` when it is fitted."""

    def fit(self, X, y, **ignored):
        learned = {name: value for name, value in vars(fitted).items() if name not in self.get_params()}
        vars(self).update(learned)
        return self

    monkeypatch.setattr(CXRClassifier, "fit", fit)


def failing_in_call(number):
    """Return a scorer that raises in one of its calls."""
    calls = itertools.count()

    def score(estimator, X, y):
        if next(calls) == number:
            raise ZeroDivisionError("nothing to divide by")
        return 0.5

    return score


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


def test_grid_search(phantoms):
    """`cross_validate` is in test_two_processes.py."""
    scoring = xai_scorers({"auc": "roc_auc", "faithfulness": "grad_cam:aopc"}, n_samples=8, **FAST)
    cv = StratifiedGroupKFold(2)
    clf = small_classifier(max_epochs=1, validation_fraction=0.0)
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
        for other in (pickle.loads(pickle.dumps(scorer)), clone(scorer), clone(scorer, safe=False)):
            assert repr(other) == repr(scorer)
            assert other(fitted, phantoms.X, phantoms.y) == scorer(fitted, phantoms.X, phantoms.y)
    assert repr(GRAD_CAM) == (
        "xai_scorer('grad_cam:deletion_auc', n_samples=12, random_state=0, relative=True, n_references=2, steps=4)"
    )
    assert eval(repr(GRAD_CAM)) == GRAD_CAM
    assert xai_scorer("grad_cam:deletion_auc", n_samples=13, **FAST) != GRAD_CAM


def test_a_trained_network_outscores_an_untrained_one_by_every_relative_metric(phantoms, fitted):
    untrained = small_classifier(max_epochs=1, learning_rate=1e-9, validation_fraction=0.0)
    untrained.fit(phantoms.X, phantoms.y, groups=phantoms.groups)
    names = [name for name, metric in METRICS.items() if metric.has_reference_maps]
    options = {"n_samples": 20, "method_options": {"window": 8, "stride": 8}, "steps": 8}
    scorer = xai_scorers({name: f"occlusion:{name}" for name in names}, **options)
    trained, random = scorer(fitted, phantoms.X, phantoms.y), scorer(untrained, phantoms.X, phantoms.y)
    assert len(names) == 12
    assert {name for name in names if not trained[name] > random[name]} == set()


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
        ("grad_cam:aopc", {"n_samples": 10**9}, "n_samples"),
        ("grad_cam:aopc", {"n_references": 0}, "n_references"),
        ("grad_cam:aopc", {"n_references": 10**9}, "n_references"),
        ("grad_cam:aopc", {"method_options": "abc"}, "a dict of the options of the method"),
        ("grad_cam:aopc", {"method_options": {"random_state": 3}}, "options of grad_cam"),
        ("occlusion:aopc", {"method_options": {"windoww": 3}}, "Did you mean 'window'"),
        ("grad_cam:aopc", {"relative": "yes"}, "relative"),
    ],
)
def test_bad_requests_fail_at_once(spec, options, match):
    with pytest.raises((InvalidParameterError, InvalidTypeError), match=match):
        xai_scorer(spec, **options)


@pytest.mark.parametrize(
    "scorers",
    ["roc_auc", {}, [], {"a": "no_such_score"}, {"a": 3}, 5, [GRAD_CAM], {"a": xai_scorers(["roc_auc"])}],
)
def test_bad_collections_fail_at_once(scorers):
    with pytest.raises(InvalidParameterError, match="scorers"):
        xai_scorers(scorers)


def test_options_that_nothing_takes_are_refused():
    with pytest.raises(InvalidParameterError, match=r"'options' .* empty"):
        xai_scorers({"auc": "roc_auc", "faithfulness": GRAD_CAM}, n_samples=4)


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


# -- what two requests share


@pytest.mark.filterwarnings("ignore::cxr_estimator.errors.BackgroundWarning")
def test_requests_differ_where_large_arrays_do(fitted, phantoms, monkeypatch):
    here, there = (
        xai_scorer("gradient_shap:aopc", n_samples=2, background=phantoms.X[rows], method_options={"n_samples": 2})
        for rows in (slice(0, 80, 4), slice(1, 80, 4))
    )
    assert here != there
    assert len({here, there, pickle.loads(pickle.dumps(here))}) == 2
    assert "background=array of shape (20, 32, 32)" in repr(here)
    found = xai_scorers({"here": here, "there": there}, error_score="raise")(fitted, phantoms.X, phantoms.y)
    assert found["here"] != found["there"]
    assert found["there"] == there(fitted, phantoms.X, phantoms.y)


def test_a_request_reaches_the_options_of_every_metric(fitted, phantoms):
    own = set(inspect.signature(xai_scorer).parameters) | {"target", "batch_size", "background", "error_bars"}
    for name, metric in METRICS.items():
        assert not own & set(metric.options), name
    scorer = xai_scorer("saliency:max_sensitivity", n_samples=2, n_draws=1)
    assert scorer(fitted, phantoms.X, phantoms.y) < 0


# -- members that fail


def test_a_member_that_fails_in_one_fold_is_nan_there(phantoms, fits_at_once):
    data = {"X": phantoms.X, "y": phantoms.y, "groups": phantoms.groups}
    cv = StratifiedGroupKFold(2)
    scoring = xai_scorers({"faithfulness": GRAD_CAM, "mine": failing_in_call(0)})
    with pytest.warns(ScoreWarning, match="mine failed and is set to nan. ZeroDivisionError: nothing to divide by"):
        found = cross_validate(small_classifier(), **data, cv=cv, scoring=scoring, error_score="raise")
    assert np.isnan(found["test_mine"]).tolist() == [True, False]
    assert np.isfinite(found["test_faithfulness"]).all()
    scoring = xai_scorers({"faithfulness": GRAD_CAM, "mine": failing_in_call(3)})
    search = GridSearchCV(small_classifier(), {"max_epochs": [1, 2]}, scoring=scoring, refit="faithfulness", cv=cv)
    with pytest.warns(ScoreWarning, match="mine failed"), pytest.warns(UserWarning, match="non-finite"):
        search.fit(**data)
    assert np.isnan(search.cv_results_["split1_test_mine"]).tolist() == [False, True]
    assert np.isfinite(search.cv_results_["mean_test_faithfulness"]).all()


def test_of_scorers_that_share_explanations_only_the_one_that_fails_is_lost(fitted, phantoms):
    X, y = phantoms.X[:6], phantoms.y[:6]
    scorers = {"aopc": "grad_cam:aopc", "mass": "grad_cam:relevance_mass"}  # which wants masks
    with pytest.warns(ScoreWarning, match="mass failed .* 'masks' parameter"):
        found = xai_scorers(scorers, error_score=-1)(fitted, X, y)
    assert found == {"aopc": xai_scorer("grad_cam:aopc")(fitted, X, y), "mass": -1}
    with pytest.raises(InvalidParameterError, match="'masks' parameter"):
        xai_scorers(scorers, error_score="raise")(fitted, X, y)
    with pytest.raises(InvalidParameterError, match="error_score"):
        xai_scorers(scorers, error_score="ignore")


def test_the_work_can_be_stopped(fitted, phantoms):
    def stop(estimator, X, y):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        xai_scorers({"mine": stop})(fitted, phantoms.X, phantoms.y)


def test_a_fold_of_one_class(fitted, phantoms):
    rows = phantoms.y == "NORMAL"
    auc = make_scorer(lambda y, p: roc_auc_score(y, p) if len(set(y)) == 2 else 1 / 0, response_method="predict_proba")
    with pytest.warns(ScoreWarning, match="auc failed .* ZeroDivisionError"):
        found = xai_scorers({"auc": auc, "faithfulness": GRAD_CAM})(fitted, phantoms.X[rows], phantoms.y[rows])
    assert np.isnan(found["auc"])
    assert np.isfinite(found["faithfulness"])


# -- images that cannot be read


def test_scorers_of_scikit_learn_are_spared_unreadable_images(fitted, phantoms):
    clf = copy.copy(fitted).set_params(on_error="skip")
    X, y = ["a.png", *phantoms.X[:20]], ["NORMAL", *phantoms.y[:20]]
    scorer = xai_scorers({"auc": "roc_auc", "brier": "neg_brier", "faithfulness": "grad_cam:aopc"}, **FAST)
    with pytest.warns(SkippedImagesWarning), pytest.warns(ScoreWarning, match="auc, brier: 1 of 21 images could not"):
        found = scorer(clf, X, y)
    assert found == pytest.approx(scorer(fitted, phantoms.X[:20], phantoms.y[:20]), abs=1e-6)
    with pytest.warns(SkippedImagesWarning), pytest.warns(ScoreWarning, match="roc_auc failed .* none of the 1 images"):
        assert np.isnan(xai_scorers(["roc_auc"])(clf, X[:1], y[:1])["roc_auc"])


# -- what scorers are told


@pytest.mark.usefixtures("metadata_routing", "fits_at_once")
def test_what_members_ask_for_is_asked_for(phantoms):
    asking = xai_scorer("grad_cam:relevance_mass", n_samples=8).set_score_request(masks="lungs")
    plain = xai_scorer("grad_cam:aopc", n_samples=8, **FAST)
    scoring = xai_scorers({"mass": asking, "aopc": plain, "auc": "roc_auc"}, error_score="raise")
    found = cross_validate(
        small_classifier(), phantoms.X, phantoms.y, cv=2, scoring=scoring, params={"lungs": phantoms.lung_masks}
    )
    assert np.isfinite(found["test_mass"]).all()
    with pytest.raises(InvalidParameterError, match="ask for masks by one name"):
        xai_scorers({"mass": asking, "aopc": plain.set_score_request(masks=True)}).get_metadata_routing()
    weighted = get_scorer("roc_auc").set_score_request(sample_weight=True)
    with pytest.raises(InvalidParameterError, match="sample_weight is not supported"):
        xai_scorers({"auc": weighted}).get_metadata_routing()


@pytest.mark.parametrize("scorer", [GRAD_CAM, xai_scorers(["grad_cam:aopc", "roc_auc"])])
@pytest.mark.parametrize("name", ["mask", "sample_weight"])
def test_keywords_that_are_not_known_are_refused(fitted, phantoms, scorer, name):
    with pytest.raises(InvalidTypeError, match=f"sample_weight is not supported.*'{name}'"):
        scorer(fitted, phantoms.X, phantoms.y, **{name: np.ones(80)})


@pytest.mark.parametrize(
    ("X", "y", "masks", "match"),
    [
        (None, None, None, "None"),
        (np.zeros((4, 32, 32), np.uint8), ["NORMAL"] * 3, None, "X has 4 images but y has 3 labels"),
        (np.zeros((4, 32, 32), np.uint8), None, np.ones((3, 32, 32), bool), "one mask for each of the 4 images"),
        (np.zeros((4, 32, 32), np.uint8), None, 7, "one mask for each of the 4 images"),
    ],
)
def test_a_sample_of_what_does_not_fit_together(fitted, X, y, masks, match):
    with pytest.raises((InvalidTypeError, InvalidParameterError, DataError), match=match):
        xai_scorer("grad_cam:relevance_mass", n_samples=2)(fitted, X, y, masks=masks)


def test_a_search_over_networks_and_sizes(phantoms):
    search = GridSearchCV(
        small_classifier(max_epochs=1, validation_fraction=0.0),
        [{"backbone": ["plain_cnn", "resnet10t"], "image_size": [32]}, {"image_size": [24]}],
        scoring=xai_scorers({"auc": "roc_auc", "faithfulness": "saliency:aopc"}, n_samples=4, **FAST),
        refit=False,
        cv=StratifiedGroupKFold(2),
    )
    search.fit(phantoms.X[:24], phantoms.y[:24], groups=phantoms.groups[:24])
    assert len(search.cv_results_["params"]) == 3
    assert np.isfinite(search.cv_results_["mean_test_faithfulness"]).all()


def test_each_metric_takes_the_options_it_knows():
    found = xai_scorers(["grad_cam:aopc", "grad_cam:border_mass", "roc_auc"], steps=5, width=0.2, n_samples=3).scorers
    assert found["grad_cam:aopc"] == xai_scorer("grad_cam:aopc", n_samples=3, steps=5)
    assert found["grad_cam:border_mass"] == xai_scorer("grad_cam:border_mass", n_samples=3, width=0.2)
    with pytest.raises(InvalidParameterError, match="'stepps'"):
        xai_scorers(["grad_cam:aopc", "grad_cam:border_mass"], stepps=5)
