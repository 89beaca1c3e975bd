"""`benchmark`: methods side by side, by metrics of explanation quality, on images the network has not seen."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.utils import _safe_indexing

from cxr_estimator._measuring import Measured, MeasuringPlan
from cxr_estimator._progress import bar, told_how_far
from cxr_estimator._validation import check_choice, check_labels, check_number, check_per_image, invalid, wrong_type
from cxr_estimator.classifier import CXRClassifier
from cxr_estimator.errors import DataError
from cxr_estimator.metrics import METRICS, N_REFERENCES, Request, checked
from cxr_estimator.serialization import atomic_write, read_json, writable_folder
from cxr_estimator.statistics import patient_bootstrap

DEFAULT_METHODS = ("grad_cam", "hi_res_cam", "integrated_gradients", "occlusion")
DEFAULT_METRICS = ("deletion_auc", "insertion_auc", "sparsity_90")
ALL = "all"
_COLUMNS = ["index", "image_id", "bucket", "method", "metric", "value", "seconds"]


def benchmark(
    clf: CXRClassifier,
    X: Any,
    y: Any = None,
    *,
    methods: Sequence[str] = DEFAULT_METHODS,
    metrics: Sequence[str] | Mapping[str, Any] = DEFAULT_METRICS,
    groups: Any = None,
    masks: Any = None,
    relative: bool = True,
    n_references: int = N_REFERENCES,
    n_resamples: int = 1000,
    random_state: int = 0,
    folder: str | Path | None = None,
    progress: Callable[[float, int], Any] | None = None,
    **explain: Any,
) -> pd.DataFrame:
    """Explain images by several methods and measure each.

    Parameters
    ----------
    clf : CXRClassifier
    X, y : images and, for the buckets, labels
    methods : sequence of str
        Keys of `attribution.METHODS`, with their default options.
    metrics : sequence of str, or dict of label to str or (str, dict of options)
        Keys of `metrics.METRICS`; the dict form takes options, such as {"top 5%": ("top_k_deletion", {"k": 5})}.
    groups : sequence of N patients, optional
        For the intervals. Without it each image counts as a patient of its own, which makes them too narrow.
    masks : sequence of N masks, optional
        Ground truth of each image, bool, at its original size, for metrics of localisation.
    relative, n_references
        See `metrics.measure`.
    n_resamples : int, default=1000
        Bootstrap resamples.
    random_state : int, default=0
    folder : path, optional
        Where the values of each batch are kept, so that a run that was stopped is taken up there. It holds content ids
        of images, no images, names or patients.
    progress : callable, optional
        Called as `progress(done, total)` between batches, in images; what it raises stops the work.
    **explain
        `target`, `batch_size`, `background` or `error_bars` of `CXRClassifier.explain`.

    Returns
    -------
    DataFrame
        One row per method, metric and bucket: method, metric, bucket ("all"; with two classes and y also "TP", "FP",
        "FN" and "TN" at the operating point, with several "right" and "wrong"), value (mean over images), low, high
        (95% patient bootstrap), n_images, n_undefined (left out of the mean), n_patients, greater_is_better (of the
        value as it stands), is_gain (over the same maps shifted and flipped, or the raw value), rank (1 is best of the
        methods, in this metric and bucket), seconds_per_image.

    Raises
    ------
    InvalidParameterError, InvalidTypeError, DataError
        Unknown methods or metrics, images or labels that cannot be used, or a folder of another benchmark.
    """
    if not isinstance(clf, CXRClassifier):
        raise wrong_type("clf", "benchmark", "a CXRClassifier", clf)
    check_number("n_resamples", n_resamples, caller="benchmark", low=1, integer=True)
    requests = _requests(metrics)
    settings = {"relative": relative, "n_references": n_references, "random_state": random_state, **explain}
    plan_of = dict.fromkeys(_names(methods), requests)
    MeasuringPlan.check(clf, X, y, plan_of, masks=masks, **settings)  # all is checked before anything is kept
    n = len(X)
    patients = None if groups is None else check_per_image("groups", groups, n, caller="benchmark")
    labels = None if y is None else check_labels(y, n, caller="benchmark", classes=clf.classes_)
    kept = _Kept(folder, clf, _content_digest(X, labels), plan_of, settings)
    rows = np.setdiff1d(np.arange(n), kept.done)
    if len(rows):
        with bar(n, "benchmark", clf.verbose) as advance:
            tell = told_how_far(advance, progress)
            plan = MeasuringPlan.check(
                clf,
                _safe_indexing(X, rows),
                None if labels is None else labels[rows],
                plan_of,
                masks=None if masks is None else _safe_indexing(masks, rows),
                progress=lambda done, total: tell(n - total + done, n),
                **settings,
            )
            for batch in plan.run():
                kept.add(_long(batch, rows, clf))
    return summary(kept.frame(), requests, relative=relative, patients=patients, n_resamples=n_resamples)


def summary(
    values: pd.DataFrame,
    requests: Mapping[str, Request],
    *,
    relative: bool,
    patients: np.ndarray | None = None,
    n_resamples: int = 1000,
) -> pd.DataFrame:
    """Return one row per method, metric and bucket from one row per image, method and metric; see `benchmark`."""
    seconds = values.drop_duplicates(["method", "index"]).groupby("method", sort=False)["seconds"].mean()
    buckets = [ALL, *sorted(set(values["bucket"]) - {ALL})]
    rows = []
    for label, request in requests.items():
        metric = METRICS[request.metric]
        greater = metric.greater_is_better or (relative and metric.has_reference_maps)
        for bucket in buckets:
            part = values[(values["metric"] == label) & ((bucket == ALL) | (values["bucket"] == bucket))]
            of_bucket = [
                {
                    "method": method,
                    "metric": label,
                    "bucket": bucket,
                    **_mean(one, patients, n_resamples),
                    "greater_is_better": greater,
                    "is_gain": relative and metric.has_reference_maps,
                    "seconds_per_image": seconds[method],
                }
                for method, one in part.groupby("method", sort=False)
            ]
            means = np.array([row["value"] for row in of_bucket], dtype=float)
            ranks = rankdata(-means if greater else means, method="min", nan_policy="omit")
            rows += [{**row, "rank": rank} for row, rank in zip(of_bucket, ranks, strict=True)]
    return pd.DataFrame(rows)


def _mean(values: pd.DataFrame, patients: np.ndarray | None, n_resamples: int) -> dict[str, Any]:
    """Return the mean of one method's values with its interval, and how many images and patients it rests on."""
    found = values["value"].to_numpy(dtype=float)
    defined = ~np.isnan(found)
    index = values["index"].to_numpy()[defined]
    groups = index if patients is None else patients[index]
    counts = {"n_images": len(found), "n_undefined": int((~defined).sum()), "n_patients": len(np.unique(groups))}
    if not defined.any():
        return {"value": np.nan, "low": np.nan, "high": np.nan, **counts}
    found = found[defined]
    estimate = patient_bootstrap(lambda rows: float(found[rows].mean()), groups, n_resamples=n_resamples)
    return {**estimate._asdict(), **counts}


