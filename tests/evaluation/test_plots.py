"""Pictures of a report: what they show, not how they look; that is looked at."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.special import expit, logit
from sklearn.metrics import auc

from cxr_estimator.errors import InvalidParameterError, InvalidTypeError
from cxr_estimator.evaluation.plots import PLOTS, net_benefit, plots_of
from cxr_estimator.statistics import wilson


def lines(figure):
    return {line.get_label(): line for line in figure.axes[0].get_lines()}


def legend(figure):
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


@pytest.mark.parametrize("name", PLOTS)
def test_every_picture_says_classes_and_prevalence(report, name):
    title = report.plot(name).axes[0].get_title()
    assert title == f"{PLOTS[name].title}\n200 images: NORMAL 40%, PNEUMONIA 60%, positive: PNEUMONIA"


def test_area_under_the_drawn_curve_is_the_figure(report):
    (curve,) = [line for label, line in lines(report.plot("roc")).items() if label.startswith("PNEUMONIA")]
    assert auc(*curve.get_data()) == pytest.approx(report.overall["auroc"].value)
    assert str(report.overall["auroc"]) in curve.get_label()


@pytest.mark.parametrize(
    ("name", "x", "y"), [("roc", "specificity", "sensitivity"), ("precision_recall", "sensitivity", "precision")]
)
def test_operating_points_lie_where_their_figures_say(report, name, x, y):
    drawn = lines(report.plot(name))
    for point, one in report.decisions.items():
        (mark,) = [line for label, line in drawn.items() if label.startswith(f"{point}: ")]
        at = one.estimates[x].value
        assert mark.get_xdata()[0] == pytest.approx(1 - at if name == "roc" else at)
        assert mark.get_ydata()[0] == pytest.approx(one.estimates[y].value)


def test_reliability_bins_by_hand(report):
    """Twenty images of two probabilities, in bins that hold either of them."""
    judged = report.judged
    proba = np.repeat([0.2, 0.9], 10)
    target = np.array([1, 1, *[0] * 8, *[1] * 9, 0])
    judged = replace(judged, proba=np.stack([1 - proba, proba], axis=1), target=target, patients=np.arange(20))
    (container,) = replace(report, judged=judged).plot("reliability").axes[0].containers
    line, _, (bars,) = container.lines
    np.testing.assert_allclose(line.get_data(), [[0.2, 0.9], [0.2, 0.9]])
    ends = [segment[:, 1].tolist() for segment in bars.get_segments()]
    np.testing.assert_allclose(ends, [wilson(0.2, 10), wilson(0.9, 10)])


def test_before_and_after_calibration(report):
    judged = report.judged
    before = expit(3 * logit(judged.proba))
    both = replace(report, judged=replace(judged, uncalibrated=before))
    assert legend(both.plot("reliability")) == [
        "perfectly calibrated",
        "PNEUMONIA, before calibration",
        "PNEUMONIA, calibrated",
    ]
    assert legend(report.plot("reliability")) == ["perfectly calibrated", "PNEUMONIA"]
    assert "model, before calibration" in legend(both.plot("decision_curve"))


def test_net_benefit_by_hand():
    """At 0.25 one false positive costs a third of a true one: (2 - 1 / 3) / 4; at 0.8 it costs four."""
    proba, positive = np.array([0.9, 0.3, 0.85, 0.1]), np.array([True, True, False, False])
    np.testing.assert_allclose(net_benefit(proba, positive, np.array([0.25, 0.8])), [(2 - 1 / 3) / 4, (1 - 4) / 4])


@given(st.floats(0.01, 0.99), st.integers(1, 50), st.integers(0, 50))
def test_treating_all_and_none(threshold, n_positive, n_negative):
    positive, at = np.arange(n_positive + n_negative) < n_positive, np.array([threshold])
    share = positive.mean()
    expected = share - (1 - share) * threshold / (1 - threshold)
    assert net_benefit(np.ones(len(positive)), positive, at)[0] == pytest.approx(expected)
    assert net_benefit(np.zeros(len(positive)), positive, at)[0] == 0.0
    assert net_benefit(positive * 1.0, positive, at)[0] == pytest.approx(share)


def test_distribution_counts_every_image(report):
    ax = report.plot("scores").axes[0]
    assert legend(ax.figure)[:2] == ["NORMAL (80)", "PNEUMONIA (120)"]
    for patch, n_images in zip(ax.patches, (80, 120), strict=True):
        x, y = patch.get_xy().T
        area = abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2.0
        assert area / np.diff(np.unique(np.round(x, 6))).mean() == pytest.approx(n_images, rel=1e-3)
    for name, point in report.decisions.items():
        assert f"{name}: from {point.threshold:.3g} on" in legend(ax.figure)
    assert "0.5" in [text.get_text() for text in ax.get_xticklabels()]


def test_saturated_probabilities_can_be_drawn(report):
    certain = np.eye(2)[report.judged.target]
    decisions = {name: replace(one, threshold=1.0) for name, one in report.decisions.items()}
    figure = replace(report, judged=replace(report.judged, proba=certain), decisions=decisions).plot("scores")
    FigureCanvasAgg(figure).draw()
    assert np.isfinite(figure.axes[0].get_xlim()).all()


def test_several_classes_have_a_line_each(several_report):
    assert plots_of(several_report) == ["roc", "precision_recall", "reliability"]
    for name in plots_of(several_report):
        assert {text.split(":")[0] for text in legend(several_report.plot(name))} >= set(several_report.classes)
    with pytest.raises(InvalidParameterError, match="'roc', 'precision_recall', 'reliability'"):
        several_report.plot("scores")


def test_one_label_only_can_be_drawn(report):
    judged = replace(report.judged, target=np.ones(200, dtype=int))
    one = replace(report, judged=judged)
    for name in PLOTS:
        one.plot(name)


def test_given_axes_are_used(report):
    figure = Figure()
    axes = figure.subplots(1, 2)
    assert report.plot("roc", axes[1]) is figure
    assert not axes[0].lines
    with pytest.raises(InvalidTypeError, match="'ax' parameter of plot must be"):
        report.plot("roc", figure)


def test_dollar_signs_are_no_formulas(report):
    named = replace(report, classes=("NORMAL", "$x"), prevalence={"NORMAL": 0.4, "$x": 0.6}, pos_label="$x")
    for name in PLOTS:
        figure = named.plot(name)
        FigureCanvasAgg(figure).draw()
        assert "$x" in figure.axes[0].get_title()


def test_names_with_an_underscore_stand_in_the_legend(report):
    named = replace(report, classes=("NORMAL", "_x"), prevalence={"NORMAL": 0.4, "_x": 0.6}, pos_label="_x")
    legend = [text.get_text().strip() for text in named.plot("roc").axes[0].get_legend().get_texts()]
    assert any(text.startswith("_x: AUROC") for text in legend)
