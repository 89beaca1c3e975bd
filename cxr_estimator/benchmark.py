"""`benchmark`: methods side by side, by metrics of explanation quality, on images the network has not seen."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.utils import _safe_indexing

from cxr_estimator._benchmark_folder import COLUMNS, Kept
from cxr_estimator._measuring import Measured, MeasuringPlan
from cxr_estimator._model_digest import of_model
from cxr_estimator._outputs import Task
from cxr_estimator._progress import bar, check_callback, told_how_far
from cxr_estimator._validation import check_choice, check_number, check_per_image, invalid, wrong_type
from cxr_estimator.classifier import CXRClassifier
from cxr_estimator.images import as_images
from cxr_estimator.metrics import METRICS, N_REFERENCES, Request, checked
from cxr_estimator.statistics import FEWEST_PATIENTS, patient_bootstrap

DEFAULT_METHODS = ("grad_cam", "hi_res_cam", "integrated_gradients", "occlusion")
DEFAULT_METRICS = ("deletion_auc", "insertion_auc", "sparsity_90")
ALL = "all"


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
        As for `CXRClassifier.explain`, but with `folder` it must be an integer.
    folder : path, optional
        Where the values of each batch are kept, so that a run that was stopped is taken up there, with the same
        inputs (files count by their names); `batch_size` may differ. It holds content ids of images, no images, names
        or patients.
    progress : callable, optional
        Called as `progress(done, total)` between batches, in images; what it raises stops the work.
    **explain
        `target`, `batch_size`, `background` or `error_bars` of `CXRClassifier.explain`.

    Returns
    -------
    DataFrame
        One row per method, metric and bucket: method, metric, bucket ("all"; with two classes and y also "TP", "FP",
        "FN" and "TN" at the operating point, with several "right" and "wrong"), value (mean over images), low, high
        (95% patient bootstrap; NaN below 5 patients), n_images, n_undefined (left out of the mean), n_patients,
        greater_is_better (of the value as it stands), is_gain (over the same maps shifted and flipped, or the raw
        value), rank (1 is best of the methods, in this metric and bucket), seconds_per_image (to explain; what several
        methods share, such as one backward pass, counts for the first of them). `benchmark_images` returns what the
        means are of.

    Raises
    ------
    InvalidParameterError, InvalidTypeError, DataError
        Unknown methods or metrics, images or labels that cannot be used, or a folder of another benchmark.
    """
    check_number("n_resamples", n_resamples, caller="benchmark", low=1, integer=True)
    requests = requests_of(metrics)
    patients = None if groups is None else check_per_image("groups", groups, len(as_images(X)), caller="benchmark")
    values = benchmark_images(
        clf,
        X,
        y,
        methods=methods,
        metrics=metrics,
        masks=masks,
        relative=relative,
        n_references=n_references,
        random_state=random_state,
        folder=folder,
        progress=progress,
        **explain,
    )
    return summary(values, requests, relative=bool(relative), patients=patients, n_resamples=n_resamples)


def benchmark_images(
    clf: CXRClassifier,
    X: Any,
    y: Any = None,
    *,
    methods: Sequence[str] = DEFAULT_METHODS,
    metrics: Sequence[str] | Mapping[str, Any] = DEFAULT_METRICS,
    masks: Any = None,
    relative: bool = True,
    n_references: int = N_REFERENCES,
    random_state: int = 0,
    folder: str | Path | None = None,
    progress: Callable[[float, int], Any] | None = None,
    **explain: Any,
) -> pd.DataFrame:
    """Return the values that `benchmark` takes the means of; for parameters and errors see there.

    Returns
    -------
    DataFrame
        One row per image, method and metric: index (position in X), image_id, bucket, method, metric, value, seconds
        (of the method, for this image). Images that could not be read are left out.
    """
    if not isinstance(clf, CXRClassifier):
        raise wrong_type("clf", "benchmark", "a CXRClassifier", clf)
    check_callback(progress)
    _check_folder(folder, random_state)
    requests = requests_of(metrics)
    settings = {"relative": relative, "n_references": n_references, "random_state": random_state, **explain}
    plan_of = dict.fromkeys(_names(methods), requests)
    plan = MeasuringPlan.check(clf, X, y, plan_of, masks=masks, **settings)  # all is checked before anything is kept
    n, labels = len(plan.explaining.images), plan.explaining.true_label
    uses_masks = any("mask" in METRICS[request.metric].needs for request in requests.values())
    description = {
        "images": X,
        "labels": labels,
        "masks": plan.masks if uses_masks else None,
        "model": of_model(clf),
        "requests": plan_of,
        # the size of the batches changes no value, and another one may be what lets a run go on
        "settings": {name: value for name, value in settings.items() if name != "batch_size"},
    }
    kept = Kept(folder, description, n, [(method, label) for method in plan_of for label in requests])
    rows = np.setdiff1d(np.arange(n), kept.done)
    if len(rows):
        with bar(n, "benchmark", clf.verbose) as advance:
            tell = told_how_far(advance, progress)
            rest = MeasuringPlan.check(
                clf,
                _safe_indexing(X, rows),
                None if y is None else _safe_indexing(y, rows),
                plan_of,
                masks=None if plan.masks is None else [plan.masks[row] for row in rows],
                progress=lambda done, total: tell(n - total + done, n),
                **settings,
            )
            for batch in rest.run():
                kept.add(_long(batch, rows, clf))
    return kept.frame()


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


