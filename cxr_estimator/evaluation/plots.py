"""The pictures of a report. `PLOTS` is the one list: a new one is a function and a line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.special import logit

from cxr_estimator._figure_style import FIRST, INK, LINES, MUTED, SECOND, bare, legend, legend_name, short
from cxr_estimator._outputs import Task
from cxr_estimator._reliability import TITLE, Line, draw_reliability, new_axes
from cxr_estimator._validation import check_choice, wrong_type
from cxr_estimator.provenance import reliability_bins

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cxr_estimator.evaluation._points import Decisions
    from cxr_estimator.evaluation._report import EvaluationReport

N_BINS = 10  # of the reliability diagram, with equally many images each
_MARKS = "osD^vP*X"  # of operating points
_PROBABILITIES = (0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999)  # that a scale of log-odds names
_WIDEST = 10.0  # log-odds that are shown
_HEADROOM = 1.35  # for the legend of the distribution


class Plot(NamedTuple):
    """A row of `PLOTS`.

    Attributes
    ----------
    function : callable
        `function(report, ax)` draws.
    title : str
    several : bool
        Whether there is one for more than two classes.
    """

    function: Callable[[EvaluationReport, Axes], None]
    title: str
    several: bool


class _Label(NamedTuple):
    """A label against the rest: its name, colour, and of the images it is known of, (N,) each, what follows."""

    name: Any
    colour: str
    scores: np.ndarray
    proba: np.ndarray
    uncalibrated: np.ndarray | None
    positive: np.ndarray
    patients: np.ndarray


def draw(report: EvaluationReport, name: str, ax: Axes | None = None) -> Figure:
    """Draw a picture of `PLOTS`, by default on a new figure, and return the figure."""
    from matplotlib.axes import Axes as AnyAxes

    plot = PLOTS[check_choice("name", name, plots_of(report), caller="plot")]
    if ax is None:
        ax = new_axes()
    elif not isinstance(ax, AnyAxes):
        raise wrong_type("ax", "plot", "None or the Axes of a figure", ax)
    plot.function(report, ax)
    positive = "" if report.pos_label is None else f", positive: {short(report.pos_label, 24)}"
    shares = ", ".join(f"{short(label, 16)} {share:.0%}" for label, share in list(report.prevalence.items())[:4])
    more = ", ..." if len(report.prevalence) > 4 else ""
    bare(ax, f"{plot.title}\n{report.n_images} images: {shares}{more}{positive}")
    figure: Any = ax.get_figure(root=True)
    return figure


def plots_of(report: EvaluationReport) -> list[str]:
    """Return the names of the pictures that a report has."""
    return [name for name, plot in PLOTS.items() if plot.several or report.task is Task.BINARY]


def plot_roc(report: EvaluationReport, ax: Axes) -> None:
    """Draw sensitivity over 1 - specificity, with the operating points."""
    from sklearn.metrics import roc_curve

    ax.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=":", label="chance")
    for label in _labels(report):
        if label.positive.any() and not label.positive.all():
            false, true, _ = roc_curve(label.positive, label.scores)
            area = (report.per_class.get(label.name) or report.overall)["auroc"]
            ax.plot(false, true, color=label.colour, label=f"{legend_name(label.name)}: AUROC {area}")
    for mark, name, point in _points(report):
        x, y = 1.0 - point.estimates["specificity"].value, point.estimates["sensitivity"].value
        ax.plot(x, y, mark, color=INK, markersize=6, label=f"{name}: sens. {y:.2f}, spec. {1 - x:.2f}", zorder=3)
    ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel="1 - specificity", ylabel="sensitivity")
    legend(ax, "lower right")


def plot_precision_recall(report: EvaluationReport, ax: Axes) -> None:
    """Draw precision over sensitivity, with the operating points and the prevalence, which is chance."""
    from sklearn.metrics import precision_recall_curve

    for label in _labels(report):
        if label.positive.any() and not label.positive.all():
            precision, recall, _ = precision_recall_curve(label.positive, label.scores)
            area = (report.per_class.get(label.name) or report.overall)["auprc"]
            text = f"{legend_name(label.name)}: AUPRC {area}"
            ax.plot(recall, precision, color=label.colour, drawstyle="steps-post", label=text)
        ax.axhline(label.positive.mean(), color=label.colour, linewidth=0.8, linestyle=":")
    ax.plot([], [], color=MUTED, linewidth=0.8, linestyle=":", label="prevalence (chance)")
    for mark, name, point in _points(report):
        x, y = point.estimates["sensitivity"].value, point.estimates["precision"].value
        ax.plot(x, y, mark, color=INK, markersize=6, label=f"{name}: sens. {x:.2f}, precision {y:.2f}", zorder=3)
    ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel="sensitivity (recall)", ylabel="precision")
    legend(ax, "lower left")


def plot_reliability(report: EvaluationReport, ax: Axes) -> None:
    """Draw the observed frequency over the mean probability, in bins of equally many images.

    The bars are Wilson's 95% intervals over the patients of a bin. Where there is a calibration, the hollow line is
    from before.
    """
    lines = []
    for label in _labels(report):
        name = legend_name(label.name)
        if label.uncalibrated is not None:
            before = reliability_bins(label.uncalibrated, label.positive, label.patients, n_bins=N_BINS)
            colour = MUTED if report.task is Task.BINARY else label.colour
            lines.append(Line(f"{name}, before calibration", before, colour, is_before=True))
        text = name if label.uncalibrated is None else f"{name}, calibrated"
        lines.append(
            Line(text, reliability_bins(label.proba, label.positive, label.patients, n_bins=N_BINS), label.colour)
        )
    draw_reliability(ax, lines)


def plot_decision_curve(report: EvaluationReport, ax: Axes) -> None:
    """Draw the net benefit over the threshold probability, beside treating all and treating none.

    The threshold probability says how many false alarms one finding is worth: at p, odds p / (1 - p).

    References
    ----------
    Vickers & Elkin (2006), Decision curve analysis, Med. Decis. Making 26(6), doi:10.1177/0272989X06295361
    """
    label = _labels(report)[0]
    thresholds = np.linspace(0.01, 0.99, 99)
    prevalence = float(label.positive.mean())
    if label.uncalibrated is not None:
        before = net_benefit(label.uncalibrated, label.positive, thresholds)
        ax.plot(thresholds, before, color=MUTED, linewidth=0.9, linestyle="--", label="model, before calibration")
    benefit = net_benefit(label.proba, label.positive, thresholds)
    ax.plot(thresholds, benefit, color=label.colour, label="model")
    all_positive = net_benefit(np.ones(len(label.proba)), label.positive, thresholds)
    ax.plot(thresholds, all_positive, color=SECOND, linewidth=1.0, label=f"all are {legend_name(label.name)}")
    ax.axhline(0.0, color=INK, linewidth=1.0, linestyle=":", label="none is")
    for mark, name, point in _points(report):
        if point.threshold is not None:
            ax.plot(point.threshold, 0.0, mark, color=INK, markersize=6, clip_on=False, label=name, zorder=3)
    top = max(prevalence, float(benefit.max()), 0.05)
    ax.set(xlim=(0, 1), ylim=(-0.25 * top, 1.1 * top), xlabel="threshold probability", ylabel="net benefit")
    legend(ax, "best")


def plot_scores(report: EvaluationReport, ax: Axes) -> None:
    """Draw how the probabilities of both classes are distributed, with the operating points."""
    label = _labels(report)[0]
    log_odds = _shown(label.proba)
    edges = np.linspace(log_odds.min() - 1e-9, log_odds.max() + 1e-9, 31).tolist()
    other = next(one for one in report.classes if one != report.pos_label)
    for name, rows, colour in ((other, ~label.positive, FIRST), (label.name, label.positive, SECOND)):
        text = f"{legend_name(name)} ({rows.sum()})"
        ax.hist(log_odds[rows], edges, color=colour, alpha=0.55, edgecolor=colour, histtype="stepfilled", label=text)
    for number, (_, name, point) in enumerate(_points(report)):
        if point.threshold is not None:
            x = float(_shown(np.array(point.threshold)))
            style = ("-", "--", "-.", ":")[number % 4]
            ax.axvline(x, 0, 1 / _HEADROOM, color=INK, linewidth=1.0, linestyle=style)
            ax.plot([], [], linestyle=style, color=INK, linewidth=1.0, label=f"{name}: from {point.threshold:.3g} on")
    low, high = ax.get_xlim()
    shown = [one for one in _PROBABILITIES if low <= logit(one) <= high]
    ax.set_xticks([float(logit(one)) for one in shown], [f"{one:g}" for one in shown])
    ax.set(xlabel=f"probability of {legend_name(label.name)} (scale of log-odds)", ylabel="images")
    ax.xaxis.label.set_parse_math(False)
    ax.set_ylim(0, _HEADROOM * ax.get_ylim()[1])
    legend(ax, "upper center")


def net_benefit(proba: np.ndarray, positive: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return the net benefit at each threshold (T,) in (0, 1), in true positives per image; higher is better.

    True positives less false positives at odds p / (1 - p), over all images (Vickers & Elkin 2006,
    doi:10.1177/0272989X06295361). A probability equal to the threshold is positive.

    Examples
    --------
    >>> net_benefit(np.array([0.9, 0.7, 0.6, 0.2]), np.array([True, True, False, False]), np.array([0.2, 0.5, 0.8]))
    array([0.375, 0.25 , 0.25 ])
    """
    decided = proba[:, None] >= thresholds
    true, false = decided[positive].sum(axis=0), decided[~positive].sum(axis=0)
    return (true - false * thresholds / (1.0 - thresholds)) / len(positive)


