"""What a model knows of its data and its training, beside the images that it is judged on."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cxr_estimator._operating import Judged, epoch_choosers, origins
from cxr_estimator._outputs import Task
from cxr_estimator._validation import plain
from cxr_estimator._wording import number_of
from cxr_estimator.card import _facts as known
from cxr_estimator.card._facts import Table, listed
from cxr_estimator.classifier import CXRClassifier
from cxr_estimator.fingerprints import share_seen
from cxr_estimator.provenance import Provenance
from cxr_estimator.thresholds import OperatingPoint

# where it ran and what lay where is no setting of the training, and may name a folder or a patient
_NO_SETTINGS = {
    "device", "n_jobs", "on_error", "verbose", "cache_dir", "checkpoint_dir", "patient_pattern", "pretrained",
}  # fmt: skip


@dataclass(frozen=True)
class Facts:
    """What is known without asking the network. Nothing in it names a patient or a file.

    Attributes
    ----------
    title, answer, network : str
        Name of the model, what it says of an image, and what computes that.
    origin : tuple of str
        Where the training images come from, as far as that is known.
    data : Table
        Images and patients of each class: those of training and validation, where known, and those judged here.
    seen : tuple of str
        How many of a sample of the images that trained, chose or calibrated are among those judged here.
    overlaps : bool
        Whether any are.
    recipe, changed : Table
        How the network was trained, and which parameters differ from their defaults.
    members : Table or None
        Of an ensemble: what each member was trained on.
    histories : tuple of DataFrame
        `history_` of each network; empty where unknown.
    points : tuple of str
        Where each operating point was chosen.
    calibration : str or None
        How the probabilities were calibrated, if they were.
    doubts : tuple of str
        What it does where it is in doubt, if anything.
    patients_known : bool
        Of the images judged here.
    """

    title: str
    answer: str
    network: str
    origin: tuple[str, ...]
    data: Table
    seen: tuple[str, ...]
    overlaps: bool
    recipe: Table
    changed: Table
    members: Table | None
    histories: tuple[pd.DataFrame, ...]
    points: tuple[str, ...]
    calibration: str | None
    doubts: tuple[str, ...]
    patients_known: bool

    @classmethod
    def of(cls, clf: Any, judged: Judged, *, patients_known: bool) -> Facts:
        """Return what `clf` knows, beside images that it has judged."""
        members, card = clf._members(), clf.card_
        labels = listed(clf.classes_.tolist())
        points = sorted(clf.operating_points_, key=lambda name: name not in clf.active_points_)
        seen = list(_seen(clf, judged.content_ids.tolist()))
        return cls(
            title=(None if card is None else card.title) or f"{labels}: {known.network(clf)}",
            answer=known.answer(clf),
            network=known.network(clf),
            origin=tuple(_origin(card, members[0].provenance_, len(members))),
            data=_data(clf, judged, patients_known=patients_known),
            seen=tuple(said for said, _ in seen),
            overlaps=any(found for _, found in seen),
            recipe=known.recipe(members),
            changed=_changed(members),
            members=known.members_table(members) if len(members) > 1 else None,
            histories=tuple(one.history_ for one in members if len(one.history_)),
            points=tuple(_where_chosen(clf, clf.operating_points_[name]) for name in points),
            calibration=known.calibration(clf),
            doubts=tuple(_doubts(clf)),
            patients_known=patients_known,
        )


def _origin(card: Any, seen: Provenance | None, n_members: int) -> Iterator[str]:
    name = None if card is None else card.dataset_name or card.dataset
    if name is not None:
        yield f"The author says that it was trained on {name}."
    if card is not None and card.population is not None:
        yield f"Where these come from, as the author says: {card.population.rstrip('.')}."
    else:
        yield "Where the training images come from is not known: take them for those of one institution."
    if seen is None:
        yield "How many images of how many patients trained it is not known."
        return
    if n_members > 1:
        yield f"Counts of training and validation are those of the first of {n_members} members."
    lost = "All images of training could be read"
    if seen.n_unreadable:
        lost = f"{number_of(seen.n_unreadable, 'image')} of training could not be read and took no part"
    yield f"{lost}. Ages, sexes, views, devices and sizes of the training images are not kept in a model."


def _data(clf: Any, judged: Judged, *, patients_known: bool) -> Table:
    """Return the counts of training and validation, as the card has them, with those of the images here."""
    seen: Provenance | None = clf._members()[0].provenance_
    labels = clf.classes_.tolist()
    if seen is None:
        head, rows = ["class"], [[str(label)] for label in (*labels, "all")]
    else:
        found = known.class_table(seen, clf.task_)
        head, rows = list(found.head), [list(row) for row in found.rows]
    each = [judged.having(clf, label)[1] for label in labels] + [np.ones(len(judged.labels), dtype=bool)]
    for row, has in zip(rows, each, strict=True):
        of_all = "" if clf.task_ is Task.MULTILABEL or row is rows[-1] else f" ({has.mean():.1%})"
        patients = f"{len(np.unique(judged.groups[has])):,}" if patients_known else "unknown"
        row += [f"{int(has.sum()):,}{of_all}", patients]
    return Table([*head, "images judged here", "patients judged here"], rows)


def _seen(clf: Any, content_ids: list[str]) -> Iterator[tuple[str, bool]]:
    """Yield what is told of the images that something was learnt or chosen from, and whether some are here."""
    found = origins(clf)
    for what, origin in found.items():
        sample = len(origin.fingerprint)
        again = round(share_seen(origin.fingerprint, content_ids) * sample)
        which = "the images" if origin.n_images == sample else f"a sample of {sample} of the images"
        yield f"Of {which} that {what} {again or 'none'} {'is' if again == 1 else 'are'} among these.", again > 0
    if "trained the network" not in found:
        yield "Which images trained it is not known, and so not whether some are among these.", False
    twice = len(content_ids) - len(set(content_ids))
    if twice:
        yield f"{number_of(twice, 'image')} here {'is' if twice == 1 else 'are'} a copy of another one here.", False


def _doubts(clf: Any) -> Iterator[str]:
    for what, found in (
        ("Prediction sets (several classes where one is not sure)", known.prediction_sets(clf)),
        ("Images unlike those of training are recognised", known.unusual(clf)),
        ("It can give no answer, decided", known.abstention(clf)),
    ):
        if found is not None:
            yield f"{what}: {found}."
    if clf.abstention_ is not None:
        yield "The figures on this page are of all images, also of those that it would not answer."


def _changed(members: list[CXRClassifier]) -> Table:
    """Return the parameters that differ from their defaults; where members differ, the values of all.

    Those of a network that was trained elsewhere trained nothing.
    """
    defaults = {name: one.default for name, one in inspect.signature(CXRClassifier).parameters.items()}
    rows = []
    members = [one for one in members if one.provenance_ is not None]
    for name, default in defaults.items():
        values = [getattr(one, name) for one in members]
        if name not in _NO_SETTINGS and any(repr(plain(one)) != repr(default) for one in values):
            rows.append((name, listed((_shown(one) for one in values), "; "), _shown(default)))
    return Table(("parameter", "value", "default"), rows)


def _shown(value: Any) -> str:
    return "a path" if isinstance(value, os.PathLike) else f"{plain(value)!s:.200}"


def _where_chosen(clf: Any, point: OperatingPoint) -> str:
    used = " (the one in use)" if point.name in clf.active_points_ else ""
    if point.n_images is None:
        return f"“{point.name}”{used}: a number that was given; no images chose it, and it promises nothing."
    by_fit = any(
        point.fingerprint and point.fingerprint == each.provenance_.validation.fingerprint
        for each in clf._members()
        if each.provenance_ is not None and each.provenance_.validation is not None
    )
    also = ", which also chose the epoch" * any(epoch_choosers(each) for each in clf._members())
    split = f", the validation split of the training{also}" if by_fit else ""
    return f"“{point.name}”{used}: chosen on {known.chosen_on(point)}{split}."
