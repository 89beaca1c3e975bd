"""Data sets: each loader returns `X, y, groups`, and what else it knows."""

from __future__ import annotations

from cxr_estimator.datasets._released import MultiLabelDataset
from cxr_estimator.datasets.chexpert import CHEXPERT_FINDINGS, load_chexpert
from cxr_estimator.datasets.folder import ImageDataset, load_image_folder
from cxr_estimator.datasets.medmnist import load_medmnist
from cxr_estimator.datasets.nih import NIH_FINDINGS, load_nih
from cxr_estimator.datasets.patients import KAGGLE_PATIENT_PATTERN, patient_ids
from cxr_estimator.datasets.phantom import Phantoms, make_phantoms
from cxr_estimator.datasets.public import fetch_chest_xray
from cxr_estimator.datasets.rsna import BoxDataset, BoxMasks, load_rsna
from cxr_estimator.datasets.shortcuts import Pasted, paste_opacities, plant_shortcut, shortcut_carriers
from cxr_estimator.datasets.split import patient_split
from cxr_estimator.datasets.table import load_image_table

__all__ = [
    "CHEXPERT_FINDINGS",
    "KAGGLE_PATIENT_PATTERN",
    "NIH_FINDINGS",
    "BoxDataset",
    "BoxMasks",
    "ImageDataset",
    "MultiLabelDataset",
    "Pasted",
    "Phantoms",
    "fetch_chest_xray",
    "load_chexpert",
    "load_image_folder",
    "load_image_table",
    "load_medmnist",
    "load_nih",
    "load_rsna",
    "make_phantoms",
    "paste_opacities",
    "patient_ids",
    "patient_split",
    "plant_shortcut",
    "shortcut_carriers",
]
