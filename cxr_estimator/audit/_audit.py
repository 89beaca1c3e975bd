"""`audit`."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from cxr_estimator._explaining import ExplanationPlan
from cxr_estimator._map_checks import MAP_CHECKS
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
from cxr_estimator.errors import CXRError, DataError, ImageError
from cxr_estimator.evaluation._subgroups import check_subgroups
from cxr_estimator.verdicts import DOUBTFUL, FAIL, NO_DATA, PASS

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
        Of the images that trained the model; compared as text. Needs `groups`.
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
        Called as `progress(done, total)` in images looked at and explained; what it raises stops the work.

    Returns
    -------
    AuditReport

    Raises
    ------
    DataError
        Lengths differ, y holds labels that the model does not know, or no image could be read. What a single check
        cannot do is part of the report.
    ImageError
        An image cannot be read, with `on_error="raise"`.
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
    n_images = len(as_images(clf, X))
    if clf.task_ is Task.MULTILABEL:
        raise DataError(f"{_CALLER}: the model gives several labels per image; models of classes can be audited.")
    check_weights(clf.classes_, clf.class_weights_, _CALLER)
    chosen = _chosen(checks)
    if not isinstance(pictures, bool | np.bool_):
        raise wrong_type("pictures", _CALLER, "True or False", pictures)
    labels = check_labels(y, n_images, caller=_CALLER, classes=clf.classes_)
    patients = np.arange(n_images) if groups is None else check_per_image("groups", groups, n_images, caller=_CALLER)
    names, patient = np.unique(patients, return_inverse=True)
    n_maps = check_number("n_maps", n_maps, caller=_CALLER, low=1, integer=True)
    needs = frozenset(need for check in chosen.values() for need in check.needs)
    evidence = Evidence(
        clf=clf,
        X=X,
        target=np.searchsorted(clf.classes_, labels),
        patient=patient,
        knows_patients=groups is not None,
        sources=None if sources is None else check_per_image("sources", sources, n_images, caller=_CALLER).astype(str),
        subgroups=check_subgroups(subgroups, n_images, caller=_CALLER),
        methods=_methods(methods, clf, X if needs & MAP_CHECKS.keys() else None),
        needs=needs,
        n_maps=n_maps,
        n_resamples=check_number("n_resamples", n_resamples, caller=_CALLER, low=1, integer=True),
        seed=check_seed(random_state, caller=_CALLER),
        lung_masks=None if masks is None else checked_masks(masks, n_images, caller=_CALLER),
        shared_patients=None if training_groups is None else _shared(names, groups, training_groups),
        progress=_teller(progress, n_images + min(n_maps, n_images) * bool(needs & MAP_CHECKS.keys())),
    )
    try:
        with counting(clf.model_) as count:
            seen = evidence.seen  # what goes wrong here goes wrong for all checks
            found = [one for name, check in chosen.items() for one in _outcomes(name, check, evidence, bool(pictures))]
    except _Stopped as stopped:
        raise stopped.error from None
    return AuditReport(
        tuple(found),
        tuple(map(str, clf.classes_.tolist())),
        evidence.methods,
        len(seen.index),
        len(np.unique(seen.patient)) if groups is not None else None,
        n_images - len(seen.index),
        count.images,
    )


class _Stopped(BaseException):
    """What `progress` raised, on its way past what catches the faults of checks."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def _teller(progress: Callable[[float, int], Any] | None, total: int) -> Callable[[float], None]:
    """Return a function that is told how many images more are done."""
    check_callback(progress, caller=_CALLER)
    done = 0.0

    def tell(more: float) -> None:
        nonlocal done
        done += more
        if progress is not None:
            try:
                progress(done, total)
            except Exception as error:
                raise _Stopped(error) from error

    return tell


def _methods(methods: Any, clf: CXRClassifier, X: Any) -> tuple[str, ...]:
    """Return the methods; raise unless each works on this network, and has what it needs to explain X."""
    if isinstance(methods, str) or not isinstance(methods, Sequence) or not methods:
        raise wrong_type("methods", _CALLER, "a sequence of one method at least", methods)
    for name in methods:
        check_supported(check_choice("methods", name, METHODS, caller=_CALLER), clf.model_)
    if X is not None:
        ExplanationPlan.check(clf, X, None, list(methods))
    return tuple(dict.fromkeys(methods))


def _shared(names: np.ndarray, groups: Any, training_groups: Any) -> np.ndarray:
    """Return which patients are among those of the training; compared as text, so that 7 and "7" are one."""
    if groups is None:
        raise DataError(f"{_CALLER}: training_groups needs groups, the patients of these images, to compare with.")
    if isinstance(training_groups, str) or not isinstance(training_groups, Iterable):
        raise wrong_type("training_groups", _CALLER, "a sequence of patients", training_groups)
    known = list(training_groups)
    if not all(np.isscalar(one) for one in known):
        raise wrong_type("training_groups", _CALLER, "a sequence of names or numbers", training_groups)
    return np.isin([str(one) for one in names.tolist()], [str(one) for one in known])


def _chosen(checks: Any) -> Mapping[str, Check]:
    if checks is None:
        return CHECKS
    if isinstance(checks, str) or not isinstance(checks, Sequence) or not checks:
        raise invalid("checks", _CALLER, "a sequence of keys of CHECKS", checks)
    for name in checks:
        check_choice("checks", name, CHECKS, caller=_CALLER)
    return {name: check for name, check in CHECKS.items() if name in checks}


def _outcomes(name: str, check: Check, evidence: Evidence, pictures: bool) -> list[AuditCheck]:
    """Return what a check finds, of several findings about the same the worst.

    Whatever goes wrong in it is told, and hides no other check.
    """
    try:
        worst: dict[str | None, tuple[str, Finding]] = {}
        for finding in check.function(evidence):
            judged = check.verdict(finding.estimate), finding
            known = worst.get(finding.method, judged)
            worst[finding.method] = max(known, judged, key=lambda one: _badness(check, *one))
        return [_outcome(name, check, *one, pictures=pictures) for one in worst.values()]
    except ImageError:  # which names the file, and so maybe the patient
        said = "It could not be done: an image that could be read before could not be read any more."
    except CXRError as error:
        said = f"It could not be done: {error}"
    except Exception as error:  # noqa: BLE001 - a fault in one check must not hide the others
        _log.exception("the check %s failed", name)
        said = f"It could not be done, for a fault of the check ({type(error).__name__})."
    return [_outcome(name, check, NO_DATA, Finding(UNDEFINED, said), pictures=False)]


def _badness(check: Check, verdict: str, found: Finding) -> tuple[int, float]:
    value = found.estimate.value if check.limits.greater_is_worse else -found.estimate.value
    return (NO_DATA, PASS, DOUBTFUL, FAIL).index(verdict), -math.inf if math.isnan(value) else value


def _outcome(name: str, check: Check, verdict: str, found: Finding, *, pictures: bool) -> AuditCheck:
    shown: tuple[Picture, ...] = ()
    if pictures and verdict in (DOUBTFUL, FAIL) and found.pictures is not None:
        shown = found.pictures()
    value, low, high = map(float, found.estimate)
    limit = check.limits.doubtful
    return AuditCheck(name, check.family, found.method, value, (low, high), limit, verdict, found.said, shown)
