"""The order of the modules: each imports only from those before it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import cxr_estimator

PACKAGE = Path(cxr_estimator.__file__).parent
# A module may import from the entries above its own. Sub-packages are one entry.
ORDER = [
    "errors", "_optional", "_turns", "_validation", "_outputs", "versions", "_arrays", "_digest", "serialization",
    "checksums", "pretrained", "_bundled", "hub", "_isolation", "_dicom_grey", "dicom", "images", "preprocessing",
    "_filling", "cache", "reading", "backbones", "statistics", "_wording", "roc", "selective", "fingerprints",
    "thresholds", "_calibration_maps", "calibration", "provenance", "_explanation_check", "explanation",
    "_figure_style", "_reliability", "_heat_table", "figures", "inference", "augmentation", "optimisation",
    "checkpoints", "training", "_progress", "attribution", "metrics", "datasets", "_lungs", "anatomy", "_ood_blocks",
    "ood", "_rows", "_predicting", "_checking", "_batches", "_sampling", "_decisions", "_operating", "_background",
    "_labels", "_fitting", "uncertainty", "conformal", "_targets", "_explaining", "_measuring", "verdicts",
    "_pages", "_map_checks", "trust", "doubts", "abstention", "card", "_persistence", "_timm_checkpoint", "_deciding",
    "_doubting", "_sharing", "classifier", "_ensembling", "ensemble", "_folds", "model_selection", "clinical",
    "scorers", "_model_digest", "_benchmark_folder", "benchmark", "_receipt_fields", "_replaying",
    "receipts", "displays", "evaluation", "comparison", "curation", "audit", "findings", "report", "quickstart",
    "demo", "cli",
]  # fmt: skip
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


HEAVY = {"torch", "timm", "sklearn", "matplotlib", "numpy", "pandas", "pydantic"}


def layer_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_layers(path: Path):
    """Yield the layers that a module imports at run time, at the top or inside functions."""
    tree = ast.parse(path.read_text())
    guarded = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and getattr(block.test, "id", "") == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node not in guarded and (node.module or "").startswith("cxr_estimator"):
            parts = node.module.split(".")
            yield from [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names if alias.name in ORDER]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_up(path):
    own = layer_of(path)
    assert own in ORDER, f"{own} has no place in ORDER"
    allowed = ORDER[: ORDER.index(own) + 1]
    # figures are drawn by Explanation.plot, which imports them when called
    lazy = {"explanation": {"figures"}}.get(own, set())
    assert set(imported_layers(path)) <= set(allowed) | lazy


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_style_that_no_linter_checks(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    assert not any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(text))), "raise an error instead"


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_importing_the_package_imports_nothing_heavy():
    code = f"import sys, cxr_estimator; print(sorted({HEAVY} & set(sys.modules)))"
    assert run_python(code).strip() == "[]"


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"]])
def test_help_imports_nothing_heavy(arguments):
    code = (
        "import sys\nfrom cxr_estimator.cli import app\n"
        f"try:\n app({arguments})\nexcept SystemExit:\n pass\n"
        f"print(sorted({HEAVY} & set(sys.modules)))"
    )
    said = run_python(code)
    assert "Usage:" in said
    assert said.strip().endswith("[]")


def test_every_public_name_loads():
    for name in cxr_estimator.__all__:
        assert getattr(cxr_estimator, name) is not None
    assert set(cxr_estimator.__all__) == set(cxr_estimator._PUBLIC)
    assert set(cxr_estimator.__all__) <= set(dir(cxr_estimator))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = cxr_estimator.nothing
