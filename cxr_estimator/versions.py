"""Versions of what makes a number."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import version

from cxr_estimator import __version__

PACKAGES = (
    "torch", "timm", "numpy", "scikit-learn", "pillow", "pydicom",
    "scipy", "scikit-image", "shap", "lime",  # which some maps depend on
)  # fmt: skip


@cache
def _versions() -> tuple[tuple[str, str], ...]:
    # its own is not asked of what is installed: the package also runs from a folder, as in a Space
    own = (("python", platform.python_version()), ("cxr_estimator", __version__))
    return (*own, *((name, version(name)) for name in PACKAGES))


def package_versions() -> dict[str, str]:
    """Return the installed versions of Python and of the packages that results depend on."""
    return dict(_versions())
