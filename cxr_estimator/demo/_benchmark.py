"""Methods by metrics on a few images, method by method, so that a page can show the table as it fills."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxr_estimator._figure_style import method_title
from cxr_estimator._outputs import Task
from cxr_estimator._validation import check_choice, check_number
from cxr_estimator._wording import words
from cxr_estimator.benchmark import benchmark_images, metrics_of, summary
from cxr_estimator.datasets.phantom import make_phantoms
from cxr_estimator.demo._analysis import PREDICTED, Progress, labels_of, methods_on_offer
from cxr_estimator.demo._archives import Limits, Member, is_archive, members
from cxr_estimator.demo._models import Served
from cxr_estimator.demo._uploads import read_content
from cxr_estimator.errors import DataError
from cxr_estimator.images import has_dicom_name
from cxr_estimator.metrics import METRICS, Request

DEFAULT_IMAGES, MOST_IMAGES = 8, 32
DEFAULT_METHODS = ("grad_cam", "hi_res_cam", "integrated_gradients")
DEFAULT_METRICS = ("deletion_auc", "insertion_auc", "relevance_mass", "sparsity_90")
CAUTION = (
    "A ranking on few images is unsure: look whether the 95% intervals overlap before you call a method better. "
    "Phantoms are drawings, and what holds on them need not hold on patients."
)


@dataclass(frozen=True)
class Images:
    """What methods are tried on.

    Attributes
    ----------
    X : list of arrays or of paths
    y : list of str or None
        Labels of the model; None where they are not known.
    masks : list of bool arrays or None
        Ground truth: the opacity of phantoms.
    left_out : tuple of (str, str)
        Files that are not among them, and why.
    """

    X: list[Any]
    y: list[str] | None
    masks: list[np.ndarray] | None = None
    left_out: tuple[tuple[str, str], ...] = ()


def phantom_images(served: Served, n: int, *, seed: int = 0) -> Images:
    """Return `n` phantoms of as many patients, with masks, and with labels if the model knows them."""
    check_number("n", n, caller="the app", low=1, high=MOST_IMAGES, integer=True)
    found = make_phantoms(n, _size(served), images_per_patient=1, random_state=seed)
    known = set(found.y.tolist()) <= set(labels_of(served.clf)) and served.clf.task_ is not Task.MULTILABEL
    return Images(list(found.X), found.y.tolist() if known else None, list(found.lesion_masks))


@contextlib.contextmanager
def uploaded_images(served: Served, path: str | Path | None, n: int, limits: Limits) -> Iterator[Images]:
    """Yield the first `n` images of each class, in turn, of a zip file with one folder per class.

    They lie in a temporary folder under names of our own until the block ends.

    Raises
    ------
    DataError
        It is no such file, or its folders are not called as the classes of the model.
    """
    check_number("n", n, caller="the app", low=1, high=MOST_IMAGES, integer=True)
    if path is None or not is_archive(path):
        raise DataError("Choose a zip file with one folder per class, or take phantoms.")
    if served.clf.task_ is Task.MULTILABEL:
        raise DataError("This model gives an image several labels; folders name one. Take phantoms, or another model.")
    left_out, by_class = [], {label: list[str]() for label in labels_of(served.clf)}
    others: set[str] = set()
    with tempfile.TemporaryDirectory() as folder:
        for number, member in enumerate(members(path, limits)):
            if member.is_noise:
                continue
            if member.content is not None and member.folder not in by_class:
                others.add(member.folder or "(no folder)")
                continue
            full = member.folder in by_class and len(by_class[member.folder]) >= n
            if member.content is not None and full:
                continue
            reason = member.reason or _reason(member)
            if reason is not None:
                left_out.append((member.name, reason))
                continue
            ending = ".dcm" if has_dicom_name(member.name) else ".image"
            place = Path(folder) / f"{number}{ending}"
            place.write_bytes(member.content or b"")
            by_class[member.folder].append(str(place))
        if not any(by_class.values()):
            named = f" It has folders called {', '.join(sorted(others))[:200]}." if others else ""
            raise DataError(
                f"No image of this zip file can be used: folders must be called {', '.join(by_class)}, as the classes "
                f"of the model, with images in them.{named}"
            )
        left_out += [(one, "the model knows no class of that name") for one in sorted(others)]
        chosen = _in_turn(by_class)[:n]
        yield Images([place for place, _ in chosen], [label for _, label in chosen], left_out=tuple(left_out))


def metrics_on_offer(*, has_masks: bool) -> list[str]:
    """Return the metrics that can be taken, without those that explain each image many times over, which take long."""
    lacks = metrics_of(has_masks=has_masks)
    return [name for name, metric in METRICS.items() if lacks[name] is None and "explain" not in metric.needs]


def run(
    served: Served,
    images: Images,
    methods: Sequence[str],
    metrics: Sequence[str],
    *,
    target: str = PREDICTED,
    seed: int = 0,
    on_table: Callable[[pd.DataFrame], Any] | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Measure methods one after the other.

    Parameters
    ----------
    served : Served
    images : Images
    methods, metrics : sequence of str
        Of `methods_on_offer` and `metrics_on_offer`.
    target : str
        A class, or "predicted".
    seed : int, default=0
    on_table : callable, optional
        Called after each method with the table so far.
    progress : callable, optional
        Called as `progress(done, total)`; what it raises stops the work.

    Returns
    -------
    DataFrame
        As `benchmark` returns it, of all images and, where labels are known, by outcome.
    """
    _check(served, images, methods, metrics, target)
    label = labels_of(served.clf).get(target, target)
    y = None if images.y is None else [labels_of(served.clf)[one] for one in images.y]
    parts: list[pd.DataFrame] = []
    for number, method in enumerate(methods):

        def tell(done: float, total: int, number: int = number) -> None:
            if progress is not None:
                progress(number + done / max(total, 1), len(methods))

        parts.append(
            benchmark_images(
                served.clf,
                images.X,
                y,
                methods=[method],
                metrics=list(metrics),
                masks=images.masks,
                random_state=seed,
                target=label,
                progress=tell,
            )
        )
        table = summary(pd.concat(parts, ignore_index=True), {name: Request(name) for name in metrics}, relative=True)
        if on_table is not None:
            on_table(table)
    return table


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """Return methods by metrics, each value as text with its interval; for people."""
    part = table[table["bucket"] == "all"]
    rows = []
    for method, of_method in part.groupby("method", sort=False):
        row = {"method": method_title(str(method))}
        for _, cell in of_method.iterrows():
            row[_heading(cell)] = _value(cell)
        row["seconds per image"] = f"{of_method['seconds_per_image'].iloc[0]:.2f}"
        rows.append(row)
    return pd.DataFrame(rows)


