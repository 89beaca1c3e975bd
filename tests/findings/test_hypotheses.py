"""Each hypothesis stands or falls by checks of the audit, and is never told without them."""

from __future__ import annotations

import numpy as np
import pytest

from cxr_estimator.audit import CHECKS, AuditCheck, AuditReport
from cxr_estimator.findings._buckets import FIGURES, Bucket, Difference
from cxr_estimator.findings._describing import OVERLAPPING, PLACES
from cxr_estimator.findings._hypotheses import HYPOTHESES, USED_CHECKS, hypotheses, not_in_the_maps
from cxr_estimator.statistics import Estimate

CHANCE = {name: Estimate(0.0, -0.1, 0.1) for name in (*PLACES, *OVERLAPPING)}
EVEN = {name: Estimate(0.2, 0.1, 0.3) for name in FIGURES}


def bucket(name="FP", n_patients=10, withheld=0, **changes):
    figures = EVEN | {key: value for key, value in changes.items() if key == "extent"}
    beyond = CHANCE | {key: value for key, value in changes.items() if key != "extent"}
    counts = {"verdict": {"withhold": withheld, "show": 10 - withheld}}
    return Bucket(name, 10, 10, 2, n_patients, ("PNEUMONIA",), figures, beyond, counts)


def check(name, value, low, high, method=None, sentence="So it is."):
    row = CHECKS[name]
    verdict = row.verdict(Estimate(value, low, high))
    return AuditCheck(name, row.family, method, value, (low, high), row.limits.doubtful, verdict, sentence)


def audit_of(*checks):
    return AuditReport(checks, ("NORMAL", "PNEUMONIA"), ("grad_cam",), 10, 10, 0, 10)


def found(one, audit=None, differences=(), method="grad_cam"):
    return {each.name: each for each in hypotheses([one], differences, audit, method)}


def test_every_check_exists():
    assert set(USED_CHECKS) <= set(CHECKS)
    for idea in HYPOTHESES.values():
        assert idea.decided_by
        assert idea.figure in (*PLACES, *OVERLAPPING, "extent", "verdict")


@pytest.mark.parametrize("name", [name for name, idea in HYPOTHESES.items() if idea.figure in (*PLACES, *OVERLAPPING)])
def test_each_place_suggests_its_hypothesis_beyond_chance_only(name):
    place = HYPOTHESES[name].figure
    assert list(found(bucket(**{place: Estimate(0.2, 0.1, 0.3)}))) == [name]
    assert not found(bucket(**{place: Estimate(0.2, -0.01, 0.41)}))
    assert not found(bucket(**{place: Estimate(0.04, 0.03, 0.05)}))
    assert not found(bucket(n_patients=4, **{place: Estimate(0.2, 0.1, 0.3)}))


def test_other_patterns():
    assert list(found(bucket(extent=Estimate(0.4, 0.3, 0.5)))) == ["whole_image"]
    assert not found(bucket(extent=Estimate(0.4, 0.2, 0.6)))
    assert list(found(bucket(withheld=5))) == ["unfaithful_maps"]
    assert not found(bucket(withheld=4))
    # whatever for: an empty map marks nothing that could be hidden
    assert found(bucket(withheld=6))["unfaithful_maps"].seen == (
        "Trust cards withhold 6 of 10 maps of false positives as evidence.",
    )


def test_a_sure_difference_suggests_it_too():
    more = Difference("FP", "TP", "border", (0.4, 0.2), Estimate(0.2, 0.1, 0.3), 0.01)
    (one,) = found(bucket(), differences=[more]).values()
    assert one.seen == (more.sentence,)
    assert not found(bucket(), differences=[more._replace(p_value=0.06)])
    assert not found(bucket("TP"), differences=[more])
    assert not found(bucket(), differences=[more._replace(difference=Estimate(-0.2, -0.3, -0.1))])


@pytest.mark.parametrize(
    ("exchange", "status"),
    [
        ((0.3, 0.2, 0.4), "supported"),
        ((0.3, 0.04, 0.5), "undecided"),
        ((0.01, -0.01, 0.2), "undecided"),
        ((0.01, -0.01, 0.04), "contradicted"),
        ((np.nan, np.nan, np.nan), "untested"),
    ],
)
def test_status_by_the_interval_of_the_check(exchange, status):
    audit = audit_of(check("border_exchange", *exchange), check("border_alone", 0.9, 0.8, 0.95))
    one = found(bucket(border=Estimate(0.2, 0.1, 0.3)), audit)["border"]
    assert one.status == status
    assert "So it is." in one.reason
    assert one.reason.endswith(" Beside that: border alone 0.900 (0.800 to 0.950), doubtful.")
    assert one.reason.startswith("So it is." if status == "untested" else "Border exchange ")


def test_where_less_is_worse_the_limit_is_turned():
    pattern = bucket(below=Estimate(0.2, 0.1, 0.3))
    for interval, status in (
        ((0.5, 0.4, 0.59), "supported"),
        ((0.8, 0.7, 0.9), "contradicted"),
        ((0.7, 0.5, 0.9), "undecided"),
    ):
        assert found(pattern, audit_of(check("lungs_alone", *interval)))["below_diaphragm"].status == status


def test_one_of_several_checks_is_enough_to_support_and_all_to_contradict():
    pattern, fine = bucket(extent=Estimate(0.4, 0.3, 0.5)), (0.0, -0.01, 0.01)
    brightness, sharpness = check("brightness_exchange", *fine), check("sharpness_exchange", *fine)
    assert found(pattern, audit_of(brightness, sharpness))["whole_image"].status == "contradicted"
    failing = check("sharpness_exchange", 0.3, 0.2, 0.4)
    assert found(pattern, audit_of(brightness, failing))["whole_image"].status == "supported"


def test_checks_of_other_methods_tell_nothing():
    pattern = bucket(withheld=10)
    other = audit_of(check("gain", 0.5, 0.4, 0.6, method="saliency"))
    assert found(pattern, other)["unfaithful_maps"].status == "untested"
    own = audit_of(check("gain", 0.5, 0.4, 0.6, method="grad_cam"))
    assert found(pattern, own)["unfaithful_maps"].status == "contradicted"


def test_without_an_audit_nothing_is_tested():
    one = found(bucket(border=Estimate(0.2, 0.1, 0.3)))["border"]
    assert (one.status, one.checks, one.reason) == ("untested", (), "No audit was given.")
    none = found(bucket(border=Estimate(0.2, 0.1, 0.3)), audit_of())["border"]
    assert (none.status, none.reason) == ("untested", "The audit did not make the checks that would tell.")


def test_what_fails_and_no_map_shows_is_told():
    audit = audit_of(check("border_exchange", 0.3, 0.2, 0.4), check("corner_exchange", 0.0, -0.01, 0.01))
    (said,) = not_in_the_maps([], [bucket()], audit, "grad_cam")
    assert said.startswith("The audit's border exchange fails, and the maps do not show it: So it is.")
    seen = bucket(border=Estimate(0.2, 0.1, 0.3))
    assert not not_in_the_maps(list(found(seen, audit).values()), [seen], audit, "grad_cam")
    assert not not_in_the_maps([], [bucket()], None, "grad_cam")


def test_of_few_patients_nothing_is_said_to_be_missing_in_the_maps():
    audit = audit_of(check("border_exchange", 0.3, 0.2, 0.4))
    (said,) = not_in_the_maps([], [bucket(n_patients=4)], audit, "grad_cam")
    assert said.startswith("The audit's border exchange fails, and maps of so few patients cannot show it: So it is.")
