"""Which methods pages offer for a model."""

from __future__ import annotations

from typing import Any

from cxr_estimator.attribution import METHODS, SPEEDS
from cxr_estimator.demo._analysis import methods_of

FAST = ("fast",)


def methods_on_offer(clf: Any, speeds: tuple[str, ...] = tuple(SPEEDS)) -> list[str]:
    """Return the methods of these speeds that work on a model, the fast ones first."""
    works = [name for name, obstacle in methods_of(clf).items() if obstacle is None]
    return [name for speed in speeds for name in works if METHODS[name].speed == speed]
