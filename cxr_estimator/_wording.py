"""How figures and names are written for people, and text that Markdown must take as it is."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from cxr_estimator.statistics import Estimate

if TYPE_CHECKING:
    import pandas as pd

DISCLAIMER = "Research and education only, not a medical device."
SHOWS_RADIOGRAPHS = f"{DISCLAIMER} This page shows radiographs: keep it as you keep them."
_SHORT = {"auc", "auroc", "auprc", "npv", "f1", "mcc", "ood"}
# An underscore between letters or digits means nothing; addresses and names of figures are left alone.
_MEANT = re.compile(r"(?<=[^\W_])(_+)(?=[^\W_])|([\\`*_\[\]|#~$])")


class Markdown(str):
    """Text that is Markdown already, which `escaped` leaves alone."""

    __slots__ = ()


def words(name: Any) -> str:
    """Return the name of a figure for people: "macro_auroc" is "macro AUROC"."""
    return " ".join(word.upper() if word in _SHORT else word for word in str(name).split("_")).replace("brier", "Brier")


def cell(one: Estimate, sign: str = "") -> str:
    """Return "0.912 (0.880 to 0.940)", "undefined", or without brackets where there is no interval.

    Examples
    --------
    >>> cell(Estimate(0.912, 0.88, 0.94))
    '0.912 (0.880 to 0.940)'
    """
    if math.isnan(one.value):
        return "undefined"
    if math.isnan(one.low) or one.low == one.high:
        return f"{one.value:{sign}.3f}"
    return f"{one.value:{sign}.3f} ({one.low:{sign}.3f} to {one.high:{sign}.3f})"


def number_of(n: int, what: str) -> str:
    """Return "1 image", "1,234 images"."""
    return f"{n:,} {what}{'s' * (n != 1)}"


def images_of(n_images: int, n_patients: int | None) -> str:
    """Return "12 images of 3 patients"."""
    of = "unknown patients" if n_patients is None else number_of(n_patients, "patient")
    return f"{number_of(n_images, 'image')} of {of}"


def changed_copies(number: int) -> str:
    """Return "1 randomly changed copy" or "4 randomly changed copies"."""
    return f"{number:,} randomly changed {'copy' if number == 1 else 'copies'}"


def printable(text: str) -> str:
    r"""Return text that UTF-8 can hold: a byte of a name that is no UTF-8 becomes "\udcff" or the like."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def escaped(text: Any) -> Markdown:
    r"""Return text in one line in which no character means anything to Markdown or HTML; `Markdown` as it is.

    Examples
    --------
    >>> print(escaped("a|b *c* rule_in <i>"))
    a\|b \*c\* rule_in &lt;i>
    """
    if isinstance(text, Markdown):
        return text
    plain = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;")
    plain = re.sub("^>", "&gt;", plain)  # a quotation only there; elsewhere there is nothing that it could close
    return Markdown(_MEANT.sub(lambda found: found[1] or f"\\{found[2]}", plain))


def markdown_rows(head: Sequence[Any], rows: Iterable[Sequence[Any]]) -> Markdown:
    """Return a table in GitHub's Markdown."""
    lines = [[escaped(one) for one in row] for row in (head, *rows)]
    lines.insert(1, [Markdown("---")] * len(head))
    return Markdown("\n".join(f"| {' | '.join(line)} |" for line in lines))


def markdown_table(table: pd.DataFrame) -> Markdown:
    """Return a data frame of text as a table in GitHub's Markdown."""
    return markdown_rows(table.columns.astype(str).tolist(), table.to_numpy().tolist())


def fenced(text: str, language: str = "") -> Markdown:
    """Return a block of code that no run of backticks inside can end."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return Markdown(f"{fence}{language}\n{text.strip()}\n{fence}")