def _long(batch: Measured, rows: np.ndarray, clf: CXRClassifier) -> pd.DataFrame:
    """Return one row per image, method and metric."""
    frames = []
    for method, by_label in batch.metrics.items():
        explanation = batch.found[method]
        for label, values in by_label.items():
            frames.append(
                pd.DataFrame(
                    {
                        "index": rows[explanation.index],
                        "image_id": explanation.image_ids,
                        "bucket": _buckets(explanation.prediction, clf),
                        "method": method,
                        "metric": label,
                        "value": values,
                        "seconds": batch.seconds[method] / len(values),
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)


def _buckets(prediction: Any, clf: CXRClassifier) -> np.ndarray:
    """Return the outcome of each image, ("TP", ...) or ("right", "wrong"); "all" where the truth is not known."""
    if prediction.true_label is None:
        return np.full(len(prediction.label), ALL)
    right = prediction.label == prediction.true_label
    if len(clf.classes_) > 2:
        return np.where(right, "right", "wrong")
    positive = prediction.label == clf.pos_label_
    return np.char.add(np.where(right, "T", "F"), np.where(positive, "P", "N"))


def _names(methods: Sequence[str]) -> list[str]:
    if isinstance(methods, str) or not len(methods):
        raise invalid("methods", "benchmark", "a list of methods, one at least", methods)
    return list(dict.fromkeys(methods))


def _requests(metrics: Sequence[str] | Mapping[str, Any]) -> dict[str, Request]:
    if isinstance(metrics, str) or not isinstance(metrics, Mapping | Sequence) or not len(metrics):
        raise invalid("metrics", "benchmark", "a list of metrics, one at least, or a dict of them by label", metrics)
    named = metrics if isinstance(metrics, Mapping) else {name: name for name in metrics}
    requests = {}
    for label, one in named.items():
        request = Request(one) if isinstance(one, str) else Request(*one)
        check_choice("metric", request.metric, METRICS, caller="benchmark")
        if "other" in METRICS[request.metric].needs:
            raise invalid("metric", "benchmark", "about one explanation (agreement is between two)", request.metric)
        requests[str(label)] = checked(request)
    return requests


class _Kept:
    """The values of the batches that are done, in memory and, if wanted, in a folder: one file per batch."""

    def __init__(
        self,
        folder: str | Path | None,
        clf: CXRClassifier,
        data: str,
        requests: Mapping[str, Mapping[str, Request]],
        settings: Mapping[str, Any],
    ) -> None:
        self._parts: list[pd.DataFrame] = []
        self._folder = None if folder is None else Path(folder)
        if self._folder is None:
            return
        writable_folder(self._folder)
        description = {
            "format": "cxr_estimator.benchmark",
            "version": 1,
            "data": data,
            "model": _fingerprint(clf),
            "requests": {
                method: {label: [one.metric, repr(sorted(one.options.items()))] for label, one in labels.items()}
                for method, labels in requests.items()
            },
            "settings": {name: repr(value) for name, value in sorted(settings.items())},
        }
        path = self._folder / "benchmark.json"
        if path.exists():
            if read_json(path) != description:
                raise DataError(
                    f"benchmark: {self._folder} holds another benchmark. Choose another folder, or delete it."
                )
            self._parts = [pd.read_csv(part) for part in sorted(self._folder.glob("part-*.csv"))]
        else:
            with atomic_write(path) as file:
                file.write(json.dumps(description, indent=1).encode())

    @property
    def done(self) -> np.ndarray:
        """Positions of the images that are done."""
        return np.concatenate([np.array([], dtype=np.int64), *(part["index"].to_numpy() for part in self._parts)])

    def add(self, part: pd.DataFrame) -> None:
        """Keep the values of a batch."""
        if self._folder is not None:
            with atomic_write(self._folder / f"part-{len(self._parts):06d}.csv") as file:
                file.write(part.to_csv(index=False).encode())
        self._parts.append(part)

    def frame(self) -> pd.DataFrame:
        """Return all values, one row per image, method and metric."""
        if not self._parts:
            raise DataError("benchmark: none of the images could be read.")
        return pd.concat(self._parts, ignore_index=True)


def _content_digest(X: Any, labels: np.ndarray | None) -> str:
    """Return the SHA-256 of the images (of paths: their text) and labels, which tells nothing about them."""
    digest = hashlib.sha256(repr(None if labels is None else labels.tolist()).encode())
    for image in X:
        digest.update(str(image).encode() if isinstance(image, str | os.PathLike) else np.asarray(image).tobytes())
    return digest.hexdigest()


def _fingerprint(clf: CXRClassifier) -> str:
    """Return the SHA-256 of the weights, of what prepares the images and of the operating point."""
    settings = [clf.preprocessing_.to_dict(), clf.threshold_, str(clf.pos_label_)]
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name, tensor in sorted(clf.model_.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
