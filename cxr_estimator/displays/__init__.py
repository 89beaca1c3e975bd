"""Displays in the way of scikit-learn: made from an estimator or from explanations, they hold what they draw."""

from cxr_estimator.displays.curves import DeletionCurveDisplay
from cxr_estimator.displays.explanation import ExplanationDisplay
from cxr_estimator.displays.risk_coverage import RiskCoverageDisplay

__all__ = ["DeletionCurveDisplay", "ExplanationDisplay", "RiskCoverageDisplay"]
