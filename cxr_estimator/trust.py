"""The trust card of a heat map: what can be checked about a single map of a single image, in plain sentences.

`CARD` is the one table: a new check is a function and a line. A card says whether a map may be shown as evidence. It
knows one image, so it can find that a map is no better than chance; that one passes does not make the model right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from cxr_estimator._explaining import Explained, ExplanationPlan
from cxr_estimator._figure_style import method_title
from cxr_estimator._validation import check_number, wrong_type
from cxr_estimator.attribution import METHODS
from cxr_estimator.explanation import Explanation
from cxr_estimator.metrics import Context, measure
from cxr_estimator.metrics._maps import ratio, usable
from cxr_estimator.metrics._reference import references
from cxr_estimator.metrics.faithfulness import area_under, deletion_curve

PASS, DOUBTFUL, FAIL, NO_DATA = "pass", "doubtful", "fail", "not enough data"  # verdicts of a check
SHOW, WARN, WITHHOLD = "show", "show with warning", "withhold"  # of a card
# what says a verdict without colour
SIGNS = {PASS: "✓", DOUBTFUL: "!", FAIL: "✕", NO_DATA: "?", SHOW: "✓", WARN: "!", WITHHOLD: "✕"}
N_REFERENCES = 9  # a map without any sense is better than all of them in one of ten images
STEPS = 5
# What hidden pixels show, one after the other: what is hidden cannot be missed where the hole looks like it, and a grey
# patch looks like an opacity to a network, a black one like a clear lung.
BASELINES = "black", "mean"
_LEAST_GAIN = 0.02  # of the area under the deletion curve, below which a gain is of no use to anybody
_LEAST_BEATEN = 0.75  # of the moved copies; a map without any sense does worse in seven of ten images
_OVERLAP = 10  # percent of the pixels, of which two maps by chance share a tenth


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


class Deletion(NamedTuple):
    """What the network says while the most relevant pixels are hidden.

    Attributes
    ----------
    fractions : ndarray (steps + 1,)
        Of the pixels, from 0 to 1.
    curve : ndarray (steps + 1,)
        Probability of the explained class, hidden in the order of the map, on average over `BASELINES`.
    references : ndarray (n_references, steps + 1)
        The same in the order of the map shifted and flipped.
    """

    fractions: np.ndarray
    curve: np.ndarray
    references: np.ndarray

    @property
    def gain(self) -> float:
        """How much less area the map leaves than its references do on average, in [-1, 1]; higher is better."""
        return float(area_under(self.references).mean() - area_under(self.curve[None])[0])

    @property
    def beaten(self) -> int:
        """How many of the references leave more area than the map."""
        return int((area_under(self.references) > area_under(self.curve[None])[0]).sum())


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
        if any(check.verdict == FAIL and CARD[check.name].is_needed for check in self.checks):
            return WITHHOLD
        return WARN if any(check.verdict in (FAIL, DOUBTFUL) for check in self.checks) else SHOW

    @property
    def sentence(self) -> str:
        """The verdict, and what it rests on, in one or two sentences."""
        name = method_title(self.method)
        reasons = [check.sentence for check in self.checks if check.verdict == FAIL and CARD[check.name].is_needed]
        if reasons:
            return f"{name} is withheld as evidence. {reasons[0]}"
        reasons = [check.sentence for check in self.checks if check.verdict in (FAIL, DOUBTFUL)]
        if reasons:
            return f"{name} can be shown, with a warning. {reasons[0]}"
        return f"{name} passed every check that one image allows. That says the model uses these pixels, not why."

    @property
    def gain(self) -> float:
        """The gain over the reference; what maps are ranked by, the least trusted first."""
        return self.deletion.gain


class _Evidence(NamedTuple):
    """What the checks look at: one method's maps of a batch of images."""

    explanation: Explanation
    context: Context
    deletions: Sequence[Deletion]
    others: Mapping[str, Explanation]  # maps of the same images by other methods


_Found = tuple[float, float, str, str]  # value, threshold, verdict, sentence


