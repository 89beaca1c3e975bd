"""The pages in docs/ are what the code says."""

from __future__ import annotations

from pathlib import Path

from cxr_estimator.attribution import METHODS
from cxr_estimator.audit import CHECKS
from cxr_estimator.evaluation import FIGURES
from cxr_estimator.evaluation.plots import PLOTS
from cxr_estimator.metrics import METRICS

ROOT = Path(__file__).parents[1]


def test_methods_page_is_up_to_date(run_script):
    run_script(ROOT / "docs" / "make_methods.py", "--check")
    page = (ROOT / "docs" / "methods.md").read_text()
    for name in METHODS:
        section = page.split(f"### {name}\n")[1].split("\n### ")[0]
        assert "**Use it for**: " in section
        assert "**Fails**: " in section
        assert "https://doi.org/10." in section


def test_metrics_page_is_up_to_date(run_script):
    run_script(ROOT / "docs" / "make_metrics.py", "--check")
    page = (ROOT / "docs" / "metrics.md").read_text()
    for name in METRICS:
        section = page.split(f"### {name}\n")[1].split("\n### ")[0]
        assert "https://doi.org/10." in section


def test_evaluation_page_is_up_to_date(run_script):
    run_script(ROOT / "docs" / "make_evaluation.py", "--check")
    page = (ROOT / "docs" / "evaluation.md").read_text()
    for name in (*FIGURES, *PLOTS):
        assert name in page


def test_audit_page_is_up_to_date(run_script):
    run_script(ROOT / "docs" / "make_audit.py", "--check")
    page = (ROOT / "docs" / "audit.md").read_text()
    for name in CHECKS:
        assert f"`{name}`" in page.split("## What it checks")[1].split("| check |")[0], "told in words"
