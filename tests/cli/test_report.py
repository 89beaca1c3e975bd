"""`cxr report`."""

from __future__ import annotations

import re
import shutil

import pandas as pd
import pytest
from typer.testing import CliRunner

from cxr_estimator.cli import app
from cxr_estimator.cli._common import EXIT_UNREADABLE
from cxr_estimator.errors import CXRError
from tests.cli.running import cxr, phantom_folder

FAST = ["--method", "grad_cam", "--examples", "1", "--maps", "4", "--device", "cpu"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return phantom_folder(tmp_path_factory.mktemp("data"), 24)


@pytest.fixture(scope="module")
def model(fitted, tmp_path_factory):
    return fitted.save(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture(scope="module")
def parts(model, folder, tmp_path_factory):
    """What `cxr audit` and `cxr benchmark` wrote."""
    root = tmp_path_factory.mktemp("parts")
    shared = ["--model", model, "--data", folder, "--methods", "grad_cam", "--device", "cpu", "-q"]
    cxr("audit", *shared, "-o", root / "audit", "--maps", "4", "--no-pictures")
    cxr("benchmark", *shared, "-o", root / "benchmark", "--metrics", "sparsity_90", "--split", "all")
    return root


def test_a_page_of_parts_that_are_there(model, folder, parts, tmp_path):
    request = ["report", "--model", model, "--data", folder, "--audit", parts / "audit", *FAST, "--quiet"]
    page = tmp_path / "new" / "report.html"
    said = cxr(*request, "--benchmark", parts / "benchmark", "-o", page)
    assert "Verdict of the audit: " in said
    assert "keep it as you keep them" in said
    text = page.read_text()
    assert "sparsity 90" in text
    assert "image/jpeg" in text
    assert "Not here." not in text
    assert "person" not in text
    bare = tmp_path / "bare.html"
    said = cxr(*request, "--benchmark", parts / "benchmark" / "table.csv", "-o", bare, "--no-images", "--seed", "3")
    assert "keep it" not in said
    assert "image/jpeg" not in bare.read_text()
    assert "begin with the seed 3" in bare.read_text()


def test_parts_left_out_and_subgroups_of_a_table(model, folder, tmp_path):
    files = sorted(folder.rglob("*.png"))
    rows = [
        {"path": str(one), "label": one.parent.name, "patient": one.stem.split("_")[0], "sex": "FM"[number % 2]}
        for number, one in enumerate(files)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "images.csv", index=False)
    options = ["--patient-column", "patient", "--subgroup", "sex", "--no-audit", "--no-benchmark", *FAST]
    page = tmp_path / "report.html"
    done = CliRunner().invoke(
        app, ["report", "--model", str(model), "--data", str(tmp_path / "images.csv"), "-o", str(page), *options]
    )
    assert done.exit_code == 0, done.output
    assert "reporting" in done.output
    text = page.read_text()
    assert text.count("It was left out on request.") >= 2
    assert re.search(r"<th scope=\"row\">sex</th>", text)
    assert "person" not in text


def test_what_cannot_be_read_is_named_once_and_counted(model, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "data")
    (tmp_path / "data" / "NORMAL" / "person99_broken.png").write_bytes(b"no picture")
    options = ["--data", tmp_path / "data", "-o", tmp_path / "r.html", "--no-audit", *FAST, "--quiet"]
    done = CliRunner().invoke(app, ["report", "--model", str(model), *map(str, options)])
    assert done.exit_code == EXIT_UNREADABLE, done.output
    assert done.output.count("person99_broken.png") == 1
    assert "1 more image could not be read" in done.output
    assert "person99" not in (tmp_path / "r.html").read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-o", "report"], "ends in .html"),
        (["-o", "r.html", "--audit", "missing"], "there is no such file"),
        (["-o", "r.html", "--benchmark", "missing"], "is no table of `cxr benchmark`"),
        (["-o", "r.html", "--benchmark", "missing", "--no-benchmark"], "give one of them"),
        (["-o", "r.html", "--audit", "missing", "--no-audit"], "give one of them"),
        (["-o", "r.html", "--method", "none"], "must be one of"),
        (["-o", "r.html", "--maps", "0"], "'n_maps' parameter"),
        (["-o", "r.html", "--examples", "-1"], "'n_examples' parameter"),
        (["-o", "r.html", "--subgroup", "sex"], "is for a CSV file"),
        (["-o", "r.html", "--split", "nowhere"], "split"),
    ],
)
def test_wrong_options(model, folder, tmp_path, monkeypatch, options, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CXRError, match=re.escape(said)):
        cxr("report", "--model", model, "--data", folder, "--quiet", *options)
    assert list(tmp_path.iterdir()) == []


def test_a_page_among_the_images_is_refused(model, folder):
    with pytest.raises(CXRError, match="lies inside"):
        cxr("report", "--model", model, "--data", folder, "-o", folder / "report.html")
