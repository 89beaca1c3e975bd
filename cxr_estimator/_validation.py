"""The checks of parameters that the whole package shares, with one message template."""

from __future__ import annotations

import difflib
import inspect
import math
import os
from collections.abc import Callable, Iterable
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from cxr_estimator.errors import DataError, InvalidParameterError, InvalidTypeError

MOST_COPIES = 1000  # randomly changed ones of each image
_MAX_NAME = 100  # characters of a name that is looked for among others
_MAX_SHOWN = 1000  # characters of a value in a message


def message(name: str, caller: str, constraint: str, value: Any) -> str:
    """Return the one sentence in which every bad parameter is reported."""
    got = repr(value)
    if len(got) > _MAX_SHOWN:
        got = f"{got[:_MAX_SHOWN]} ... ({len(got):,} characters)"
    return f"The {name!r} parameter of {caller} must be {constraint}. Got {got}."


def invalid(name: str, caller: str, constraint: str, value: Any) -> InvalidParameterError:
    """Return (not raise) the error for a parameter whose value is not allowed."""
    return InvalidParameterError(message(name, caller, constraint, value))


def wrong_type(name: str, caller: str, constraint: str, value: Any) -> InvalidTypeError:
    """Return (not raise) the error for a parameter of the wrong type."""
    return InvalidTypeError(message(name, caller, constraint, value))


def check_path(name: str, value: Any, *, caller: str) -> Path:
    """Return `value` as a path that the system can look at, whether or not something is there."""
    if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str):
        raise wrong_type(name, caller, "a path", value)
    if not os.fspath(value):
        raise invalid(name, caller, "a path that is not empty", value)
    path = Path(value)
    try:
        path.exists()
    except OSError as error:
        raise DataError(f"{path!s:.{_MAX_SHOWN}}: cannot be looked at ({error.strerror}).") from error
    return path