class Check(NamedTuple):
    """A row of `CARD`.

    Attributes
    ----------
    function : callable
        `function(evidence) -> list of (value, threshold, verdict, sentence)`, one for each image; an empty list where
        the check does not apply to the method.
    is_needed : bool
        Whether a map that fails must not be shown as evidence.
    """

    function: Callable[[_Evidence], list[_Found]]
    is_needed: bool = False


def _gain(evidence: _Evidence) -> list[_Found]:
    found = []
    for is_usable, deletion in zip(usable(evidence.explanation), evidence.deletions, strict=True):
        gain, n = deletion.gain, len(deletion.references)
        if not is_usable:
            found.append((0.0, _LEAST_GAIN, FAIL, "The map is empty: the method found nothing in this image."))
            continue
        if gain <= 0:
            verdict, more = FAIL, "no more than hiding other places does"
        elif deletion.beaten < _LEAST_BEATEN * n:
            verdict, more = FAIL, "not reliably more than hiding other places does"
        elif gain < _LEAST_GAIN:
            verdict, more = DOUBTFUL, "hardly more than hiding other places does"
        elif deletion.beaten < n:
            verdict, more = DOUBTFUL, "more than hiding most other places does, but not all"
        else:
            verdict, more = PASS, "more than hiding other places does"
        said = (
            f"Hiding what it marks lowers the probability of the explained class {more}: it outdoes {deletion.beaten} "
            f"of {n} copies of itself, moved elsewhere."
        )
        found.append((gain, _LEAST_GAIN, verdict, said))
    return found


def _completeness(evidence: _Evidence) -> list[_Found]:
    if not METHODS[evidence.explanation.method].complete:
        return []
    found = []
    for residual in evidence.explanation.completeness_residual.tolist():
        verdict = _graded(residual, 0.1, 0.5, lower_is_better=True)
        said = f"Its values add up to what they should explain up to {residual:.0%}"
        said += "." if verdict == PASS else ", which is too far off: the method did not converge."
        found.append((residual, 0.1, verdict, said if verdict != NO_DATA else "Whether it adds up is unknown."))
    return found


def _stability(evidence: _Evidence) -> list[_Found]:
    if not METHODS[evidence.explanation.method].random:
        return []
    found = []
    for value in measure("seed_stability", evidence.explanation, evidence.context, n_seeds=2).tolist():
        verdict = _graded(value, 0.8, 0.4)
        same = {PASS: "much the same", DOUBTFUL: "only partly the same", FAIL: "a different one"}.get(verdict)
        said = f"With another random seed the map is {same} (rank correlation {value:.2f})."
        found.append((value, 0.8, verdict, said if same else "An even map cannot be compared across random seeds."))
    return found


def _agreement(evidence: _Evidence) -> list[_Found]:
    own = evidence.explanation
    others = {
        name: _of_same_images(other, own)
        for name, other in evidence.others.items()
        if name != own.method and METHODS[name].localises and _has_same_subject(other, own)
    }
    if not others or not METHODS[own.method].localises:
        return []
    shared = np.array(
        [measure("top_k_overlap", own, replace(evidence.context, other=one), k=_OVERLAP) for one in others.values()]
    )
    known = ~np.isnan(shared)  # one of several others may be empty
    overlaps = ratio(np.where(known, shared, 0.0).sum(axis=0), known.sum(axis=0))
    names, chance, found = ", ".join(map(method_title, others)), _OVERLAP / 100, []
    for overlap in overlaps.tolist():
        verdict = NO_DATA if np.isnan(overlap) else PASS if overlap >= 1.5 * chance else DOUBTFUL
        said = f"{overlap:.0%} of its strongest pixels are among those of {names}, too (by chance {chance:.0%})."
        if verdict == NO_DATA:
            said = f"An empty map cannot be compared with {names}."
        found.append((overlap, 1.5 * chance, verdict, said))
    return found


def _has_same_subject(other: Explanation, own: Explanation) -> bool:
    """Tell whether the other maps are of these images, of this size and of the same classes."""
    if other.values.shape[1:] != own.values.shape[1:]:
        return False
    targets = dict(zip(other.image_ids, other.target.tolist(), strict=True))
    return all(targets.get(one) == said for one, said in zip(own.image_ids, own.target.tolist(), strict=True))


