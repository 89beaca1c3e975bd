"""`curate`: all checks of a data set at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.utils import _safe_indexing

from cxr_estimator._folds import check_folds, known_patients, patient_folds
from cxr_estimator._optional import needed
from cxr_estimator._validation import wrong_type
from cxr_estimator.classifier import CXRClassifier
from cxr_estimator.curation._duplicates import checked, duplicate_table
from cxr_estimator.curation._labels import checked_labels, judged_labels
from cxr_estimator.curation._overlap import COLUMNS, overlap_table
from cxr_estimator.curation._pictures import Pictures, read_pictures
from cxr_estimator.curation._report import CurationReport
from cxr_estimator.errors import ImageError, SkippedImage
from cxr_estimator.images import ImageSequence, as_images
from cxr_estimator.preprocessing import Preprocessing

_CALLER = "curate"
_MANY = 0.2  # share of suspects that says more about the networks than about the labels


def curate(
    clf: CXRClassifier,
    X: Any,
    y: Any,
    *,
    groups: Any = None,
    splits: Any = None,
    cv: Any = 5,
    n_jobs: int | None = None,
) -> CurationReport:
    """Look for wrong labels, duplicates, overlap between splits and unreadable files.

    Parameters
    ----------
    clf : CXRClassifier
        Its constructor's parameters are those of the out-of-fold networks; it need not be fitted, and is not changed.
    X, y : N images and labels, one per image
        Unreadable images are listed, and otherwise left out.
    groups : sequence of N patients, optional
        Default: from `patient_pattern`. Without either folds may judge patients they were fitted on, as a warning says.
    splits : sequence of N names of splits, optional
        Compared with each other. Labels are checked over all of them.
    cv : int or splitter, default=5
        Each splits the readable images; duplicates, exact or near, stay on one side as images of one patient do.
    n_jobs : int, optional
        As for `label_issues`.

    Returns
    -------
    CurationReport

    Raises
    ------
    DataError
        One class only, several labels per image, no readable image, fewer patients than folds, or entries that do not
        fit the images.
    MissingPackageError
        cleanlab or ImageHash is not installed.
    """
    labels = checked_labels(clf, X, y, caller=_CALLER)
    needed("imagehash", "ImageHash", extra="curation", caller=_CALLER)
    if isinstance(cv, str) or not (isinstance(cv, Integral) or hasattr(cv, "split")):
        raise wrong_type("cv", _CALLER, "a number of folds or a splitter: unreadable images are left out before", cv)
    images = as_images(X)
    known = known_patients(clf, images, groups, caller=_CALLER)
    check_folds(labels, known, cv, caller=_CALLER)
    about = checked({"label": labels, "patient": known, "split": splits}, len(images), caller=_CALLER)
    pictures = read_pictures(X, n_jobs=clf.n_jobs, verbose=clf.verbose, caller=_CALLER)
    doubles = duplicate_table(pictures, about)
    issues = _issues(clf, X, about, pictures, doubles, cv=cv, n_jobs=n_jobs)
    refused = np.setdiff1d(pictures.position, issues["position"])
    report = CurationReport(
        n_images=len(images),
        n_patients=len(np.unique(about["patient"])) if "patient" in about else None,
        counts=_counts(about),
        label_issues=issues,
        duplicates=doubles,
        overlap=_overlap(about, pictures),
        unreadable=tuple(sorted([*pictures.skipped, *_refused(clf, images, refused)])),
        notes=(),
        images=images,
    )
    return replace(report, notes=tuple(_notes_on(report)))


def _issues(
    clf: CXRClassifier,
    X: Any,
    about: dict[str, np.ndarray],
    pictures: Pictures,
    doubles: pd.DataFrame,
    *,
    cv: Any,
    n_jobs: int | None,
) -> pd.DataFrame:
    """Return the table of `label_issues` for the readable images, with positions among all; duplicates share a fold."""
    kept = pictures.position
    labels, known = about["label"], about.get("patient")
    same = np.arange(len(labels))
    same[doubles["position"]] = len(labels) + doubles["group"]
    folds = patient_folds(
        clf, labels[kept], None if known is None else known[kept], cv, caller=_CALLER, same=same[kept]
    )
    lenient = clone(clf).set_params(on_error="skip")  # for what the network cannot take, though it could be decoded
    found = judged_labels(lenient, _safe_indexing(X, kept), labels[kept], folds, n_jobs=n_jobs)
    found["position"] = kept[found["position"]]
    return found


def _refused(clf: CXRClassifier, images: ImageSequence, positions: np.ndarray) -> Iterator[SkippedImage]:
    """Yield why the networks could not take images that could be decoded."""
    seen_as = Preprocessing(clf.image_size, clf.channels, clf.resize, clf.intensity)
    for position in positions.tolist():
        reason = "the networks could not take it."
        try:
            seen_as.pixels(images[position])
        except ImageError as error:
            reason = error.reason
        yield SkippedImage(position, images.source(position), reason)


def _overlap(about: dict[str, np.ndarray], pictures: Pictures) -> pd.DataFrame:
    if "split" not in about:
        return pd.DataFrame(columns=list(COLUMNS))
    ids = np.full(len(about["label"]), None, dtype=object)
    ids[pictures.position] = pictures.content_ids
    return overlap_table(about["split"], np.arange(len(ids)), about["label"], ids, about.get("patient"))


def _counts(about: dict[str, np.ndarray]) -> pd.DataFrame:
    """Return images and patients of each label, and split where there are some."""
    frame = pd.DataFrame(about)
    within = frame.groupby(["split", "label"] if "split" in frame else ["label"])
    counts = within.size().rename("images").to_frame()
    if "patient" in frame:
        counts["patients"] = within["patient"].nunique()
    return counts.reset_index()


def _notes_on(report: CurationReport) -> Iterator[str]:
    """Yield what to know before the tables are acted on."""
    found = report.summary
    if report.n_patients is None:
        yield "Patients are unknown: a network may have judged patients it was fitted on, and so believe wrong labels."
    if found["unreadable"]:
        yield f"{found['unreadable']} images could not be read."
    if report.n_patients is None and "split" in report.counts:
        yield "Patients are unknown, so that they could not be compared between splits."
    agree = float((report.label_issues["label"] == report.label_issues["suggested"]).mean())
    judges = f"Networks that had not seen the {report.unseen}"
    yield f"{judges} agree with {agree:.1%} of the labels; suspects are cases to look at."
    if found["suspected_labels"] > _MANY * len(report.label_issues):
        yield "So many labels are suspected that the networks, rather than the labels, may be wrong: train them longer."
    if found.get("duplicate_groups_whose_labels_differ"):
        yield f"{found['duplicate_groups_whose_labels_differ']} groups of duplicates have different labels."
    if found.get("duplicate_groups_whose_patients_differ"):
        number = found["duplicate_groups_whose_patients_differ"]
        yield f"{number} groups of duplicates stand under different patients, so that a split by patient may part them."
    if found.get("duplicate_groups_whose_splits_differ"):
        yield f"{found['duplicate_groups_whose_splits_differ']} groups of duplicates stand in different splits."
    if found.get("patients_in_several_splits"):
        yield f"{found['patients_in_several_splits']} patients stand in more than one split."
