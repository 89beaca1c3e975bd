"""Many images at once: a row for each, whatever is wrong with it, and the least trusted ones first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from cxr_estimator._figure_style import short
from cxr_estimator._outputs import Task
from cxr_estimator._validation import check_choice
from cxr_estimator.demo._analysis import Judgement, Progress, Question, explain, judge, methods_on_offer
from cxr_estimator.demo._archives import REST, Limits, Member, count, is_archive, members
from cxr_estimator.demo._models import Served
from cxr_estimator.demo._pictures import overlaid, radiograph
from cxr_estimator.demo._uploads import read_content
from cxr_estimator.errors import DataError, ImageError
from cxr_estimator.images import as_images
from cxr_estimator.verdicts import SHOW, WARN, WITHHOLD

JUDGED, UNUSUAL, REFUSED, NOT_READ = "judged", "unusual image", "refused", "not read"  # what became of a file
ORDER = (
    "Least trusted first: images unlike those of training, then heat maps that are withheld, shown with a warning, and "
    "shown; within each, the smallest gain first. Refused images and files that cannot be read stand at the end."
)
_PICTURE = 320  # pixels of the longer side


class Row(NamedTuple):
    """What became of one file.

    Attributes
    ----------
    name : str
        Of the file, without folders.
    status : str
        "judged", "unusual image", "refused" or "not read".
    decision : str
    label : str
        The class that `proba` is of: the positive one, or of more than two classes the explained one.
    proba, low, high : float
        Its probability, and the range over slightly changed copies; NaN where nothing was judged.
    verdict : str
        Of the heat map's trust card; empty where there is none.
    gain : float
        Over moved copies of the map; NaN where there is none.
    reason : str
        Why a file was not judged, or what is unusual about it.
    picture : ndarray (H, W, 3) uint8, or None
        The overlay, at most 320 pixels long; where the map is withheld, the words that say so.
    """

    name: str
    status: str
    decision: str = ""
    label: str = ""
    proba: float = np.nan
    low: float = np.nan
    high: float = np.nan
    verdict: str = ""
    gain: float = np.nan
    reason: str = ""
    picture: np.ndarray | None = None

    @property
    def is_judged(self) -> bool:
        """Whether there is a decision."""
        return self.status in (JUDGED, UNUSUAL)


def judge_batch(
    served: Served,
    paths: Sequence[str | Path],
    question: Question,
    method: str,
    limits: Limits,
    *,
    on_row: Callable[[Row], Any] | None = None,
    progress: Progress | None = None,
) -> list[Row]:
    """Judge and explain files, and the members of zip files among them.

    Parameters
    ----------
    served : Served
    paths : sequence of paths
        Radiographs and zip files.
    question : Question
    method : str
        Key of `attribution.METHODS` that works on this model.
    limits : Limits
        Of all files together.
    on_row : callable, optional
        Called with each row as soon as it is there.
    progress : callable, optional
        Called as `progress(done, total)` with numbers of files; what it raises stops the work.

    Returns
    -------
    list of Row
        In the order of the files; one for each, whatever is wrong with it. Folders and hidden files have none.

    Raises
    ------
    DataError
        There are no files.
    InvalidParameterError
        The model has no such point, class or method.
    """
    if not paths:
        raise DataError("Choose files first: radiographs, or a zip file of them.")
    check_choice("method", method, methods_on_offer(served.clf), caller="batch")
    total = max(number_of_files(paths, limits), 1)
    rows: list[Row] = []
    for member in files_of(paths, limits):
        if member.is_noise:
            continue
        done = min(len(rows), total - 1)

        def tell(part: float, whole: int, done: int = done) -> None:
            if progress is not None:
                progress(done + part / max(whole, 1), total)

        tell(0, 1)
        rows.append(_row(served, member, question, method, tell))
        if on_row is not None:
            on_row(rows[-1])
    if progress is not None:
        progress(total, total)
    return rows


def number_of_files(paths: Sequence[str | Path], limits: Limits) -> int:
    """Return about how many rows there will be; no archive is unpacked for that."""
    return min(sum(count(path, limits) if is_archive(path) else 1 for path in paths), limits.files)


def files_of(paths: Sequence[str | Path], limits: Limits) -> Iterator[Member]:
    """Yield files and the members of archives one by one, within limits for all of them together."""
    n_read = size = 0
    for path in paths:
        left = limits._replace(files=limits.files - n_read, total_bytes=limits.total_bytes - size)
        if left.files <= 0 or left.total_bytes <= 0:
            yield Member(REST, reason=f"a batch takes {limits.files} files; these are left out.")
            return
        try:
            of_path = members(path, left) if is_archive(path) else iter([_plain(path)])
            for member in of_path:
                n_read += member.content is not None
                size += len(member.content or b"")
                yield member
                if member.name == REST:
                    return
        except DataError as error:  # of an archive as a whole
            yield Member(_shown_name(path), reason=str(error))


def ranked(rows: Sequence[Row]) -> list[Row]:
    """Return rows in the order that `ORDER` tells."""
    verdicts = {WITHHOLD: 0, WARN: 1, SHOW: 2}

    def key(row: Row) -> tuple[int, int, float]:
        group = (UNUSUAL, JUDGED, REFUSED, NOT_READ).index(row.status)
        return group, verdicts.get(row.verdict, 3), 0.0 if np.isnan(row.gain) else row.gain

    return sorted(rows, key=key)


def table(rows: Sequence[Row]) -> pd.DataFrame:
    """Return rows as a table, without pictures; NaN where there is no number."""
    return pd.DataFrame(
        {
            "file": [row.name for row in rows],
            "status": [row.status for row in rows],
            "decision": [row.decision for row in rows],
            "class": [row.label for row in rows],
            "probability": [row.proba for row in rows],
            "low": [row.low for row in rows],
            "high": [row.high for row in rows],
            "heat map": [row.verdict for row in rows],
            "gain": [row.gain for row in rows],
            "reason": [row.reason for row in rows],
        }
    )


def csv_of(found: pd.DataFrame) -> bytes:
    """Return a table as CSV in UTF-8, in which no text is a formula to a spreadsheet."""
    texts = found.select_dtypes(exclude="number").columns
    safe = found.assign(**{name: [_no_formula(value) for value in found[name]] for name in texts})
    return safe.to_csv(index=False).encode("utf-8")


def caption(row: Row) -> str:
    """Return what to say of a row's picture."""
    shown = "map withheld" if row.verdict == WITHHOLD else f"map: {row.verdict}"
    return f"{row.name}: {row.decision}, p({row.label}) {row.proba:.0%}; {shown}, gain {row.gain:+.3f}"


