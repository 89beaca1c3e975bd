"""What is planted, and the models that learn it.

A case is a domain, what is wrong with its images, labels or patients, how strongly, and a seed. Everything follows from
it, so a case can be made again anywhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from cxr_estimator import CXRClassifier, load_image_folder, make_phantoms
from cxr_estimator._validation import check_choice
from cxr_estimator.datasets import ImageDataset
from cxr_estimator.datasets.shortcuts import SHORTCUTS, paste_opacities, plant_shortcut
from cxr_estimator.images import as_images
from cxr_estimator.preprocessing import Preprocessing
from cxr_estimator.reading import prepare

SIDE = 64
LABELS = ("NORMAL", "PNEUMONIA")
DIFFICULTY = 0.1  # of the phantoms' lesions
N_TRAIN = {"phantoms": 375, "real": 460}  # a fifth of them validates
N_AUDIT = 200
# Chosen on seeds 100 to 102, so that clean models find lesions, and fast. "light" augmentation took longer and was not
# better; without it nothing blurs a shortcut.
RECIPE = {
    "backbone": "plain_cnn",
    "image_size": SIDE,
    "max_epochs": 10,
    "batch_size": 16,
    "learning_rate": 5e-3,
    "augment": "none",
    "validation_fraction": 0.2,
    "patience": None,
    "threshold": "sensitivity>=0.9",
    "precision": "float32",
}
STRENGTHS: dict[str, tuple[float, ...]] = {
    "clean": (0.0,),
    **dict.fromkeys(SHORTCUTS, (0.5, 0.8, 1.0)),
    "duplicated_patients": (0.05, 0.2, 0.5),
    "reversed_labels": (0.25, 0.5, 1.0),
}


class Case(NamedTuple):
    """One model to audit.

    Attributes
    ----------
    domain : {"phantoms", "real"}
        "real": normal radiographs of CXR_DATA_DIR; half of the patients have pasted opacities.
    kind : str
        Key of `STRENGTHS`.
    strength : float in [0, 1]
        Of a shortcut: see `plant_shortcut`. Else the share of the audit images that are copies of training images, or
        of the audit labels that are turned.
    seed : int
    """

    domain: str
    kind: str
    strength: float
    seed: int


class Data(NamedTuple):
    """What a model learns from, what it is audited on, and where the lesions of the latter are (N, H, W)."""

    train: ImageDataset
    audit: ImageDataset
    lesions: np.ndarray


class Labelled(NamedTuple):
    """All images of a domain: grey values, labels, patients and places of lesions."""

    X: np.ndarray
    y: np.ndarray
    groups: np.ndarray
    lesions: np.ndarray


def make(case: Case) -> Data:
    """Return the images of a case; training and audit share no patient, unless that is what was planted."""
    check_choice("domain", case.domain, DOMAINS, caller="make")
    check_choice("kind", case.kind, STRENGTHS, caller="make")
    everything = DOMAINS[case.domain](case.seed)
    if case.kind in SHORTCUTS:
        X, y, groups, _ = everything
        options = {"strength": case.strength, "groups": groups, "random_state": case.seed}
        everything = everything._replace(X=plant_shortcut(X, y, case.kind, **options))
    n_train = N_TRAIN[case.domain]
    train, audit = (Labelled(*(column[part] for column in everything)) for part in (np.s_[:n_train], np.s_[-N_AUDIT:]))
    if case.kind in SPOILED:
        audit = SPOILED[case.kind](train, audit, case)
    return Data(ImageDataset(*train[:3]), ImageDataset(*audit[:3]), audit.lesions)


def model_of(case: Case, data: Data) -> CXRClassifier:
    """Return the case's model, trained in a few seconds on one core."""
    clf = CXRClassifier(**RECIPE, pos_label=LABELS[1], device="cpu", random_state=case.seed)
    return clf.fit(data.train.X, data.train.y, groups=data.train.groups)


def _phantoms(seed: int) -> Labelled:
    found = make_phantoms(N_TRAIN["phantoms"] + N_AUDIT, SIDE, difficulty=DIFFICULTY, random_state=seed)
    return Labelled(found.X, found.y, found.groups, found.lesion_masks)


def _real(seed: int) -> Labelled:
    """Draw patients for training and audit; every other one gets opacities."""
    pixels, owners = _pool(*_radiographs(os.environ["CXR_DATA_DIR"]), seed // 1000)
    names, patient = np.unique(owners, return_inverse=True)
    rank = np.random.default_rng(seed).permutation(len(names))[patient]
    order = np.argsort(rank, kind="stable")[np.r_[: N_TRAIN["real"], -N_AUDIT:0]]
    X, sick = pixels[order], rank[order] % 2 == 1
    pasted = paste_opacities(X, random_state=seed)
    has = sick[:, None, None]
    return Labelled(np.where(has, pasted.X, X), np.where(sick, *LABELS[::-1]), owners[order], pasted.masks & has)


def _pool(pixels: np.ndarray, owners: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the images of one half of the patients, or of the other: seeds of 1000 and 2000 on share none; 0: all."""
    if number == 0:
        return pixels, owners
    names, patient = np.unique(owners, return_inverse=True)
    kept = np.random.default_rng(0).permutation(len(names))[patient] % 2 == number % 2
    return pixels[kept], owners[kept]


@lru_cache(maxsize=1)
def _radiographs(root: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the normal radiographs (N, H, W) that differ from each other, and their patients."""
    data = load_image_folder(root)
    normal = data.y == "NORMAL"
    found = prepare(as_images(data.X[normal]), Preprocessing(image_size=SIDE))
    _, first = np.unique(found.content_ids, return_index=True)
    return found.pixels[first, 0], data.groups[normal][first]


DOMAINS: dict[str, Callable[[int], Labelled]] = {"phantoms": _phantoms, "real": _real}


def _with_copies(train: Labelled, audit: Labelled, case: Case) -> Labelled:
    """Put training images, with their labels and patients, in the places of audit images."""
    rng = np.random.default_rng(case.seed)
    places = rng.permutation(len(audit.y))[: round(case.strength * len(audit.y))]
    copied = rng.permutation(len(train.y))[: len(places)]
    spoiled = Labelled(*(column.copy() for column in audit))
    for column, source in zip(spoiled, train, strict=True):
        column[places] = source[copied]
    return spoiled


def _with_turned_labels(train: Labelled, audit: Labelled, case: Case) -> Labelled:
    """Give audit images the other label."""
    places = np.random.default_rng(case.seed).permutation(len(audit.y))[: round(case.strength * len(audit.y))]
    y = audit.y.copy()
    y[places] = np.where(y[places] == LABELS[0], *LABELS[::-1])
    return audit._replace(y=y)


SPOILED = {"duplicated_patients": _with_copies, "reversed_labels": _with_turned_labels}
