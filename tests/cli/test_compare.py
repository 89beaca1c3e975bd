"""`cxr compare`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from cxr_estimator.cli import app
from cxr_estimator.cli._common import EXIT_UNREADABLE
from cxr_estimator.cli.compare import _models
from cxr_estimator.errors import CXRError, DataError
from tests.cli.running import cxr, phantom_folder
from tests.conftest import small_classifier


@pytest.fixture(scope="module")
def models(fitted, phantoms, tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    other = small_classifier(image_size=24, max_epochs=1, random_state=3)
    other.fit(phantoms.X, phantoms.y, groups=phantoms.groups).save(root / "other")
    return ["--model", fitted.save(root / "good"), "--model", root / "other"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return phantom_folder(tmp_path_factory.mktemp("data"), 16)


def test_one_image(models, folder, tmp_path):
    image = next((folder / "NORMAL").glob("*.png"))
    said = cxr("compare", "--image", image, *models, "--known", folder, "-o", tmp_path / "out", "-q")
    assert "good and other" in said
    for name in ("focus on anatomy", "models agree", "confidence", "no artefacts", "similar cases"):
        assert f" {name}: " in said
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())
    (shown,) = found["least_alike"]
    assert [one["name"] for one in shown["checklist"]][-1] == "similar cases"
    with Image.open(tmp_path / "out" / shown["figure"]) as figure:
        assert figure.info["dpi"][0] == pytest.approx(150, abs=0.1)
    assert image.name not in (tmp_path / "out" / "comparison.html").read_text()


def test_a_folder(models, folder, tmp_path):
    said = cxr("compare", "--data", folder, *models, "-o", tmp_path / "out", "--maps", 5, "-q")
    assert "2 models on 16 images of" in said
    assert "good beside other:" in said
    assert len((tmp_path / "out" / "images.csv").read_text().splitlines()) == 17
    assert len(list((tmp_path / "out").glob("models_1_and_2_*.png"))) == 4
    assert "data:image/png" in (tmp_path / "out" / "comparison.html").read_text()
    assert json.loads((tmp_path / "out" / "comparison.json").read_text())["n_images"] == 16


def test_a_random_image(models, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("CXR_DATA_DIR", str(folder))
    first, again = (cxr("compare", *models, "-o", tmp_path / "a", "-q") for _ in range(2))
    assert "(drawn at random)" in first
    assert first == again
    assert cxr("compare", *models, "-o", tmp_path / "a", "--seed", 5, "-q") != first
    monkeypatch.setenv("CXR_DATA_DIR", "")
    assert "a synthetic radiograph" in cxr("compare", *models, "-o", tmp_path / "b", "-q")


def test_known_cases_are_few_or_unreadable_or_of_other_labels(models, folder, tmp_path):
    image, *_, another = sorted((folder / "NORMAL").glob("*.png"))
    broken, known = tmp_path / "broken.png", tmp_path / "known.csv"
    broken.write_bytes(b"")
    asked = ["compare", "--image", image, *models, "--known", known, "-o", tmp_path / "out", "-q"]
    known.write_text(f"path,label\n{image},NORMAL\n")
    assert "No known case was found for good." in cxr(*asked)
    known.write_text(f"path,label\n{image},NORMAL\n{another},NORMAL\n{broken},NORMAL\n")
    done = CliRunner().invoke(app, [str(each) for each in asked])
    assert done.exit_code == EXIT_UNREADABLE
    assert "0 of 1 are PNEUMONIA" in done.output or "1 of 1 are NORMAL" in done.output
    assert done.output.count("unreadable: ") == 1
    known.write_text(f"path,label\n{image},healthy\n")
    with pytest.raises(DataError, match=r"--known: y holds labels the model does not know: \['healthy'\]"):
        cxr(*asked)


def test_models_of_the_same_name(models, tmp_path, monkeypatch):
    monkeypatch.delenv("CXR_DATA_DIR", raising=False)
    said = cxr("compare", "--model", models[1], "--model", models[1], "-o", tmp_path / "out", "-q")
    assert "A: good and B: good" in said


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (["--image", "a.png", "--data", "b"], "--image and --data"),
        (["--image", "nowhere.png"], "nowhere.png"),
        (["--data", "DATA", "--known", "DATA"], "leave out --data"),
        (["--data", "nowhere"], "nowhere"),
        (["--method", "none"], "'method' parameter"),
        (["--maps", "0", "--data", "DATA"], "'n_maps' parameter"),
    ],
)
def test_wrong_requests_end_without_traceback(models, folder, tmp_path, arguments, wrong):
    arguments = [folder if one == "DATA" else one for one in arguments]
    with pytest.raises(CXRError, match=wrong):
        cxr("compare", *models, "-o", tmp_path / "out", "-q", *arguments)


@pytest.mark.parametrize(("place", "wrong"), [("nowhere", "CXR_DATA_DIR: there is no folder"), (".", "lies inside")])
def test_a_folder_of_test_images_that_cannot_be_taken(models, tmp_path, monkeypatch, place, wrong):
    monkeypatch.setenv("CXR_DATA_DIR", str(tmp_path / place))
    with pytest.raises(DataError, match=wrong):
        cxr("compare", *models, "-o", tmp_path / "out", "-q")


def test_a_model_folder_named_by_a_dot_has_a_name(models, tmp_path, monkeypatch):
    monkeypatch.chdir(models[1])
    assert list(_models([Path(), models[3]], "cpu", quiet=True)) == ["good", "other"]


def test_one_model_is_not_enough(models, tmp_path):
    with pytest.raises(DataError, match="give it twice"):
        cxr("compare", *models[:2], "-o", tmp_path / "out")
