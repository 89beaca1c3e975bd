"""`cxr card`."""

from __future__ import annotations

import json
from dataclasses import replace

import pandas as pd
import pytest
from huggingface_hub import metadata_load

from cxr_estimator import CXRClassifier, make_phantoms
from cxr_estimator.audit import AuditReport, audit
from cxr_estimator.checksums import differing, read_sums
from tests.cli.test_cli import cxr, folder  # noqa: F401 - a fixture


@pytest.fixture
def model(fitted, tmp_path):
    return fitted.save(tmp_path / "model")


def test_what_only_the_author_knows(model, tmp_path):
    weights = (model / "model.safetensors").read_bytes()
    config = json.loads((model / "config.json").read_text())
    (tmp_path / "paper.bib").write_text("@misc{a}\n")
    done = cxr(
        "card", "--model", model, "--title", "My model", "--repo-id", "user/model", "--license", "mit",
        "--dataset", "user/data", "--dataset-name", "My data", "--population", "one hospital",
        "--attribution", "A. Author", "--citation", tmp_path / "paper.bib", "--quiet",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    text = (model / "README.md").read_text()
    said = (
        "# My model",
        "cxr predict --model user/model image.png",
        "[My data](",
        "one hospital",
        "A. Author",
        "@misc{a}",
    )
    assert all(part in text for part in said)
    assert "Not evaluated on images" in text
    assert metadata_load(model / "README.md")["license"] == "mit"
    assert (model / "model.safetensors").read_bytes() == weights
    again = json.loads((model / "config.json").read_text())
    assert again.pop("card")["license"] == "mit"
    assert again == config
    assert not differing(model, read_sums(model))
    assert cxr("card", "--model", model, "--license", "cc-by-4.0", "--quiet").returncode == 0
    text = (model / "README.md").read_text()
    assert all(part in text for part in (*said, "license: cc-by-4.0"))  # what an earlier call said is kept


def test_an_evaluation_and_a_benchmark_go_in(model, folder, tmp_path):  # noqa: F811
    row = {
        "method": "grad_cam", "metric": "deletion_auc", "bucket": "all", "value": 0.1234, "low": 0.1, "high": 0.15,
        "n_images": 30, "n_patients": 20, "n_undefined": 0, "greater_is_better": True, "is_gain": True, "rank": 1.0,
    }  # fmt: skip
    (tmp_path / "benchmark").mkdir()
    pd.DataFrame([row]).to_csv(tmp_path / "benchmark" / "table.csv", index=False)
    done = cxr(
        "card",
        "--model",
        model,
        "--dataset",
        "user/data",
        "--data",
        folder,
        "--benchmark",
        tmp_path / "benchmark",
        "-q",
    )
    assert done.returncode == 0, done.stderr
    text = (model / "README.md").read_text()
    assert "part test: 20 images of" in text
    assert "| Grad-CAM | 0.123 (0.100 to 0.150) |" in text
    assert (model / ".eval_results" / "user--data.yaml").is_file()
    assert not differing(model, read_sums(model))
    assert json.loads((model / "config.json").read_text())["parameters"]["on_error"] == "raise"
    assert CXRClassifier.load(model).classes_.tolist() == ["NORMAL", "PNEUMONIA"]


def test_an_audit_goes_in_and_stays_until_there_is_another(fitted, model, tmp_path):
    data = make_phantoms(24, 32, difficulty=0.0, random_state=9)
    few = {"checks": ["label_order", "border_exchange"], "methods": ["grad_cam"], "n_resamples": 20}
    report = audit(fitted, data.X, data.y, data.groups, **few)
    report.save(tmp_path / "first")
    replace(report, note="Another one.").save(tmp_path / "second")

    def card(*options):
        done = cxr("card", "--model", model, *options, "-q")
        assert done.returncode == 0, done.stderr
        assert not differing(model, read_sums(model))
        return (model / "README.md").read_text()

    text = card("--audit", tmp_path / "first")
    assert report.to_markdown() in text
    assert "| border exchange | " in text
    assert AuditReport.load(model).to_dict() == report.to_dict()
    text = card("--license", "mit")
    assert report.to_markdown() in text
    assert "license: mit" in text
    assert "patients. Another one.\n" in card("--audit", tmp_path / "second" / "audit.json")
    CXRClassifier.load(model).set_threshold(0.3, name="low").save(model)  # it was of the model before
    assert not (model / "audit.json").exists()
    (model / "audit.json").write_text("somebody's")
    assert "Not audited yet" in card()
    assert (model / "audit.json").read_text() == "somebody's"


def test_a_readme_that_was_edited_is_kept(model):
    (model / "README.md").write_text("# By hand\n")
    done = cxr("card", "--model", model, "--title", "My model", "-q")
    assert done.returncode == 0
    assert "is kept" in done.stderr
    assert (model / "README.md").read_text() == "# By hand\n"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--split", "test"), "are for --data"),
        (("--evaluation-name", "B"), "are for --data"),
        (("--citation", "missing.bib"), "missing.bib: cannot be read"),
        (("--benchmark", "missing"), "is no table of `cxr benchmark`"),
        (("--audit", "missing"), "missing: there is no such file"),
        (("--license", "The MIT License"), "an identifier of the Hub"),
    ],
)
def test_bad_options(model, options, said):
    before = (model / "README.md").read_bytes()
    done = cxr("card", "--model", model, *options)
    assert done.returncode == 2
    assert said in done.stderr
    assert (model / "README.md").read_bytes() == before
