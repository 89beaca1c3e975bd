"""What must hold of each entry of a receipt before anything uses it: receipts come from anybody."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import date
from typing import Any, NamedTuple

from cxr_estimator.errors import DataError

BUNDLED, FOLDER = "bundled", "folder"  # names of models that are not on the Hub
GRID = 16  # blocks of the coarse map per side, at most
MACHINE = ("system", "processor", "instructions")
_LARGEST = 1e38  # of numbers, which float32 can hold
_MOST = 200  # characters of a text
_MOST_LABELS = 10_000
_MOST_VALUES = 64  # of an option that is a list


class Point(NamedTuple):
    """The operating point that decided.

    Attributes
    ----------
    name, rule : str
    label : label
        What it decides on.
    threshold : float
        The probability from which it does.
    score : float
        The same on the network's own log-odds.
    """

    name: str
    rule: str
    label: Any
    threshold: float
    score: float


def check_fields(content: dict[str, Any]) -> dict[str, Any]:
    """Return all entries, lists as tuples, or raise a DataError that names the first wrong one."""
    unknown, missing = sorted(content.keys() - _FIELDS.keys()), sorted(_FIELDS.keys() - content.keys())
    if unknown or missing:
        wrong = [f"unknown: {unknown!r:.200}"] * bool(unknown) + [f"missing: {missing}"] * bool(missing)
        raise DataError(f"wrong keys ({'; '.join(wrong)})")
    found = {}
    for name, read in _FIELDS.items():
        try:
            found[name] = read(content[name])
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"{name!r} cannot be {content[name]!r:.200}") from error
    _check_together(found)
    return found


def _check_together(found: dict[str, Any]) -> None:
    name, revision, seen = found["model_name"], found["model_revision"], found["probabilities"]
    if revision is not None and name in (BUNDLED, FOLDER):
        raise DataError(f"'model_revision' must be null for the model {name!r}")
    if len({label for label, _ in seen}) < len(seen):
        raise DataError("'probabilities' names a label twice")


def option_value(value: Any) -> Any:
    """Return a value of an option, lists as tuples; raise ValueError where it could be an image."""
    if isinstance(value, list | tuple):
        _require(len(value) <= _MOST_VALUES)
        return tuple(_scalar(one) for one in value)
    return _scalar(value)


def _require(holds: bool) -> None:
    if not holds:
        raise ValueError


def _number(value: Any) -> Any:
    _require(isinstance(value, int | float) and not isinstance(value, bool))
    _require(math.isfinite(value) if isinstance(value, float) else True)
    _require(abs(value) <= _LARGEST)
    return value


def _probability(value: Any) -> float:
    _require(0 <= _number(value) <= 1)
    return float(value)


def _integer(low: int, high: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        _require(isinstance(value, int) and not isinstance(value, bool) and low <= value <= high)
        return value

    return read


def _text(pattern: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        _require(isinstance(value, str) and bool(re.fullmatch(pattern, value, re.ASCII)))
        return value

    return read


def _optional(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else read(value)


def _day(value: Any) -> str:
    return date.fromisoformat(_text(r"\d{4}-\d\d-\d\d")(value)).isoformat()


def _model_name(value: Any) -> str:
    from cxr_estimator.hub import check_repo_id  # later: it takes time to load

    return value if value in (BUNDLED, FOLDER) else check_repo_id(value, caller="Receipt")


def _revision(value: Any) -> str | None:
    from cxr_estimator.hub import check_revision

    return check_revision("model_revision", value, caller="Receipt")


def _label(value: Any) -> Any:
    """Return a class label: text, a number or a boolean."""
    return _words(value) if isinstance(value, str) else value if isinstance(value, bool) else _number(value)


def _words(value: Any) -> str:
    _require(isinstance(value, str) and 0 < len(value) <= _MOST and value.isprintable())
    return value


def _scalar(value: Any) -> Any:
    return None if value is None else _label(value)


def _options(value: Any) -> dict[str, Any]:
    _require(isinstance(value, dict) and len(value) <= _MOST_VALUES)
    return {_text("[a-z][a-z_0-9]{0,63}")(name): option_value(one) for name, one in value.items()}


def _texts(*keys: str) -> Callable[[Any], dict[str, str]]:
    def read(value: Any) -> dict[str, str]:
        _require(isinstance(value, dict) and len(value) <= _MOST_VALUES)
        _require(not keys or set(value) == set(keys))
        return {_words(name): _words(one) for name, one in value.items()}

    return read


def _point(value: Any) -> Point:
    value = value._asdict() if isinstance(value, Point) else value
    _require(isinstance(value, dict) and set(value) == set(Point._fields))
    name, rule = _words(value["name"]), _words(value["rule"])
    return Point(name, rule, _label(value["label"]), _probability(value["threshold"]), float(_number(value["score"])))


def _probabilities(value: Any) -> tuple[tuple[Any, float], ...]:
    _require(isinstance(value, list | tuple) and 2 <= len(value) <= _MOST_LABELS)
    _require(all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in value))
    return tuple((_label(label), _probability(one)) for label, one in value)


def _coarse_map(value: Any) -> tuple[tuple[float, ...], ...]:
    _require(isinstance(value, list | tuple) and 1 <= len(value) <= GRID)
    _require(all(isinstance(row, list | tuple) and 1 <= len(row) <= GRID for row in value))
    _require(len({len(row) for row in value}) == 1)
    return tuple(tuple(float(_number(one)) for one in row) for row in value)


def _flag(value: Any) -> bool:
    _require(isinstance(value, bool))
    return value


_SHA256 = _text("[0-9a-f]{64}")
_FIELDS: dict[str, Callable[[Any], Any]] = {
    "created": _day, "image_id": _SHA256, "model_name": _model_name, "model_revision": _revision,
    "model_digest": _SHA256, "operating_point": _optional(_point), "method": _text("[a-z][a-z_0-9]{0,63}"),
    "target": _label, "error_bars": _flag, "options": _options, "seed": _optional(_integer(0, 2**32 - 1)),
    "batch_size": _integer(1, 100_000), "device": _text("[a-z]{1,20}"), "precision": _text("float32|bfloat16"),
    "threads": _integer(1, 100_000), "versions": _texts(), "machine": _texts(*MACHINE),
    "probabilities": _probabilities, "decision": _label, "explained": _label, "score": _number,
    "map_sha256": _SHA256, "coarse_map": _coarse_map,
}  # fmt: skip
