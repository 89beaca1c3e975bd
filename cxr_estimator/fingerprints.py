"""Which images something was chosen on, remembered without keeping them.

A fingerprint holds the smallest content ids (SHA-256, shortened) of the images: a bottom-k sketch (Cohen & Kaplan 2007,
doi:10.1145/1281100.1281133). Ids are as good as random, so these are a random sample of the images, of constant size,
and the share of them that turns up again estimates how many of all images do. It tells those who have an image whether
it is in the sample; nobody gets an image or a patient from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_KEPT, _LETTERS = 64, 16


def fingerprint(content_ids: Iterable[str]) -> tuple[str, ...]:
    """Return the sketch of images with these content ids (hex): at most 64 ids of 16 hex digits, ascending.

    Examples
    --------
    >>> fingerprint(["b" * 64, "a" * 64, "b" * 64])
    ('aaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbb')
    """
    return tuple(sorted({each[:_LETTERS] for each in content_ids})[:_KEPT])


def share_seen(sketch: Sequence[str], content_ids: Iterable[str]) -> float:
    """Return the share, in [0, 1], of the sketched images that are among `content_ids`; 0 for an empty sketch.

    Exact up to 64 images, beyond that an estimate with a standard error of at most 0.0625.
    """
    seen = {each[:_LETTERS] for each in content_ids}
    return sum(each in seen for each in sketch) / len(sketch) if sketch else 0.0
