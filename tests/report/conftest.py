"""Reports on one model, made once for all tests."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cxr_estimator import make_phantoms
from cxr_estimator.audit import Picture, audit
from cxr_estimator.report import report
from tests.report.asking import FAST, FEW, Page


@pytest.fixture(scope="package")
def held_out():
    """40 phantoms of 20 other patients."""
    return make_phantoms(40, 32, difficulty=0.0, random_state=9)


@pytest.fixture(scope="package")
def audited(fitted, held_out):
    """An audit with a picture of the data."""
    found = audit(fitted, held_out.X, held_out.y, held_out.groups, **FEW)
    seen = [Picture("what it looks like.", pixels) for pixels in held_out.X[:2]]
    first = found.checks[0]._replace(pictures=tuple(seen))
    return replace(found, checks=(first, *found.checks[1:]))


@pytest.fixture(scope="package")
def whole(fitted, held_out, audited):
    told = []
    found = report(
        fitted,
        held_out.X,
        held_out.y,
        held_out.groups,
        subgroups={"sex": np.where(np.arange(40) % 4 < 2, "F", "M")},
        audit=audited,
        progress=lambda done, total: told.append((done, total)),
        **FAST,
    )
    return found, told


@pytest.fixture(scope="package")
def written(whole):
    return whole[0].to_html()


@pytest.fixture(scope="package")
def page(written):
    return Page(written).check()
