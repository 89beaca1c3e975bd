"""What `CXRClassifier.fit` does: check, read the images, split off validation patients, train, choose the threshold."""

from __future__ import annotations

import time
import warnings
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from cxr_estimator._background import make_background
from cxr_estimator._checking import learn_from_sides
from cxr_estimator._labels import Labels, check_both_values, check_label_names, class_weights, loss_weights, read_labels
from cxr_estimator._outputs import Task
from cxr_estimator._predicting import check_folder, check_run_parameters, reading, report
from cxr_estimator._progress import FitProgress, bar
from cxr_estimator._rows import check_training_rows, intensity_range, is_table, remember
from cxr_estimator._validation import (
    check_choice,
    check_number,
    check_per_image,
    check_seed,
    invalid,
    plain,
)
from cxr_estimator.augmentation import AUGMENTATIONS
from cxr_estimator.backbones import build_backbone, check_backbone, normalisation
from cxr_estimator.datasets.patients import patient_ids
from cxr_estimator.datasets.split import patient_split
from cxr_estimator.errors import (
    DataError,
    EncodedLabelsWarning,
    PatientLeakWarning,
    ThresholdWarning,
    UnknownLabelsWarning,
)
from cxr_estimator.fingerprints import fingerprint
from cxr_estimator.images import ImageSequence, as_images
from cxr_estimator.inference import BFLOAT16_TOLERANCE, bfloat16_change, check_device, check_precision, pixel_logits
from cxr_estimator.preprocessing import Preprocessing
from cxr_estimator.provenance import Provenance, Side, Validated, validated_labels
from cxr_estimator.reading import PixelRows, PreparedImages, prepare
from cxr_estimator.serialization import writable_folder
from cxr_estimator.thresholds import DEFAULT_POINT, OperatingPoint, choose_point, number_point, parse_rule
from cxr_estimator.training import TrainingData, TrainingSettings, seeded, train

if TYPE_CHECKING:
    from cxr_estimator.classifier import CXRClassifier

_CLASS = "CXRClassifier"
_CALLER = "CXRClassifier.fit"
_PRECISION_IMAGES = 64  # on which fit measures what bfloat16 does to the probabilities
# Parameters that a fitted network depends on: later changes by `set_params` wait for the next `fit`.
ARCHITECTURE = ("backbone", "image_size", "channels", "resize", "intensity", "image_shape", "dropout")


