"""`audit`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cxr_estimator._measuring import checked_masks
from cxr_estimator._operating import check_weights
from cxr_estimator._outputs import Task
from cxr_estimator._predicting import images as as_images
from cxr_estimator._progress import check_callback
from cxr_estimator._validation import (
    check_choice,
    check_labels,
    check_number,
    check_per_image,
    check_seed,
    invalid,
    wrong_type,
)
from cxr_estimator.attribution import METHODS, check_supported
from cxr_estimator.audit._checks import CHECKS
from cxr_estimator.audit._counting import counting
from cxr_estimator.audit._evidence import UNDEFINED, Evidence
from cxr_estimator.audit._report import AuditReport
from cxr_estimator.audit._types import AuditCheck, Check, Finding, Picture
from cxr_estimator.classifier import CXRClassifier
from cxr_estimator.errors import CXRError, DataError
from cxr_estimator.evaluation._subgroups import check_subgroups
from cxr_estimator.verdicts import PASS

DEFAULT_METHODS = ("grad_cam", "integrated_gradients")
_CALLER = "audit"
_log = logging.getLogger(__name__)


def audit(
    clf: CXRClassifier,
    X: Any,
    y: Any,
    groups: Any = None,
    masks: Any = None,
    methods: Sequence[str] = DEFAULT_METHODS,
    *,
    checks: Sequence[str] | None = None,
    training_groups: Any = None,
    sources: Any = None,
    subgroups: Any = None,
    n_maps: int = 24,
    n_resamples: int = 500,
    pictures: bool = True,
    random_state: int = 0,
    progress: Callable[[float, int], Any] | None = None,
) -> AuditReport:
    """Check whether a model looks at the disease, and whether its heat maps tell the truth.

    Parameters
    ----------
    clf : CXRClassifier
        For two or more classes; not for several labels per image.
    X, y : N images and labels
        That neither trained the model nor chose its thresholds.
    groups : sequence of N patients, optional
        For the intervals. Without it each image counts as a patient of its own, which makes them too narrow.
    masks : sequence of N masks, optional
        The lungs of each image, bool, at its original size. Default: found by `anatomy.lung_mask`.
    methods : sequence of str, default=("grad_cam", "integrated_gradients")
        Of explanation, whose maps are checked.
    checks : sequence of str, optional
        Keys of `CHECKS`. Default: all.
    training_groups : sequence of patients, optional
        Of the images that trained the model.
    sources : sequence of N values, optional
        Hospital, device or folder of each image.
    subgroups : dict or DataFrame of name to N values, optional
        Such as sex, age group or site.
    n_maps : int, default=24
        How many images' maps are checked, of each class as many.
    n_resamples : int, default=500
        Bootstrap resamples.
    pictures : bool, default=True
        Whether checks that do not pass come with images that show what they found.
    random_state : int, default=0
    progress : callable, optional
        Called as `progress(done, total)` in checks; what it raises stops the work.

    Returns
    -------
    AuditReport

    Raises
    ------
    DataError
        Lengths differ, y holds labels that the model does not know, or no image could be read. What a single check
        cannot do is part of the report.
    InvalidTypeError
        `clf` is no single network.

    Examples
    --------
    >>> from cxr_estimator import CXRClassifier, make_phantoms
    >>> from cxr_estimator.audit import audit
    >>> clf, data = CXRClassifier.from_pretrained(), make_phantoms(24, 96, random_state=1)
    >>> report = audit(clf, data.X, data.y, data.groups, checks=["label_order", "border_exchange"])
    >>> [check.name for check in report.checks]
    ['border_exchange', 'label_order']
    """
    if not isinstance(clf, CXRClassifier):
        raise wrong_type("clf", _CALLER, "a CXRClassifier (of an ensemble a member of `estimators_`)", clf)
    images = as_images(clf, X)
    if clf.task_ is Task.MULTILABEL:
        raise DataError(f"{_CALLER}: the model gives several labels per image; models of classes can be audited.")
    chosen = _chosen(checks)
    labels = check_labels(y, len(images), caller=_CALLER, classes=clf.classes_)
    n = len(images)
    patients = np.arange(n) if groups is None else check_per_image("groups", groups, n, caller=_CALLER)
    check_weights(clf.classes_, clf.class_weights_, _CALLER)
    check_callback(progress)
    for name in methods:
        check_supported(check_choice("method", name, _methods(methods), caller=_CALLER), clf.model_)
    names, patient = np.unique(patients, return_inverse=True)
    evidence = Evidence(
        clf,
        X,
        np.searchsorted(clf.classes_, labels),
        patient,
        groups is not None,
        None if sources is None else check_per_image("sources", sources, len(images), caller=_CALLER).astype(str),
        check_subgroups(subgroups, len(images), caller=_CALLER),
        tuple(methods),
        frozenset(need for check in chosen.values() for need in check.needs),
        check_number("n_maps", n_maps, caller=_CALLER, low=1, integer=True),
        check_number("n_resamples", n_resamples, caller=_CALLER, low=1, integer=True),
        check_seed(random_state, caller=_CALLER),
        None if masks is None else checked_masks(masks, len(images), caller=_CALLER),
        None if training_groups is None else np.isin(names, np.asarray(training_groups)),
    )
    found: list[AuditCheck] = []
    with counting(clf.model_) as count:
        for number, (name, check) in enumerate(chosen.items()):
            if progress is not None:
                progress(number, len(chosen))
            found += _outcomes(name, check, evidence, pictures=pictures)
    if progress is not None:
        progress(len(chosen), len(chosen))
    return AuditReport(
        tuple(found),
        tuple(map(str, clf.classes_.tolist())),
        tuple(methods),
        len(images),
        len(names) if groups is not None else None,
        count.images,
    )


def _methods(methods: Any) -> Sequence[str]:
    if isinstance(methods, str) or not isinstance(methods, Sequence) or not methods:
        raise wrong_type("methods", _CALLER, "a sequence of one method at least", methods)
    return list(METHODS)


def _chosen(checks: Any) -> Mapping[str, Check]:
    if checks is None:
        return CHECKS
    if isinstance(checks, str) or not isinstance(checks, Sequence) or not checks:
        raise invalid("checks", _CALLER, "a sequence of keys of CHECKS", checks)
    for name in checks:
        check_choice("checks", name, CHECKS, caller=_CALLER)
    return {name: check for name, check in CHECKS.items() if name in checks}


def _outcomes(name: str, check: Check, evidence: Evidence, *, pictures: bool) -> list[AuditCheck]:
    """Return what a check finds; whatever goes wrong in it is told, and hides no other."""
    try:
        findings = check.function(evidence)
    except CXRError as error:
        findings = [Finding(UNDEFINED, f"It could not be done: {error}")]
    except Exception as error:  # noqa: BLE001 - a fault in one check must not hide the others
        _log.exception("the check %s failed", name)
        findings = [Finding(UNDEFINED, f"It could not be done, for a fault of the check ({type(error).__name__}).")]
    return [_outcome(name, check, one, pictures=pictures) for one in findings]


def _outcome(name: str, check: Check, found: Finding, *, pictures: bool) -> AuditCheck:
    verdict = check.verdict(found.estimate)
    shown: tuple[Picture, ...] = ()
    if pictures and verdict != PASS and found.pictures is not None:
        shown = found.pictures()
    value, low, high = map(float, found.estimate)
    limit = check.limits.doubtful
    return AuditCheck(name, check.family, found.method, value, (low, high), limit, verdict, found.said, shown)