def _no_formula(value: Any) -> Any:
    text = str(value)
    return f"'{text}" if text.lstrip().startswith(("=", "+", "-", "@")) else text


def _plain(path: str | Path) -> Member:
    name = _shown_name(path)
    try:
        return Member(name, content=as_images([str(path)]).content(0))
    except ImageError as error:
        return Member(name, reason=error.reason)


def _shown_name(path: str | Path) -> str:
    return short(Path(path).name, 80)


def _row(served: Served, member: Member, question: Question, method: str, tell: Progress) -> Row:
    """Return the row of one file."""
    if member.content is None:
        return Row(member.name, NOT_READ, reason=member.reason or "")
    try:
        image = read_content(member.content, member.name)
        judgement = judge(served, image, question)
        check = "" if judgement.check is None else judgement.check.sentences[0]
        if judgement.is_refused:
            return Row(member.name, REFUSED, reason=check)
        shown = explain(judgement, image, [method], progress=tell)[method]
    except (DataError, ImageError) as error:
        return Row(member.name, NOT_READ, reason=str(error))
    label = label_of(judgement)
    return Row(
        member.name,
        UNUSUAL if judgement.is_unusual else JUDGED,
        judgement.decision,
        label,
        judgement.proba[label],
        *judgement.spread[label],
        shown.card.verdict,
        shown.card.gain,
        check if judgement.is_unusual else "",
        overlaid(radiograph(served, image, longest=_PICTURE), shown, cmap=None, opacity=0.5, show_withheld=False),
    )


def label_of(judgement: Judgement) -> str:
    """Return the class whose probability stands for the whole: the positive one, or else the explained one."""
    clf = judgement.served.clf
    return str(clf.pos_label_ if clf.task_ is Task.BINARY else judgement.label)
