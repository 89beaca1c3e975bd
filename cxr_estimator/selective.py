"""Answering only where one is sure: the risk-coverage curve, and where to stop answering.

`doubt` (N,) orders images, higher is less sure; an image is answered where its doubt is at most the cut-off. `wrong`
(N,) tells whether the answer would be wrong.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from cxr_estimator._validation import check_number, invalid
from cxr_estimator.errors import DataError

_SHARES = np.arange(1, 11) / 10  # of the images, that are tried for a limit of the error


class RiskCoverage(NamedTuple):
    """The risk-coverage curve.

    Attributes
    ----------
    coverage : ndarray (N,)
        Share of the images that is answered: 1 / N, 2 / N, ..., 1.
    risk : ndarray (N,)
        Share of wrong answers among them; where images are equally doubtful, that expected if chance orders them.
    """

    coverage: np.ndarray
    risk: np.ndarray

    @property
    def area(self) -> float:
        """The area under the curve (AURC), in [0, 1], lower is better; a doubt that says nothing has the error rate.

        Geifman, Uziel & El-Yaniv (2019), arXiv:1805.08206.
        """
        return float(self.risk.mean())


def risk_coverage(wrong: Any, doubt: Any) -> RiskCoverage:
    """Return the curve (El-Yaniv & Wiener 2010, JMLR 11, 1605-1641).

    Examples
    --------
    >>> risk_coverage([False, True, False, True], [0.1, 0.4, 0.2, 0.3]).risk.round(3).tolist()
    [0.0, 0.0, 0.333, 0.5]
    """
    wrong, doubt = _checked(wrong, doubt)
    _, place, size = np.unique(doubt, return_inverse=True, return_counts=True)
    share_wrong = np.bincount(place, weights=wrong) / size
    answered = np.arange(1, len(wrong) + 1)
    return RiskCoverage(answered / len(wrong), np.cumsum(np.repeat(share_wrong, size)) / answered)


def best_possible(wrong: Any) -> RiskCoverage:
    """Return the curve of a doubt that puts every wrong answer behind every right one."""
    wrong = np.asarray(wrong, dtype=bool)
    return risk_coverage(wrong, wrong)


def cutoff_for_coverage(doubt: Any, coverage: float) -> float:
    """Return the smallest cut-off at which at least the share `coverage`, in (0, 1], of these images is answered."""
    check_number("coverage", coverage, caller="set_abstention", low=0, high=1, open_low=True)
    ordered = np.sort(np.asarray(doubt, dtype=np.float64))
    return float(ordered[max(math.ceil(coverage * len(ordered) - 1e-9), 1) - 1])


def cutoff_for_error(wrong: Any, doubt: Any, max_error: float, confidence: float = 0.95) -> float:
    """Return the largest cut-off found at which, with this confidence, at most the share `max_error` is wrong.

    Ten shares of the images, the least doubtful 10%, 20%, ..., 100%, are each given an exact upper limit of their error
    that holds with confidence 1 - (1 - confidence) / 10, so that all ten hold together.

    Parameters
    ----------
    wrong, doubt : sequence of N
        Of independent images: one for each patient.
    max_error : float in (0, 1)
        Share of the answers.
    confidence : float in (0, 1), default=0.95

    Raises
    ------
    DataError
        Too few images, or too many errors among the surest of them; the message says which error can be promised.

    References
    ----------
    Geifman & El-Yaniv (2017), Selective classification for deep neural networks, arXiv:1705.08500, who search the same
    way; limits of Clopper & Pearson (1934), doi:10.1093/biomet/26.4.404
    """
    check_max_error(max_error, confidence)
    wrong, doubt = _checked(wrong, doubt)
    order = np.argsort(doubt, kind="stable")
    wrong, doubt = wrong[order], doubt[order]
    found: dict[float, float] = {}
    for share in _SHARES:
        cutoff = cutoff_for_coverage(doubt, share)
        n = int(np.searchsorted(doubt, cutoff, side="right"))  # all that are as doubtful come along
        found[cutoff] = _upper_limit(int(wrong[:n].sum()), n, 1.0 - (1.0 - confidence) / len(_SHARES))
    kept = [cutoff for cutoff, limit in found.items() if limit <= max_error]
    if not kept:
        raise DataError(
            f"set_abstention: no share of these {len(wrong)} independent images has an error of at most {max_error:g} "
            f"with a confidence of {confidence:g}; {min(found.values()):.2g} is attainable. More images, or patients, "
            "allow less."
        )
    return max(kept)


def check_max_error(max_error: Any, confidence: Any) -> None:
    """Raise unless both are numbers in (0, 1)."""
    limits: dict[str, Any] = {"low": 0, "high": 1, "open_low": True, "open_high": True}
    check_number("max_error", max_error, caller="set_abstention", **limits)
    check_number("confidence", confidence, caller="set_abstention", **limits)


def _upper_limit(errors: int, n: int, confidence: float) -> float:
    """Return the one-sided Clopper-Pearson limit: P(at most so many errors) is 1 - confidence there."""
    from scipy.stats import beta

    return 1.0 if errors == n else float(beta.ppf(confidence, errors + 1, n - errors))


def _checked(wrong: Any, doubt: Any) -> tuple[np.ndarray, np.ndarray]:
    wrong, doubt = np.asarray(wrong, dtype=bool), np.asarray(doubt, dtype=np.float64)
    if wrong.ndim != 1 or wrong.shape != doubt.shape or not len(wrong):
        raise invalid("doubt", "risk_coverage", "one number for each of N > 0 answers", doubt.shape)
    if np.isnan(doubt).any():
        raise invalid("doubt", "risk_coverage", "without NaN", doubt)
    return wrong, doubt
