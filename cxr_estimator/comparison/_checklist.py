"""What to verify before two models' answers about one image are believed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from cxr_estimator._map_checks import MAP_CHECKS, Maps
from cxr_estimator.anatomy import marker_mask, thorax_mask
from cxr_estimator.comparison._explanations import PARTLY, Comparison
from cxr_estimator.errors import DataError
from cxr_estimator.explanation import Explanation
from cxr_estimator.verdicts import DOUBTFUL, FAIL, NO_DATA, PASS, Limits

_SURE = Limits(doubtful=0.8, fail=0.6, greater_is_worse=False)  # probability of what is decided
_ALIKE = Limits(doubtful=0.8, fail=0.5, greater_is_worse=False)  # share of the similar cases with the decided label
_WORST = (PASS, NO_DATA, DOUBTFUL, FAIL)  # what is not known of one model does not pass
_EDGES = {"border_mass": "along the border", "corner_mass": "in the corners", "marker_mass": "on side markers"}


class Item(NamedTuple):
    """One thing to verify.

    Attributes
    ----------
    name : str
    verdict : str
        "pass", "doubtful", "fail" or "not enough data".
    sentence : str
    """

    name: str
    verdict: str
    sentence: str


def checklist(
    explanations: Mapping[str, Explanation],
    comparison: Comparison,
    *,
    unusual: Mapping[str, str] | None = None,
    similar: Mapping[str, pd.DataFrame] | None = None,
) -> list[Item]:
    """Return what to verify about one image that two models have judged and explained.

    Parameters
    ----------
    explanations : dict of name to Explanation
        Of that image alone, with it, by either model.
    comparison : Comparison
        Of the two, see `compare_explanations`.
    unusual : dict of name to str, optional
        Why the image is unusual to a model; see `CXRClassifier.check_images`.
    similar : dict of name to DataFrame, optional
        Known cases that look alike to a model, with labels; see `curation.SimilarCases.query`.

    Returns
    -------
    list of Item
        "focus on anatomy", "models agree", "confidence", "no artefacts" and "similar cases": each the worst of what is
        found of either model. All five can pass and both models be wrong.

    Raises
    ------
    DataError
        Not two explanations of one image, or without it.
    """
    if len(explanations) != 2 or any(len(one) != 1 for one in explanations.values()) or len(comparison) != 1:
        given = {name: len(one) for name, one in explanations.items()}
        raise DataError(f"checklist: give two explanations of one image, and their comparison. Got {given} images.")
    maps = {name: _maps(one) for name, one in explanations.items()}
    return [
        _worst("focus on anatomy", [_anatomy(name, one) for name, one in maps.items()]),
        _agree(comparison, list(explanations)),
        _worst("confidence", [_confidence(name, one) for name, one in explanations.items()]),
        _worst("no artefacts", _artefacts(maps, unusual or {})),
        _worst("similar cases", _similar(explanations, similar or {})),
    ]


def _maps(explanation: Explanation) -> Maps:
    """Return the map with the regions that are found in the image."""
    if explanation.images is None:
        raise DataError("checklist: the explanations must come with their images, as `explain` returns them.")
    image = explanation.images[0]
    grey = image if image.ndim == 2 else image.mean(axis=2).astype(np.uint8)
    thorax = thorax_mask(grey)
    outside = np.zeros(grey.shape, bool) if thorax is None else ~thorax
    return Maps(explanation, regions={"outside thorax": outside[None], "markers": marker_mask(grey)[None]})


def _anatomy(name: str, maps: Maps) -> tuple[str, str]:
    check = MAP_CHECKS["outside_thorax_mass"]
    (verdict,) = map(check.limits.verdict, check.measure(maps).tolist())
    if verdict == NO_DATA:
        return verdict, f"The thorax, or what speaks for the class, was not found for {name}."
    (inside,), (area,) = maps.in_region("outside thorax")
    share = f"{1 - inside:.0%} of what speaks for the class to {name} lies in the thorax"
    return verdict, f"{share}; by chance {1 - area:.0%} would."


def _agree(comparison: Comparison, names: list[str]) -> Item:
    ranks = float(comparison.agreement["rank_correlation"][0])
    verdict = FAIL if not comparison.same_decision[0] else NO_DATA if np.isnan(ranks) else PASS
    if verdict == PASS and ranks < PARTLY:
        verdict = DOUBTFUL
    decided, _, maps = comparison.sentences(names=(names[0], names[1]))
    return Item("models agree", verdict, f"{decided} {maps}")


def _confidence(name: str, explanation: Explanation) -> tuple[str, str]:
    said = explanation.prediction
    label, classes = said.label[0], list(said.classes)
    of_target = float(said.proba[0, classes.index(explanation.target[0])])
    # of several labels per image the decision is the explained one, or that it is not there
    proba = float(said.proba[0, classes.index(label)]) if label in classes else 1 - of_target
    return _SURE.verdict(proba), f"Of {label}, which {name} decides, the probability is {proba:.0%}."


def _artefacts(maps: Mapping[str, Maps], unusual: Mapping[str, str]) -> list[tuple[str, str]]:
    found = [(PASS, "No map marks border, corners or side markers much more than by chance.")]
    found += [(DOUBTFUL, f"The image is unusual to {name}. {reason}") for name, reason in unusual.items()]
    for name, one in maps.items():
        for check, where in _EDGES.items():
            (value,) = MAP_CHECKS[check].measure(one).tolist()
            verdict = MAP_CHECKS[check].limits.verdict(value)
            if verdict in (DOUBTFUL, FAIL):
                found.append((verdict, f"What speaks for the class to {name} lies in good part {where}."))
    return found


def _similar(explanations: Mapping[str, Explanation], similar: Mapping[str, pd.DataFrame]) -> list[tuple[str, str]]:
    if not similar:
        return [(NO_DATA, "No known cases were given to compare with.")]
    return [_alike(name, explanations[name], cases) for name, cases in similar.items()]


def _alike(name: str, explanation: Explanation, cases: pd.DataFrame) -> tuple[str, str]:
    if not len(cases):
        return NO_DATA, f"No known case was found for {name}."
    label, known = str(explanation.prediction.label[0]), cases["label"].astype(str)
    same = int((known == label).sum())
    said = f"Of the known cases that look most alike to {name}, {same} of {len(cases)} are {label}, as it decides."
    return _ALIKE.verdict(same / len(cases)), said


def _worst(name: str, found: list[tuple[str, str]]) -> Item:
    """Return the worst verdict, with all sentences that have it."""
    worst = max((verdict for verdict, _ in found), key=_WORST.index)
    return Item(name, worst, " ".join(said for verdict, said in found if verdict == worst))
