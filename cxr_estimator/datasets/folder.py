"""Image folders: one sub-folder per class, with or without train, val and test above them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cxr_estimator._validation import check_choice, wrong_type
from cxr_estimator.datasets.patients import KAGGLE_PATIENT_PATTERN, found_in_names, patient_ids
from cxr_estimator.errors import DataError
from cxr_estimator.images import EXTENSIONS

SPLITS = ("train", "val", "test")
_SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}


class ImageDataset(NamedTuple):
    """Images by path (or as an array), labels, and patients where they are known."""

    X: np.ndarray
    y: np.ndarray
    groups: np.ndarray | None


def load_image_folder(
    root: str | Path, *, split: str = "auto", patient_pattern: str | None = "auto", label_pattern: str | None = None
) -> ImageDataset:
    """List the images of a folder with one sub-folder per class. No image is opened.

    Parameters
    ----------
    root : path
        `root/CLASS/*.png`, or the Kaggle layout `root/{train,val,test}/CLASS/*.jpeg` ("Train", "valid" and the like
        are understood). PNG, JPEG, TIFF and DICOM (.dcm, .dicom) files count, in sub-folders too; hidden files and
        folders do not.
    split : {"auto", "train", "val", "test", "all"}, default="auto"
        "auto" is "train" where the folder has splits, so that test images never get in by accident.
    patient_pattern : str or None, default="auto"
        Regular expression that finds the patient in a file name. "auto" knows the names of the Kaggle pneumonia set,
        and gives no patients for others; a folder that mixes both kinds of names raises.
    label_pattern : str, optional
        Regular expression on file names, whose group is the label; where it does not match, the folder's name is.
        `r"_(bacteria|virus)_"` makes three classes of the Kaggle pneumonia set: NORMAL, bacteria and virus.

    Returns
    -------
    ImageDataset
        X (N,) str paths, sorted within each class; y (N,) str; groups (N,) str or None.

    Raises
    ------
    DataError
        No such folder, no such split, fewer than two classes with images, or a label pattern that never matches.
    """
    root = Path(root)
    check_choice("split", split, ("auto", "all", *SPLITS), caller="load_image_folder")
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder.")
    folders = _chosen_folders(root, split)
    paths, labels = [], []
    for folder in folders:
        for class_folder in sorted(_subfolders(folder)):
            found = sorted(_images(class_folder))
            paths += found
            labels += [class_folder.name] * len(found)
    if label_pattern is not None and paths:
        labels = _labels_by_name(paths, labels, label_pattern)
    if len(set(labels)) < 2:
        where = ", ".join(str(folder) for folder in folders)
        raise DataError(
            f"{where}: found images of {len(set(labels))} class(es); expected one sub-folder per class, two at least, "
            f"with {', '.join(EXTENSIONS)} files."
        )
    return ImageDataset(np.array(paths), np.array(labels), _patients(paths, patient_pattern))


def split_folders(root: Path) -> dict[str, Path]:
    """Return the folders of the splits ("train", "val", "test") that `root` has; none for a plain class folder."""
    named = {_SPLIT_NAMES.get(folder.name.lower()): folder for folder in _subfolders(root) if _subfolders(folder)}
    return {name: named[name] for name in SPLITS if name in named}


def _chosen_folders(root: Path, split: str) -> list[Path]:
    present = split_folders(root)
    if not present:
        if split in SPLITS:
            raise DataError(f"{root}: has no {split!r} folder with one sub-folder per class.")
        return [root]
    if split == "all":
        return list(present.values())
    wanted = "train" if split == "auto" else split
    if wanted not in present:
        raise DataError(f"{root}: has no {wanted!r} folder; choose split= from {list(present)}.")
    return [present[wanted]]


def _subfolders(folder: Path) -> list[Path]:
    return [item for item in folder.iterdir() if item.is_dir() and not _is_hidden(item.name)]


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "__"))  # "__MACOSX" too, which macOS puts into zip files


def _images(folder: Path) -> list[str]:
    paths = []
    for parent, subfolders, names in os.walk(folder):
        subfolders[:] = [name for name in subfolders if not _is_hidden(name)]
        paths += [
            os.path.join(parent, name)
            for name in names
            if name.lower().endswith(EXTENSIONS) and not name.startswith(".")
        ]
    return paths


def _labels_by_name(paths: list[str], folders: list[str], pattern: Any) -> list[str]:
    """Return what `pattern` finds in the name of each file, or else the name of its folder."""
    caller = "load_image_folder"
    if not isinstance(pattern, str):
        raise wrong_type("label_pattern", caller, "a regular expression or None", pattern)
    names = [os.path.basename(path) for path in paths]
    found = found_in_names(names, pattern, parameter="label_pattern", caller=caller)
    if not any(found):
        raise DataError(
            f"{caller}: the label pattern {pattern!r} matches none of {len(names)} file names, such as {names[0]!r}."
        )
    return [label or folder for label, folder in zip(found, folders, strict=True)]


def _patients(paths: list[str], pattern: Any) -> np.ndarray | None:
    if pattern is None:
        return None
    if not isinstance(pattern, str):
        raise wrong_type("patient_pattern", "load_image_folder", "a regular expression, 'auto' or None", pattern)
    names = [os.path.basename(path) for path in paths]
    if pattern != "auto":
        return patient_ids(names, pattern, caller="load_image_folder")
    if not any(re.search(KAGGLE_PATIENT_PATTERN, name) for name in names):
        return None  # other names than Kaggle's: no patients are known, which `fit` warns of
    return patient_ids(names, KAGGLE_PATIENT_PATTERN, caller="load_image_folder")
