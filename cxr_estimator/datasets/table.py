"""Tables: a CSV file with paths, labels and, if known, patients."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cxr_estimator._validation import check_choice, invalid
from cxr_estimator.datasets.folder import ImageDataset
from cxr_estimator.errors import DataError

_MAX_TEXT = 4096  # characters of a path, label or patient


def load_image_table(
    table: str | Path | pd.DataFrame,
    *,
    path_column: str = "path",
    label_column: str | Sequence[str] = "label",
    patient_column: str | None = None,
    root: str | Path | None = None,
) -> ImageDataset:
    """Read paths and labels from a CSV file or a DataFrame. No image is opened.

    Parameters
    ----------
    table : path or DataFrame
    path_column, label_column : str
        A list of label columns gives y (N, K) for several labels per image, where NaN means unknown.
    patient_column : str, optional
    root : path, optional
        Folder that relative paths start from; default: the folder of the CSV file.

    Returns
    -------
    ImageDataset
        X (N,) str, y (N,) or (N, K), groups (N,) str or None.

    Raises
    ------
    DataError
        The file cannot be read, is empty, or has empty cells in the path, label or patient column (rows are named).
    """
    caller = "load_image_table"
    if isinstance(table, pd.DataFrame):
        frame, base, name = table, Path(root or "."), "the table"
    else:
        frame = read_csv(Path(table), as_text=[path_column, patient_column])
        base, name = Path(root or Path(table).parent), str(table)
    several = not isinstance(label_column, str)
    labels = list(label_column) if several else [label_column]
    if len(set(labels)) < len(labels):
        raise invalid("label_column", caller, "one column or several different ones", labels)
    for column in [path_column, *labels, *([patient_column] if patient_column else [])]:
        check_choice("column", column, frame.columns, caller=caller)
    filled = [path_column, *([] if several else labels), *([patient_column] if patient_column else [])]
    check_cells(frame, filled, name)
    paths = np.array([str(base / str(path)) for path in frame[path_column]])
    y = _several_labels(frame[labels], name) if several else _labels(frame[labels[0]].to_numpy())
    return ImageDataset(paths, y, frame[patient_column].astype(str).to_numpy(dtype=str) if patient_column else None)


def read_columns(table: Path, columns: Sequence[str]) -> dict[str, np.ndarray]:
    """Return columns of a CSV file by name, (N,) each, in the order of the images of `load_image_table`."""
    frame = read_csv(table, as_text=columns, required=columns)
    return {name: frame[name].to_numpy() for name in columns}


def read_csv(path: Path, *, as_text: Sequence[str | None], required: Sequence[str] = ()) -> pd.DataFrame:
    """Return the table in a CSV file that has the `required` columns, or raise a DataError that names the file."""
    text = {column: str for column in as_text if column}  # keeps the zeros of "007"
    try:  # only empty cells are missing: "NA" and "None" may be labels
        frame = pd.read_csv(path, dtype=text, keep_default_na=False, na_values=[""])
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file.") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as CSV ({error}).") from error
    missing = [column for column in required if column not in frame.columns]
    if missing:
        raise DataError(f"{path}: has no column {', '.join(map(repr, missing))}; it has {list(frame.columns)!r:.500}.")
    return frame


def check_cells(frame: pd.DataFrame, columns: Sequence[str], name: str | Path) -> None:
    """Raise a DataError if there are no rows, or if one of the columns has empty cells or very long text.

    NumPy gives every text the room of the longest.
    """
    if not len(frame):
        raise DataError(f"{name}: has no rows.")
    for column in columns:
        empty = np.flatnonzero(frame[column].isna())
        if len(empty):
            raise DataError(
                f"{name}: column {column!r} is empty in {len(empty)} rows, first in data row {empty[0] + 1}."
            )
        lengths = frame[column].astype(str).str.len()
        if lengths.max() > _MAX_TEXT:
            row = int(lengths.to_numpy().argmax()) + 1
            raise DataError(f"{name}: column {column!r} has {lengths.max():,} characters in data row {row}.")


def _labels(column: np.ndarray) -> np.ndarray:
    return column if column.dtype.kind in "buif" else column.astype(str)


def _several_labels(frame: pd.DataFrame, name: str) -> np.ndarray:
    for column in frame.columns:
        text = np.flatnonzero(pd.to_numeric(frame[column], errors="coerce").isna() & frame[column].notna())
        if len(text):
            raise DataError(
                f"{name}: column {column!r} must hold numbers where several labels are given. "
                f"Got {frame[column].iloc[text[0]]!r} in data row {text[0] + 1}."
            )
    return frame.to_numpy(dtype=np.float64, na_value=np.nan)
