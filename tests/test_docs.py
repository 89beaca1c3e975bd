"""The pages in docs/ are what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from cxr_estimator.attribution import METHODS
from cxr_estimator.audit import CHECKS
from cxr_estimator.evaluation import FIGURES
from cxr_estimator.evaluation.plots import PLOTS
from cxr_estimator.findings._describing import CLEARLY, OVERLAPPING, PLACES, WORDS
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


def test_comparison_page_is_up_to_date(run_script):
    run_script(ROOT / "docs" / "make_comparison.py", "--check")
    page = (ROOT / "docs" / "comparing.md").read_text()
    assert "| AUROC |" in page


@pytest.mark.parametrize("name", ["comparing", "findings"])
def test_code_on_pages_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    snippets = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / f"{name}.md").read_text(), re.DOTALL)
    assert snippets
    for code in snippets:
        exec(code, names)


def test_findings_page_tells_the_limits_of_words():
    page = (ROOT / "docs" / "findings.md").read_text()
    for word in (*PLACES.values(), *OVERLAPPING.values(), *WORDS["spread"][:3], *WORDS["side"][:3]):
        assert word in page
    assert f"{CLEARLY * 100:.0f} points above" in page


def test_audit_page_is_up_to_date(run_script):
    run_script(ROOT / "docs" / "make_audit.py", "--check")
    page = (ROOT / "docs" / "audit.md").read_text()
    for name in CHECKS:
        assert f"`{name}`" in page.split("## What it checks")[1].split("| check |")[0], "told in words"


def test_gallery_is_of_the_examples(run_script):
    run_script(ROOT / "docs" / "make_gallery.py", "--check")
    page = (ROOT / "docs" / "gallery.md").read_text()
    parts = re.split(r"^## \d+\. ", page, flags=re.MULTILINE)[1:]
    examples = sorted((ROOT / "examples").glob("[0-9]*.py"))
    shown = []
    for example, part in zip(examples, parts, strict=True):
        assert f"(../examples/{example.name})" in part
        pictures = re.findall(r"^!\[([^\]]+)\]\(gallery/([^)]+\.png)\)$", part, re.MULTILINE)
        assert pictures
        assert len(re.search(r"^```text\n(.+?)\n```$", part, re.MULTILINE | re.DOTALL)[1].splitlines()) > 1
        shown += [name for _, name in pictures]
    files = {path.name: path for path in (ROOT / "docs" / "gallery").iterdir()}
    assert sorted(shown) == sorted(files), "each is there and shown once"
    sizes = [path.stat().st_size for path in files.values()]
    assert max(sizes) <= 150_000
    assert sum(sizes) < 2_000_000
    for path in files.values():
        with Image.open(path) as picture:
            assert 400 <= picture.width <= 1000
