"""One radiograph of one session: its judgement and the maps that exist so far. What is still true is kept."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import NamedTuple

import numpy as np

from cxr_estimator.attribution import METHODS
from cxr_estimator.attribution._types import SPEEDS
from cxr_estimator.demo._analysis import Judgement, Question, Shown, judge, methods_of, redecided
from cxr_estimator.demo._models import Served
from cxr_estimator.demo._uploads import read_upload
from cxr_estimator.preprocessing import picture
from cxr_estimator.trust import WITHHOLD

LONGEST, SHORTEST = 1024, 512  # of the longer side of what is shown, in pixels
DEFAULTS = ("grad_cam", "integrated_gradients")


class Case(NamedTuple):
    """What a session keeps.

    Attributes
    ----------
    path : str
        Of the upload.
    judgement : Judgement
    picture : ndarray (h, w) or (h, w, 3), uint8
        The radiograph, for display.
    shown : dict of method to Shown
        All that exist.
    chosen : tuple of str
        The methods that are asked for at present.
    """

    path: str
    judgement: Judgement
    picture: np.ndarray
    shown: Mapping[str, Shown]
    chosen: tuple[str, ...] = ()

    @property
    def visible(self) -> dict[str, Shown]:
        """The maps that exist of the chosen methods."""
        return {name: self.shown[name] for name in self.chosen if name in self.shown}

    def looked_at(self, method: str | None) -> str | None:
        """Return the method if there is a visible map of it, else that of the first map that is shown as evidence."""
        if method in self.visible:
            return method
        evidence = [name for name, one in self.visible.items() if one.card.verdict != WITHHOLD]
        return next(iter([*evidence, *self.visible]), None)


_NUMBERS = count(1)


class Turn:
    """Tells work that its session wants something else by now.

    gradio's own `cancels` stops what was started after it as well, and forgets what waits for the stopped event.
    """

    def __init__(self) -> None:
        self.number = 0
        self.is_cancelled = False  # by the visitor, who wants nothing else instead

    def begin(self) -> int:
        """End what is under way, and return the number of what is to come instead; none is given out twice."""
        self.number, self.is_cancelled = next(_NUMBERS), False
        return self.number

    def cancel(self) -> None:
        """End what is under way, and what still waits to begin."""
        self.number, self.is_cancelled = next(_NUMBERS), True


def current(case: Case | None, mapped: Case | None) -> Case | None:
    """Return the case with its maps: `mapped` is what the event that makes maps left, maybe of an earlier case."""
    return mapped if case is not None and mapped is not None and mapped.judgement is case.judgement else case


def judged(path: str | None, served: Served, question: Question, before: Case | None = None) -> Case:
    """Judge an upload; maps of `before` are kept where they still explain the same.

    Raises
    ------
    DataError, InvalidParameterError
        As of `read_upload` and `judge`.
    """
    image = read_upload(path)
    judgement = judge(served, image, question)
    shown: Mapping[str, Shown] = {}
    if before is not None and _of_same(before.judgement, judgement):
        shown = {
            name: one._replace(explanation=redecided(one.explanation, judgement)) for name, one in before.shown.items()
        }
    intensity = served.clf.preprocessing_.intensity
    small = picture(image, longest=LONGEST, shortest=SHORTEST, intensity=intensity)
    return Case(str(path), judgement, small, shown)


def _of_same(before: Judgement, now: Judgement) -> bool:
    return (
        before.served.clf is now.served.clf
        and before.image_id == now.image_id
        and before.question.seed == now.question.seed
        and before.label == now.label
    )


def steps(case: Case) -> list[list[str]]:
    """Return the chosen methods that are still to be run: the fast ones together, then each of the others alone."""
    todo = [] if case.judgement.is_refused else [name for name in case.chosen if name not in case.shown]
    fast = [name for name in todo if METHODS[name].speed == "fast"]
    return ([fast] if fast else []) + [[name] for name in todo if name not in fast]


def on_offer(served: Served) -> dict[str, list[str]]:
    """Return the methods that work on a model, by speed."""
    obstacles = methods_of(served.clf)
    return {
        speed: [name for name, method in METHODS.items() if method.speed == speed and obstacles[name] is None]
        for speed in SPEEDS
    }
