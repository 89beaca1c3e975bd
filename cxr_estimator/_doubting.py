"""The half of an estimator that says how far an answer can be trusted, and when to give none."""

from __future__ import annotations


class Doubting:
    """Uncertainty, prediction sets, abstention and out-of-distribution checks, from what `Deciding` offers.

    `self` is of any type where work is handed on together with the estimator: a `CXRClassifier` or a `CXREnsemble`.
    """
