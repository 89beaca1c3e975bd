"""Models and explanations side by side: what they decide, what they look at, and what is more than chance."""

from cxr_estimator.comparison._checklist import Item, checklist
from cxr_estimator.comparison._explanations import Comparison, agreement_words, common_ground, compare_explanations
from cxr_estimator.comparison._models import compare
from cxr_estimator.comparison._pairs import Pair, Test
from cxr_estimator.comparison._report import ModelComparison, Shown

__all__ = [
    "Comparison",
    "Item",
    "ModelComparison",
    "Pair",
    "Shown",
    "Test",
    "agreement_words",
    "checklist",
    "common_ground",
    "compare",
    "compare_explanations",
]
