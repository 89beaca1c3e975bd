"""`findings`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.utils import _safe_indexing

from cxr_estimator._explaining import ExplanationPlan, prediction_of
from cxr_estimator._measuring import checked_masks, mask_at_model_size
from cxr_estimator._operating import judged, known_images
from cxr_estimator._outputs import Task
from cxr_estimator._predicting import images as as_images
from cxr_estimator._progress import check_callback
from cxr_estimator._validation import check_number, check_seed, invalid, wrong_type
from cxr_estimator._wording import images_of
from cxr_estimator.audit import AuditReport
from cxr_estimator.benchmark import outcomes
from cxr_estimator.classifier import CXRClassifier
from cxr_estimator.errors import DataError
from cxr_estimator.explanation import Explanation, Prediction
from cxr_estimator.findings._buckets import RANDOM, Bucket, compare, draw, summarise
from cxr_estimator.findings._describing import describe, lungs_in
from cxr_estimator.findings._hypotheses import hypotheses, not_in_the_maps
from cxr_estimator.findings._report import Findings
from cxr_estimator.trust import TrustCard, examine

_CALLER = "findings"


def findings(
    clf: CXRClassifier,
    X: Any,
    y: Any,
    groups: Any = None,
    *,
    method: str = "grad_cam",
    target: Any = "predicted",
    n_per_bucket: int = 6,
    n_maps: int = 24,
    audit: AuditReport | None = None,
    masks: Any = None,
    random_state: int = 0,
    progress: Callable[[float, int], Any] | None = None,
) -> Findings:
    """Find what the heat maps of right and wrong decisions have in common.

    Images are drawn at random from the true positives, false positives and false negatives at the operating point (of
    several classes from the right and the wrong decisions), and from all images whatever their outcome; this last draw
    may hold images of the others. Their maps are described in figures and words, judged as trust cards judge them, and
    compared; what they suggest stands beside the checks of an audit.

    Parameters
    ----------
    clf : CXRClassifier
        For two or more classes; not for several labels per image.
    X, y : N images and labels
        That neither trained the model nor chose its thresholds.
    groups : sequence of N patients, optional
        For intervals and tests. Without it each image counts as a patient of its own, which makes both too sure.
    method : str, default="grad_cam"
        Of explanation.
    target : label, "predicted" or "margin", default="predicted"
        What is explained. By default what the model decided, so that the maps of false negatives tell what spoke
        against the positive label.
    n_per_bucket : int, default=6
        How many images of each bucket are shown.
    n_maps : int, default=24
        How many of each are explained and measured, those that are shown among them; never less than these.
    audit : AuditReport, optional
        Of this model, with this method among its own; without it hypotheses remain untested.
    masks : sequence of N masks, optional
        The lungs of each image, bool, at its original size. Default: found by `anatomy.lung_mask`.
    random_state : int, default=0
    progress : callable, optional
        Called as `progress(done, total)` in images judged and explained; what it raises stops the work.

    Returns
    -------
    Findings

    Raises
    ------
    DataError
        Lengths differ, y holds labels that the model does not know, no image could be read, or the audit is of other
        classes.
    InvalidTypeError
        `clf` is no single network, or `audit` no AuditReport.

    Examples
    --------
    >>> from cxr_estimator import CXRClassifier, make_phantoms
    >>> from cxr_estimator.findings import findings
    >>> clf, data = CXRClassifier.from_pretrained(), make_phantoms(8, 96, random_state=1)
    >>> found = findings(clf, data.X, data.y, data.groups, n_per_bucket=1, n_maps=1)
    >>> [bucket.name for bucket in found.buckets]
    ['TP', 'FP', 'FN', 'random']
    """
    seed = check_request(clf, X, method, target, n_per_bucket, n_maps, random_state)
    n_images = len(as_images(clf, X))
    _check_audit(audit, clf)
    check_callback(progress, caller=_CALLER)
    given = None if masks is None else checked_masks(masks, n_images, caller=_CALLER)
    data = judged(clf, X, y, groups, caller=_CALLER)
    seen = known_images(clf, data.content_ids.tolist(), caller=_CALLER)
    said = prediction_of(clf, data.logits, np.zeros(len(data.logits), int), data.labels)
    outcome, position = outcomes(said, clf), np.flatnonzero(data.readable)
    drawn = draw(outcome, clf.task_, max(n_maps, n_per_bucket), seed)
    rows = np.unique(np.concatenate(list(drawn.values())))
    tell = _teller(progress, len(outcome), len(rows))
    mapped = _mapped(clf, X, position[rows], method, given, target=target, random_state=seed, progress=tell)
    _, patient = np.unique(data.groups, return_inverse=True)  # numbers: no name of a patient gets any further
    table, row_of = _table(drawn, position, said, mapped, n_per_bucket)
    buckets = _buckets(drawn, outcome, table, patient[row_of])
    differences = compare(buckets, table, patient[row_of])
    suggested = hypotheses(buckets, differences, audit, method)
    notes = [*seen, *_notes(groups, audit, method, len(outcome)), *not_in_the_maps(suggested, buckets, audit, method)]
    return Findings(
        classes=tuple(map(str, clf.classes_.tolist())),
        positive=None if clf.task_ is Task.MULTICLASS else str(clf.pos_label_),
        method=method,
        target=str(target),
        shows=mapped.explanation.shows,
        n_images=len(outcome),
        n_patients=None if groups is None else int(patient.max()) + 1,
        n_unreadable=n_images - len(outcome),
        table=table,
        buckets=tuple(buckets),
        differences=tuple(differences),
        hypotheses=tuple(suggested),
        notes=tuple(notes),
        explanation=mapped.explanation,
        lungs=mapped.lungs,
    )


class _Mapped(NamedTuple):
    """The maps of all drawn images, their trust cards, and the lungs at model size."""

    explanation: Explanation
    cards: list[TrustCard]
    lungs: tuple[np.ndarray | None, ...]


def check_request(
    clf: Any,
    X: Any,
    method: str = "grad_cam",
    target: Any = "predicted",
    n_per_bucket: Any = 6,
    n_maps: Any = 24,
    random_state: Any = 0,
) -> int:
    """Return the seed, or raise for what `findings` cannot do, before any image is judged."""
    if not isinstance(clf, CXRClassifier):
        raise wrong_type("clf", _CALLER, "a CXRClassifier (of an ensemble a member of `estimators_`)", clf)
    as_images(clf, X)
    if clf.task_ is Task.MULTILABEL:
        raise DataError(f"{_CALLER}: the model gives several labels per image; findings are of models of classes.")
    if isinstance(target, str) and target == "true" and target not in clf.classes_.tolist():
        raise invalid("target", _CALLER, 'a label, "predicted" or "margin"', target)
    check_number("n_per_bucket", n_per_bucket, caller=_CALLER, low=1, integer=True)
    check_number("n_maps", n_maps, caller=_CALLER, low=1, integer=True)
    ExplanationPlan.check(clf, X, None, [method], target=target)
    return check_seed(random_state, caller=_CALLER)


def _check_audit(audit: Any, clf: CXRClassifier) -> None:
    if audit is None:
        return
    if not isinstance(audit, AuditReport):
        raise wrong_type("audit", _CALLER, "an AuditReport, as `audit` and `AuditReport.load` return it", audit)
    own = tuple(map(str, clf.classes_.tolist()))
    if audit.classes != own:
        raise DataError(f"{_CALLER}: the audit is of a model of {list(audit.classes)}, and this one knows {list(own)}.")


def _teller(progress: Any, n_judged: int, n_maps: int) -> Callable[[float, int], Any] | None:
    """Return the callback of the explanations, which come after all images were judged."""
    if progress is None:
        return None
    progress(n_judged, n_judged + n_maps)
    return lambda done, total: progress(n_judged + done, n_judged + n_maps)


def _mapped(
    clf: CXRClassifier, X: Any, positions: np.ndarray, method: str, masks: list[Any] | None, **explain: Any
) -> _Mapped:
    parts = list(examine(clf, _safe_indexing(X, positions), [method], **explain))
    if not parts:
        raise DataError(f"{_CALLER}: none of the images that were drawn could be read again.")
    found = Explanation.concatenate([one.found[method] for one in parts])
    # within X again, of which only some were explained
    explanation = replace(found, index=positions[found.index])
    if masks is None:
        lungs = lungs_in(explanation)
    else:
        pairs = zip(explanation.geometry, explanation.index.tolist(), strict=True)
        at_model_size = [mask_at_model_size(masks[i], geometry, i, caller=_CALLER) for geometry, i in pairs]
        lungs = [one if one.any() else None for one in at_model_size]
    return _Mapped(explanation, [card for one in parts for card in one.cards[method]], tuple(lungs))


def _table(
    drawn: dict[str, np.ndarray], position: np.ndarray, said: Prediction, mapped: _Mapped, n_shown: int
) -> tuple[pd.DataFrame, np.ndarray]:
    """Return a row for each image of each bucket, and the row of `position` that it is."""
    number_of = {one: number for number, one in enumerate(mapped.explanation.index.tolist())}
    kept = {name: [row for row in rows.tolist() if int(position[row]) in number_of] for name, rows in drawn.items()}
    row_of = np.array([row for rows in kept.values() for row in rows], dtype=int)
    numbers = [number_of[int(position[row])] for row in row_of]
    described = describe(mapped.explanation, mapped.lungs).iloc[numbers].reset_index(drop=True)
    cards = [mapped.cards[number] for number in numbers]
    labels = said.label if said.pos_label is None else np.full(len(said.label), said.pos_label)
    columns = [said.classes.index(label) for label in labels[row_of].tolist()]
    first = pd.DataFrame(
        {
            "bucket": [name for name, rows in kept.items() for _ in rows],
            "position": position[row_of],
            "shown": [place < n_shown for rows in kept.values() for place in range(len(rows))],
            "truth": None if said.true_label is None else said.true_label[row_of],
            "decision": said.label[row_of],
            "probability": said.proba[row_of, columns],
            "explained": mapped.explanation.target[numbers],
            "gain": [card.gain for card in cards],
            "beaten": [card.deletion.beaten for card in cards],
            "verdict": [card.verdict for card in cards],
            "why": [card.sentence for card in cards],
            "number": numbers,
        }
    )
    return pd.concat([first, described], axis=1), row_of


def _buckets(
    drawn: dict[str, np.ndarray], outcome: np.ndarray, table: pd.DataFrame, patient: np.ndarray
) -> list[Bucket]:
    found = []
    for name in drawn:
        own = (table["bucket"] == name).to_numpy()
        n_in_all = len(outcome) if name == RANDOM else int((outcome == name).sum())
        found.append(summarise(name, table[own], patient[own], n_in_all))
    return found


def _notes(groups: Any, audit: AuditReport | None, method: str, n_images: int) -> list[str]:
    notes = []
    if groups is None:
        notes.append("Patients are unknown: each image counts as one of its own, so intervals are too narrow.")
    if audit is None:
        notes.append("No audit was given, so what the maps suggest is untested.")
    elif method not in audit.methods:
        notes.append("The audit did not look at maps of this method, so hypotheses about them are untested.")
    else:
        found = audit.maps[method]
        notes.append(f"What the audit says of maps of this method: {found.verdict}. {found.reason}")
    if audit is not None and audit.note is not None:
        notes.append(f"Of the audit: {audit.note}")
    if audit is not None and audit.n_images != n_images:
        looked_at = images_of(audit.n_images, audit.n_patients)
        notes.append(f"The audit looked at {looked_at}; it does not say of which model, so see that it is this one.")
    return notes
