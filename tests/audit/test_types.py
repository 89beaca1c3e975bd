"""Verdicts follow from intervals."""

from __future__ import annotations

import json
import math

import pytest

from cxr_estimator.audit import AuditCheck, Check
from cxr_estimator.statistics import Estimate
from cxr_estimator.verdicts import Limits


def check(**changes):
    return Check("data", list, Limits(**{"doubtful": 0.1, "fail": 0.2, **changes}))


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ((0.05, 0.0, 0.5), "pass"),
        ((0.1, 0.0, 0.5), "pass"),
        ((0.11, 0.0, 0.5), "doubtful"),
        ((0.3, 0.2, 0.5), "doubtful"),  # the interval reaches what is allowed
        ((0.3, 0.21, 0.5), "fail"),
        ((math.nan, math.nan, math.nan), "not enough data"),
        ((0.9, math.nan, math.nan), "not enough data"),
    ],
)
def test_a_check_fails_where_its_whole_interval_does(found, verdict):
    value, low, high = found
    assert check().verdict(Estimate(*found)) == verdict
    mirrored = check(doubtful=-0.1, fail=-0.2, greater_is_worse=False)
    assert mirrored.verdict(Estimate(-value, -high, -low)) == verdict


def test_as_json():
    one = AuditCheck("gain", "maps", "grad_cam", math.nan, (math.nan, 0.5), 0.1, "pass", "Said.")
    found = json.loads(json.dumps(one.to_dict(), allow_nan=False))
    assert found["value"] is None
    assert found["interval"] == [None, 0.5]
    assert "pictures" not in found
