"""`split_overlap`: what stands in more than one split, though splits must share nothing."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from cxr_estimator._validation import check_labels, check_per_image, invalid, plain, wrong_type
from cxr_estimator.curation._pictures import read_pictures
from cxr_estimator.errors import DataError, InvalidTypeError, SkippedImagesWarning
from cxr_estimator.images import as_images

_CALLER = "split_overlap"
COLUMNS = ("kind", "group", "split", "position", "label", "labels_differ")


def split_overlap(splits: Mapping[str, Any], *, n_jobs: int | None = None, verbose: int = 0) -> pd.DataFrame:
    """Find patients, and images of the same pixels, that stand in more than one split.

    What a network was fitted on must not judge it. Near duplicates across splits are found by `duplicates(splits=)`.

    Parameters
    ----------
    splits : dict of name to (X, y) or (X, y, groups), as data sets are
        Two at least. Patients are compared where every split has groups.
    n_jobs : int, optional
        Threads that decode, in joblib's sense.
    verbose : int, default=0

    Returns
    -------
    DataFrame
        A row for each image concerned: `kind` ("patient" or "image": the same pixels), `group` (a number for the
        patient or image, from 0 within each kind), `split`, `position` in that split, `label`, and
        `labels_differ` within the group. No rows: nothing is shared.

    Raises
    ------
    DataError
        Groups of some splits only, or entries that do not fit their images.
    InvalidParameterError
        Fewer than two splits, or names of splits that are equal as text.

    Examples
    --------
    >>> from cxr_estimator import make_phantoms
    >>> from cxr_estimator.curation import split_overlap
    >>> X, y, groups, *_ = make_phantoms(6, size=32)
    >>> shared = split_overlap({"train": (X[:3], y[:3], groups[:3]), "test": (X[3:], y[3:], groups[3:])})
    >>> shared[["kind", "group", "split", "position"]].to_numpy().tolist()
    [['patient', 0, 'train', 2], ['patient', 0, 'test', 0]]
    """
    if not isinstance(splits, Mapping):
        raise wrong_type("splits", _CALLER, "a dict of name to (X, y, groups)", splits)
    if len(splits) < 2:
        raise invalid("splits", _CALLER, "a dict of two splits at least", list(splits))
    if len(set(map(str, splits))) < len(splits):
        raise invalid("splits", _CALLER, "a dict whose names differ as text", list(splits))
    parts = {str(name): _checked(str(name), part) for name, part in splits.items()}
    known = [groups is not None for _, _, groups in parts.values()]
    if any(known) and not all(known):
        raise DataError(f"{_CALLER}: either all splits have groups or none has.")
    position, ids = [], []
    for name, (X, _, _) in parts.items():
        pictures = read_pictures(X, n_jobs=n_jobs, verbose=verbose, caller=f"{_CALLER}: {name}")
        if pictures.skipped:
            warnings.warn(SkippedImagesWarning(pictures.skipped), stacklevel=2)
        found = np.full(len(as_images(X)), None, dtype=object)
        found[pictures.position] = pictures.content_ids
        ids.append(found)
        position.append(np.arange(len(found)))
    names = [name for name, one in zip(parts, ids, strict=True) for _ in one]
    return overlap_table(
        np.array(names),
        np.concatenate(position),
        np.array([label for _, y, _ in parts.values() for label in y], dtype=object),
        np.concatenate(ids),
        np.array([_patient(one) for _, _, groups in parts.values() for one in groups]) if all(known) else None,
    )


def _checked(name: str, part: Any) -> tuple[Any, Any, Any]:
    """Return X, labels and patients of one split."""
    if not isinstance(part, tuple | list) or len(part) < 2:
        raise wrong_type("splits", _CALLER, f"a dict of name to (X, y) or (X, y, groups), also for {name!r}", part)
    X, y, groups = part[0], part[1], part[2] if len(part) > 2 else None
    caller = f"{_CALLER}: {name}"
    try:
        n_images = len(as_images(X))
    except (DataError, InvalidTypeError) as error:
        raise type(error)(f"{caller}: {error}") from error
    labels = check_labels(y, n_images, caller=caller)
    return X, labels, None if groups is None else check_per_image("groups", groups, n_images, caller=caller)


def _patient(value: Any) -> str:
    """Return a patient as text; 3 and 3.0, as pandas reads a column with gaps, are one."""
    value = plain(value)
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


def overlap_table(
    splits: np.ndarray, position: np.ndarray, labels: np.ndarray, content_ids: np.ndarray, patients: np.ndarray | None
) -> pd.DataFrame:
    """Return the table of `split_overlap` for images (N,) by their split; the content id of unreadable ones is None."""
    rows = pd.DataFrame({"split": splits, "position": position, "label": labels})
    kinds = {"image": content_ids} if patients is None else {"patient": patients, "image": content_ids}
    found = [_shared(rows.assign(owner=owner, kind=kind)) for kind, owner in kinds.items()]
    return pd.concat(found, ignore_index=True)[list(COLUMNS)]


def _shared(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows whose owner stands in more than one split, by owner."""
    known = rows[rows["owner"].notna()]
    within = known.groupby("owner", sort=False)
    shared = known[within["split"].transform("nunique") > 1].copy()
    shared["group"] = pd.factorize(shared["owner"])[0]
    shared["labels_differ"] = shared.groupby("group")["label"].transform("nunique") > 1
    return shared.sort_values("group", kind="stable")
