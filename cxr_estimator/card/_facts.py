"""What a fitted model can say of itself, as sentences and rows of text for its card."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from numbers import Integral
from typing import Any, NamedTuple

from cxr_estimator._bundled import BUNDLED
from cxr_estimator._operating import epoch_choosers, stated_threshold
from cxr_estimator._outputs import Task
from cxr_estimator._wording import cell, changed_copies, images_of, number_of
from cxr_estimator.calibration import CALIBRATORS
from cxr_estimator.doubts import DOUBTS
from cxr_estimator.pretrained import ATTRIBUTION
from cxr_estimator.provenance import Provenance, Side
from cxr_estimator.statistics import Estimate
from cxr_estimator.thresholds import OperatingPoint
from cxr_estimator.uncertainty import suitable_samplers

SHOWN = 20  # labels in a sentence, different values in a cell, or members of an ensemble
_RESIZE = {"stretch": "stretched to the square", "pad": "padded to the square", "crop": "cut to the central square"}


class Table(NamedTuple):
    """A table of text."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def listed(items: Iterable[Any], separator: str = ", ") -> str:
    """Return different items in their order, the first twenty of them by name."""
    names = list(dict.fromkeys(map(str, items)))
    more = [f"and {len(names) - SHOWN} more"] * (len(names) > SHOWN)
    return separator.join([*names[:SHOWN], *more])


def answer(clf: Any) -> str:
    """Return what the model says of an image."""
    labels = clf.classes_.tolist()
    if clf.task_ is Task.BINARY:
        other = next(label for label in labels if label != clf.pos_label_)
        return f"It says of a whole image whether it is {clf.pos_label_} (the positive label) or {other}."
    if clf.task_ is Task.MULTICLASS:
        positive = "" if clf.pos_label_ is None else f" The positive label is {clf.pos_label_}."
        return f"It gives a whole image one of {len(labels)} classes: {listed(labels)}.{positive}"
    return f"It says of a whole image which of {len(labels)} labels it has: {listed(labels)}."


def network(clf: Any) -> str:
    """Return "plain_cnn, 32 x 32 pixels", or all of an ensemble."""
    kinds = listed(f"{one.backbone}, {one.image_size} x {one.image_size} pixels" for one in clf._members())
    n_members = len(clf._members())
    return kinds if n_members == 1 else f"ensemble of {n_members} ({kinds})"


# -- data -------------------------------------------------------------------------------------------------------------


def class_table(seen: Provenance, task: Task) -> Table:
    """Return how many images and patients of each class trained and validated."""
    sides = {"training": seen.training} | ({"validation": seen.validation} if seen.validation is not None else {})
    head = ["label" if task is Task.MULTILABEL else "class"]
    head += [f"{name} {what}" for name in sides for what in ("images", "patients")]
    rows = []
    for k, count in enumerate(seen.training.classes):
        each = [side.classes[k] for side in sides.values()]
        counted = zip(each, sides.values(), strict=True)
        cells = [
            text for one, side in counted for text in (_images(one.n_images, side, task), _patients(one.n_patients))
        ]
        rows.append((str(count.label), *cells))
    total = [text for side in sides.values() for text in (f"{side.n_images:,}", _patients(side.n_patients))]
    return Table(tuple(head), [*rows, ("all", *total)])


def _images(n_images: int, side: Side, task: Task) -> str:
    """Return a count with its share, but of labels, which are unknown of some images."""
    has_share = task is not Task.MULTILABEL and side.n_images > 0
    return f"{n_images:,} ({n_images / side.n_images:.1%})" if has_share else f"{n_images:,}"


def _patients(n: int | None) -> str:
    return "unknown" if n is None else f"{n:,}"


def members_table(members: Sequence[Any]) -> Table:
    """Return what each member of an ensemble was trained and validated on, and how well it did."""
    rows = []
    for number, one in enumerate(members[:SHOWN]):
        seen: Provenance | None = one.provenance_
        if seen is None:
            rows.append((str(number), str(one.backbone), "unknown", "unknown", "unknown"))
            continue
        validation = seen.validation
        on = "none" if validation is None else images_of(validation.n_images, validation.n_patients)
        found = listed((f"{each.label}: {cell(each.auroc)}" for each in seen.validated), "; ") or "none"
        trained = images_of(seen.training.n_images, seen.training.n_patients)
        rows.append((str(number), str(one.backbone), trained, on, found))
    return Table(("member", "network", "training", "validation", "AUROC on validation"), rows)


