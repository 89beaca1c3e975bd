"""`report`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import _safe_indexing

from cxr_estimator._deciding import Deciding
from cxr_estimator._operating import judged, known_images
from cxr_estimator._validation import check_number, check_seed, wrong_type
from cxr_estimator.audit import AuditReport
from cxr_estimator.audit._audit import DEFAULT_METHODS
from cxr_estimator.benchmark import DEFAULT_METRICS
from cxr_estimator.classifier import CXRClassifier
from cxr_estimator.evaluation import EvaluationReport
from cxr_estimator.evaluation._evaluate import of_judged
from cxr_estimator.evaluation._subgroups import check_subgroups
from cxr_estimator.report._checks import PARTS, check_given, check_methods, check_same, chosen_parts
from cxr_estimator.report._facts import Facts
from cxr_estimator.report._report import ModelReport
from cxr_estimator.report._work import Steps, Work

_CALLER = "report"
LEFT_OUT = "It was left out on request."


def report(
    clf: CXRClassifier,
    X: Any,
    y: Any,
    groups: Any = None,
    *,
    subgroups: Any = None,
    methods: Sequence[str] = DEFAULT_METHODS,
    metrics: Sequence[str] | Mapping[str, Any] = DEFAULT_METRICS,
    n_examples: int = 2,
    n_maps: int = 24,
    parts: Sequence[str] = PARTS,
    evaluation: EvaluationReport | None = None,
    benchmark: pd.DataFrame | None = None,
    audit: AuditReport | None = None,
    n_resamples: int = 1000,
    random_state: int = 0,
    progress: Callable[[float, int], Any] | None = None,
) -> ModelReport:
    """Gather on one page what is to be known of a model: data, training, figures, decisions, heat maps, audit.

    Parameters
    ----------
    clf : CXRClassifier or CXREnsemble
        Fitted. What is made of single networks only (benchmark, audit) is left out of an ensemble's, with the reason.
    X, y : N images and labels
        That neither trained the model nor chose its thresholds.
    groups : sequence of N patients, optional
        For the intervals. Without it each image counts as a patient of its own, which makes them too narrow.
    subgroups : dict or DataFrame of name to N values, optional
        Such as sex, age group or site.
    methods : sequence of str, default=("grad_cam", "integrated_gradients")
        Of explanation: keys of `attribution.METHODS`.
    metrics : sequence of str, or dict
        Of the benchmark, as it takes them.
    n_examples : int, default=2
        Images of each outcome that are shown with their maps, drawn at random.
    n_maps : int, default=24
        Images, drawn at random, whose maps the benchmark measures, and the audit checks.
    parts : sequence of str, default=("explanations", "benchmark", "audit")
        What is made beside the evaluation.
    evaluation : EvaluationReport, optional
        Of this model and these images, made before: figures that differ are refused. Subgroups are its own.
    benchmark : DataFrame, optional
        As `benchmark.benchmark` returns it, made before; of which model it does not tell, and the page says so.
    audit : AuditReport, optional
        Made before; the same holds.
    n_resamples : int, default=1000
        Bootstrap resamples.
    random_state : int, default=0
    progress : callable, optional
        Called as `progress(done, total)` in images looked at and explained; what it raises stops the work.

    Returns
    -------
    ModelReport
        A part that cannot be made is named in `missing`, with the reason.

    Raises
    ------
    DataError
        Lengths differ, y holds labels that the model does not know, no image could be read, or a part that was made
        before is of other classes, images or patients.
    ImageError
        An image cannot be read, with `on_error="raise"`.
    InvalidParameterError, InvalidTypeError, UnsupportedMethodError
        Whatever is wrong with a parameter is told before the first image is read.

    Examples
    --------
    >>> from cxr_estimator import CXRClassifier, make_phantoms
    >>> from cxr_estimator.report import report
    >>> clf, data = CXRClassifier.from_pretrained(), make_phantoms(12, 96, random_state=1)
    >>> found = report(clf, data.X, data.y, data.groups, parts=["explanations"], n_examples=1, methods=["grad_cam"])
    >>> found.evaluation.n_images, found.missing["audit"]
    (12, 'It was left out on request.')
    """
    if not isinstance(clf, Deciding):
        raise wrong_type("clf", _CALLER, "a CXRClassifier or a CXREnsemble", clf)
    n_images = len(clf._images(X))
    seed = check_seed(random_state, caller=_CALLER)
    for name, number, low in (("n_examples", n_examples, 0), ("n_maps", n_maps, 1), ("n_resamples", n_resamples, 1)):
        check_number(name, number, caller=_CALLER, low=low, integer=True)
    attributes = check_subgroups(subgroups, n_images, caller=_CALLER)
    check_given(clf, n_images, subgroups, evaluation, benchmark, audit)
    given: dict[str, Any] = {"explanations": None, "benchmark": benchmark, "audit": audit}
    made = [name for name in chosen_parts(parts) if given[name] is None]
    check_methods(clf, X, methods, metrics, measures="benchmark" in made)
    steps = Steps(progress, planned_images(n_images, made, n_examples=n_examples, n_maps=n_maps))

    data = judged(clf, X, y, groups, caller=_CALLER)
    known = known_images(clf, data.content_ids.tolist(), caller=_CALLER)
    steps.end(n_images)
    options: dict[str, Any] = {"patients_known": groups is not None, "random_state": seed, "caller": _CALLER}
    if evaluation is None:
        evaluation = of_judged(clf, data, attributes, known, n_resamples=n_resamples, **options)
    else:
        check_same(evaluation, of_judged(clf, data, {}, (), n_resamples=1, **options))  # no interval is compared
    readable = np.flatnonzero(data.readable)  # the others were reported once
    patients = None if groups is None else data.groups
    here = {name: values[readable] for name, values in attributes.items()}
    kept = X if data.readable.all() else _safe_indexing(X, readable)  # a copy of all pixels where X is an array
    work = Work(clf, kept, data, patients, here, list(dict.fromkeys(methods)), seed, n_resamples)
    tasks: dict[str, Callable[[Any], Any]] = {
        "explanations": lambda tell: work.examples(n_examples, tell),
        "benchmark": lambda tell: work.benchmark(metrics, n_maps, tell),
        "audit": lambda tell: replace(work.audit(n_maps, tell), n_unreadable=n_images - len(readable)),
    }
    missing = {name: LEFT_OUT for name in PARTS if name not in made and given[name] is None}
    for name in made:
        n_looked_at = planned_images(n_images, [name], n_examples=n_examples, n_maps=n_maps) - n_images
        given[name] = steps.attempt(name, tasks[name], n_looked_at, clf, missing)
    facts = Facts.of(clf, data, patients_known=groups is not None)
    of = None if "benchmark" not in made else work.explained
    before = tuple(name for name, one in (("benchmark", benchmark), ("audit", audit)) if one is not None)
    return ModelReport(facts, evaluation, **given, benchmark_of=of, made_before=before, missing=missing, seed=seed)


def planned_images(n_images: int, parts: Iterable[str], *, n_examples: int, n_maps: int) -> int:
    """Return how many images are looked at and explained, what `progress` counts; fewer where there are fewer."""
    costs = {"explanations": 4 * n_examples, "benchmark": n_maps, "audit": n_images + n_maps}
    return n_images + sum(costs[name] for name in parts)
