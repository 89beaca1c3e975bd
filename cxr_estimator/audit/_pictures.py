"""Pictures that show what a check found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cxr_estimator.audit._evidence import Evidence
from cxr_estimator.audit._types import Picture
from cxr_estimator.calibration import label_log_odds

_GAP = 4  # pixels between two images
_MOST = 2  # pictures of one check
Pictures = Callable[[], tuple[Picture, ...]]


def pair(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return two images (C, H, W) in [0, 1] side by side, as (H, 2 W + gap[, 3]) uint8."""
    gap = np.ones((*before.shape[:2], _GAP), before.dtype)
    return _pixels(np.concatenate([before, gap, after], axis=2))


def shown(evidence: Evidence, rows: Any, caption: str | Callable[[int], str], view: Any = None) -> Pictures:
    """Return a function that shows the first images of some rows of `Seen`.

    Parameters
    ----------
    evidence : Evidence
    rows : sequence of int
    caption : str, or callable `caption(row) -> str`
    view : callable, optional
        `view(position) -> ndarray (C, H, W) or None`: what is shown of the image at a position of X. Default: all.
    """

    def pictures() -> tuple[Picture, ...]:
        found = []
        for row in np.asarray(rows, dtype=int)[:_MOST].tolist():
            image = (view or evidence.looking.image)(int(evidence.seen.index[row]))
            if image is not None:
                found.append(Picture(caption if isinstance(caption, str) else caption(row), _pixels(image)))
        return tuple(found)

    return pictures


def contradicted(evidence: Evidence, among: np.ndarray | None = None) -> Pictures:
    """Return a function that shows the images whose label the model contradicts most, of those `among` (M,) bool."""
    seen, names = evidence.seen, evidence.clf.classes_
    odds = label_log_odds(seen.logits, evidence.clf.task_)
    own = odds[np.arange(len(odds)), seen.target]
    order = np.argsort(own if among is None else np.where(among, own, np.inf), kind="stable")

    def caption(row: int) -> str:
        return f"labelled {names[seen.target[row]]}, and the model is surest of {names[odds[row].argmax()]}."

    return shown(evidence, order[own[order] < 0], caption)


def _pixels(image: np.ndarray) -> np.ndarray:
    pixels = np.rint(image * 255).astype(np.uint8)
    return pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, 2)