def validation_table(seen: Provenance) -> Table:
    """Return the AUROC of each label on the validation split."""
    return Table(("label", "AUROC (95% interval)"), [(str(one.label), cell(one.auroc)) for one in seen.validated])


def chosen_by_validation(clf: Any, seen: Provenance) -> str:
    """Return what the validation split chose: the epoch, operating points with its fingerprint, or "nothing"."""
    own = None if seen.validation is None else seen.validation.fingerprint
    names = [name for name, point in clf.operating_points_.items() if own and point.fingerprint == own]
    chosen = ["the epoch"] * (len(epoch_choosers(clf._members()[0])) > 0)
    chosen += [f"the operating point {listed(names)}"] * bool(names)
    return " and ".join(chosen) or "nothing"


# -- training ---------------------------------------------------------------------------------------------------------


def recipe(members: Sequence[Any]) -> Table:
    """Return how the network was trained; where members of an ensemble differ, the values of all."""
    each = [dict([*_network(member), *_training(member)]) for member in members]
    names = dict.fromkeys(name for one in each for name in one)
    return Table(
        ("setting", "value"), [(name, listed((one.get(name, "unknown") for one in each), "; ")) for name in names]
    )


def _network(clf: Any) -> Iterator[tuple[str, str]]:
    prepared = clf.preprocessing_
    size, colours = prepared.image_size, {1: "grey", 3: "RGB"}[prepared.channels]
    middle = "" if prepared.crop_pct == 1 else f", of which the middle {prepared.crop_pct:.1%} is seen"
    yield "network", f"{clf.backbone}, {sum(each.numel() for each in clf.model_.parameters()):,} parameters"
    yield "input", f"{size} x {size} pixels, {colours}, {_RESIZE[prepared.resize]}{middle}"
    yield "intensities", _intensities(prepared)


def _training(clf: Any) -> Iterator[tuple[str, str]]:
    """Yield nothing of a network that was trained elsewhere, whatever its parameters may be."""
    seen: Provenance | None = clf.provenance_
    if seen is None:
        return
    moved = f"{clf.bfloat16_change_:.4f}"
    yield "precision", f"{clf.precision}; where tried, bfloat16 moved no probability by more than {moved}"
    yield "first weights", _first_weights(clf.pretrained)
    rates = f"learning rate {clf.learning_rate:g}, weight decay {clf.weight_decay:g}"
    yield "optimiser", f"AdamW, {rates}, batches of {clf.batch_size}"
    weights = ", ".join(f"{label} {w:.3g}" for label, w in zip(clf.classes_, clf.class_weights_, strict=True))
    weighed = "none" if (clf.class_weights_ == 1).all() else weights
    yield "loss", f"cross-entropy, label smoothing {clf.label_smoothing:g}, class weights: {weighed}"
    dropout = "the network's own" if clf.dropout is None else f"{clf.dropout:g}"
    yield "regularisation", f"augmentation: {clf.augment}; dropout: {dropout}"
    yield "epochs", _epochs(clf)
    seed = clf.random_state
    yield "seed", str(int(seed)) if isinstance(seed, Integral) else "not fixed"
    yield "duration", f"{seen.seconds:,.0f} s"
    yield "versions", ", ".join(f"{name} {version}" for name, version in seen.versions.items())


def _first_weights(pretrained: Any) -> str:
    """Name no file: where the weights lay is nobody else's business."""
    if pretrained is True:
        return "pretrained, as timm has them for this network"
    if pretrained == BUNDLED:
        return "those of the model bundled with cxr_estimator"
    return "random" if pretrained is False else "pretrained, from elsewhere"


def bundled_data(members: Sequence[Any]) -> str | None:
    """Return what the bundled weights were trained on, where training began with them, whatever its author said."""
    return ATTRIBUTION if any(one.pretrained == BUNDLED for one in members) else None


