"""`evaluate`: how good a fitted classifier is on images it has not seen, with intervals over patients."""

from cxr_estimator.evaluation._evaluate import evaluate
from cxr_estimator.evaluation._figures import FIGURES, Decided, FigureOfMerit, Scored, estimates
from cxr_estimator.evaluation._intervals import Patients
from cxr_estimator.evaluation._points import Decisions, Transfer
from cxr_estimator.evaluation._report import EvaluationReport

__all__ = [
    "FIGURES",
    "Decided",
    "Decisions",
    "EvaluationReport",
    "FigureOfMerit",
    "Patients",
    "Scored",
    "Transfer",
    "estimates",
    "evaluate",
]
