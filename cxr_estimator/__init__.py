"""Train, calibrate, explain and audit chest-radiograph classifiers in the scikit-learn way."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

# Public names and where they live. They load on first use, so that importing the package imports no torch.
_PUBLIC = {
    "CXRClassifier": "classifier",
    "CXREnsemble": "ensemble",
    "CXRError": "errors",
    "DeletionCurveDisplay": "displays",
    "EvaluationReport": "evaluation",
    "Explanation": "explanation",
    "ExplanationDisplay": "displays",
    "ModelCard": "card",
    "RiskCoverageDisplay": "displays",
    "clinical_scorer": "clinical",
    "cross_val_calibration": "model_selection",
    "cross_val_threshold": "model_selection",
    "evaluate": "evaluation",
    "fetch_chest_xray": "datasets",
    "load_chexpert": "datasets",
    "load_image_folder": "datasets",
    "load_image_table": "datasets",
    "load_medmnist": "datasets",
    "load_nih": "datasets",
    "load_rsna": "datasets",
    "make_phantoms": "datasets",
    "patient_split": "datasets",
    "xai_scorer": "scorers",
    "xai_scorers": "scorers",
}

__all__ = [
    "CXRClassifier",
    "CXREnsemble",
    "CXRError",
    "DeletionCurveDisplay",
    "EvaluationReport",
    "Explanation",
    "ExplanationDisplay",
    "ModelCard",
    "RiskCoverageDisplay",
    "clinical_scorer",
    "cross_val_calibration",
    "cross_val_threshold",
    "evaluate",
    "fetch_chest_xray",
    "load_chexpert",
    "load_image_folder",
    "load_image_table",
    "load_medmnist",
    "load_nih",
    "load_rsna",
    "make_phantoms",
    "patient_split",
    "xai_scorer",
    "xai_scorers",
]

if TYPE_CHECKING:
    from cxr_estimator.card import ModelCard
    from cxr_estimator.classifier import CXRClassifier
    from cxr_estimator.clinical import clinical_scorer
    from cxr_estimator.datasets import (
        fetch_chest_xray,
        load_chexpert,
        load_image_folder,
        load_image_table,
        load_medmnist,
        load_nih,
        load_rsna,
        make_phantoms,
        patient_split,
    )
    from cxr_estimator.displays import DeletionCurveDisplay, ExplanationDisplay, RiskCoverageDisplay
    from cxr_estimator.ensemble import CXREnsemble
    from cxr_estimator.errors import CXRError
    from cxr_estimator.evaluation import EvaluationReport, evaluate
    from cxr_estimator.explanation import Explanation
    from cxr_estimator.model_selection import cross_val_calibration, cross_val_threshold
    from cxr_estimator.scorers import xai_scorer, xai_scorers


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