def fit(clf: CXRClassifier, X: Any, y: Any, groups: Any, sample_weight: Any) -> CXRClassifier:
    """Fit `clf` in place and return it; its fitted attributes are only set once training has ended well."""
    start = time.perf_counter()
    check_parameters(clf)
    for folder in (clf.checkpoint_dir, clf.cache_dir):
        if folder is not None:
            writable_folder(folder)
    seed = check_seed(clf.random_state, caller=_CLASS)
    images, image_shape, intensity = training_images(clf, X, y)
    task, classes, encoded = labels = read_labels(y, len(images), clf.label_names)
    pos_label = positive_label(clf, task, classes)
    points = initial_points(clf, task, classes, pos_label)
    loss_weights(clf.class_weight, classes, encoded, sample_weight)  # bad ones fail now
    groups = patients(images, groups, clf.patient_pattern, clf.validation_fraction)
    validation_split(classes, encoded, groups, clf.validation_fraction, seed)  # fails now rather than after decoding

    device = check_device(clf.device, caller=_CLASS)
    with seeded(seed, device):
        model = build(clf, task.num_outputs(len(classes)), clf.pretrained).to(device)
    mean, std = normalisation(model, clf.channels)
    preprocessing = Preprocessing(clf.image_size, clf.channels, clf.resize, intensity, mean, std)
    prepared = read_images(clf, images, preprocessing)
    rows = usable_rows(labels, prepared)
    kept = prepared.index[rows]
    weights = loss_weights(
        clf.class_weight, classes, encoded[kept], None if sample_weight is None else np.asarray(sample_weight)[kept]
    )
    sides = validation_split(
        classes, encoded[kept], None if groups is None else groups[kept], clf.validation_fraction, seed
    )
    data, validation = (TrainingData(PixelRows(prepared.pixels, rows[s]), encoded[kept][s], weights[s]) for s in sides)
    settings = training_settings(clf, seed, device)
    with FitProgress(clf.verbose, settings, len(data)) as progress:
        judged = validation if len(validation) else None
        history = train(model, preprocessing, data, judged, settings, progress, clf.checkpoint_dir)
    owners = (None, None) if groups is None else (groups[kept][sides[0]], groups[kept][sides[1]])
    ids = tuple([prepared.content_ids[row] for row in rows[side]] for side in sides)
    validated: tuple[Validated, ...] = ()
    if judged is not None:
        logits = pixel_logits(model, validation.pixels, preprocessing, settings.execution)
        how_labelled: dict[str, Any] = {"task": task, "pos_label": pos_label, "patients": owners[1]}
        validated = validated_labels(logits, validation.target, classes.tolist(), **how_labelled)
    if isinstance(points, tuple):
        scores = logits[:, 0] if pos_label == classes[1] else -logits[:, 0]
        point = chosen_point(scores, classes[validation.target] == pos_label, *points, owners[1], pos_label)
        points = [replace(point, fingerprint=fingerprint(ids[1]))]

    background = make_background(data.pixels, data.target, owners[0], seed)
    pixels = data.pixels if judged is None else judged.pixels
    sample = pixels[np.unique(np.linspace(0, len(pixels) - 1, _PRECISION_IMAGES, dtype=np.int64))]
    change = bfloat16_change(model, sample, preprocessing, settings.execution, task)
    # as it will predict, see `_predicting.execution`
    is_exact = clf.precision == "auto" and not change <= BFLOAT16_TOLERANCE
    how = replace(settings.execution, precision="float32") if is_exact else settings.execution
    pictures = prepared.pixels, tuple(rows[side] for side in sides)
    ood = learn_from_sides(model, preprocessing, how, *pictures, owners, seed)
    clf.bfloat16_change_, clf.background_, clf.ood_ = change, background, ood
    clf.calibration_ = clf.conformal_ = clf.abstention_ = clf.card_ = None
    clf.class_weights_ = class_weights(clf.class_weight, classes, encoded[kept])
    clf.task_, clf.classes_, clf.pos_label_, clf.model_ = task, classes, pos_label, model
    clf.architecture_ = {name: getattr(clf, name) for name in ARCHITECTURE}
    clf.preprocessing_, clf.image_shape_ = preprocessing, image_shape
    clf.operating_points_ = {point.name: point for point in points}
    clf.active_points_ = tuple(clf.operating_points_)
    clf.history_, clf.skipped_ = pd.DataFrame(history), prepared.skipped
    seen = [
        Side.of(one.target, classes.tolist(), owner, own)
        for one, owner, own in zip((data, validation), owners, ids, strict=True)
    ]
    seconds = time.perf_counter() - start
    clf.provenance_, clf.weights_dtype_ = Provenance.of_fit(seen, validated, len(prepared.skipped), seconds), "float32"
    remember(clf, X, is_rows=image_shape is not None)
    return clf


def check_parameters(clf: CXRClassifier) -> None:
    """Raise for the first constructor parameter that is not allowed."""
    check_backbone(clf.backbone, caller=_CLASS)
    check_choice("augment", clf.augment, AUGMENTATIONS, caller=_CLASS)
    check_run_parameters(clf)
    check_class_weight(clf.class_weight)
    check_label_names(clf.label_names)
    check_number("max_epochs", clf.max_epochs, caller=_CLASS, low=1, integer=True)
    if clf.patience is not None:
        check_number("patience", clf.patience, caller=_CLASS, low=1, integer=True)
    check_number("learning_rate", clf.learning_rate, caller=_CLASS, low=0, open_low=True)
    check_number("weight_decay", clf.weight_decay, caller=_CLASS, low=0)
    if clf.dropout is not None:
        check_number("dropout", clf.dropout, caller=_CLASS, low=0, high=1, open_high=True)
    check_number("label_smoothing", clf.label_smoothing, caller=_CLASS, low=0, high=1, open_high=True)
    check_number("validation_fraction", clf.validation_fraction, caller=_CLASS, low=0, high=0.5)
    check_folder("checkpoint_dir", clf.checkpoint_dir)
    if clf.checkpoint_dir is not None and not isinstance(clf.random_state, Integral):
        constraint = "an integer where checkpoint_dir is set, since a run is only taken up by one with the same seed"
        raise invalid("random_state", _CLASS, constraint, clf.random_state)
    if clf.image_shape is not None:
        check_image_shape(clf.image_shape)
    Preprocessing(clf.image_size, clf.channels, clf.resize, clf.intensity)


def check_class_weight(class_weight: Any) -> None:
    """Raise unless it is None, "balanced", or a dict of labels to weights that are finite and not negative."""
    if isinstance(class_weight, dict):
        for weight in class_weight.values():
            check_number("class_weight", weight, caller=_CLASS, low=0)
        if not any(class_weight.values()):
            raise invalid("class_weight", _CLASS, "a dict with a weight above 0", class_weight)
    else:
        check_choice("class_weight", class_weight, (None, "balanced"), caller=_CLASS)


