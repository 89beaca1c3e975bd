"""CheXpert: train.csv and valid.csv with 14 findings that are present, absent, uncertain or not mentioned."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from cxr_estimator._validation import check_choice, plain
from cxr_estimator.datasets._released import MultiLabelDataset, check_findings, present
from cxr_estimator.datasets.patients import patient_ids
from cxr_estimator.datasets.table import check_filled, load_image_table, read_csv
from cxr_estimator.errors import DataError

CHEXPERT_FINDINGS = (
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema",
    "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture",
    "Support Devices",
)  # fmt: skip
_CALLER = "load_chexpert"
_TABLES = {"train": "train.csv", "val": "valid.csv"}
_FOLDERS = ("train", "valid")
_VALUES = {"nan": np.nan, "zeros": 0.0, "ones": 1.0}
_PATH, _VIEW = "Path", "Frontal/Lateral"


def load_chexpert(
    root: str | Path,
    *,
    split: str = "train",
    view: str = "frontal",
    findings: list[str] | None = None,
    uncertain: str = "nan",
    unmentioned: str = "zeros",
    on_missing: str = "raise",
) -> MultiLabelDataset:
    """List the images of CheXpert with their findings. No image is opened.

    Parameters
    ----------
    root : path
        Folder of train.csv and valid.csv, such as CheXpert-v1.0-small.
    split : {"train", "val"}, default="train"
    view : {"frontal", "lateral", "all"}, default="frontal"
    findings : list of str, optional
        Labels to read, among `CHEXPERT_FINDINGS`. Default: all 14.
    uncertain : {"nan", "zeros", "ones"}, default="nan"
        What -1 becomes, a finding that the report is not sure of: unknown, absent or present.
    unmentioned : {"zeros", "nan"}, default="zeros"
        What an empty cell becomes, a finding that the report does not mention. "No Finding" is never 0 in train.csv,
        so it cannot be learnt with "nan".
    on_missing : {"raise", "skip"}, default="raise"
        What to do where image files are missing. "skip" leaves them out, with a `MissingImagesWarning`.

    Returns
    -------
    MultiLabelDataset
        X (N,) str; y (N, K), 1, 0 or NaN; groups (N,) str, the patient in the path; label_names.

    Raises
    ------
    DataError
        A file, a column or an image is missing, a finding is neither 1, 0, -1 nor empty, or no image has that view.

    References
    ----------
    Irvin et al. (2019), CheXpert, AAAI 33, doi:10.1609/aaai.v33i01.3301590
    """
    root = Path(root)
    check_choice("split", split, _TABLES, caller=_CALLER)
    check_choice("view", view, ("frontal", "lateral", "all"), caller=_CALLER)
    check_choice("uncertain", uncertain, _VALUES, caller=_CALLER)
    check_choice("unmentioned", unmentioned, ("zeros", "nan"), caller=_CALLER)
    labels = check_findings(findings, CHEXPERT_FINDINGS, caller=_CALLER)
    table = root / _TABLES[split]
    frame = read_csv(table, as_text=[_PATH, _VIEW], required=[_PATH, _VIEW, *labels])
    check_filled(frame, [_PATH, _VIEW], table)
    frame[labels] = _values(frame[labels], uncertain, unmentioned, table)
    if view != "all":
        frame = frame[frame[_VIEW].str.lower() == view]
    if not len(frame):
        raise DataError(f"{table}: has no {view} images.")
    below = frame[_PATH].map(_below_root)
    patients = patient_ids(below.tolist(), r"(?:^|/)(patient\d+)/", caller=_CALLER)
    data = load_image_table(frame.assign(**{_PATH: below}), path_column=_PATH, label_column=labels, root=root)
    rows = present(data.X, below.tolist(), on_missing, caller=_CALLER)
    return MultiLabelDataset(data.X[rows], data.y[rows], patients[rows], tuple(labels))


def _values(frame: pd.DataFrame, uncertain: str, unmentioned: str, table: Path) -> pd.DataFrame:
    """Return 1, 0 or NaN for each finding."""
    for name in frame.columns:
        wrong = np.flatnonzero(frame[name].notna() & ~pd.to_numeric(frame[name], errors="coerce").isin([1, 0, -1]))
        if len(wrong):
            got = plain(frame[name].iloc[wrong[0]])
            raise DataError(
                f"{table}: column {name!r} must hold 1, 0, -1 or nothing. Got {got!r} in data row {wrong[0] + 1}."
            )
    numbers = frame.astype(np.float64).fillna(_VALUES[unmentioned])
    return numbers.mask(numbers == -1, _VALUES[uncertain])


def _below_root(path: str) -> str:
    """Return the path without the name of the release, with which the tables begin."""
    parts = PurePosixPath(path).parts
    start = next((number for number, part in enumerate(parts) if part in _FOLDERS), 0)
    return "/".join(parts[start:])
