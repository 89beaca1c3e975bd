"""The files of one heat map: a figure, the numbers, one page to print, and a receipt. None of them names the upload."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from cxr_estimator._figure_style import method_title
from cxr_estimator._receipt_fields import BUNDLED, FOLDER
from cxr_estimator._wording import DISCLAIMER, printable
from cxr_estimator.demo._analysis import Shown, asking
from cxr_estimator.demo._case import Case
from cxr_estimator.demo._models import Served
from cxr_estimator.demo._pictures import deletion, is_hidden, panel, pixels, png, stamped
from cxr_estimator.demo._view import Look, laid_over
from cxr_estimator.demo._words import described, described_curve, html, legend, verdict
from cxr_estimator.errors import DataError
from cxr_estimator.figures import plot_explanation, rgb
from cxr_estimator.receipts import receipt_of
from cxr_estimator.statistics import Estimate
from cxr_estimator.thresholds import OperatingPoint
from cxr_estimator.trust import WITHHOLD, TrustCard
from cxr_estimator.versions import package_versions

FIGURE, NUMBERS, PAGE, RECEIPT = "figure.png", "numbers.json", "report.html", "receipt.json"


def write_files(case: Case | None, look: Look, folder: Path) -> list[Path]:
    """Write the four files of the map that is looked at, and return their paths.

    Raises
    ------
    DataError
        There is no map.
    """
    shown = None if case is None else case.visible.get(case.looked_at(look.method) or "")
    if case is None or shown is None:
        raise DataError("There is no heat map yet: analyse a radiograph first.")
    served = case.judgement.served
    asked = asking(served.clf, case.judgement.question)
    receipt = receipt_of(asked, shown.explanation, 0, model_name=_name(served), revision=served.revision)
    content = {
        FIGURE: png(_figure(case, shown, look)),
        NUMBERS: json.dumps(numbers(case, shown), indent=1, allow_nan=False).encode(),
        PAGE: printable(page(case, shown, look)).encode(),
        RECEIPT: receipt.to_json().encode(),
    }
    paths = [folder / name for name in content]
    for path in paths:
        path.write_bytes(content[path.name])
    return paths


def _name(served: Served) -> str:
    """Return what a receipt calls a model: neither the name of a folder nor a revision."""
    return served.name.partition("@")[0] if served.name == BUNDLED or "/" in served.name else FOLDER


def _figure(case: Case, shown: Shown, look: Look) -> np.ndarray:
    if is_hidden(shown, look.show_withheld):
        return panel(case.picture.shape[:2], f"{method_title(shown.card.method)}: withheld", shown.card.sentence)
    drawn = pixels(plot_explanation(shown.explanation, 0, cmap=look.cmap(shown)))
    return stamped(drawn) if shown.card.verdict == WITHHOLD else drawn


def numbers(case: Case, shown: Shown) -> dict[str, Any]:
    """Return what was found, of JSON types; NaN is null. Neither file name nor pixels, but a hash of these."""
    judgement, one, check = case.judgement, shown.explanation, case.judgement.check
    unusual = None
    if check is not None:
        p_value, sentence = _finite(check.p_value[0]), check.sentences[0]
        unusual = {"is_unusual": judgement.is_unusual, "p_value": p_value, "sentence": sentence}
    return {
        "created": datetime.now(UTC).date().isoformat(),
        "disclaimer": DISCLAIMER,
        "image_sha256": judgement.image_id,
        "model": {"name": judgement.served.name, "revision": judgement.served.revision},
        "question": asdict(judgement.question),
        "probabilities": {
            label: {"value": share, **dict(zip(("low", "high"), judgement.spread[label], strict=True))}
            for label, share in judgement.proba.items()
        },
        "decision": list(judgement.decided),
        "threshold": judgement.threshold,
        "operating_point": _point(judgement.point),
        "unusual": unusual,
        "explanation": {
            "method": one.method,
            "target": str(one.target[0]),
            "score": _finite(one.score[0]),
            "signed": one.signed,
            "shows": one.shows,
            "options": json.loads(json.dumps(one.options, default=str)),
            "seed": one.seed,
        },
        "trust_card": _card(shown.card),
        "versions": package_versions(),
    }


def _point(point: OperatingPoint | None) -> dict[str, Any] | None:
    if point is None:
        return None
    return {
        "name": point.name,
        "rule": point.rule_text,
        "sensitivity": _estimate(point.sensitivity),
        "specificity": _estimate(point.specificity),
        "n_images": point.n_images,
        "n_patients": point.n_patients,
    }


def _card(card: TrustCard) -> dict[str, Any]:
    checks = [
        {**check._asdict(), "value": _finite(check.value), "threshold": _finite(check.threshold)}
        for check in card.checks
    ]
    curves = {name: values.tolist() for name, values in card.deletion._asdict().items()}
    deletion = {"gain": _finite(card.gain), **curves}
    return {"verdict": card.verdict, "sentence": card.sentence, "checks": checks, "deletion": deletion}


def _finite(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _estimate(one: Estimate | None) -> dict[str, float | None] | None:
    return None if one is None else {name: _finite(value) for name, value in one._asdict().items()}


def page(case: Case, shown: Shown, look: Look) -> str:
    """Return one HTML page that needs no other file."""
    hidden = is_hidden(shown, look.show_withheld)
    pictures = [
        ("Radiograph", "The radiograph, without any heat map.", rgb(case.picture)),
        (
            method_title(shown.card.method),
            described(shown, show_withheld=look.show_withheld),
            laid_over(case, shown, look),
        ),
        ("Deletion curve", described_curve(shown), pixels(deletion(shown))),
    ]
    return html(
        "report",
        said=verdict(case.judgement),
        card=shown.card,
        legend=None if hidden else legend(shown, look.cmap(shown)),
        pictures=[(title, alt, base64.b64encode(png(picture)).decode("ascii")) for title, alt, picture in pictures],
        facts=facts(case, shown),
    )


def facts(case: Case, shown: Shown) -> list[tuple[str, str]]:
    """Return what a reader needs to know of how this came about."""
    served, one = case.judgement.served, shown.explanation
    return [
        ("Model", served.name + (f" at {served.revision}" if served.revision else "")),
        ("Method", method_title(one.method)),
        ("Explained class", str(one.target[0])),
        ("Random seed", "none" if one.seed is None else str(one.seed)),
        ("Image (SHA-256 of its pixels)", case.judgement.image_id),
        ("Day (UTC)", datetime.now(UTC).date().isoformat()),
        ("Versions", ", ".join(f"{name} {version}" for name, version in one.versions.items())),
    ]
