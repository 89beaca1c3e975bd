"""NIH ChestX-ray14: Data_Entry_2017.csv, the official lists, and images_001 to images_012."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd

from cxr_estimator._validation import check_choice
from cxr_estimator.datasets._released import MultiLabelDataset, check_findings, present
from cxr_estimator.datasets.table import check_cells, load_image_table, read_csv
from cxr_estimator.errors import DataError

NIH_FINDINGS = (
    "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax",
    "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia",
)  # fmt: skip
_CALLER = "load_nih"
_TABLES = ("Data_Entry_2017.csv", "Data_Entry_2017_v2020.csv")
_LISTS = {"train": "train_val_list.txt", "test": "test_list.txt"}
_NONE = "No Finding"
_COLUMNS = _IMAGE, _LABELS, _PATIENT = "Image Index", "Finding Labels", "Patient ID"


def load_nih(
    root: str | Path, *, split: str = "train", findings: list[str] | None = None, on_missing: str = "raise"
) -> MultiLabelDataset:
    """List the images of NIH ChestX-ray14 with their findings. No image is opened.

    Parameters
    ----------
    root : path
        Folder of Data_Entry_2017.csv (or its edition of 2020) and of the images, in whatever sub-folders.
    split : {"train", "test", "all"}, default="train"
        The official lists, which share no patient: "train" is train_val_list.txt.
    findings : list of str, optional
        Labels to read, among `NIH_FINDINGS`. Default: all 14.
    on_missing : {"raise", "skip"}, default="raise"
        What to do where image files are missing. "skip" leaves them out, with a `MissingImagesWarning`.

    Returns
    -------
    MultiLabelDataset
        X (N,) str; y (N, K), 1 or 0; groups (N,) str; label_names. An image with "No Finding" has zeros only.

    Raises
    ------
    DataError
        A file, a column or an image is missing, or the table has a finding that is not known.

    Notes
    -----
    The labels were mined from the text of reports. The authors expect over 90% of them to be right.

    References
    ----------
    Wang et al. (2017), ChestX-ray8, CVPR, doi:10.1109/CVPR.2017.369
    """
    root = Path(root)
    check_choice("split", split, (*_LISTS, "all"), caller=_CALLER)
    labels = check_findings(findings, NIH_FINDINGS, caller=_CALLER)
    table = next((root / name for name in _TABLES if (root / name).is_file()), root / _TABLES[0])
    frame = read_csv(table, as_text=_COLUMNS, required=_COLUMNS)
    check_cells(frame, _COLUMNS, table)
    twice = np.flatnonzero(frame[_IMAGE].duplicated())
    if len(twice):  # two patients or findings of one image
        raise DataError(f"{table}: {len(twice)} images stand twice, the first in data row {twice[0] + 1}.")
    frame = pd.concat([frame[[_IMAGE, _PATIENT]], _found(frame[_LABELS], table)], axis=1)
    if split != "all":
        frame = _listed(frame, root / _LISTS[split], table)
    files = {name: os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names}
    paths = np.array([files.get(name, "") for name in frame[_IMAGE]])
    rows = present(paths, frame[_IMAGE].tolist(), on_missing, caller=_CALLER)
    frame = frame[rows].assign(**{_IMAGE: paths[rows]})
    data = load_image_table(frame, path_column=_IMAGE, label_column=labels, patient_column=_PATIENT)
    return MultiLabelDataset(data.X, data.y, frame[_PATIENT].to_numpy(dtype=str), tuple(labels))


def _found(column: pd.Series, table: Path) -> pd.DataFrame:
    """Return a column of 0 and 1 for each finding."""
    single = column.str.split("|").explode()
    unknown = single[~single.isin([*NIH_FINDINGS, _NONE])]
    if len(unknown):
        raise DataError(f"{table}: unknown finding {unknown.iloc[0]!r} in data row {int(unknown.index[0]) + 1}.")
    found = column.str.get_dummies("|")
    if _NONE in found:
        both = np.flatnonzero((found[_NONE] == 1) & (found.sum(axis=1) > 1))
        if len(both):
            raise DataError(f"{table}: {_NONE!r} stands beside a finding in data row {both[0] + 1}.")
    return found.reindex(columns=list(NIH_FINDINGS), fill_value=0)


def _listed(frame: pd.DataFrame, path: Path, table: Path) -> pd.DataFrame:
    """Return the rows of the images that an official list names."""
    try:
        names = set(path.read_text(encoding="utf-8").split())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: the list of the split cannot be read ({error}).") from error
    unknown = sorted(names - set(frame[_IMAGE]))
    if unknown:
        raise DataError(f"{path}: names {len(unknown)} images that {table.name} does not have, first {unknown[0]!r}.")
    if not names:
        raise DataError(f"{path}: is empty.")
    return frame[frame[_IMAGE].isin(names)].reset_index(drop=True)
