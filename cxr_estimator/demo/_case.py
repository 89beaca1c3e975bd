"""One radiograph of one session: its judgement and the maps that exist so far. What is still true is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from cxr_estimator.attribution import METHODS
from cxr_estimator.demo._analysis import Judgement, Question, Shown, judge, redecided
from cxr_estimator.demo._models import Served
from cxr_estimator.demo._pictures import radiograph
from cxr_estimator.demo._uploads import read_upload
from cxr_estimator.verdicts import WITHHOLD

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
    return Case(str(path), judgement, radiograph(served, image), shown)


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
