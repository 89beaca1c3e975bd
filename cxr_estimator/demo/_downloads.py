"""The files of one heat map: a figure, the numbers, one page to print, and a receipt. None of them names the upload."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import numpy as np

from cxr_estimator._figure_style import method_title
from cxr_estimator._receipt_fields import BUNDLED, FOLDER
from cxr_estimator._wording import printable
from cxr_estimator.demo._analysis import Judgement, Shown, asking
from cxr_estimator.demo._answers import judgement_answer, map_answer
from cxr_estimator.demo._case import Case
from cxr_estimator.demo._folder import new_file
from cxr_estimator.demo._pictures import deletion, is_hidden, pixels, png, stamped
from cxr_estimator.demo._view import Look, laid_over
from cxr_estimator.demo._words import described, described_curve, html, legend, verdict
from cxr_estimator.errors import DataError
from cxr_estimator.explanation import Explanation
from cxr_estimator.figures import plot_explanation, rgb
from cxr_estimator.receipts import Receipt, receipt_of
from cxr_estimator.verdicts import WITHHOLD
from cxr_estimator.versions import package_versions

FIGURE, NUMBERS, PAGE, RECEIPT = "figure.png", "numbers.json", "report.html", "receipt.json"


def write_files(case: Case | None, look: Look) -> list[str]:
    """Write the four files of the map that is looked at, and return their paths.

    Raises
    ------
    DataError
        There is no map.
    """
    shown = None if case is None else case.visible.get(case.looked_at(look.method) or "")
    if case is None or shown is None:
        raise DataError("There is no heat map yet: analyse a radiograph first.")
    content = {
        FIGURE: png(_figure(shown, look)),
        NUMBERS: json.dumps(numbers(case, shown), indent=1, allow_nan=False).encode(),
        PAGE: printable(page(case, shown, look)).encode(),
        RECEIPT: receipt_for(case.judgement, shown.explanation).to_json().encode(),
    }
    first = new_file(FIGURE)
    paths = [first.with_name(name) for name in content]
    for path in paths:
        path.write_bytes(content[path.name])
    return [str(path) for path in paths]


def receipt_for(judgement: Judgement, explanation: Explanation) -> Receipt:
    """Return the receipt of a map, which names neither a folder nor a wish for a revision."""
    served = judgement.served
    name = served.name.partition("@")[0] if served.name == BUNDLED or "/" in served.name else FOLDER
    asked = asking(served.clf, judgement.question)
    return receipt_of(asked, explanation, 0, model_name=name, revision=served.revision)


def _figure(shown: Shown, look: Look) -> np.ndarray:
    withheld = shown.card.sentence if is_hidden(shown, look.show_withheld) else None
    drawn = pixels(plot_explanation(shown.explanation, 0, cmap=look.cmap(shown), withheld=withheld))
    return stamped(drawn) if shown.card.verdict == WITHHOLD and withheld is None else drawn


def numbers(case: Case, shown: Shown) -> dict[str, Any]:
    """Return what was found, as the endpoints answer it. Neither file name nor pixels, but a hash of these."""
    return {
        "created": datetime.now(UTC).date().isoformat(),
        **judgement_answer(case.judgement),
        "explanation": map_answer(shown.explanation, shown.card),
        "versions": package_versions(),
    }


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
