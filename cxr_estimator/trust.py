"""The trust card of a heat map: what can be checked about a single map of a single image, in plain sentences.

`CARD` is the one table: a new check is a function and a line. A card says whether a map may be shown as evidence. It
knows one image, so it can find that a map is no better than chance; that one passes does not make the model right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from cxr_estimator._explaining import Explained, ExplanationPlan
from cxr_estimator._figure_style import method_title
from cxr_estimator._map_checks import MAP_CHECKS, N_REFERENCES, STEPS, TOP, Deletion, Maps
from cxr_estimator._validation import check_number, wrong_type
from cxr_estimator.attribution import METHODS
from cxr_estimator.explanation import Explanation
from cxr_estimator.metrics import Context
from cxr_estimator.metrics._maps import usable
from cxr_estimator.verdicts import DOUBTFUL, FAIL, NO_DATA, PASS, SHOW, WARN, WITHHOLD

_LEAST_BEATEN = 0.75  # of the moved copies; a map without any sense does worse in seven of ten images


class TrustCheck(NamedTuple):
    """One check of one map.

    Attributes
    ----------
    name : str
        Key of `CARD`.
    value, threshold : float
        What was found, and where "pass" begins or ends; NaN where there is none.
    verdict : str
        "pass", "doubtful", "fail" or "not enough data".
    sentence : str
    """

    name: str
    value: float
    threshold: float
    verdict: str
    sentence: str


@dataclass(frozen=True)
class TrustCard:
    """What the checks found about one map of one image.

    Attributes
    ----------
    method : str
    checks : tuple of TrustCheck
    deletion : Deletion
    """

    method: str
    checks: tuple[TrustCheck, ...]
    deletion: Deletion

    @property
    def verdict(self) -> str:
        """Whether to "show", "show with warning" or "withhold" it: one that fails where it must not is no evidence."""
        if self._withholding():
            return WITHHOLD
        return WARN if any(check.verdict in (FAIL, DOUBTFUL) for check in self.checks) else SHOW

    @property
    def sentence(self) -> str:
        """The verdict, and what it rests on, in one or two sentences."""
        name = method_title(self.method)
        reasons = [check.sentence for check in self._withholding()]
        if reasons:
            return f"{name} is withheld as evidence. {reasons[0]}"
        reasons = [check.sentence for check in self.checks if check.verdict in (FAIL, DOUBTFUL)]
        if reasons:
            return f"{name} can be shown, with a warning. {reasons[0]}"
        return f"{name} passed every check that one image allows. That says the model uses these pixels, not why."

    def _withholding(self) -> list[TrustCheck]:
        return [check for check in self.checks if check.verdict == FAIL and MAP_CHECKS[check.name].withholds]

    @property
    def gain(self) -> float:
        """The gain over the reference; what maps are ranked by, the least trusted first."""
        return self.deletion.gain


_Found = tuple[float, float, str, str]  # value, threshold, verdict, sentence


def _gain(maps: Maps) -> list[_Found]:
    limits, found = MAP_CHECKS["gain"].limits, []
    for is_usable, deletion in zip(usable(maps.explanation), maps.deletions, strict=True):
        gain, n = deletion.gain, len(deletion.references)
        if not is_usable:
            found.append((0.0, limits.doubtful, FAIL, "The map is empty: the method found nothing in this image."))
            continue
        verdict = limits.verdict(gain)
        more = {
            FAIL: "no more than hiding other places does",
            DOUBTFUL: "hardly more than hiding other places does",
            PASS: "more than hiding other places does",
        }[verdict]
        if verdict != FAIL and deletion.beaten < _LEAST_BEATEN * n:
            verdict, more = FAIL, "not reliably more than hiding other places does"
        elif verdict == PASS and deletion.beaten < n:
            verdict, more = DOUBTFUL, "more than hiding most other places does, but not all"
        said = (
            f"Hiding what it marks lowers the probability of the explained class {more}: it outdoes {deletion.beaten} "
            f"of {n} copies of itself, moved elsewhere."
        )
        found.append((gain, limits.doubtful, verdict, said))
    return found


def _completeness(maps: Maps) -> list[_Found]:
    if not METHODS[maps.explanation.method].complete:
        return []
    check, found = MAP_CHECKS["completeness"], []
    for residual in check.measure(maps).tolist():
        verdict = check.limits.verdict(residual)
        said = f"Its values add up to what they should explain up to {residual:.0%}"
        said += "." if verdict == PASS else ", which is too far off: the method did not converge."
        said = said if verdict != NO_DATA else "Whether it adds up is unknown."
        found.append((residual, check.limits.doubtful, verdict, said))
    return found


def _stability(maps: Maps) -> list[_Found]:
    if not METHODS[maps.explanation.method].random:
        return []
    check, found = MAP_CHECKS["seed_stability"], []
    for value in check.measure(maps).tolist():
        verdict = check.limits.verdict(value)
        same = {PASS: "much the same", DOUBTFUL: "only partly the same", FAIL: "a different one"}.get(verdict)
        said = f"With another random seed the map is {same} (rank correlation {value:.2f})."
        said = said if same else "An even map cannot be compared across random seeds."
        found.append((value, check.limits.doubtful, verdict, said))
    return found


def _agreement(maps: Maps) -> list[_Found]:
    others = maps.compared()
    if not others:
        return []
    check, names, found = MAP_CHECKS["agreement"], ", ".join(map(method_title, others)), []
    for overlap in check.measure(maps).tolist():
        verdict = check.limits.verdict(overlap)
        said = f"{overlap:.0%} of its strongest pixels are among those of {names}, too (by chance {TOP}%)."
        said = said if verdict != NO_DATA else f"An empty map cannot be compared with {names}."
        found.append((overlap, check.limits.doubtful, verdict, said))
    return found


def _at_edges(name: str, region: str, where: str) -> Callable[[Maps], list[_Found]]:
    check = MAP_CHECKS[name]

    def judged(maps: Maps) -> list[_Found]:
        found = []
        for excess, value, area in zip(check.measure(maps), *maps.in_region(region), strict=True):
            verdict, most = check.limits.verdict(excess), area + check.limits.doubtful * (1 - area)
            said = f"{value:.0%} of what speaks for the class lies {where} ({area:.0%} of the image)."
            if verdict == NO_DATA:
                said = "Nothing in the map speaks for the class, so it has no share in any place."
            found.append((float(value), float(most), verdict, said))
        return found

    return judged


# function(maps) -> value, threshold, verdict and sentence of each map; none where it does not apply to the method
CARD: dict[str, Callable[[Maps], list[_Found]]] = {
    "gain": _gain,
    "completeness": _completeness,
    "seed_stability": _stability,
    "agreement": _agreement,
    "border_mass": _at_edges("border_mass", "border", "in the frame along the border"),
    "corner_mass": _at_edges("corner_mass", "corners", "in the corners, where side markers and text often are"),
}


class Examined(NamedTuple):
    """A batch: the maps of each method, and a card for each map."""

    found: dict[str, Explanation]
    cards: dict[str, list[TrustCard]]


def examine(
    clf: Any,
    X: Any,
    methods: Sequence[str],
    /,
    *,
    others: Mapping[str, Explanation] | None = None,
    n_references: int = N_REFERENCES,
    steps: int = STEPS,
    **explain: Any,
) -> Iterator[Examined]:
    """Explain images and write the trust card of each map; yield them batch by batch.

    Parameters
    ----------
    clf : CXRClassifier
    X : images
    methods : sequence of str
        Keys of `attribution.METHODS`.
    others : dict of method to Explanation, optional
        Maps of these images that exist already, to be compared with; those of other images or classes are not.
    n_references : int, default=9
        How many moved copies a map is compared with.
    steps : int, default=5
        Of the deletion curve.
    **explain
        `target`, `random_state`, `progress`, ... of `CXRClassifier.explain`.

    Raises
    ------
    InvalidTypeError
        `clf` is an ensemble: cards are of one network's maps.
    """
    check_number("n_references", n_references, caller="examine", low=1, integer=True)
    if hasattr(clf, "estimators_"):
        raise wrong_type(
            "clf", "examine", "one network, so of an ensemble a member of `estimators_`", type(clf).__name__
        )
    plan = ExplanationPlan.check(clf, X, None, list(methods), **explain)

    def examined(batch: Explained) -> Examined:
        maps = {**(others or {}), **batch.found}
        context = Context(batch.problem)
        cards = {}
        for method, explanation in batch.found.items():
            own = replace(context, explain=batch.explain[method])
            cards[method] = _cards(Maps(explanation, own, maps, n_references=n_references, steps=steps))
        return Examined(batch.found, cards)

    return plan.run(examined)


def with_others(card: TrustCard, explanation: Explanation, others: Mapping[str, Explanation]) -> TrustCard:
    """Return the card of a single map compared with maps of the same image that have been made since."""
    checks = {check.name: check for check in card.checks}
    for found in _agreement(Maps(explanation, others=others)):
        checks["agreement"] = TrustCheck("agreement", *found)
    return replace(card, checks=tuple(checks[name] for name in CARD if name in checks))


def _cards(maps: Maps) -> list[TrustCard]:
    found: list[list[TrustCheck]] = [[] for _ in maps.deletions]
    for name, function in CARD.items():
        for of_image, result in zip(found, function(maps), strict=False):
            of_image.append(TrustCheck(name, *result))
    method = maps.explanation.method
    return [TrustCard(method, tuple(each), one) for each, one in zip(found, maps.deletions, strict=True)]
