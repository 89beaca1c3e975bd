"""`cxr audit`."""

from __future__ import annotations

import json
import shutil

import pytest
from typer.testing import CliRunner

from cxr_estimator.cli import app
from cxr_estimator.cli._common import EXIT_UNREADABLE
from cxr_estimator.errors import CXRError
from tests.cli.running import cxr, phantom_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return phantom_folder(tmp_path_factory.mktemp("data"), 24)


def test_files_and_words(fitted, folder, tmp_path):
    model = fitted.save(tmp_path / "model")
    options = ["--methods", "grad_cam", "--maps", "12", "--device", "cpu", "--quiet"]
    said = cxr("audit", "--model", model, "--data", folder, "-o", tmp_path / "out", *options)
    assert "Audit on 24 images of unknown patients" in said
    assert "border exchange: " in said
    found = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert list(found["maps"]) == ["grad_cam"]
    assert "person" not in json.dumps(found)
    page = (tmp_path / "out" / "audit.html").read_text()
    assert "Research and education only" in page
    assert "person" not in page
    plain = cxr("audit", "--model", model, "--data", folder, "-o", tmp_path / "plain", *options, "--no-pictures")
    assert "audit.json and audit.html in" in plain
    assert "data:image/png" not in (tmp_path / "plain" / "audit.html").read_text()


def test_what_cannot_be_read_is_named_once(fitted, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "data")
    (tmp_path / "data" / "NORMAL" / "person99_broken.png").write_bytes(b"no picture")
    options = ["--data", tmp_path / "data", "-o", tmp_path / "out", "--methods", "grad_cam", "--maps", "12", "--quiet"]
    done = CliRunner().invoke(app, ["audit", "--model", str(fitted.save(tmp_path / "model")), *map(str, options)])
    assert done.exit_code == EXIT_UNREADABLE
    assert done.output.count("person99_broken.png") == 1
    assert "fault of the check" not in done.output


def test_what_cannot_be_audited(fitted, folder, tmp_path):
    model = fitted.save(tmp_path / "model")
    for options in (["--methods", "none"], ["--maps", "0"], ["--split", "nowhere"]):
        with pytest.raises(CXRError):
            cxr("audit", "--model", model, "--data", folder, "-o", tmp_path / "out", "--quiet", *options)
