"""What `report` refuses before it reads the first image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cxr_estimator._explaining import ExplanationPlan
from cxr_estimator._heat_table import bucket_rows
from cxr_estimator._measuring import MeasuringPlan
from cxr_estimator._validation import check_choice, invalid, wrong_type
from cxr_estimator.attribution import METHODS, check_supported
from cxr_estimator.audit import AuditReport
from cxr_estimator.benchmark import requests_of
from cxr_estimator.errors import DataError
from cxr_estimator.evaluation import EvaluationReport

_CALLER = "report"
_CLOSE = 0.005  # figures of the same images, computed at another precision
PARTS = ("explanations", "benchmark", "audit")


def chosen_parts(parts: Any) -> list[str]:
    """Return the parts in their order, or raise."""
    if isinstance(parts, str) or not isinstance(parts, Sequence):
        raise wrong_type("parts", _CALLER, f"a sequence of names among {', '.join(PARTS)}", parts)
    for name in parts:
        check_choice("parts", name, PARTS, caller=_CALLER)
    return [name for name in PARTS if name in parts]


def check_methods(clf: Any, X: Any, methods: Any, metrics: Any, *, measures: bool) -> None:
    """Raise unless each method works on the network(s), and each metric can be taken if it is to be."""
    if isinstance(methods, str) or not isinstance(methods, Sequence) or not methods:
        raise wrong_type("methods", _CALLER, "a sequence of one method at least", methods)
    members = clf._members()
    for name in methods:
        for member in members:
            check_supported(check_choice("methods", name, METHODS, caller=_CALLER), member.model_)
    target = clf.classes_.tolist()[0]  # any: what is explained follows from the labels
    ExplanationPlan.check(members[0], X, None, list(methods), target=target)
    if measures:
        MeasuringPlan.check(members[0], X, None, dict.fromkeys(methods, requests_of(metrics)), target=target)


def check_given(clf: Any, n_images: int, subgroups: Any, evaluation: Any, benchmark: Any, audit: Any) -> None:
    """Raise unless the parts that were made before are what they should be, and of this model's classes."""
    own = clf.classes_.tolist()
    if evaluation is not None:
        if not isinstance(evaluation, EvaluationReport):
            raise wrong_type("evaluation", _CALLER, "None or an EvaluationReport", evaluation)
        if subgroups is not None:
            raise invalid("subgroups", _CALLER, "None where an evaluation is given, which has its own", subgroups)
        _check_classes("evaluation", list(evaluation.classes), own)
        n_evaluated = evaluation.n_images + evaluation.n_unreadable
        if n_evaluated != n_images:
            raise DataError(f"{_CALLER}: the evaluation is of {n_evaluated} images, but X has {n_images}.")
    if audit is not None:
        if not isinstance(audit, AuditReport):
            raise wrong_type("audit", _CALLER, "None or an AuditReport", audit)
        _check_classes("audit", list(audit.classes), list(map(str, own)))
    if benchmark is not None:
        bucket_rows(benchmark, "all", caller=_CALLER, name="benchmark")


def check_same(given: EvaluationReport, here: EvaluationReport) -> None:
    """Raise unless an evaluation that was made before finds of these images what the model is `here` found to do."""
    if given.n_patients != here.n_patients:
        raise DataError(
            f"{_CALLER}: the evaluation is of {given.n_patients} patients, but there are {here.n_patients} here: "
            "give the same groups to both."
        )
    names = ["operating_point", "class", "figure"]
    frames = given.to_frame(), here.to_frame()
    theirs, own = (one[~one["figure"].str.endswith("_by_chance")].reset_index(drop=True) for one in frames)  # drawn
    is_same = theirs[names].equals(own[names])
    if not is_same or not np.allclose(theirs["value"], own["value"], atol=_CLOSE, equal_nan=True):
        raise DataError(
            f"{_CALLER}: the evaluation finds other figures than this model has on these images: it is of another "
            "model, other images, or other operating points."
        )


def _check_classes(what: str, theirs: list[Any], own: list[Any]) -> None:
    if theirs != own:
        raise DataError(f"{_CALLER}: the {what} is of the classes {theirs}, but the model knows {own}.")