def _heading(cell: pd.Series) -> str:
    return f"{words(cell['metric'])}{' gain' if cell['is_gain'] else ''} {'↑' if cell['greater_is_better'] else '↓'}"


def _value(cell: pd.Series) -> str:
    if np.isnan(cell["value"]):
        return "undefined"
    interval = "" if np.isnan(cell["low"]) else f" [{cell['low']:.3f}, {cell['high']:.3f}]"
    missing = f", {cell['n_undefined']} undefined" if cell["n_undefined"] else ""
    return f"{cell['value']:.3f}{interval}, rank {cell['rank']:.0f}{missing}"


def _check(served: Served, images: Images, methods: Sequence[str], metrics: Sequence[str], target: str) -> None:
    if not methods or not metrics:
        raise DataError("Choose a method and a metric at least.")
    for name in methods:
        check_choice("method", name, methods_on_offer(served.clf), caller="the app")
    for name in metrics:
        if name in METRICS and "mask" in METRICS[name].needs and images.masks is None:
            raise DataError(f"{name} needs to know where the finding is, which phantoms tell and uploads do not.")
        check_choice("metric", name, metrics_on_offer(has_masks=images.masks is not None), caller="the app")
    check_choice("target", target, (PREDICTED, *labels_of(served.clf)), caller="the app")


def _in_turn(by_class: dict[str, list[str]]) -> list[tuple[str, str]]:
    """Return (path, label), one of each class after the other, so that the first few show all classes."""
    numbered = [(row, place, label) for label, places in by_class.items() for row, place in enumerate(places)]
    return [(place, label) for _, place, label in sorted(numbered, key=lambda one: one[0])]


def _reason(member: Member) -> str | None:
    """Return why an image cannot be read, or None."""
    try:
        read_content(member.content or b"", member.name)
    except DataError as error:
        return str(error)
    return None


def _size(served: Served) -> int:
    """Return how large phantoms are drawn: as the model sees them, within reason."""
    return int(np.clip(served.clf.preprocessing_.image_size, 64, 256))
