"""Clinical scorers: the numbers, and scikit-learn's tools that use them."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV, calibration_curve
from sklearn.datasets import make_classification
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, roc_curve
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils.metadata_routing import get_routing_for_object

from cxr_estimator import clinical_scorer
from cxr_estimator.clinical import (
    CLINICAL,
    brier,
    expected_calibration_error,
    sensitivity_at_specificity,
    specificity_at_sensitivity,
)
from cxr_estimator.errors import DataError, InvalidParameterError, InvalidTypeError, ScoreWarning, SkippedImagesWarning
from tests.conftest import small_classifier

# Cut at 0.7 or above: sensitivity 1/3, specificity 1. From 0.5 on (a tie): 2/3 and 2/3. From 0.3 on: 1 and 2/3.
PROBA = np.array([0.1, 0.3, 0.5, 0.5, 0.7, 0.2])
POSITIVE = np.array([False, True, True, False, True, False])

two_labels = st.lists(
    st.tuples(st.integers(0, 12).map(lambda tick: tick / 12), st.booleans()), min_size=2, max_size=40
).filter(lambda pairs: len({label for _, label in pairs}) == 2)


def arrays(pairs):
    return np.array([proba for proba, _ in pairs]), np.array([label for _, label in pairs])


# -- the numbers


@pytest.mark.parametrize(("specificity", "expected"), [(1.0, 1 / 3), (0.9, 1 / 3), (2 / 3, 1.0), (0.1, 1.0)])
def test_sensitivity_at_specificity_by_hand(specificity, expected):
    assert sensitivity_at_specificity(PROBA, POSITIVE, specificity=specificity) == pytest.approx(expected)


@pytest.mark.parametrize(("sensitivity", "expected"), [(1.0, 2 / 3), (0.9, 2 / 3), (1 / 3, 1.0), (0.34, 2 / 3)])
def test_specificity_at_sensitivity_by_hand(sensitivity, expected):
    assert specificity_at_sensitivity(PROBA, POSITIVE, sensitivity=sensitivity) == pytest.approx(expected)


def test_equal_probabilities_cannot_be_parted():
    proba, positive = [0.5, 0.5, 0.5, 0.5], [True, True, True, False]
    assert sensitivity_at_specificity(proba, positive) == 0.0
    assert specificity_at_sensitivity(proba, positive) == 0.0


@given(two_labels, st.floats(0.01, 1.0))
def test_points_of_the_roc_curve_equal_scikit_learn(pairs, at_least):
    proba, positive = arrays(pairs)
    false_positives, sensitivity, _ = roc_curve(positive, proba, drop_intermediate=False)
    specificity = 1.0 - false_positives
    nearly = at_least - 1e-12  # scikit-learn's specificity is rounded twice
    assert sensitivity_at_specificity(proba, positive, specificity=at_least) == pytest.approx(
        sensitivity[specificity >= nearly].max()
    )
    assert specificity_at_sensitivity(proba, positive, sensitivity=at_least) == pytest.approx(
        specificity[sensitivity >= nearly].max()
    )


@pytest.mark.parametrize("function", [sensitivity_at_specificity, specificity_at_sensitivity])
@pytest.mark.parametrize("label", [True, False])
def test_a_point_of_the_roc_curve_needs_both_labels(function, label):
    assert np.isnan(function([0.2, 0.8], [label, label]))


def test_calibration_error_by_hand():
    # (0, 0.5]: mean 0.32 (0.1, 0.3, 0.5, 0.5, 0.2), 2 of 5 positive; (0.5, 1]: mean 0.7, 1 of 1 positive
    assert expected_calibration_error(PROBA, POSITIVE, n_bins=2) == pytest.approx((5 * 0.08 + 1 * 0.3) / 6)
    # the median is 0.4: mean 0.2 and 1 of 3 positive; mean 1.7 / 3 and 2 of 3 positive
    by_quantile = expected_calibration_error(PROBA, POSITIVE, n_bins=2, strategy="quantile")
    assert by_quantile == pytest.approx((abs(0.2 - 1 / 3) + abs(1.7 / 3 - 2 / 3)) / 2)
    assert expected_calibration_error([0.0, 1.0], [False, True]) == 0.0
    assert expected_calibration_error([0.0, 1.0], [True, False]) == 1.0
    assert expected_calibration_error([0.25] * 4, [True, False, False, False]) == 0.0


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
@given(two_labels, st.integers(1, 15))
def test_calibration_error_equals_a_slow_loop(strategy, pairs, n_bins):
    proba, positive = arrays(pairs)
    edges = [number / n_bins for number in range(n_bins + 1)]
    if strategy == "quantile":
        edges = np.quantile(proba, edges).tolist()
    total = 0.0
    for number in range(n_bins):
        low, high = (-1.0 if number == 0 else edges[number]), edges[number + 1]
        inside = [i for i in range(len(proba)) if low < proba[i] <= high]
        if inside:
            total += len(inside) * abs(np.mean([proba[i] for i in inside]) - np.mean([positive[i] for i in inside]))
    found = expected_calibration_error(proba, positive, n_bins=n_bins, strategy=strategy)
    assert found == pytest.approx(total / len(proba), abs=1e-12)


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
def test_calibration_error_has_the_bins_of_scikit_learn(strategy):
    rng = np.random.default_rng(0)
    proba = rng.beta(2, 5, 100)
    positive = rng.random(100) < proba**2
    frequency, mean = calibration_curve(positive, proba, n_bins=5, strategy=strategy)
    edges = np.linspace(0, 1, 6) if strategy == "uniform" else np.percentile(proba, np.linspace(0, 100, 6))
    counts = np.histogram(proba, edges)[0]
    assert expected_calibration_error(proba, positive, n_bins=5, strategy=strategy) == pytest.approx(
        np.sum(counts[counts > 0] * np.abs(frequency - mean)) / 100
    )


def test_brier_by_hand_and_by_scikit_learn():
    assert brier([0.9, 0.4], [True, False]) == pytest.approx((0.01 + 0.16) / 2)
    assert brier(PROBA, POSITIVE) == pytest.approx(brier_score_loss(POSITIVE, PROBA))


@pytest.mark.parametrize("metric", CLINICAL.values(), ids=CLINICAL)
def test_rows(metric):
    for positive in (POSITIVE, ~POSITIVE):
        value = metric.function(PROBA, positive)
        assert metric.range[0] <= value <= metric.range[1]
        assert metric.score(PROBA, positive) == (value if metric.greater_is_better else -value)
    perfect, opposite = metric.score(POSITIVE, POSITIVE), metric.score(~POSITIVE, POSITIVE)
    assert perfect == (1.0 if metric.greater_is_better else 0.0)
    assert opposite == (0.0 if metric.greater_is_better else -1.0)


@pytest.mark.parametrize("metric", CLINICAL.values(), ids=CLINICAL)
def test_bad_arrays(metric):
    with pytest.raises(InvalidTypeError, match=r"'positive' parameter of .* must be an array of bool"):
        metric.function([0.1, 0.2], [0, 1])
    with pytest.raises(InvalidParameterError, match=r"of the shape \(2,\)"):
        metric.function([0.1, 0.2], [True])
    for bad in ([0.1, 1.2], [-0.1, 0.1], [np.nan, 0.1], [[0.1, 0.2]], []):
        with pytest.raises(InvalidParameterError, match="'proba' parameter"):
            metric.function(bad, [True, False])


# -- the scorers

NAMES = sorted(CLINICAL)


@pytest.fixture(scope="module")
def table():
    """Rows, labels, groups and a fitted logistic regression."""
    X, y = make_classification(120, flip_y=0.2, random_state=0)
    y = np.array(["sick", "well"])[y]  # the usual positive label is classes_[0] here
    return X, y, np.arange(120) // 2, LogisticRegression().fit(X, y)


@pytest.mark.parametrize("name", NAMES)
def test_scores_of_phantoms(fitted, phantoms, name):
    proba, positive = fitted.predict_proba(phantoms.X)[:, 1], phantoms.y == "PNEUMONIA"
    score = clinical_scorer(name)(fitted, phantoms.X, phantoms.y)
    assert isinstance(score, float)
    assert score == CLINICAL[name].score(proba, positive)


@pytest.mark.parametrize("name", NAMES)
def test_the_positive_label_decides_the_column(fitted, phantoms, name):
    other = copy.copy(fitted)
    other.pos_label_ = "NORMAL"
    proba, positive = fitted.predict_proba(phantoms.X)[:, 0], phantoms.y == "NORMAL"
    expected = CLINICAL[name].score(proba, positive)
    assert clinical_scorer(name)(other, phantoms.X, phantoms.y) == expected
    assert clinical_scorer(name, pos_label="NORMAL")(fitted, phantoms.X, phantoms.y) == expected
    assert clinical_scorer(name, pos_label="PNEUMONIA")(other, phantoms.X, phantoms.y) == clinical_scorer(name)(
        fitted, phantoms.X, phantoms.y
    )


def test_swapping_the_labels_swaps_sensitivity_and_specificity(table):
    X, y, _, clf = table
    one = clinical_scorer("sensitivity_at_specificity", specificity=0.8, pos_label="sick")(clf, X, y)
    other = clinical_scorer("specificity_at_sensitivity", sensitivity=0.8, pos_label="well")(clf, X, y)
    assert one == other
    assert one != clinical_scorer("sensitivity_at_specificity", specificity=0.8, pos_label="well")(clf, X, y)


def test_options_arrive(table):
    X, y, _, clf = table
    proba, positive = clf.predict_proba(X)[:, 1], y == "well"
    for bins in ({"n_bins": 3}, {"n_bins": 5, "strategy": "quantile"}):
        expected = -expected_calibration_error(proba, positive, **bins)
        assert clinical_scorer("neg_expected_calibration_error", **bins)(clf, X, y) == expected


def test_labels_of_wrappers(table):
    """A classifier without `pos_label_` is asked about `classes_[1]`."""
    X, y, _, clf = table
    for wrapper in (
        make_pipeline(StandardScaler(), LogisticRegression()),
        CalibratedClassifierCV(clf, cv=2),
        GridSearchCV(LogisticRegression(), {"C": [1.0]}, cv=2),
    ):
        wrapper.fit(X, y)
        for index, label in enumerate(["sick", "well"]):
            expected = -brier_score_loss(y == label, wrapper.predict_proba(X)[:, index])
            assert clinical_scorer("neg_brier", pos_label=label)(wrapper, X, y) == pytest.approx(expected)
        assert clinical_scorer("neg_brier")(wrapper, X, y) == pytest.approx(expected)


@pytest.mark.parametrize("labels", [[0, 1], [False, True], [-1.0, 1.0]])
def test_labels_need_not_be_text(table, labels):
    X, y, *_ = table
    y = np.where(y == "sick", labels[0], labels[1])
    clf = LogisticRegression().fit(X, y)
    expected = -brier_score_loss(y == labels[0], clf.predict_proba(X)[:, 0])
    for label in (labels[0], np.asarray(labels)[0]):
        scorer = clinical_scorer("neg_brier", pos_label=label)
        assert scorer(clf, X, y) == pytest.approx(expected)
        assert scorer(clf, X, y.tolist()) == pytest.approx(expected)


@pytest.mark.parametrize("name", NAMES)
def test_several_classes_are_refused(three_classes, name):
    X, y, clf = three_classes
    with pytest.raises(InvalidParameterError, match=rf"'estimator' parameter of {name} must be .* of two classes"):
        clinical_scorer(name)(clf, X, y)


def test_one_class_is_refused(table):
    X, y, *_ = table
    one = DummyClassifier().fit(X, ["sick"] * 120)
    with pytest.raises(InvalidParameterError, match=r"two classes\. Got \['sick'\]"):
        clinical_scorer("neg_brier")(one, X, y)


def test_estimators_that_cannot_be_scored(table):
    X, y, *_ = table
    scorer = clinical_scorer("neg_brier")
    with pytest.raises(NotFittedError):
        scorer(small_classifier(), X, y)
    for other in (LinearSVC().fit(X, y), GaussianMixture().fit(X)):
        with pytest.raises(InvalidTypeError, match="must be a classifier with predict_proba"):
            scorer(other, X, y)
    with pytest.raises(TypeError):
        scorer("model", X, y)


def test_labels_that_do_not_fit(table):
    X, y, _, clf = table
    with pytest.raises(
        InvalidParameterError, match=r"'pos_label' parameter of neg_brier must be one of 'sick', 'well'"
    ):
        clinical_scorer("neg_brier", pos_label="ill")(clf, X, y)
    with pytest.raises(DataError, match="neg_brier: y holds labels the model does not know"):
        clinical_scorer("neg_brier")(clf, X, np.where(y == "sick", "ill", y))
    with pytest.raises(DataError, match="neg_brier: X has 120 images but y has 3 labels"):
        clinical_scorer("neg_brier")(clf, X, y[:3])


@pytest.mark.parametrize("name", ["sensitivity_at_specificity", "specificity_at_sensitivity"])
@pytest.mark.parametrize(("present", "missing"), [("sick", "well"), ("well", "sick")])
@pytest.mark.parametrize("pos_label", [None, "sick", "well"])
def test_a_missing_class_gives_nan_and_is_named(table, name, present, missing, pos_label):
    X, y, _, clf = table
    rows = y == present
    with pytest.warns(ScoreWarning, match=rf"{name}: undefined .* none of the {rows.sum()} images is '{missing}'"):
        score = clinical_scorer(name, pos_label=pos_label)(clf, X[rows], y[rows])
    assert np.isnan(score)


@pytest.mark.parametrize("name", ["neg_expected_calibration_error", "neg_brier"])
def test_calibration_needs_no_second_class(table, name):
    X, y, _, clf = table
    assert np.isfinite(clinical_scorer(name)(clf, X[y == "sick"], y[y == "sick"]))


@pytest.mark.parametrize("name", NAMES)
def test_unreadable_images_are_left_out_and_counted(fitted, phantoms, name):
    clf = copy.copy(fitted).set_params(on_error="skip")
    scorer = clinical_scorer(name)
    X, y = ["a.png", *phantoms.X[:20], "b.png"], ["NORMAL", *phantoms.y[:20], "PNEUMONIA"]
    with (
        pytest.warns(SkippedImagesWarning),
        pytest.warns(ScoreWarning, match=f"{name}: 2 of 22 images could not be read"),
    ):
        score = scorer(clf, X, y)
    assert score == pytest.approx(scorer(fitted, phantoms.X[:20], phantoms.y[:20]), abs=1e-6)
    with pytest.warns(SkippedImagesWarning), pytest.raises(DataError, match=f"{name}: none of the 1 images"):
        scorer(clf, X[:1], y[:1])


# -- a scorer is a value


@pytest.mark.parametrize(
    "scorer",
    [
        *map(clinical_scorer, NAMES),
        clinical_scorer("sensitivity_at_specificity", specificity=np.float64(0.95), pos_label=np.str_("PNEUMONIA")),
        clinical_scorer("neg_expected_calibration_error", n_bins=np.int64(5), strategy="quantile", pos_label=1),
    ],
    ids=repr,
)
def test_copies_and_repr(scorer):
    for same in (pickle.loads(pickle.dumps(scorer)), clone(scorer), copy.deepcopy(scorer), eval(repr(scorer))):
        assert same == scorer
        assert hash(same) == hash(scorer)
        assert repr(same) == repr(scorer)


def test_repr_shows_what_was_not_given():
    scorer = clinical_scorer("neg_expected_calibration_error", pos_label="A")
    assert (
        repr(scorer)
        == "clinical_scorer('neg_expected_calibration_error', pos_label='A', n_bins=10, strategy='uniform')"
    )
    assert scorer == clinical_scorer("neg_expected_calibration_error", strategy="uniform", pos_label="A")
    assert scorer != clinical_scorer("neg_expected_calibration_error", n_bins=5, pos_label="A")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("neg_brierr", {}, "'name' parameter of clinical_scorer must be one of .* Did you mean 'neg_brier'"),
        ("neg_brier", {"n_bins": 3}, "'options of neg_brier' .* must be empty"),
        ("sensitivity_at_specificity", {"sensitivity": 0.9}, "must be one of 'specificity'"),
        ("sensitivity_at_specificity", {"specificity": 0.0}, "'specificity' parameter .* > 0.0 and <= 1.0"),
        ("sensitivity_at_specificity", {"specificity": 90}, "'specificity' parameter"),
        ("specificity_at_sensitivity", {"sensitivity": float("nan")}, "'sensitivity' parameter"),
        ("neg_expected_calibration_error", {"n_bins": 0}, "'n_bins' parameter .* >= 1"),
        ("neg_expected_calibration_error", {"strategy": "width"}, "one of 'uniform', 'quantile'"),
    ],
)
def test_bad_options_are_refused_at_once(name, options, message):
    with pytest.raises(InvalidParameterError, match=message):
        clinical_scorer(name, **options)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sensitivity_at_specificity", {"specificity": "0.9"}),
        ("neg_expected_calibration_error", {"n_bins": 2.5}),
        ("neg_brier", {"pos_label": ["sick"]}),
    ],
)
def test_options_of_a_wrong_type(name, options):
    with pytest.raises(InvalidTypeError, match=f"'{next(iter(options))}' parameter"):
        clinical_scorer(name, **options)


# -- scikit-learn's tools

ALL = {name: clinical_scorer(name) for name in NAMES}


def clf():
    """Without an inner validation split, no patient can leak."""
    return small_classifier(max_epochs=1, validation_fraction=0.0)


def test_cross_val_score_on_phantoms(phantoms):
    cv = StratifiedGroupKFold(2)
    scorer = clinical_scorer("sensitivity_at_specificity", specificity=0.8)
    options = {"groups": phantoms.groups, "cv": cv, "error_score": "raise"}
    scores = cross_val_score(clf(), phantoms.X, phantoms.y, scoring=scorer, **options)
    folds = list(cv.split(phantoms.X, phantoms.y, phantoms.groups))
    by_hand = [scorer(clf().fit(phantoms.X[a], phantoms.y[a]), phantoms.X[b], phantoms.y[b]) for a, b in folds]
    assert scores.tolist() == by_hand


def test_search_by_several_scores_on_phantoms(phantoms):
    search = GridSearchCV(
        clf(),
        {"learning_rate": [1e-3, 1e-5]},
        scoring={**ALL, "roc_auc": "roc_auc"},
        refit="neg_brier",
        cv=StratifiedGroupKFold(2),
        error_score="raise",
    )
    search.fit(phantoms.X, phantoms.y, groups=phantoms.groups)
    for name, metric in CLINICAL.items():
        scores = search.cv_results_[f"mean_test_{name}"]
        low, high = metric.range if metric.greater_is_better else (-1.0, 0.0)
        assert ((scores >= low) & (scores <= high)).all()
    assert search.best_index_ == search.cv_results_["mean_test_neg_brier"].argmax()


def test_a_fold_without_a_class_gives_nan(table):
    X, y, _, model = table
    folds = [(np.arange(60), np.flatnonzero(y == "sick")), (np.arange(60), np.arange(60, 120))]
    with pytest.warns(ScoreWarning, match="'well'"):
        scores = cross_val_score(model, X, y, cv=folds, scoring=ALL["sensitivity_at_specificity"])
    assert np.isnan(scores).tolist() == [True, False]


@pytest.mark.parametrize("scoring", [ALL["neg_brier"], ALL], ids=["one", "several"])
def test_weights_without_metadata_routing(table, scoring):
    """Scikit-learn says that the score knows no weights, and goes on."""
    X, y, _, model = table
    search = GridSearchCV(model, {"C": [1.0]}, cv=2, scoring=scoring, refit=False, error_score="raise")
    with pytest.warns(UserWarning, match="does not support sample_weight"):
        search.fit(X, y, sample_weight=np.ones(120))


@pytest.mark.usefixtures("metadata_routing")
@pytest.mark.parametrize("scoring", [ALL["neg_brier"], ALL], ids=["one", "several"])
def test_with_metadata_routing(phantoms, scoring):
    model = small_classifier(max_epochs=1).set_fit_request(groups=True, sample_weight=True)
    params = {"groups": phantoms.groups, "sample_weight": np.ones(80)}
    options = {"cv": StratifiedGroupKFold(2), "scoring": scoring, "error_score": "raise"}
    found = cross_validate(model, phantoms.X, phantoms.y, params=params, **options)
    assert all(np.isfinite(scores).all() for scores in found.values())


def test_nothing_is_requested():
    for scorer in ALL.values():
        assert not any(get_routing_for_object(scorer).score.requests.values())
