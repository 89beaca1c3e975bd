"""What the app works out about one radiograph, without any page: the judgement, then maps with their trust cards."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from cxr_estimator._decisions import said
from cxr_estimator._outputs import Task
from cxr_estimator._validation import check_choice, check_number
from cxr_estimator.attribution import METHODS, SPEEDS
from cxr_estimator.demo._models import Served
from cxr_estimator.errors import DataError
from cxr_estimator.explanation import Explanation
from cxr_estimator.images import DecodedImage
from cxr_estimator.ood import ImageCheck
from cxr_estimator.thresholds import OperatingPoint
from cxr_estimator.trust import TrustCard, examine, with_others

PREDICTED = "predicted"  # the target that follows the decision
OWN_POINT = "own cut-off"
N_COPIES = 8  # that give the range: the image itself, and slightly changed ones
FAST = ("fast",)
Progress = Callable[[float, int], Any]


@dataclass(frozen=True)
class Question:
    """What a visitor asks about an image.

    Attributes
    ----------
    point : str or None
        Operating point of the model; None for the one that is active, and where `cut_off` decides.
    cut_off : float or None
        Instead: the probability in (0, 1) from which the positive label is decided.
    target : str
        Class to explain, or "predicted".
    seed : int
    """

    point: str | None = None
    cut_off: float | None = None
    target: str = PREDICTED
    seed: int = 0


@dataclass(frozen=True)
class Judgement:
    """What a model says of one image.

    Attributes
    ----------
    served : Served
    question : Question
    image_id : str
        SHA-256 of the pixels.
    proba : dict of label (text) to float
        Calibrated.
    spread : dict of label (text) to (float, float)
        The least and the largest probability among slightly changed copies and the image itself.
    decided : tuple of str
        The decided class; of several labels those that are present.
    threshold : float or None
        The probability that decides between two classes.
    point : OperatingPoint or None
        What is known of it, None for a cut-off of one's own or more than two classes.
    check : ImageCheck or None
        None for a model that knows no ordinary images.
    """

    served: Served
    question: Question
    image_id: str
    proba: dict[str, float]
    spread: dict[str, tuple[float, float]]
    decided: tuple[str, ...]
    threshold: float | None
    point: OperatingPoint | None
    check: ImageCheck | None

    @property
    def is_unusual(self) -> bool:
        """Whether the image is unlike those of training."""
        return self.check is not None and bool(self.check.is_unusual[0])

    @property
    def is_refused(self) -> bool:
        """Whether it is stranger than every image that was held out: then what the model says means nothing."""
        if self.check is None or not self.is_unusual:
            return False
        return bool(self.check.p_value[0] <= 1.5 / (self.check.n_held_out + 1))

    @property
    def decision(self) -> str:
        """The decision as text, and of several labels all that are present."""
        return ", ".join(self.decided) or "none of the labels"

    @property
    def label(self) -> Any:
        """The label that is explained."""
        labels = labels_of(self.served.clf)
        if self.question.target != PREDICTED:
            return labels[self.question.target]
        return labels[self.decided[0] if self.decided else max(self.proba, key=self.proba.__getitem__)]


class Shown(NamedTuple):
    """A map with what is known about how far to trust it."""

    explanation: Explanation
    card: TrustCard


def labels_of(clf: Any) -> dict[str, Any]:
    """Return the labels of a model by their text."""
    return {str(label): label for label in clf.classes_.tolist()}


def points_of(clf: Any) -> list[str]:
    """Return the operating points that can decide between two classes, the active one first; none for other models."""
    if clf.task_ is not Task.BINARY:
        return []
    return sorted(clf.operating_points_, key=lambda name: name != clf.active_point_)


def methods_of(clf: Any) -> dict[str, str | None]:
    """Return each method with the reason why it does not work on this model, or None where it does."""
    found = {}
    for name, method in METHODS.items():
        lacks = method.needs_background and clf.background_ is None
        found[name] = "the model keeps no background" if lacks else method.obstacle(clf.model_)
    return found


def methods_on_offer(clf: Any, speeds: Sequence[str] = tuple(SPEEDS)) -> list[str]:
    """Return the methods of these speeds that work on a model, the fast ones first."""
    works = [name for name, obstacle in methods_of(clf).items() if obstacle is None]
    return [name for speed in speeds for name in works if METHODS[name].speed == speed]


def asking(clf: Any, question: Question) -> Any:
    """Return a copy of the model, with the same network, whose active operating point is the one that is asked for."""
    other = copy.copy(clf)
    if clf.task_ is not Task.BINARY:
        return other
    if question.cut_off is not None:
        return other.set_threshold(question.cut_off, name=OWN_POINT)
    return other.set_threshold(clf.operating_points_[question.point or points_of(clf)[0]])


def judge(served: Served, image: DecodedImage, question: Question) -> Judgement:
    """Judge an image, in few passes through the network.

    Raises
    ------
    DataError, InvalidParameterError
        The model has no such operating point or label.
    """
    clf, X = served.clf, [image.pixels]
    _check_question(clf, question)
    samples = clf.uncertainty(X, n_samples=N_COPIES, random_state=question.seed).samples[:, 0]
    logits = clf._logits(X)
    proba = clf._proba(logits)[0]
    classes = [str(label) for label in clf.classes_]
    point, threshold = None, None
    if clf.task_ is Task.BINARY:
        if question.cut_off is None:
            point = clf.operating_points_[question.point or points_of(clf)[0]]
            threshold = clf.thresholds_[point.name]
            decided = [str(said(clf, logits, point)[0])]
        else:
            own = asking(clf, question)
            threshold = own.threshold_
            decided = [str(said(clf, logits, own.operating_points_[OWN_POINT])[0])]
    else:
        found = said(clf, logits)[0]
        several = clf.task_ is Task.MULTILABEL
        decided = [label for label, present in zip(classes, found, strict=True) if present] if several else [str(found)]
    return Judgement(
        served,
        question,
        image.content_id,
        dict(zip(classes, proba.tolist(), strict=True)),
        {
            label: (min(float(low), share), max(float(high), share))  # among others the image's last bits are others
            for label, low, high, share in zip(
                classes, samples.min(axis=0), samples.max(axis=0), proba.tolist(), strict=True
            )
        },
        tuple(decided),
        threshold,
        point,
        None if clf.ood_ is None else clf.check_images(X),
    )


def explain(
    judgement: Judgement,
    image: DecodedImage,
    methods: Sequence[str],
    *,
    others: Mapping[str, Shown] | None = None,
    progress: Progress | None = None,
) -> dict[str, Shown]:
    """Explain the judged image by several methods, and check each map.

    Parameters
    ----------
    judgement : Judgement
    image : DecodedImage
        The one that was judged.
    methods : sequence of str
    others : dict of method to Shown, optional
        Maps of this image that exist already, with which the new ones are compared.
    progress : callable, optional
        Called as `progress(done, total)`; what it raises stops the work.

    Returns
    -------
    dict of method to Shown
        The new ones, and the others, whose cards know the new ones now.
    """
    _check_image(judgement, image)
    known = {name: shown.explanation for name, shown in (others or {}).items()}
    (found,) = examine(
        judgement.served.clf,
        [image.pixels],
        methods,
        others=known,
        target=judgement.label,
        random_state=judgement.question.seed,
        progress=progress,
    )
    older = {
        name: shown._replace(card=with_others(shown.card, shown.explanation, known | found.found))
        for name, shown in (others or {}).items()
    }
    return older | {
        name: Shown(redecided(explanation, judgement), found.cards[name][0])
        for name, explanation in found.found.items()
    }


def unchecked(
    judgement: Judgement, image: DecodedImage, method: str, *, progress: Progress | None = None
) -> Explanation:
    """Explain the judged image by one method, and check nothing, which is where most of the time goes."""
    _check_image(judgement, image)
    explanation = judgement.served.clf.explain(
        [image.pixels],
        method=method,
        target=judgement.label,
        random_state=judgement.question.seed,
        progress=progress,
    )
    return redecided(explanation, judgement)


def _check_image(judgement: Judgement, image: DecodedImage) -> None:
    if judgement.image_id != image.content_id:
        raise DataError("The image has changed since it was judged; analyse it anew.")


def redecided(explanation: Explanation, judgement: Judgement) -> Explanation:
    """Return the explanation with the decision that was asked for, in place of that of the active operating point."""
    if judgement.served.clf.task_ is not Task.BINARY:
        return explanation
    label = np.array([labels_of(judgement.served.clf)[judgement.decided[0]]])
    prediction = replace(explanation.prediction, label=label, threshold=judgement.threshold)
    return replace(explanation, prediction=prediction)


def _check_question(clf: Any, question: Question) -> None:
    if question.cut_off is not None:
        check_number("cut_off", question.cut_off, caller="the app", low=0, high=1, open_low=True, open_high=True)
    if question.point is not None:
        check_choice("point", question.point, points_of(clf) or ("(none: this model has no points)",), caller="the app")
    check_choice("target", question.target, (PREDICTED, *labels_of(clf)), caller="the app")