def _intensities(preprocessing: Any) -> str:
    range_ = preprocessing.intensity
    of = {None: "by their type", "minmax": "of each image to its own range"}.get(
        range_ if isinstance(range_, str | None) else ""
    )
    scaled = of or f"{range_[0]:g} to {range_[1]:g}"
    mean, std = (_per_channel(values) for values in (preprocessing.mean, preprocessing.std))
    return f"to 0 to 1 ({scaled}), then minus {mean}, divided by {std}"


def _per_channel(values: Sequence[float]) -> str:
    return ", ".join(f"{one:.3g}" for one in (values if len(set(values)) > 1 else values[:1]))


def _epochs(clf: Any) -> str:
    rows = clf.history_
    chosen = int(rows.loc[rows["best"].astype(bool), "epoch"].iloc[0])
    text = f"{chosen} of {len(rows)} trained (at most {clf.max_epochs})"
    if clf.provenance_.validation is None:
        return text
    if clf.patience is None:
        return f"{text}, without early stopping"
    return f"{text}, the one with the best validation AUROC; patience {clf.patience}"


# -- decisions --------------------------------------------------------------------------------------------------------


def points_table(clf: Any) -> Table:
    """Return the operating points, the active ones first."""
    names = sorted(clf.operating_points_, key=lambda name: name not in clf.active_points_)
    head = (
        "point",
        "label",
        "from a probability of",
        "raw log-odds",
        "rule",
        "sensitivity",
        "specificity",
        "chosen on",
    )
    return Table(head, [_point(clf, clf.operating_points_[name]) for name in names])


def _point(clf: Any, point: OperatingPoint) -> tuple[str, ...]:
    threshold = stated_threshold(clf, point)
    nothing = "not measured"
    on = nothing if point.n_images is None else chosen_on(point)
    return (
        point.name,
        str(clf.pos_label_ if point.label is None else point.label),
        "depends on all classes" if threshold is None else f"{threshold:.3f}",
        cell(Estimate(point.score, *(point.interval or (point.score, point.score)))),
        point.rule_text,
        *(nothing if one is None else cell(one) for one in (point.sensitivity, point.specificity)),
        on,
    )


def chosen_on(what: Any) -> str:
    """Return the images, and their changed copies, that chose a point or that a calibration was fitted on."""
    images = images_of(what.n_images, what.n_patients)
    return images if what.augment is None else f"{images}, and of each {changed_copies(what.copies)} ({what.augment})"


def calibration(clf: Any) -> str | None:
    """Return how the probabilities were calibrated, if they were."""
    found = clf.calibration_
    if found is None:
        return None
    shifted = " Then shifted to another prevalence." if any(found.prior_shift) else ""
    on = chosen_on(found)
    return f"Calibrated by {found.method} ({CALIBRATORS[found.method].summary}), on {on}.{shifted}"


def prediction_sets(clf: Any) -> str | None:
    """Return what prediction sets compare with, if anything."""
    found = clf.conformal_
    return (
        None
        if found is None
        else f"split conformal ({found.method}), compared with {images_of(found.n_images, found.n_patients)}"
    )


def unusual(clf: Any) -> str | None:
    """Return what unusual images are told by, if by anything."""
    found = clf.ood_
    if found is None:
        return None
    others = number_of(len(found.reference), "other")
    return f"learned from {number_of(found.n_patients, 'patient')}, and compared with {others}"


def abstention(clf: Any) -> str | None:
    """Return when no answer is given, and what that did where it was chosen; None where all are answered."""
    found = clf.abstention_
    if found is None:
        return None
    by = listed(DOUBTS[name].summary for name in found.doubts)
    on = images_of(found.n_images, found.n_patients)
    return (
        f"by {by}. Of {on}, {found.coverage.value:.1%} were answered, {_percent(found.error)} of them wrongly; "
        f"had all been, {found.error_of_all:.1%} would have been wrong"
    )


def _percent(one: Estimate) -> str:
    return f"{one.value:.1%} ({one.low:.1%} to {one.high:.1%})"


def samplers(clf: Any) -> str:
    """Return the ways in which the model can be asked several times."""
    first, *others = suitable_samplers(clf)
    return first if not others else f"{first} by default, or {listed(others)}"
