"""What a check is, and what it finds."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cxr_estimator._figure_style import method_title
from cxr_estimator._wording import words
from cxr_estimator.statistics import Estimate
from cxr_estimator.verdicts import Limits

if TYPE_CHECKING:
    from cxr_estimator.audit._evidence import Evidence

FAMILIES = ("shortcuts", "maps", "data", "model")


class Picture(NamedTuple):
    """An image that shows what a check found.

    Attributes
    ----------
    caption : str
    pixels : ndarray (H, W) or (H, W, 3), uint8
    """

    caption: str
    pixels: np.ndarray


class Finding(NamedTuple):
    """What a check measured.

    Attributes
    ----------
    estimate : Estimate
        The value with its 95% interval over patients; NaN where there is nothing to measure.
    said : str
        A sentence with the figures.
    method : str or None
        The method of explanation that it is about.
    pictures : callable, optional
        `pictures() -> tuple of Picture`, called where the check does not pass.
    """

    estimate: Estimate
    said: str
    method: str | None = None
    pictures: Callable[[], tuple[Picture, ...]] | None = None


class Check(NamedTuple):
    """A row of `CHECKS`.

    Attributes
    ----------
    family : str
        "shortcuts", "maps", "data" or "model".
    function : callable
        `function(evidence) -> list of Finding`, one for each method of explanation where it is about maps. What it
        raises makes the verdict "not enough data".
    limits : Limits
        A check fails where the whole interval lies beyond `fail`.
    withholds : bool
        Whether a map that fails is no evidence; other failures of maps only warn.
    needs : tuple of str
        What it needs of the passes over the images: kinds of `EXCHANGES`, "border_alone", "lungs_alone", measures of
        single maps.
    """

    family: str
    function: Callable[[Evidence], list[Finding]]
    limits: Limits
    withholds: bool = False
    needs: tuple[str, ...] = ()

    def verdict(self, found: Estimate) -> str:
        """Return "pass", "doubtful", "fail", or "not enough data" where there is no value or no interval.

        Examples
        --------
        >>> check = Check("data", list, Limits(doubtful=0.1, fail=0.2))
        >>> [check.verdict(Estimate(0.3, low, 0.4)) for low in (0.25, 0.15)], check.verdict(Estimate(0.05, 0.0, 0.1))
        (['fail', 'doubtful'], 'pass')
        """
        return self.limits.verdict(found.value, found.low if self.limits.greater_is_worse else found.high)


class AuditCheck(NamedTuple):
    """The outcome of one check.

    Attributes
    ----------
    name : str
        Key of `CHECKS`.
    family : str
    method : str or None
        The method of explanation that it is about.
    value : float
        NaN where there is nothing to measure.
    interval : (float, float)
        95%, over patients.
    threshold : float
        Where "pass" ends.
    verdict : str
        "pass", "doubtful", "fail" or "not enough data".
    sentence : str
    pictures : tuple of Picture
        Evidence, where the check does not pass.
    """

    name: str
    family: str
    method: str | None
    value: float
    interval: tuple[float, float]
    threshold: float
    verdict: str
    sentence: str
    pictures: tuple[Picture, ...] = ()

    @property
    def title(self) -> str:
        """What is checked, for people: "border mass, Grad-CAM"."""
        return words(self.name) if self.method is None else f"{words(self.name)}, {method_title(self.method)}"

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the pictures as JSON types; NaN becomes None."""
        value, *interval = (None if math.isnan(one) else one for one in (self.value, *self.interval))
        return {
            **{name: getattr(self, name) for name in ("name", "family", "method", "threshold", "verdict", "sentence")},
            "value": value,
            "interval": interval,
        }
