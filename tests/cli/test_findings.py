"""`cxr findings`."""

from __future__ import annotations

import json
import shutil

import pytest
from typer.testing import CliRunner

from cxr_estimator.cli import app
from cxr_estimator.cli._common import EXIT_UNREADABLE
from cxr_estimator.errors import CXRError
from tests.cli.running import cxr, phantom_folder

FEW = ["--per-bucket", "1", "--maps", "2", "--device", "cpu", "--quiet"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return phantom_folder(tmp_path_factory.mktemp("data"), 24)


@pytest.fixture(scope="module")
def model(fitted, tmp_path_factory):
    return fitted.save(tmp_path_factory.mktemp("models") / "model")


def test_files_and_words(model, folder, tmp_path):
    said = cxr("findings", "--model", model, "--data", folder, "-o", tmp_path / "out", *FEW)
    assert "24 images of unknown patients" in said
    assert "No false positives among 24 images." in said or "false positives: " in said
    found = json.loads((tmp_path / "out" / "findings.json").read_text())
    assert found["n_images"] == 24
    assert not any("No audit was given" in note for note in found["notes"])
    page = (tmp_path / "out" / "findings.html").read_text()
    assert "This page shows radiographs" in page
    for name in ("findings.html", "findings.md", "findings.json"):
        assert "person" not in (tmp_path / "out" / name).read_text()


def test_of_one_class(model, folder, tmp_path):
    cxr("findings", "--model", model, "--data", folder, "-o", tmp_path, "--target", "NORMAL", "--no-audit", *FEW)
    found = json.loads((tmp_path / "findings.json").read_text())
    assert found["target"] == "NORMAL"
    assert {one["explained"] for one in found["images"]} == {"NORMAL"}


def test_an_audit_may_be_given_or_left_out(model, folder, tmp_path):
    audited = ["--methods", "saliency", "--maps", "2", "--device", "cpu", "--quiet"]
    cxr("audit", "--model", model, "--data", folder, "-o", tmp_path / "audit", *audited)
    said = cxr(
        "findings", "--model", model, "--data", folder, "-o", tmp_path / "a", "--audit", tmp_path / "audit", *FEW
    )
    assert "The audit did not look at maps of this method" in said
    said = cxr("findings", "--model", model, "--data", folder, "-o", tmp_path / "b", "--no-audit", *FEW)
    assert "No audit was given" in said


def test_what_cannot_be_read_is_named_once(model, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "data")
    (tmp_path / "data" / "NORMAL" / "person99_broken.png").write_bytes(b"no picture")
    arguments = ["findings", "--model", model, "--data", tmp_path / "data", "-o", tmp_path / "out", *FEW]
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert done.exit_code == EXIT_UNREADABLE
    assert done.output.count("person99_broken.png") == 1
    assert "(1 more could not be read)" in done.output


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        (["--audit", "x", "--no-audit"], "--audit and --no-audit"),
        (["--audit", "nowhere"], "nowhere"),
        (["--method", "none"], "'method' parameter"),
        (["--target", "FRACTURE"], "'target' parameter"),
        (["--per-bucket", "0"], "'n_per_bucket' parameter"),
        (["--maps", "0"], "'n_maps' parameter"),
        (["--split", "nowhere"], "nowhere"),
    ],
)
def test_wrong_requests_end_before_long_work(model, folder, tmp_path, options, wrong, monkeypatch):
    monkeypatch.setattr("cxr_estimator.audit._audit.counting", None)  # no image is looked at
    with pytest.raises(CXRError, match=wrong):
        cxr("findings", "--model", model, "--data", folder, "-o", tmp_path / "out", "--quiet", *options)


def test_output_within_the_data_is_refused(model, folder):
    with pytest.raises(CXRError, match="lies inside"):
        cxr("findings", "--model", model, "--data", folder, "-o", folder / "out", *FEW)
