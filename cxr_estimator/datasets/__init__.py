"""Data sets: each loader returns `X, y, groups`."""

from __future__ import annotations

from cxr_estimator.datasets.folder import ImageDataset, load_image_folder
from cxr_estimator.datasets.medmnist import load_medmnist
from cxr_estimator.datasets.patients import KAGGLE_PATIENT_PATTERN, patient_ids
from cxr_estimator.datasets.phantom import Phantoms, make_phantoms
from cxr_estimator.datasets.split import patient_split
from cxr_estimator.datasets.table import load_image_table

__all__ = [
    "KAGGLE_PATIENT_PATTERN",
    "ImageDataset",
    "Phantoms",
    "load_image_folder",
    "load_image_table",
    "load_medmnist",
    "make_phantoms",
    "patient_ids",
    "patient_split",
]