PLOTS: Mapping[str, Plot] = {
    "roc": Plot(plot_roc, "ROC curve", True),
    "precision_recall": Plot(plot_precision_recall, "Precision-recall curve", True),
    "reliability": Plot(plot_reliability, TITLE, True),
    "decision_curve": Plot(plot_decision_curve, "Decision curve", False),
    "scores": Plot(plot_scores, "Distribution of probabilities", False),
}


def _labels(report: EvaluationReport) -> list[_Label]:
    """Return the positive label of two classes, or each of several classes or labels."""
    judged = report.judged
    found: list[_Label] = []
    for k, label in enumerate(report.classes):
        if report.task is Task.BINARY and label != report.pos_label:
            continue
        truth = judged.target[:, k] if report.task is Task.MULTILABEL else (judged.target == k).astype(np.float64)
        rows = np.flatnonzero(~np.isnan(truth))
        if not len(rows):
            continue
        before = None if judged.uncalibrated is None else judged.uncalibrated[rows, k]
        colour = LINES[(0 if report.task is Task.BINARY else k) % len(LINES)]
        scores, proba = judged.scores[rows, k], judged.proba[rows, k]
        found.append(_Label(label, colour, scores, proba, before, truth[rows] == 1, judged.patients[rows]))
    return found


def _points(report: EvaluationReport) -> Iterator[tuple[str, str, Decisions]]:
    """Yield mark, name and decisions of each operating point."""
    points = [(name, one) for name, one in report.decisions.items() if one.label is not None]
    for number, (name, one) in enumerate(points):
        yield _MARKS[number % len(_MARKS)], legend_name(name), one


def _shown(proba: np.ndarray) -> np.ndarray:
    """Return log-odds that can be drawn, also of 0 and 1."""
    with np.errstate(divide="ignore"):
        return np.clip(logit(proba), -_WIDEST, _WIDEST)
