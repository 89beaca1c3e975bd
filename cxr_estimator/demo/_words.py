"""What the page says, in sentences and tables; every number comes from a judgement or a trust card."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from cxr_estimator._figure_style import method_title
from cxr_estimator._outputs import Task
from cxr_estimator._pages import environment
from cxr_estimator._wording import words
from cxr_estimator.demo._analysis import N_COPIES, Judgement, Shown
from cxr_estimator.demo._pictures import is_hidden, scale
from cxr_estimator.statistics import Estimate
from cxr_estimator.thresholds import NUMBER, OperatingPoint
from cxr_estimator.verdicts import SIGNS, WITHHOLD

CHECKS = {
    "gain": "Better than chance",
    "completeness": "Adds up",
    "seed_stability": "Repeatable",
    "agreement": "Other methods agree",
    "border_mass": "Away from the border",
    "corner_mass": "Away from markers",
}
_PLACES = (("upper left", "top", "upper right"), ("left", "middle", "right"), ("lower left", "bottom", "lower right"))


class Row(NamedTuple):
    """The probability of a label, with the range among changed copies, and the cut-off if this label has it."""

    label: str
    share: float
    low: float
    high: float
    cut_off: float | None
    is_decided: bool


class Verdict(NamedTuple):
    """What is said of an image.

    Attributes
    ----------
    refused : bool
    warning : str or None
        Why the image is unusual; with `refused`, why it is not judged at all.
    usual : str or None
        That it is not.
    decision : str
    rows : list of Row
    sentences : list of str
    """

    refused: bool
    warning: str | None
    usual: str | None
    decision: str
    rows: list[Row]
    sentences: list[str]


def verdict(judgement: Judgement) -> Verdict:
    """Put a judgement into words."""
    said = None if judgement.check is None else judgement.check.sentences[0]
    if judgement.is_refused:
        return Verdict(True, said, None, "", [], [])
    unusual = judgement.is_unusual
    positive = _positive(judgement)
    rows = [
        Row(label, share, *judgement.spread[label], judgement.threshold if label == positive else None, label in known)
        for known in [set(judgement.decided)]
        for label, share in judgement.proba.items()
    ]
    rows.sort(key=lambda row: (row.label != positive, -row.share))
    several = judgement.served.clf.task_ is Task.MULTILABEL
    return Verdict(
        False,
        said if unusual else None,
        None if unusual else said or "This model cannot tell whether an image is unlike those of its training.",
        f"{judgement.decision}{' present' if several and judgement.decided else ''}",
        rows,
        [*_decided(judgement, positive), *_spread(judgement, positive), *_meaning(judgement, positive)],
    )


def _positive(judgement: Judgement) -> str | None:
    """Return the label that a cut-off is about."""
    return str(judgement.served.clf.pos_label_) if judgement.served.clf.task_ is Task.BINARY else None


def _decided(judgement: Judgement, positive: str | None) -> list[str]:
    if positive is None or judgement.threshold is None:
        return []
    share, cut_off = told_apart(judgement.proba[positive], judgement.threshold)
    side = "at or above" if positive in judgement.decided else "below"
    point = "your own cut-off" if judgement.point is None else f"the cut-off of “{judgement.point.name}”"
    return [f"The probability of {positive} is {share}, {side} {point}, {cut_off}."]


def percent(share: float, digits: int = 1) -> str:
    """Return "72.3%"; what is neither 0 nor 1 is never called "0.0%" or "100.0%".

    Examples
    --------
    >>> percent(0.7231), percent(0.99996), percent(0.00001), percent(1.0)
    ('72.3%', 'over 99.9%', 'under 0.1%', '100.0%')
    """
    least = 10.0 ** -(digits + 2)
    if 0 < share < least / 2:
        return f"under {least:.{digits}%}"
    return f"over {1 - least:.{digits}%}" if 1 - least / 2 <= share < 1 else f"{share:.{digits}%}"


def told_apart(first: float, second: float) -> tuple[str, str]:
    """Return two shares as percentages, with as many digits as it takes to see which is greater.

    Examples
    --------
    >>> told_apart(0.72291, 0.72308), told_apart(0.5, 0.5)
    (('72.29%', '72.31%'), ('50.0%', '50.0%'))
    """
    for digits in range(1, 7):
        said = percent(first, digits), percent(second, digits)
        if said[0] != said[1]:
            return said
    return percent(first), percent(second)


def _spread(judgement: Judgement, positive: str | None) -> list[str]:
    label = positive or str(judgement.label)
    low, high = judgement.spread[label]
    copies = f"the image itself and {N_COPIES - 1} slightly changed copies of it"
    said = [f"Over {copies}, the probability of {label} ranges from {percent(low)} to {percent(high)}."]
    if judgement.threshold is not None and low < judgement.threshold <= high:
        said.append("That range crosses the cut-off: small changes of the image turn the decision.")
    return said


def _meaning(judgement: Judgement, positive: str | None) -> list[str]:
    if positive is None:
        return []
    point = judgement.point
    if point is None:
        return ["Nobody has measured what your own cut-off does: its sensitivity and specificity are not known."]
    if point.sensitivity is None or point.specificity is None:
        given = f", a number that was given ({point.number:.3g})" if point.rule == NUMBER else ""
        return [f"The sensitivity and specificity of “{point.name}”{given} were not measured."]
    return [measured(point, positive)]


def measured(point: OperatingPoint, positive: str) -> str:
    """Say what a measured operating point does."""
    if point.sensitivity is None or point.specificity is None:
        return "Not measured."
    patients = "" if point.n_patients is None else f" of {point.n_patients:,} patients"
    where = "" if point.n_images is None else f", on the {point.n_images:,} images{patients} that chose it"
    return (
        f"“{point.name}” found {_share(point.sensitivity)} of the images with {positive} (sensitivity) and cleared "
        f"{_share(point.specificity)} of the others (specificity){where}. "
        "Expect less on other images, and elsewhere maybe much less."
    )


def _share(one: Estimate) -> str:
    """Return "87.0% (95% interval 85.8% to 87.9%)"."""
    if np.isnan(one.low):
        return f"{one.value:.1%}"
    return f"{one.value:.1%} (95% interval {one.low:.1%} to {one.high:.1%})"


def place(values: np.ndarray) -> str:
    """Return where the strongest tenth of a map (H, W) lies: "upper left", "middle", ... of the picture."""
    strength = np.abs(values)
    if not strength.any():
        return "nowhere"
    strong = np.where(strength >= np.quantile(strength, 0.9), strength, 0.0)
    parts = [np.array_split(band, 3, axis=1) for band in np.array_split(strong, 3, axis=0)]
    sums = np.array([[cell.sum() for cell in band] for band in parts])
    row, column = np.unravel_index(int(sums.argmax()), sums.shape)
    return _PLACES[row][column]


def described(shown: Shown, *, show_withheld: bool) -> str:
    """Return the alternative text of an overlay, which tells its finding."""
    name = method_title(shown.card.method)
    if is_hidden(shown, show_withheld):
        return f"No picture. {shown.card.sentence}"
    stamp = " It is stamped: not evidence." if shown.card.verdict == WITHHOLD else ""
    seen = shown.explanation.geometry[0].target.slices  # without the bars around an image that is not square
    where = place(shown.explanation.values[0][seen])
    target = shown.explanation.target[0]
    return f"{name} heat map over the radiograph, explaining {target}: strongest at the {where} of the picture.{stamp}"


def described_curve(shown: Shown) -> str:
    """Return the alternative text of a deletion curve."""
    found = shown.card.deletion
    half = len(found.curve) // 2
    return (
        f"Deletion curve: while the pixels that {method_title(shown.card.method)} marks are hidden, the probability of "
        f"{shown.explanation.target[0]}, before any calibration, goes from {found.curve[0]:.0%} to "
        f"{found.curve[half]:.0%} with {found.fractions[half]:.0%} hidden; hidden in the order of its moved copies it "
        f"is {found.references[:, half].mean():.0%} there on average. Gain {found.gain:+.3f}; better than "
        f"{found.beaten} of {len(found.references)} copies."
    )


class Legend(NamedTuple):
    """The colour scale under a picture: a gradient of CSS, and what its ends mean."""

    gradient: str
    low: str
    high: str
    text: str


def legend(shown: Shown, cmap: str) -> Legend:
    """Return the legend of a map."""
    target, one = shown.explanation.target[0], shown.explanation
    if one.signed:
        ends = f"against {target}", f"for {target}"
        text = "Each pixel speaks for or against the explained class."
    elif one.shows == "evidence":
        ends = "little", f"most of what raised {target}"
        text = "Bright places raised the score of the explained class."
    elif one.shows == "sensitivity":
        ends = "little", "small changes move the score most"
        text = "Bright places matter in either direction: for or against."
    else:
        ends = "little", "the network responds most"
        text = "The same for every class: it speaks for none of them."
    text += " Each map has its own scale; it shows what the model used, not where disease is."
    return Legend(scale(cmap), *ends, text)


def notice(text: str, *, kind: str = "", share: float | None = None) -> str:
    """Return a line that tells how things stand, with a bar where `share` in [0, 1] is known."""
    return html("notice", kind=kind, text=text, share=share)


def marked(verdict: str) -> str:
    """Return a verdict with its sign, since colour alone says it to few; nothing for none."""
    return f"{SIGNS[verdict]} {verdict}" if verdict else ""


def check_title(name: str) -> str:
    """Return the name of a check for people."""
    return CHECKS.get(name, words(name))


def not_offered(obstacles: Iterable[tuple[str, str | None]]) -> str:
    """Say which methods do not work on a model, and why."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in obstacles:
        if reason is not None:
            by_reason.setdefault(reason, []).append(method_title(name))
    return " ".join(f"Not offered: {', '.join(names)} ({reason})." for reason, names in by_reason.items())


@cache
def _templates() -> Any:
    pages = environment()
    pages.filters["percent"] = percent
    pages.globals.update(method_title=method_title, check_title=check_title)
    return pages


def html(template: str, **content: Any) -> str:
    """Fill a template of this folder; all text is escaped."""
    return str(_templates().get_template(f"demo/{template}.html.jinja").render(**content))
