"""Flat images as the rows of a table of numbers, checked as scikit-learn checks its own input."""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Iterator, Sequence
from numbers import Number
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import sparse
from sklearn.utils import column_or_1d
from sklearn.utils.validation import validate_data

from cxr_estimator._validation import is_label_matrix
from cxr_estimator.errors import CXRError, DataError, InvalidTypeError

if TYPE_CHECKING:
    from cxr_estimator.classifier import CXRClassifier

_SPREADS = 4  # so many standard deviations on both sides of the mean become [0, 1]; what lies beyond is clipped
_LARGEST = 1e37  # leaves room below the end of float32 for differences


def is_table(X: Any) -> bool:
    """Tell whether X is, or was meant as, a 2-D table of numbers rather than a sequence of images."""
    if sparse.issparse(X):
        return True
    if isinstance(X, Sequence):
        if len(X) == 0 or not all(isinstance(item, list | tuple | Number) for item in X):
            return False
    elif isinstance(X, torch.Tensor):
        return X.ndim in (1, 2)
    elif not hasattr(X, "__array__"):
        return False
    try:
        array = np.asarray(X)
    except ValueError:  # lists of different lengths
        return False
    if array.dtype.kind != "O":
        return array.ndim in (1, 2) and array.dtype.kind in "buifc"
    if array.ndim != 2 or array.size == 0 or isinstance(array.flat[0], str | os.PathLike):
        return False
    return array.shape[1] > 1 or isinstance(array.flat[0], Number)  # one column may hold images


def check_training_rows(clf: CXRClassifier, X: Any, y: Any) -> np.ndarray:
    """Return the rows (N, F) to fit on; `remember` stores what they were called once the fit has succeeded."""
    if y is None:
        raise DataError(f"This {type(clf).__name__} estimator requires y to be passed, but the target y is None.")
    with _own_errors():
        if not is_label_matrix(y):
            column_or_1d(y, warn=True)
        # a copy, because a fit that fails later must leave no trace
        return _numbers(validate_data(copy.copy(clf), _plain(X), **_options(clf)))


def check_rows(clf: CXRClassifier, X: Any) -> np.ndarray:
    """Return the rows (N, F) to judge: as many columns, of the same names, as those of `fit`."""
    with _own_errors():
        return _numbers(validate_data(clf, _plain(X), reset=False, **_options(clf)))


def remember(clf: CXRClassifier, X: Any, *, is_rows: bool) -> None:
    """Set `n_features_in_` and, for a data frame, `feature_names_in_`; images have neither."""
    for name in ("n_features_in_", "feature_names_in_"):
        clf.__dict__.pop(name, None)
    if is_rows:
        validate_data(clf, _plain(X), skip_check_array=True)


def intensity_range(rows: np.ndarray) -> tuple[float, float]:
    """Return mean -+ 4 standard deviations of all values: one range for all columns, which are pixels of one image.

    A range for each column would even out what makes a picture of them.
    """
    readable = rows[np.isfinite(rows).all(axis=1)]
    if not len(readable):
        return 0.0, 1.0  # nothing can be read, which `fit` says
    with np.errstate(over="ignore", invalid="ignore"):  # what is too large is refused below
        mean, deviation = float(readable.mean(dtype=np.float64)), float(readable.std(dtype=np.float64))
    # pixels are float32: where they hardly differ, a narrower range would only show how they are rounded
    spread = max(deviation, 1e-6 * abs(mean), float(np.finfo(np.float32).tiny))
    low, high = mean - _SPREADS * spread, mean + _SPREADS * spread
    if not max(-low, high) < _LARGEST:
        raise DataError(f"X holds numbers of about {max(-low, high):.0e}, too large for float32 pixels; rescale it.")
    return low, high


def _options(clf: CXRClassifier) -> dict[str, Any]:
    return {"dtype": "numeric", "ensure_all_finite": clf.on_error == "raise"}  # "skip" drops single rows later


def _plain(X: Any) -> Any:
    if not isinstance(X, torch.Tensor):
        return X
    return (X.detach().cpu().float() if X.is_floating_point() else X.detach().cpu()).numpy()


def _numbers(rows: np.ndarray) -> np.ndarray:
    return rows.astype(np.uint8) if rows.dtype.kind == "b" else rows  # True is 1 here, as in any table


@contextlib.contextmanager
def _own_errors() -> Iterator[None]:
    """Keep scikit-learn's messages, which its users and checks know, in the classes of this package."""
    try:
        yield
    except CXRError:
        raise
    except ValueError as error:
        raise DataError(str(error)) from error
    except TypeError as error:
        raise InvalidTypeError(str(error)) from error
