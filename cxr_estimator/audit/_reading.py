"""What must hold of each entry of a written audit before anything uses it: such files come from anybody."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from cxr_estimator._validation import check_path
from cxr_estimator.attribution import METHODS
from cxr_estimator.audit._checks import CHECKS
from cxr_estimator.audit._report import FORMAT, VERSION, MapVerdict
from cxr_estimator.audit._types import FAMILIES, AuditCheck
from cxr_estimator.card import AUDIT_NAME
from cxr_estimator.errors import DataError, ModelFolderError
from cxr_estimator.serialization import read_json
from cxr_estimator.verdicts import DOUBTFUL, FAIL, NO_DATA, PASS, SHOW, WARN, WITHHOLD

_MAX_BYTES = 5_000_000
_MOST = 10**12  # of a count


def read_fields(path: str | Path) -> dict[str, Any]:
    """Return the attributes of the `AuditReport` in a file, or of that in a folder."""
    path = check_path("path", path, caller="AuditReport.load")
    path = path / AUDIT_NAME if path.is_dir() else path
    try:
        content = read_json(path, limit=_MAX_BYTES)
    except ModelFolderError as error:
        raise DataError(str(error)) from error
    if (content.get("format"), content.get("version")) != (FORMAT, VERSION):
        raise DataError(f"{path}: is no audit of version {VERSION}, which `cxr audit` writes.")
    try:
        found = _read(content, _FIELDS)
        methods = tuple(found["maps"])
        for one in found["checks"]:
            _require(one.method is None or one.method in methods, f"a check of {one.method!r}, which 'maps' lacks")
    except ValueError as error:
        raise DataError(f"{path}: is no whole audit of this version: {error}. Make it anew.") from error
    kept = ("checks", "classes", "n_images", "n_patients", "n_unreadable", "evaluations", "note", "versions")
    return {"methods": methods, **{name: found[name] for name in kept}}


def _require(holds: bool, wrong: str) -> None:
    if not holds:
        raise ValueError(wrong)


def _read(content: Any, fields: dict[str, Callable[[Any], Any]]) -> dict[str, Any]:
    """Return all entries of an object, or raise a ValueError that names the first wrong one."""
    _require(isinstance(content, dict), f"{content!r:.100} is no object")
    unknown, missing = sorted(content.keys() - fields.keys()), sorted(fields.keys() - content.keys())
    _require(not unknown, f"it has the unknown entries {unknown!r:.200}")
    _require(not missing, f"it lacks {missing}")
    found = {}
    for name, read in fields.items():
        try:
            found[name] = read(content[name])
        except ValueError as error:
            raise ValueError(f"{name!r}: {error}") from error
    return found


def _text(value: Any) -> str:
    _require(isinstance(value, str), f"{value!r:.100} is no text")
    return value


def _one_of(known: Iterable[str]) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        _require(isinstance(value, str) and value in known, f"{value!r:.100} is not known")
        return value

    return read


def _count(value: Any) -> int:
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST
    _require(is_count, f"{value!r:.100} is no count")
    return value


def _number(value: Any) -> float:
    """Return a number; null is NaN, and infinite ones are texts."""
    if value is None:
        return math.nan
    if value in ("inf", "-inf"):
        return float(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf
    _require(is_number, f"{value!r:.100} is no number")
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError("a number is too large") from error


def _limit(value: Any) -> float:
    _require(value is not None, "there must be a limit")
    return _number(value)


def _optional(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else read(value)


def _list_of(read: Callable[[Any], Any], n: int | None = None) -> Callable[[Any], tuple[Any, ...]]:
    def checked(value: Any) -> tuple[Any, ...]:
        _require(isinstance(value, list) and n in (None, len(value)), f"{value!r:.100} is no list of the right length")
        return tuple(read(one) for one in value)

    return checked


def _dict_of(read_name: Callable[[Any], str], read: Callable[[Any], Any]) -> Callable[[Any], dict[str, Any]]:
    def checked(value: Any) -> dict[str, Any]:
        _require(isinstance(value, dict), f"{value!r:.100} is no object")
        return {read_name(name): read(one) for name, one in value.items()}

    return checked


def _map_verdict(value: Any) -> MapVerdict:
    return MapVerdict(**_read(value, {"verdict": _one_of((SHOW, WARN, WITHHOLD)), "reason": _text}))


def _check(value: Any) -> AuditCheck:
    return AuditCheck(**_read(value, _CHECK))


_VERDICT = _one_of((PASS, DOUBTFUL, FAIL, NO_DATA))
_CHECK: dict[str, Callable[[Any], Any]] = {
    "name": _one_of(CHECKS), "family": _one_of(FAMILIES), "method": _optional(_text), "value": _number,
    "interval": _list_of(_number, 2), "threshold": _limit, "verdict": _VERDICT, "sentence": _text,
}  # fmt: skip
_FIELDS: dict[str, Callable[[Any], Any]] = {
    "format": _text, "version": _count, "n_images": _count, "n_patients": _optional(_count), "n_unreadable": _count,
    "classes": _list_of(_text), "verdict": _VERDICT, "maps": _dict_of(_one_of(METHODS), _map_verdict),
    "checks": _list_of(_check), "evaluations": _count, "note": _optional(_text),
    "versions": _dict_of(_text, _text), "disclaimer": _text,
}  # fmt: skip