def check_image_shape(shape: Any) -> None:
    """Raise unless `shape` is a pair of positive integers."""
    if not isinstance(shape, tuple | list) or len(shape) != 2:
        raise invalid("image_shape", _CLASS, "None or a pair (height, width)", shape)
    for side in shape:
        check_number("image_shape", side, caller=_CLASS, low=1, integer=True)


def build(clf: CXRClassifier, num_outputs: int, pretrained: bool | str | Path) -> torch.nn.Module:
    """Return a new network with so many logits."""
    model = build_backbone(
        clf.backbone,
        num_outputs=num_outputs,
        channels=clf.channels,
        image_size=clf.image_size,
        pretrained=pretrained,
        dropout=None if clf.dropout is None else float(clf.dropout),
    )
    return model.to(memory_format=torch.channels_last)  # see inference.unit_tensor


def positive_label(clf: CXRClassifier, task: Task, classes: np.ndarray) -> Any:
    """Return `pos_label`, or `classes[1]` of two classes, or None."""
    labels = classes.tolist()
    default = labels[1] if task is Task.BINARY else None
    if clf.pos_label is None:
        return default
    if task is Task.MULTILABEL:
        raise invalid("pos_label", _CLASS, "None for several labels per image", clf.pos_label)
    if isinstance(clf.pos_label, str) and labels == list(range(len(labels))):
        # cross_val_predict and CalibratedClassifierCV fit on the output of a LabelEncoder
        warnings.warn(
            f"The labels are {labels}, so pos_label={clf.pos_label!r} is none of them; scikit-learn seems to have "
            f"encoded them. Probabilities are not affected; thresholds now speak of {default!r}.",
            EncodedLabelsWarning,
            stacklevel=4,
        )
        return default
    return check_choice("pos_label", clf.pos_label, labels, caller=_CLASS)


def initial_points(
    clf: CXRClassifier, task: Task, classes: np.ndarray, pos_label: Any
) -> list[OperatingPoint] | tuple[str, dict[str, float]]:
    """Return the operating point of two classes or of each label, or the rule that will choose it.

    None for several classes, of which the likeliest is decided.
    """
    if task is not Task.BINARY and clf.threshold != 0.5:
        raise invalid("threshold", _CLASS, "0.5 unless there are two classes", clf.threshold)
    if task is Task.MULTICLASS:
        return []
    if task is Task.MULTILABEL:
        return [number_point(0.5, name=str(label), caller=_CLASS, label=label) for label in classes.tolist()]
    if not isinstance(clf.threshold, str):
        return [number_point(clf.threshold, name=DEFAULT_POINT, caller=_CLASS, label=pos_label)]
    if clf.validation_fraction == 0:
        raise invalid("threshold", _CLASS, "a number where validation_fraction is 0", clf.threshold)
    return parse_rule(clf.threshold, caller=_CLASS, parameter="threshold")


def chosen_point(
    scores: np.ndarray, positive: np.ndarray, rule: str, options: dict[str, float], groups: Any, label: Any
) -> OperatingPoint:
    """Return the cut-off that the rule chooses; 0.5, with a warning, where it finds none: training is not lost."""
    try:
        return choose_point(scores, positive, rule, options, groups=groups, label=label)
    except DataError as error:
        warnings.warn(
            f"{error} So the threshold is 0.5; choose another with set_threshold.", ThresholdWarning, stacklevel=5
        )
        return number_point(0.5, name=DEFAULT_POINT, caller=_CLASS, label=label)


def read_images(clf: CXRClassifier, images: ImageSequence, preprocessing: Preprocessing) -> PreparedImages:
    """Decode all training images; skipped ones are reported, and one at least must be left."""
    with bar(len(images), "reading images", clf.verbose) as progress:
        prepared = prepare(images, preprocessing, reading(clf), progress=progress)
    report(prepared.skipped)
    if not len(prepared.index):
        raise DataError(f"{_CALLER}: none of the {len(images)} images could be read.")
    return prepared


def training_settings(clf: CXRClassifier, seed: int, device: torch.device) -> TrainingSettings:
    """Return what the training loop needs of the constructor's parameters."""
    names = (
        "max_epochs", "batch_size", "learning_rate", "weight_decay", "label_smoothing", "patience", "augment", "dropout"
    )  # fmt: skip
    precision = check_precision(clf.precision, device, caller=_CLASS)
    chosen = {name: plain(getattr(clf, name)) for name in names}
    return TrainingSettings(**chosen, seed=seed, device=device, precision=precision)


