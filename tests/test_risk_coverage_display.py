"""`RiskCoverageDisplay`."""

from __future__ import annotations

import copy

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from cxr_estimator import CXREnsemble, RiskCoverageDisplay
from cxr_estimator.errors import DataError, InvalidParameterError, InvalidTypeError, SameDataWarning
from cxr_estimator.selective import risk_coverage
from tests.conftest import small_classifier


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_draws_the_curves_of_the_doubts():
    wrong, doubt = [True, False, False, True], {"good": [3, 1, 2, 4], "bad": [1, 2, 3, 4]}
    display = RiskCoverageDisplay(wrong, doubt, n_resamples=50).plot()
    for name in doubt:
        curve = risk_coverage(wrong, doubt[name])
        np.testing.assert_array_equal(display.lines_[name].get_xydata(), np.stack([curve.coverage, curve.risk], 1))
        area = display.areas_[name]
        assert area.value == pytest.approx(curve.area)
        assert area.low <= area.value <= area.high
    assert display.areas_["good"].value == pytest.approx(display.best_.area)
    said = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert said[0].startswith("good: AURC 0.2083 [")  # (0 + 0 + 1/3 + 2/4) / 4
    assert said[-1] == "nothing known: AURC 0.5000"
    assert "4 images, 2 answers wrong; 95% intervals over images" in display.ax_.get_title()


@pytest.mark.filterwarnings("ignore::cxr_estimator.errors.SameDataWarning")
def test_from_an_estimator_on_given_axes(fitted, phantoms):
    _, ax = plt.subplots()
    X, y, groups = phantoms.X[:30], phantoms.y[:30], phantoms.groups[:30]
    display = RiskCoverageDisplay.from_estimator(fitted, X, y, groups=groups, n_resamples=20, ax=ax)
    assert list(display.curves_) == ["probability", "test_time_augmentation", "explanation"]
    assert display.ax_ is ax
    assert (display.wrong_ == (fitted.predict(X) != y)).all()
    assert f"{len(set(groups))} patients" in ax.get_title()


def test_intervals_are_those_of_patients(fitted, phantoms):
    rng = np.random.default_rng(0)
    wrong = np.repeat(rng.random(20) < 0.4, 10)
    doubt = rng.random(200)
    whole = RiskCoverageDisplay(wrong, {"a": doubt}, groups=np.repeat(np.arange(20), 10)).areas_["a"]
    each = RiskCoverageDisplay(wrong, {"a": doubt}).areas_["a"]
    assert whole.high - whole.low > 2 * (each.high - each.low)


@pytest.mark.filterwarnings("ignore::cxr_estimator.errors.SameDataWarning")
def test_an_ensemble(fitted, phantoms):
    joined = CXREnsemble.from_fitted([fitted, fitted])
    display = RiskCoverageDisplay.from_estimator(joined, phantoms.X[:20], phantoms.y[:20], n_resamples=5)
    assert list(display.lines_) == ["probability", "ensemble", "explanation"]


def test_warns_of_images_that_chose_the_cutoff(fitted, phantoms):
    own = copy.deepcopy(fitted).set_abstention(phantoms.X, phantoms.y, coverage=0.5)
    with pytest.warns(SameDataWarning, match="chose when to abstain"):
        RiskCoverageDisplay.from_estimator(own, phantoms.X, phantoms.y, doubt="probability", n_resamples=5)


def test_no_answer_is_wrong():
    display = RiskCoverageDisplay([False] * 5, {"a": np.arange(5)}, n_resamples=5).plot()
    assert display.areas_["a"] == (0, 0, 0)
    assert display.ax_.get_ylim() == (0, 0.01)


def test_bad_input(fitted, phantoms):
    X, y = phantoms.X[:4], phantoms.y[:4]
    with pytest.raises(InvalidTypeError, match="CXREnsemble"):
        RiskCoverageDisplay.from_estimator("model", X, y)
    with pytest.raises(InvalidTypeError, match="'ax'"):
        RiskCoverageDisplay.from_estimator(fitted, X, y, ax=3)
    with pytest.raises(InvalidParameterError, match="'doubt'"):
        RiskCoverageDisplay.from_estimator(fitted, X, y, doubt=["nothing"])
    for wrong in (["no", "yes"], [np.nan, 1.0], [0, 2]):
        with pytest.raises(InvalidParameterError, match="'wrong'"):
            RiskCoverageDisplay(wrong, {"a": [1.0, 2.0]})
    with pytest.raises(NotFittedError):
        RiskCoverageDisplay.from_estimator(small_classifier(), X, y)
    with pytest.raises(InvalidParameterError, match="'doubts'"):
        RiskCoverageDisplay([True], {})
    with pytest.raises(InvalidParameterError, match="'doubt'"):
        RiskCoverageDisplay([True, False], {"a": [1.0]})
    with pytest.raises(DataError, match="groups"):
        RiskCoverageDisplay([True, False], {"a": [1.0, 2.0]}, groups=[1])
    with pytest.raises(InvalidParameterError, match="'n_resamples'"):
        RiskCoverageDisplay([True, False], {"a": [1.0, 2.0]}, n_resamples=0)