def _of_same_images(other: Explanation, own: Explanation) -> Explanation:
    """Return the other maps in the order of the images of a batch."""
    if other.image_ids == own.image_ids:
        return other
    rows = {one: row for row, one in enumerate(other.image_ids)}
    return Explanation.concatenate([other[rows[one]] for one in own.image_ids])


def _border(evidence: _Evidence) -> list[_Found]:
    return _at_edges(evidence, "border_mass", "in the frame along the border")


def _corners(evidence: _Evidence) -> list[_Found]:
    return _at_edges(evidence, "corner_mass", "in the corners, where side markers and text often are")


def _at_edges(evidence: _Evidence, metric: str, where: str) -> list[_Found]:
    """Compare the share of the map at the edges with that of an even map, which is the share of the area."""
    explanation = evidence.explanation
    even = replace(explanation, values=np.ones_like(explanation.values))
    values, areas = (measure(metric, one, evidence.context).tolist() for one in (explanation, even))
    found = []
    for value, area in zip(values, areas, strict=True):
        most = area + 0.35 * (1 - area)
        verdict = _graded(value, most, area + 0.7 * (1 - area), lower_is_better=True)
        said = f"{value:.0%} of what speaks for the class lies {where} ({area:.0%} of the image)."
        if verdict == NO_DATA:
            said = "Nothing in the map speaks for the class, so it has no share in any place."
        found.append((value, most, verdict, said))
    return found


CARD: dict[str, Check] = {
    "gain": Check(_gain, is_needed=True),
    "completeness": Check(_completeness, is_needed=True),
    "seed_stability": Check(_stability),
    "agreement": Check(_agreement),
    "border_mass": Check(_border),
    "corner_mass": Check(_corners),
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
            deletions = deletions_of(explanation, own, n_references, steps)
            cards[method] = _cards(_Evidence(explanation, own, deletions, maps))
        return Examined(batch.found, cards)

    return plan.run(examined)


def with_others(card: TrustCard, explanation: Explanation, others: Mapping[str, Explanation]) -> TrustCard:
    """Return the card of a single map compared with maps of the same image that have been made since."""
    checks = {check.name: check for check in card.checks}
    for found in _agreement(_Evidence(explanation, Context(), (card.deletion,), others)):
        checks["agreement"] = TrustCheck("agreement", *found)
    return replace(card, checks=tuple(checks[name] for name in CARD if name in checks))


def deletions_of(explanation: Explanation, context: Context, n_references: int, steps: int) -> list[Deletion]:
    """Return the deletion curves of each map and of its moved copies."""
    moved = references(explanation, context.perturbed.problem, n_references)
    own, *others = (_mean_curve(one, context, steps) for one in (explanation, *moved))
    fractions = np.linspace(0.0, 1.0, steps + 1)
    return [Deletion(fractions, curve, others) for curve, others in zip(own, np.stack(others, axis=1), strict=True)]


def _mean_curve(explanation: Explanation, context: Context, steps: int) -> np.ndarray:
    """Return the deletion curve (N, steps + 1) of each map, on average over the baselines."""
    curves = [deletion_curve(explanation, context, steps=steps, baseline=baseline) for baseline in BASELINES]
    return np.mean(curves, axis=0)


def _cards(evidence: _Evidence) -> list[TrustCard]:
    method = evidence.explanation.method
    found: list[list[TrustCheck]] = [[] for _ in evidence.deletions]
    for name, check in CARD.items():
        for of_image, result in zip(found, check.function(evidence), strict=False):
            of_image.append(TrustCheck(name, *result))
    return [
        TrustCard(method, tuple(checks), deletion) for checks, deletion in zip(found, evidence.deletions, strict=True)
    ]


def _graded(value: float, good: float, bad: float, *, lower_is_better: bool = False) -> str:
    """Return "pass" up to `good`, "doubtful" up to `bad`, "fail" beyond, "not enough data" for NaN."""
    if np.isnan(value):
        return NO_DATA
    sign = 1.0 if lower_is_better else -1.0
    return PASS if sign * value <= sign * good else DOUBTFUL if sign * value <= sign * bad else FAIL
