"""What the maps suggest of how a model decides, each beside the checks of the audit that can tell whether it is so.

`HYPOTHESES` is the one table: a pattern of the maps, what it may mean, and by which checks that stands or falls. A map
alone proves nothing of it: only the audit changes images and looks whether decisions follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from cxr_estimator._wording import cell
from cxr_estimator.audit import CHECKS, AuditCheck, AuditReport
from cxr_estimator.findings._buckets import Bucket, Difference, percent, points
from cxr_estimator.findings._describing import LEAST_DIFFUSE, OVERLAPPING, PLACES
from cxr_estimator.statistics import FEWEST_PATIENTS, Estimate
from cxr_estimator.verdicts import FAIL, NO_DATA, WITHHOLD

SUPPORTED, CONTRADICTED, UNDECIDED, UNTESTED = "supported", "contradicted", "undecided", "untested"
_LEAST = 0.05  # points beyond chance, or beyond right decisions, below which a pattern is not worth a hypothesis
_HALF = 0.5  # of the maps of a bucket

_WITHOUT_LUNGS = "It may not be able to tell the classes without {}."


class Idea(NamedTuple):
    """A row of `HYPOTHESES`.

    Attributes
    ----------
    figure : str
        What shows the pattern: a place, "extent" or "verdict".
    meaning : str
        What it may mean.
    decided_by : tuple of str
        Checks whose failure supports it; all that could be made must be within their limits to contradict it.
    beside : tuple of str
        Checks that are told, too, but decide nothing: other reasons lead to the same value.
    """

    figure: str
    meaning: str
    decided_by: tuple[str, ...]
    beside: tuple[str, ...] = ()


HYPOTHESES: dict[str, Idea] = {
    "border": Idea(
        "border",
        "It may go by what is along the border: collimation, padding, text.",
        ("border_exchange",),
        ("border_alone", "border_mass"),
    ),
    "corners": Idea(
        "corners", "It may go by what is in the corners.", ("corner_exchange",), ("corner_mass", "marker_exchange")
    ),
    "markers": Idea(
        "markers", "It may go by side markers and letters.", ("marker_exchange",), ("marker_mass", "corner_exchange")
    ),
    "below_diaphragm": Idea(
        "below",
        _WITHOUT_LUNGS.format("what lies below the diaphragm"),
        ("lungs_alone",),
        ("outside_lungs_mass", "border_exchange"),
    ),
    "outside_thorax": Idea(
        "outside",
        _WITHOUT_LUNGS.format("what lies outside of the thorax"),
        ("lungs_alone",),
        ("outside_thorax_mass", "border_exchange"),
    ),
    "beside_lungs": Idea(
        "thorax",
        _WITHOUT_LUNGS.format("heart, mediastinum and chest wall"),
        ("lungs_alone",),
        ("outside_lungs_mass",),
    ),
    "whole_image": Idea(
        "extent",
        "It may go by the image as a whole, such as brightness, contrast or fine detail, rather than by a place.",
        ("brightness_exchange", "sharpness_exchange"),
        ("one_feature",),
    ),
    "unfaithful_maps": Idea(
        "verdict",
        "Maps of this method may not tell what the model goes by.",
        ("gain", "parameter_randomisation"),
    ),
}
USED_CHECKS = tuple(dict.fromkeys(name for one in HYPOTHESES.values() for name in (*one.decided_by, *one.beside)))


class Hypothesis(NamedTuple):
    """A hypothesis that the maps suggest.

    Attributes
    ----------
    name : str
        Key of `HYPOTHESES`.
    meaning : str
    seen : tuple of str
        Sentences on where the pattern is seen.
    status : str
        "supported" or "contradicted" where the interval of a check lies wholly on one side of its limit, else
        "undecided"; "untested" without an audit, or where it had not enough data.
    checks : tuple of AuditCheck
        Of the audit, those that decide first; without their pictures.
    reason : str
        What the checks say.
    """

    name: str
    meaning: str
    seen: tuple[str, ...]
    status: str
    checks: tuple[AuditCheck, ...]
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {**self._asdict(), "seen": list(self.seen), "checks": [one.to_dict() for one in self.checks]}


def hypotheses(
    buckets: Sequence[Bucket], differences: Sequence[Difference], audit: AuditReport | None, method: str
) -> list[Hypothesis]:
    """Return the hypotheses whose pattern is seen in a bucket."""
    found = []
    for name, idea in HYPOTHESES.items():
        seen = [said for one in buckets if (said := _pattern(idea.figure, one, differences))]
        if seen:
            checks = _checks((*idea.decided_by, *idea.beside), audit, method)
            status = _status([one for one in checks if one.name in idea.decided_by])
            found.append(Hypothesis(name, idea.meaning, tuple(seen), status, checks, _reason(checks, idea, audit)))
    return found


def not_in_the_maps(
    found: Sequence[Hypothesis], buckets: Sequence[Bucket], audit: AuditReport | None, method: str
) -> list[str]:
    """Return sentences on checks that fail, of which the maps show nothing."""
    could_show = any(one.n_patients >= FEWEST_PATIENTS for one in buckets)
    but = "the maps do not show it" if could_show else "maps of so few patients cannot show it"
    suggested = {check for one in found for check in HYPOTHESES[one.name].decided_by}
    places = [idea for idea in HYPOTHESES.values() if idea.figure in OVERLAPPING]
    failed = [
        check
        for idea in places
        for check in _checks(idea.decided_by, audit, method)
        if check.verdict == FAIL and check.name not in suggested
    ]
    return [
        f"The audit's {one.title} fails, and {but}: {one.sentence} A map is no list of all that a model goes by."
        for one in failed
    ]


def _pattern(figure: str, bucket: Bucket, differences: Sequence[Difference]) -> str | None:
    """Return a sentence where the maps of a bucket show a pattern beyond chance."""
    if bucket.n_patients < FEWEST_PATIENTS:
        return None
    if figure == "verdict":
        withheld = bucket.counts["verdict"].get(WITHHOLD, 0)
        said = f"Trust cards withhold {withheld} of {bucket.n_explained} maps of {bucket.title} as evidence."
        return said if withheld >= _HALF * bucket.n_explained else None
    if figure == "extent":
        mean = bucket.figures["extent"]
        said = f"The maps of {bucket.title} are diffuse: half of the weight takes {percent(mean)} of the image."
        return said if mean.low > LEAST_DIFFUSE else None
    return _of_place(figure, bucket, differences)


def _of_place(figure: str, bucket: Bucket, differences: Sequence[Difference]) -> str | None:
    mean, more = bucket.figures[figure], bucket.beyond[figure]
    where = (PLACES | OVERLAPPING)[figure]
    if more.value >= _LEAST and more.low > 0:
        chance = mean.value - more.value
        return (
            f"The maps of {bucket.title} have {mean.value:.0%} of their weight {where}, by chance {chance:.0%}: "
            f"{points(more)}."
        )
    for one in differences:
        if (one.bucket, one.figure) == (bucket.name, figure) and one.is_sure and one.difference.value >= _LEAST:
            return one.sentence
    return None


def _checks(names: Sequence[str], audit: AuditReport | None, method: str) -> tuple[AuditCheck, ...]:
    """Return the checks of some names that are about this method or none."""
    known = [] if audit is None else [one for one in audit.checks if one.method in (None, method)]
    return tuple(one._replace(pictures=()) for name in names for one in known if one.name == name)


def _status(checks: Sequence[AuditCheck]) -> str:
    sides = [_side(one) for one in checks if one.verdict != NO_DATA]
    if SUPPORTED in sides:
        return SUPPORTED
    if not sides:
        return UNTESTED
    return CONTRADICTED if set(sides) == {CONTRADICTED} else UNDECIDED


def _side(check: AuditCheck) -> str:
    """Return on which side of its limit the whole interval of a check lies."""
    low, high = check.interval
    is_beyond, is_within = low > check.threshold, high <= check.threshold
    if not CHECKS[check.name].limits.greater_is_worse:
        is_beyond, is_within = high < check.threshold, low >= check.threshold
    return SUPPORTED if is_beyond else CONTRADICTED if is_within else UNDECIDED


def _reason(checks: Sequence[AuditCheck], idea: Idea, audit: AuditReport | None) -> str:
    if audit is None:
        return "No audit was given."
    deciding = [one for one in checks if one.name in idea.decided_by]
    beside = "; ".join(_cited(one) for one in checks if one.name in idea.beside and one.verdict != NO_DATA)
    said = [one.sentence if one.verdict == NO_DATA else f"{_cited(one)}: {one.sentence}" for one in deciding]
    said = said or ["The audit did not make the checks that would tell."]
    said = [f"{one[:1].upper()}{one[1:]}" for one in said]
    return " ".join([*said, *([f"Beside that: {beside}."] if beside else [])])


def _cited(one: AuditCheck) -> str:
    return f"{one.title} {cell(Estimate(one.value, *one.interval))}, {one.verdict}"
