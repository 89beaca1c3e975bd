"""Verdicts of checks, and the limits that they follow from."""

from __future__ import annotations

import math
from typing import NamedTuple

PASS, DOUBTFUL, FAIL, NO_DATA = "pass", "doubtful", "fail", "not enough data"  # of a check
SHOW, WARN, WITHHOLD = "show", "show with warning", "withhold"  # of heat maps
# what says a verdict without colour
SIGNS = {PASS: "✓", DOUBTFUL: "!", FAIL: "✕", NO_DATA: "?", SHOW: "✓", WARN: "!", WITHHOLD: "✕"}


class Limits(NamedTuple):
    """Up to where a value is good, and from where it is bad.

    Attributes
    ----------
    doubtful, fail : float
        Beyond `doubtful` a value is doubtful, beyond `fail` it fails.
    greater_is_worse : bool
    """

    doubtful: float
    fail: float
    greater_is_worse: bool = True

    def verdict(self, value: float, mildest: float | None = None) -> str:
        """Return "pass", "doubtful", "fail"; "not enough data" for NaN.

        Parameters
        ----------
        value : float
        mildest : float, optional
            The end of its interval that would be better: what fails must fail even so. Default: the value itself.

        Examples
        --------
        >>> limits = Limits(0.1, 0.2)
        >>> limits.verdict(0.1), limits.verdict(0.3, mildest=0.15), limits.verdict(0.3, mildest=0.25)
        ('pass', 'doubtful', 'fail')
        >>> Limits(0.8, 0.4, greater_is_worse=False).verdict(0.9)
        'pass'
        """
        mildest = value if mildest is None else mildest
        if math.isnan(value) or math.isnan(mildest):
            return NO_DATA
        sign = 1 if self.greater_is_worse else -1
        if sign * mildest > sign * self.fail:
            return FAIL
        return DOUBTFUL if sign * value > sign * self.doubtful else PASS
