"""Packages of the extras, imported when they are needed."""

from __future__ import annotations

import importlib
from types import ModuleType

from cxr_estimator.errors import MissingPackageError


def needed(module: str, package: str, *, extra: str, caller: str) -> ModuleType:
    """Return a module of `package`, or raise a MissingPackageError that says how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        told = f"{caller} needs the package {package}: pip install 'cxr_estimator[{extra}]'"
        raise MissingPackageError(told) from error
