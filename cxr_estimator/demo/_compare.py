"""One image seen by two models, or by one at two operating points: what they decide, and how alike their maps are."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from cxr_estimator.comparison import Comparison, Item, agreement_words, checklist, compare_explanations
from cxr_estimator.demo._analysis import (
    PREDICTED,
    Judgement,
    Progress,
    Question,
    Shown,
    explain,
    judge,
    labels_of,
)
from cxr_estimator.demo._models import Served
from cxr_estimator.demo._pictures import pixels
from cxr_estimator.demo._words import marked
from cxr_estimator.errors import DataError
from cxr_estimator.figures import plot_comparison
from cxr_estimator.images import DecodedImage
from cxr_estimator.verdicts import WITHHOLD

NAMES = ("model A", "model B")


@dataclass(frozen=True)
class Compared:
    """What two models say of an image.

    Attributes
    ----------
    judgements : (Judgement, Judgement)
    shown : (Shown, Shown) or None
        Their maps of the same class; None where a model refuses the image, or does not know the class.
    found : Comparison or None
        None with `shown`.
    obstacle : str
        Why there are no maps; else empty.
    """

    judgements: tuple[Judgement, Judgement]
    shown: tuple[Shown, Shown] | None = None
    found: Comparison | None = None
    obstacle: str = ""

    @property
    def withheld(self) -> tuple[str | None, str | None]:
        """Why the map of each is no evidence; None where it may be shown."""
        if self.shown is None:
            return None, None
        first, second = (one.card.sentence if one.card.verdict == WITHHOLD else None for one in self.shown)
        return first, second

    @property
    def sentences(self) -> list[str]:
        """What to tell a person."""
        if self.found is None:
            return [self.obstacle, *self._decisions()]
        told = self.found.sentences(names=NAMES)
        first, second = self.judgements
        if first.served.clf is second.served.clf:
            told[1] = "Both are the same model, so that probability and map are the same, too."
        hidden = [name for name, reason in zip(NAMES, self.withheld, strict=True) if reason is not None]
        if hidden:
            told.append(f"The map of {' and that of '.join(hidden)} is no evidence, and so is no agreement with it.")
        told += self._unusual()
        return told

    @property
    def to_verify(self) -> list[Item]:
        """What to verify before either is believed; empty without maps."""
        if self.found is None or self.shown is None:
            return []
        explanations = {name: one.explanation for name, one in zip(NAMES, self.shown, strict=True)}
        judged = zip(NAMES, self.judgements, strict=True)
        unusual = {name: one.check.sentences[0] for name, one in judged if one.check and one.is_unusual}
        items = checklist(explanations, self.found, unusual=unusual)
        return [one for one in items if one.name != "similar cases"]  # the app knows none

    def _decisions(self) -> list[str]:
        judged = zip(NAMES, self.judgements, strict=True)
        return [f"{name[:1].upper()}{name[1:]} decides {one.decision}." for name, one in judged if not one.is_refused]

    def _unusual(self) -> list[str]:
        judged = zip(NAMES, self.judgements, strict=True)
        return [f"For {name}: {one.check.sentences[0]}" for name, one in judged if one.check and one.is_unusual]


def compare(
    models: tuple[Served, Served],
    image: DecodedImage,
    questions: tuple[Question, Question],
    method: str,
    *,
    progress: Progress | None = None,
) -> Compared:
    """Let two models judge and explain an image, by the same method and for the same class.

    Parameters
    ----------
    models : (Served, Served)
        May be the same.
    image : DecodedImage
    questions : (Question, Question)
        Points of either model; the target of the first counts: "predicted" is what the first model decides.
    method : str
    progress : callable, optional
        Called as `progress(done, total)`; what it raises stops the work.
    """
    first = judge(models[0], image, questions[0])
    second = judge(models[1], image, replace(questions[1], target=PREDICTED))
    for name, one in zip(NAMES, (first, second), strict=True):
        if one.is_refused and one.check is not None:
            return Compared((first, second), obstacle=f"For {name} there is no answer. {one.check.sentences[0]}")
    target = str(first.label)
    known = labels_of(models[1].clf)
    if target not in known:
        obstacle = f"Model B knows {', '.join(known)}, but not {target}, so that there are no maps of the same class."
        return Compared((first, second), obstacle=obstacle)
    second = replace(second, question=replace(second.question, target=target))
    shown = []
    for number, one in enumerate((first, second)):

        def tell(done: float, total: int, number: int = number) -> None:
            if progress is not None:
                progress(number + done / max(total, 1), 2)

        shown.append(explain(one, image, [method], progress=tell)[method])
    found = compare_explanations(shown[0].explanation, shown[1].explanation)
    return Compared((first, second), (shown[0], shown[1]), found)


def side_by_side(compared: Compared, points: tuple[str | None, str | None]) -> list[list[str]]:
    """Return a table of what both models say: its head, then its rows."""
    rows = [["", "Model A", "Model B"]]
    target = None if compared.found is None else str(compared.found.target[0])
    first, second = compared.judgements
    rows.append(["model", first.served.name, second.served.name])
    rows.append(["operating point", *(point or "the likeliest class" for point in points)])
    rows.append(["decision", *("no answer" if one.is_refused else one.decision for one in compared.judgements)])
    if target is not None:
        rows.append([f"probability of {target}", *(_share(one, target) for one in compared.judgements)])
    decide = ["" if one.threshold is None else f"{one.threshold:.1%}" for one in compared.judgements]
    if any(decide):
        rows.append(["positive from", *decide])
    if compared.shown is not None:
        rows.append(["heat map", *(marked(one.card.verdict) for one in compared.shown)])
        rows.append(["gain over moved copies", *(f"{one.card.gain:+.3f}" for one in compared.shown)])
    return rows


def agreement(compared: Compared) -> list[list[str]]:
    """Return a table of how alike the maps are: its head, then its rows; empty without maps."""
    if compared.found is None:
        return []
    height, width = compared.found.shapes[0]
    rows = [["Agreement of the maps", "Value", f"At {width} x {height} pixels, of what both models see"]]
    for name, values in compared.found.agreement.items():
        title, meaning = agreement_words(name)
        rows.append([title, "undefined" if values[0] != values[0] else f"{values[0]:.2f}", meaning])
    return rows


def verification(compared: Compared) -> list[list[str]]:
    """Return a table of what to verify: its head, then its rows; empty without maps."""
    rows = [
        [f"{one.name[:1].upper()}{one.name[1:]}", marked(one.verdict).replace(" ", "\xa0", 1), one.sentence]
        for one in compared.to_verify
    ]
    return [["To verify", "Verdict", "What was found"], *rows] if rows else []


def six_panels(found: Compared) -> np.ndarray:
    """Return the six panels.

    Raises
    ------
    DataError
        There are no maps.
    """
    if found.shown is None:
        raise DataError(found.obstacle)
    first, second = (
        f"{name[:1].upper()}{name[1:]}: {one.served.name}" for name, one in zip(NAMES, found.judgements, strict=True)
    )
    a, b = (one.explanation for one in found.shown)
    return pixels(plot_comparison(a, b, names=(first, second), withheld=found.withheld))


def alternative(compared: Compared) -> str:
    """Return what the figure shows, for those who cannot see it."""
    if compared.found is None:
        return "No comparison."
    rows = [
        f"{name}: {one.decision}, heat map {shown.card.verdict}"
        for name, one, shown in zip(NAMES, compared.judgements, compared.shown or (), strict=False)
    ]
    return f"Six panels: radiograph, heat map and overlay for each model. {'; '.join(rows)}. {compared.sentences[-1]}"


def _share(judgement: Judgement, label: str) -> str:
    low, high = judgement.spread[label]
    return f"{judgement.proba[label]:.1%} ({low:.1%} to {high:.1%})"
