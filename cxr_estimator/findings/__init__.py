"""Findings: what the heat maps of right and wrong decisions have in common, and what may be behind it.

What one writes by hand after looking through many maps ("in the false positives they are diffuse and lie below the
diaphragm; maybe it goes by ..."), from a random draw, with figures, and each "maybe" beside the checks of an audit.
"""

from cxr_estimator.findings._buckets import FIGURES, Bucket, Difference
from cxr_estimator.findings._describing import describe, lungs_in
from cxr_estimator.findings._findings import findings
from cxr_estimator.findings._hypotheses import HYPOTHESES, Hypothesis
from cxr_estimator.findings._report import Findings

__all__ = [
    "FIGURES", "HYPOTHESES", "Bucket", "Difference", "Findings", "Hypothesis", "describe", "findings", "lungs_in",
]  # fmt: skip