def check_choice(name: str, value: Any, choices: Iterable[Any], *, caller: str) -> Any:
    """Return `value` if it is one of `choices`; the error lists them and suggests the nearest."""
    options = list(choices)
    given = plain(value)  # an entry of `classes_`, say
    for option in map(plain, options):
        same_kind = isinstance(given, str | int | float) and isinstance(given, bool) == isinstance(option, bool)
        if given is option or (same_kind and given == option):
            return option  # 1 stands for the label 1.0, but True does not
    near = close_matches(value, [str(option) for option in options if str(option) != str(value)], n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    listed = ", ".join(repr(option) for option in options)
    raise InvalidParameterError(message(name, caller, f"one of {listed}", value) + hint)


def close_matches(value: Any, names: Iterable[str], *, n: int, cutoff: float = 0.6) -> list[str]:
    """Return the `n` names that are most like `value`; none for a long text, which would take for ever to compare."""
    text = str(value)
    return difflib.get_close_matches(text, names, n=n, cutoff=cutoff) if len(text) <= _MAX_NAME else []


def plain(value: Any) -> Any:
    """Return a NumPy scalar as the Python value it stands for, anything else as it is."""
    import numpy as np

    return value.item() if isinstance(value, np.generic) else value


def check_number(
    name: str,
    value: Any,
    *,
    caller: str,
    low: float | None = None,
    high: float | None = None,
    open_low: bool = False,
    open_high: bool = False,
    integer: bool = False,
) -> Any:
    """Return `value` if it is a number in the interval; integers only where `integer` is true."""
    kind = "an integer" if integer else "a number"
    bounds = []
    if low is not None:
        bounds.append(f"{'>' if open_low else '>='} {low}")
    if high is not None:
        bounds.append(f"{'<' if open_high else '<='} {high}")
    constraint = " ".join([kind, " and ".join(bounds)]).strip()
    if isinstance(value, bool) or not isinstance(value, Integral if integer else Real):
        raise wrong_type(name, caller, constraint, value)
    number: Any = value
    below = low is not None and (number < low or (open_low and number == low))
    above = high is not None and (number > high or (open_high and number == high))
    if below or above or not (integer or _is_finite(number)):
        raise invalid(name, caller, constraint, value)
    return value


def _is_finite(number: Any) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an integer beyond the range of floats
        return False


def keyword_options(function: Callable[..., Any]) -> dict[str, Any]:
    """Return names and defaults of what a function takes by keyword only; `inspect.Parameter.empty` for no default."""
    parameters = inspect.signature(function).parameters.values()
    return {one.name: one.default for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY}


def check_copies(augment: Any, copies: Any, *, caller: str) -> None:
    """Raise unless what is kept of changed copies is a name and how many, or None and 0."""
    if not isinstance(augment, str | None):
        raise wrong_type("augment", caller, "None or a text", augment)
    check_number("copies", copies, caller=caller, low=0, high=MOST_COPIES, integer=True)
    if (augment is None) != (copies == 0):
        raise invalid("copies", caller, "0 without `augment`, and above 0 with it", copies)


def check_seed(value: Any, *, caller: str) -> int:
    """Return an integer seed for `random_state` = None (a fresh one), an integer or a NumPy generator."""
    import numpy as np

    if value is None:
        return int(np.random.default_rng().integers(2**31))
    if isinstance(value, Integral) and not isinstance(value, bool):
        return int(check_number("random_state", value, caller=caller, low=0, high=2**32 - 1, integer=True))
    if isinstance(value, np.random.RandomState):
        return int(value.randint(2**31))
    if isinstance(value, np.random.Generator):
        return int(value.integers(2**31))
    raise wrong_type("random_state", caller, "None, an integer, a RandomState or a Generator", value)


def check_labels(y: Any, n_images: int, *, caller: str, classes: Any = None) -> Any:
    """Return `y` as a 1-D array of `n_images` labels without missing ones, all among `classes` if those are given."""
    import numpy as np

    labels = _as_array("y", y, caller)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise DataError(f"{caller}: y must be one label per image, shape (N,). Got shape {labels.shape}.")
    if len(labels) != n_images:
        raise DataError(f"{caller}: X has {n_images} images but y has {len(labels)} labels.")
    _check_entries("y", labels, caller)
    if labels.dtype.kind not in "biufUO" or not all(
        isinstance(label, str | int | float) and label not in (math.inf, -math.inf) for label in set(labels.tolist())
    ):
        raise DataError(f"{caller}: labels must be text, finite numbers or booleans. Got {labels.dtype}.")
    if labels.dtype.kind == "f" and not np.all(labels == np.round(labels)):
        raise DataError(f"{caller}: y must hold class labels. Unknown label type: continuous numbers.")
    unknown = [] if classes is None else sorted(set(labels.tolist()) - set(classes.tolist()), key=str)
    if unknown:
        raise DataError(f"{caller}: y holds labels the model does not know: {unknown}. It knows {classes.tolist()}.")
    return labels


def is_label_matrix(y: Any) -> bool:
    """Tell whether `y` has several columns, one for each of several labels per image."""
    import numpy as np

    try:
        shape = np.asarray(y).shape
    except ValueError:  # lists of different lengths
        return False
    return len(shape) == 2 and shape[1] > 1


def check_label_matrix(y: Any, n_images: int, *, caller: str, n_labels: int | None = None) -> Any:
    """Return `y` as an array (N, K), float64, of 1 (present), 0 (absent) and NaN (unknown)."""
    import numpy as np
    import pandas as pd

    array = _as_array("y", y, caller)
    if array.ndim != 2 or n_labels not in (None, array.shape[1]):
        expected = "a column for each label" if n_labels is None else f"{n_labels} columns, one for each label"
        raise DataError(f"{caller}: y must have {expected}. Got shape {array.shape}.")
    if len(array) != n_images:
        raise DataError(f"{caller}: X has {n_images} images but y has {len(array)} rows.")
    missing = pd.isna(array)
    if not all(isinstance(value, Real | np.bool_) for value in set(array[~missing].tolist())):
        raise DataError(f"{caller}: y must hold numbers where it has several columns: 1, 0, or NaN for unknown.")
    matrix = np.where(missing, np.nan, array).astype(np.float64)
    wrong = np.argwhere(~missing & (matrix != 0) & (matrix != 1))
    if len(wrong):
        row, column = wrong[0].tolist()
        got = plain(matrix[row, column])
        hint = " (As cross_val_predict encodes NaN, except for method='predict'.)" if got == 2 else ""
        raise DataError(
            f"{caller}: y must hold 1 (present), 0 (absent) or NaN (unknown) where it has several columns. Got {got} "
            f"in row {row}, column {column}.{hint}"
        )
    return matrix


def check_per_image(name: str, values: Any, n_images: int, *, caller: str) -> Any:
    """Return `values` as an array with one entry per image and none missing."""
    array = _as_array(name, values, caller)
    if array.ndim != 1 or len(array) != n_images:
        raise DataError(
            f"{caller}: {name} must have one entry for each of the {n_images} images. Got shape {array.shape}."
        )
    _check_entries(name, array, caller)
    return array


def _as_array(name: str, values: Any, caller: str) -> Any:
    """Return an array; of objects where NumPy would turn numbers or NaN beside text into text."""
    import numpy as np

    try:
        array = np.asarray(values)
    except ValueError as error:
        raise DataError(f"{caller}: {name} must have one entry per image. Got lists of different lengths.") from error
    if array.dtype.kind != "U" or hasattr(values, "dtype"):
        return array
    objects = np.asarray(values, dtype=object)
    return array if all(isinstance(value, str) for value in objects.ravel()) else objects


def _check_entries(name: str, array: Any, caller: str) -> None:
    """Refuse missing entries, and text mixed with numbers, which cannot be sorted."""
    import numpy as np
    import pandas as pd

    missing = np.flatnonzero(pd.isna(array)).tolist()
    if missing:
        shown = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
        raise DataError(f"{caller}: {name} has {len(missing)} missing (NaN or None) entries, at index {shown}.")
    if array.dtype.kind == "O" and len({isinstance(value, str) for value in array}) > 1:
        raise DataError(f"{caller}: {name} mixes text and numbers; use one type for all entries.")