def training_images(clf: CXRClassifier, X: Any, y: Any) -> tuple[ImageSequence, tuple[int, int] | None, Any]:
    """Return the images to fit on, the shape of one where they come as rows, and the range of their intensities."""
    if not is_table(X):
        if clf.image_shape is not None:
            raise invalid("image_shape", _CLASS, "None unless X is a 2-D array of rows", clf.image_shape)
        return as_images(X), None, clf.intensity
    rows = check_training_rows(clf, X, y)
    height, width = (1, rows.shape[1]) if clf.image_shape is None else clf.image_shape
    shape = int(height), int(width)
    intensity = intensity_range(rows) if clf.intensity is None else clf.intensity
    return as_images(rows).with_row_shape(shape), shape, intensity


def usable_rows(labels: Labels, prepared: PreparedImages) -> np.ndarray:
    """Return which of the images that could be read to train on: those of which a label is known."""
    target = labels.target[prepared.index]
    if labels.task is Task.MULTILABEL:
        known = ~np.isnan(target).all(axis=1)
        if not known.all():
            told = f"{int((~known).sum())} of {len(known)} images have no known label (all are NaN) and train nothing."
            warnings.warn(told, UnknownLabelsWarning, stacklevel=4)
        if prepared.skipped:
            check_both_values(labels.classes, target, "the images that could be read")
        return np.flatnonzero(known)
    lost = labels.classes[np.setdiff1d(labels.target, target)].tolist()
    if lost:
        raise DataError(f"{_CALLER}: of {lost} no image could be read; {len(prepared.skipped)} were skipped in all.")
    return np.arange(len(target))


def patients(images: ImageSequence, groups: Any, pattern: str | None, validation_fraction: float) -> np.ndarray | None:
    """Return the patient of each image from `groups` or the pattern; warn where a split would need them."""
    if groups is not None:
        return check_per_image("groups", groups, len(images), caller=_CALLER)
    if pattern is not None:
        paths = [path for path in map(images.path, range(len(images))) if path is not None]
        if len(paths) < len(images):
            raise invalid("patient_pattern", _CALLER, "None unless every image is a file path", pattern)
        return patient_ids(paths, pattern, caller=_CALLER)
    if validation_fraction > 0:
        warnings.warn(
            "No patients are known, so the internal validation split may put images of one patient on both sides. "
            "Pass groups= to fit (through cross_val_score: set_fit_request(groups=True) and metadata routing), or set "
            "patient_pattern, or validation_fraction=0.",
            PatientLeakWarning,
            stacklevel=3,
        )
    return None


def validation_split(
    classes: np.ndarray, target: np.ndarray, groups: np.ndarray | None, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices to train on and to validate on, patient-disjoint; the second is empty for a fraction of 0."""
    if fraction == 0:
        return np.arange(len(target)), np.array([], dtype=np.int64)
    owner = np.arange(len(target)) if groups is None else np.unique(groups, return_inverse=True)[1]
    if target.ndim == 2:
        return _label_split(classes, target, owner, fraction, seed)
    for index, label in enumerate(classes.tolist()):
        if len(np.unique(owner[target == index])) < 2:
            raise DataError(
                f"{_CALLER}: too few images: class {label!r} has images of 1 patient, but a validation split needs 2 "
                "patients per class. Add images, or set validation_fraction=0."
            )
    train, validation = patient_split(target, owner, fractions=(1.0 - fraction, fraction), random_state=seed)
    if any(len(np.unique(target[part])) < len(classes) for part in (train, validation)):
        raise DataError(
            f"{_CALLER}: too few patients: a patient-disjoint validation split leaves one side without a class. "
            "Add images, or set validation_fraction=0."
        )
    return train, validation


def _label_split(
    classes: np.ndarray, target: np.ndarray, owner: np.ndarray, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return a split for several labels per image; a value that one patient alone has stays on the training side."""
    rare = np.zeros(len(target), dtype=bool)
    for has in np.hstack([target == 1, target == 0]).T:
        holders = np.unique(owner[has])
        if len(holders) == 1:
            rare |= owner == holders[0]
    free = np.flatnonzero(~rare)
    train, validation = patient_split(
        target[free], owner[free], fractions=(1.0 - fraction, fraction), random_state=seed
    )
    train = np.sort(np.concatenate([np.flatnonzero(rare), free[train]]))
    check_both_values(classes, target[train], "the images that a validation split leaves to train on")
    return train, free[validation]
