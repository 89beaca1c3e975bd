"""RSNA Pneumonia Detection Challenge: a table with a row for each box; the boxes become masks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from cxr_estimator._validation import check_choice
from cxr_estimator.datasets._released import present
from cxr_estimator.datasets.table import check_filled, read_csv
from cxr_estimator.errors import DataError

_CALLER = "load_rsna"
_SIDE = 1024  # pixels of every image
_BOX = ["x", "y", "width", "height"]
_ID = "patientId"
_MAPPING = "pneumonia-challenge-dataset-mappings_2018.json"


class BoxMasks(Sequence):
    """Ground-truth masks that are drawn when they are asked for, so that thousands need no memory.

    `masks[3]` is the mask (H, W), bool, of image 3: the union of its boxes. A slice, or an array of indices or of
    booleans, gives the `BoxMasks` of these images.

    Parameters
    ----------
    boxes : sequence of arrays (M, 4)
        Left, top, width and height of each box of an image, in pixels of the original. M may be 0.
    shape : (int, int)
        Height and width of every image.

    Examples
    --------
    >>> masks = BoxMasks([np.array([[1, 0, 2, 1]]), np.empty((0, 4))], shape=(2, 3))
    >>> masks[0].astype(int).tolist()
    [[0, 1, 1], [0, 0, 0]]
    """

    def __init__(self, boxes: Sequence[np.ndarray], shape: tuple[int, int] = (_SIDE, _SIDE)) -> None:
        self.boxes = tuple(boxes)
        self.image_shape = shape

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, item: Any) -> Any:
        rows = np.arange(len(self))[item]
        if rows.ndim:
            return BoxMasks([self.boxes[row] for row in rows], self.image_shape)
        mask = np.zeros(self.image_shape, dtype=bool)
        for left, top, width, height in self.boxes[rows]:
            mask[round(top) : round(top + height), round(left) : round(left + width)] = True
        return mask

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[row] for row in range(len(self)))


class BoxDataset(NamedTuple):
    """Images by path, labels, patients where they are known, and masks."""

    X: np.ndarray
    y: np.ndarray
    groups: np.ndarray | None
    masks: BoxMasks


def load_rsna(root: str | Path, *, label: str = "Target", on_missing: str = "raise") -> BoxDataset:
    """List the images of the RSNA Pneumonia Detection Challenge, one row each. No image is opened.

    Parameters
    ----------
    root : path
        Folder of stage_2_train_labels.csv and stage_2_train_images/.
    label : {"Target", "class"}, default="Target"
        "Target": 1 for a lung opacity that suggests pneumonia, else 0. "class": "Normal", "Lung Opacity" or "No Lung
        Opacity / Not Normal", from stage_2_detailed_class_info.csv.
    on_missing : {"raise", "skip"}, default="raise"
        What to do where image files are missing. "skip" leaves them out, with a `MissingImagesWarning`.

    Returns
    -------
    BoxDataset
        X (N,) str; y (N,) int or str; masks, a `BoxMasks` of N masks (1024, 1024). groups (N,) str are the patients of
        NIH ChestX-ray14, from which the images were taken, if root has pneumonia-challenge-dataset-mappings_2018.json
        (of the RSNA's page of the challenge); else None. The "patientId" of the tables is a different one for every
        image, and tells no patient.

    Raises
    ------
    DataError
        A file, a column or an image is missing, boxes lie outside of the image or do not fit the target, or rows of
        one image contradict each other.

    References
    ----------
    Shih et al. (2019), Radiology: Artificial Intelligence 1(1), doi:10.1148/ryai.2019180041
    """
    root = Path(root)
    check_choice("label", label, ("Target", "class"), caller=_CALLER)
    table = root / "stage_2_train_labels.csv"
    frame = read_csv(table, as_text=[_ID], required=[_ID, *_BOX, "Target"])
    boxes = _checked_boxes(frame, table)
    target = _one_each(frame, "Target", table).astype(np.int64)
    names = list(target.index)
    y = target.to_numpy() if label == "Target" else _classes(root / "stage_2_detailed_class_info.csv", names)
    groups = _patients(root / _MAPPING, names) if (root / _MAPPING).is_file() else None
    paths = np.array([str(root / "stage_2_train_images" / f"{name}.dcm") for name in names])
    rows = present(paths, [f"{name}.dcm" for name in names], on_missing, caller=_CALLER)
    masks = BoxMasks([boxes[name] for name in names])
    return BoxDataset(paths[rows], y[rows], None if groups is None else groups[rows], masks[rows])


def _checked_boxes(frame: pd.DataFrame, table: Path) -> dict[str, np.ndarray]:
    """Return the boxes (M, 4) of each image; rows with target 1 have one, others none."""
    if not len(frame):
        raise DataError(f"{table}: has no rows.")
    check_filled(frame, [_ID, "Target"], table)
    numbers = frame[[*_BOX, "Target"]].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    box, target = numbers[:, :4], numbers[:, 4]
    inside = (box >= 0).all(axis=1) & (box[:, 2:] > 0).all(axis=1) & (box[:, :2] + box[:, 2:] <= _SIDE).all(axis=1)
    faults = {
        "the target is neither 0 nor 1": ~np.isin(target, (0, 1)),
        "a target of 0 has a box": (target == 0) & frame[_BOX].notna().any(axis=1).to_numpy(),
        f"the box does not lie within {_SIDE} x {_SIDE} pixels": (target == 1) & ~inside,
    }
    for fault, rows in faults.items():
        if rows.any():
            raise DataError(f"{table}: {fault} in data row {int(rows.argmax()) + 1}.")
    positive = pd.DataFrame(box[target == 1]).groupby(frame.loc[target == 1, _ID].to_numpy())
    none = dict.fromkeys(frame[_ID], np.empty((0, 4)))
    return none | {str(name): part.to_numpy() for name, part in positive}


def _one_each(frame: pd.DataFrame, column: str, table: Path) -> pd.Series:
    """Return the value of each image, in the order of the table, by image; several rows must agree."""
    pairs = frame[[_ID, column]].drop_duplicates()
    twice = pairs[_ID].duplicated()
    if twice.any():
        raise DataError(f"{table}: {pairs[_ID][twice].iloc[0]!r} has rows with different values of {column!r}.")
    return pairs.set_index(_ID)[column]


def _classes(table: Path, names: list[str]) -> np.ndarray:
    frame = read_csv(table, as_text=[_ID, "class"], required=[_ID, "class"])
    found = _one_each(frame, "class", table).reindex(names)
    unknown = found.index[found.isna()].tolist()
    if unknown:
        raise DataError(f"{table}: has no class for {len(unknown)} images, first {unknown[0]!r}.")
    return found.to_numpy(dtype=str)


def _patients(path: Path, names: list[str]) -> np.ndarray:
    """Return the patient in the NIH's name of each image, such as 00000001 of 00000001_000.png."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        patients = {str(one["subset_img_id"]): str(one["img_id"]).partition("_")[0] for one in entries}
    except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
        raise DataError(f"{path}: is no list of images with subset_img_id and img_id ({error!r}).") from error
    unknown = [name for name in names if name not in patients]
    if unknown:
        raise DataError(f"{path}: does not tell {len(unknown)} images, first {unknown[0]!r}.")
    return np.array([patients[name] for name in names])
