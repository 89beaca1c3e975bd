"""Fingerprints of data."""

from __future__ import annotations

import hashlib

import pytest

from cxr_estimator.fingerprints import fingerprint, share_seen


def ids(start, stop):
    return [hashlib.sha256(str(number).encode()).hexdigest() for number in range(start, stop)]


def test_order_and_repetition_do_not_matter():
    assert fingerprint(ids(0, 10)) == fingerprint([*reversed(ids(0, 10)), *ids(3, 5)])


def test_small_sets_are_known_exactly():
    assert share_seen(fingerprint(ids(0, 40)), ids(30, 500)) == pytest.approx(0.25)
    assert share_seen(fingerprint(ids(0, 40)), ids(40, 500)) == 0.0


def test_large_sets_are_estimated_at_constant_size():
    sketch = fingerprint(ids(0, 5000))
    assert len(sketch) == 64
    assert share_seen(sketch, ids(0, 5000)) == 1.0
    assert share_seen(sketch, ids(2500, 9000)) == pytest.approx(0.5, abs=0.2)


def test_nothing_is_seen_of_nothing():
    assert share_seen((), ids(0, 3)) == 0.0