def metrics_of(*, has_masks: bool) -> dict[str, str | None]:
    """Return each metric of `METRICS` with what it lacks to be taken of one explanation, or None where it can be."""
    lacks = {"other": "a second explanation"} | ({} if has_masks else {"mask": "ground-truth masks"})
    return {
        name: next((lacks[what] for what in metric.needs if what in lacks), None) for name, metric in METRICS.items()
    }


def _mean(values: pd.DataFrame, patients: np.ndarray | None, n_resamples: int) -> dict[str, Any]:
    """Return the mean of one method's values with its interval, and how many images and patients it rests on."""
    found = values["value"].to_numpy(dtype=float)
    defined = ~np.isnan(found)
    index = values["index"].to_numpy()[defined]
    groups = index if patients is None else patients[index]
    counts = {"n_images": len(found), "n_undefined": int((~defined).sum()), "n_patients": len(np.unique(groups))}
    found = found[defined]
    if counts["n_patients"] < FEWEST_PATIENTS:
        return {"value": found.mean() if len(found) else np.nan, "low": np.nan, "high": np.nan, **counts}
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
                        "bucket": outcomes(explanation.prediction, clf),
                        "method": method,
                        "metric": label,
                        "value": values,
                        "seconds": batch.seconds[method] / len(values),
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)[COLUMNS]


def outcomes(prediction: Any, clf: CXRClassifier) -> np.ndarray:
    """Return the outcome of each image, ("TP", ...) or ("right", "wrong"); "all" where the truth is not known."""
    if prediction.true_label is None:
        return np.full(len(prediction.label), ALL)
    right = prediction.label == prediction.true_label
    if clf.task_ is Task.MULTICLASS:
        return np.where(right, "right", "wrong")
    positive = prediction.label == prediction.pos_label
    return np.char.add(np.where(right, "T", "F"), np.where(positive, "P", "N"))


def _check_folder(folder: Any, random_state: Any) -> None:
    if folder is None:
        return
    if not isinstance(folder, str | os.PathLike):
        raise wrong_type("folder", "benchmark", "None or the path of a folder", folder)
    if not isinstance(random_state, Integral):  # a generator gives other seeds as it is taken up
        raise wrong_type("random_state", "benchmark", "an integer if there is a folder", random_state)


def _names(methods: Any) -> list[str]:
    names = (
        [] if isinstance(methods, str) or not isinstance(methods, Iterable) else list(dict.fromkeys(map(str, methods)))
    )
    if not names:
        raise invalid("methods", "benchmark", "a list of methods, one at least", methods)
    return names


def requests_of(metrics: Any) -> dict[str, Request]:
    """Return the metrics that are asked for by their labels, or raise."""
    if isinstance(metrics, str) or not isinstance(metrics, Mapping | Sequence) or not len(metrics):
        raise invalid("metrics", "benchmark", "a list of metrics, one at least, or a dict of them by label", metrics)
    named = metrics if isinstance(metrics, Mapping) else {str(name): name for name in metrics}
    requests = {str(label): _request(one) for label, one in named.items()}
    if len(requests) < len(named):
        raise invalid("metrics", "benchmark", "of labels that differ as text", list(named))
    return requests


def _request(one: Any) -> Request:
    pair = (one, {}) if isinstance(one, str) else one
    if not isinstance(pair, tuple | list) or len(pair) != 2 or not isinstance(pair[1], Mapping):
        raise wrong_type("metrics", "benchmark", "made of names, or of pairs of a name and a dict of options", one)
    request = Request(*pair)
    check_choice("metric", request.metric, METRICS, caller="benchmark")
    if "other" in METRICS[request.metric].needs:
        raise invalid("metric", "benchmark", "about one explanation (agreement is between two)", request.metric)
    return checked(request)
