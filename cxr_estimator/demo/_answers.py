"""What the endpoints answer, as JSON types: NaN becomes null, and no file name or path is among it."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from cxr_estimator._figure_style import method_title
from cxr_estimator._validation import plain
from cxr_estimator._wording import DISCLAIMER
from cxr_estimator.attribution import METHODS
from cxr_estimator.demo._analysis import Judgement, labels_of, methods_of, points_of
from cxr_estimator.demo._compare import Compared
from cxr_estimator.demo._models import Served
from cxr_estimator.demo._words import verdict
from cxr_estimator.explanation import Explanation
from cxr_estimator.metrics import METRICS
from cxr_estimator.receipts import Replay
from cxr_estimator.statistics import Estimate
from cxr_estimator.thresholds import OperatingPoint
from cxr_estimator.trust import TrustCard
from cxr_estimator.verdicts import WITHHOLD


def finite(value: Any) -> Any:
    """Return `value` with NaN and infinity, which JSON does not know, as None; NumPy scalars and tuples as JSON's."""
    value = plain(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): finite(one) for key, one in value.items()}
    return [finite(one) for one in value] if isinstance(value, list | tuple) else value


def model_answer(served: Served) -> dict[str, Any]:
    """Return what a model offers: labels, operating points, and methods, with the reason for those that do not work."""
    clf = served.clf
    points = [{**_point(clf.operating_points_[name]), "threshold": clf.thresholds_[name]} for name in points_of(clf)]
    obstacles = methods_of(clf)
    return finite(
        {
            "model": served.name,
            "revision": served.revision,
            "labels": list(labels_of(clf)),
            "positive_label": None if clf.pos_label_ is None else str(clf.pos_label_),
            "operating_points": points,
            "methods": [name for name, obstacle in obstacles.items() if obstacle is None],
            "methods_that_do_not_work": {name: why for name, why in obstacles.items() if why is not None},
            "knows_ordinary_images": clf.ood_ is not None,
        }
    )


def tables_answer() -> dict[str, Any]:
    """Return the tables of methods and of metrics."""
    methods = {
        name: {
            "title": method_title(name),
            "family": method.family,
            "speed": method.speed,
            "cost": method.cost,
            "signed": method.signed,
            "shows": method.shows,
            "localises": method.localises,
            "complete": method.complete,
            "random": method.random,
        }
        for name, method in METHODS.items()
    }
    metrics = {
        name: {
            "family": metric.family,
            "greater_is_better": metric.greater_is_better,
            "range": metric.range,
            "needs": metric.needs,
            "is_gain_over_moved_copies": metric.has_reference_maps,
        }
        for name, metric in METRICS.items()
    }
    return finite({"methods": methods, "metrics": metrics})


def judgement_answer(judgement: Judgement) -> dict[str, Any]:
    """Return what a model says of an image; of a refused one only why, for its probabilities mean nothing."""
    refused, check = judgement.is_refused, judgement.check
    proba = [
        {"label": label, "probability": share, "low": judgement.spread[label][0], "high": judgement.spread[label][1]}
        for label, share in judgement.proba.items()
    ]
    return finite(
        {
            "model": judgement.served.name,
            "revision": judgement.served.revision,
            "image_id": judgement.image_id,
            "is_refused": refused,
            "is_unusual": None if check is None else judgement.is_unusual,
            "image_check": None if check is None else check.sentences[0],
            "image_p_value": None if check is None else check.p_value[0],
            "probabilities": [] if refused else proba,
            "decision": [] if refused else judgement.decided,
            "threshold": judgement.threshold,
            "operating_point": None if judgement.point is None else _point(judgement.point),
            "meaning": meaning(judgement),
            "seed": judgement.question.seed,
            "disclaimer": DISCLAIMER,
        }
    )


def meaning(judgement: Judgement) -> str:
    """Return what the page says of the decision: what it rests on, and what is known of the operating point."""
    if judgement.is_refused:
        return "This image is too unlike those the model knows: no probability, decision or map is given."
    return " ".join(verdict(judgement).sentences)


def map_answer(made: Explanation, card: TrustCard | None) -> dict[str, Any]:
    """Return how a map was made, and its trust card; None where it was not checked."""
    return finite(
        {
            "method": made.method,
            "explained_label": str(made.target[0]),
            "score": made.score[0],
            "layer": made.layer,
            "baseline": made.baseline,
            "options": made.options,
            "shows": made.shows,
            "signed": made.signed,
            "is_checked": card is not None,
            "is_withheld": card is not None and card.verdict == WITHHOLD,
            "trust_card": None if card is None else _card(card),
        }
    )


def compared_answer(found: Compared) -> dict[str, Any]:
    """Return what two models say of an image, and how alike their maps are."""
    agreement = {} if found.found is None else {name: one[0] for name, one in found.found.agreement.items()}
    return finite(
        {
            "sentences": found.sentences,
            "judgements": [judgement_answer(one) for one in found.judgements],
            "explanations": [map_answer(*one) for one in found.shown or ()],
            "agreement": agreement,
            "to_verify": [one._asdict() for one in found.to_verify],
        }
    )


def replay_answer(found: Replay) -> dict[str, Any]:
    """Return what the repetition of an explanation came to."""
    return finite({**vars(found), "differences": [one._asdict() for one in found.differences]})


def records(found: pd.DataFrame) -> dict[str, Any]:
    """Return the rows of a table."""
    return {"rows": finite(found.to_dict("records"))}


def _card(card: TrustCard) -> dict[str, Any]:
    return {
        "verdict": card.verdict,
        "sentence": card.sentence,
        "checks": [check._asdict() for check in card.checks],
        "deletion": {
            "fractions": card.deletion.fractions.tolist(),
            "probability": card.deletion.curve.tolist(),
            "probability_of_moved_copies": card.deletion.references.tolist(),
            "gain": card.gain,
        },
    }


def _point(point: OperatingPoint) -> dict[str, Any]:
    return {
        "name": point.name,
        "rule": point.rule_text,
        "sensitivity": _estimate(point.sensitivity),
        "specificity": _estimate(point.specificity),
        "n_images": point.n_images,
        "n_patients": point.n_patients,
    }


def _estimate(one: Estimate | None) -> dict[str, float] | None:
    return None if one is None else one._asdict()
