"""`cxr compare`."""

from __future__ import annotations

import json

import pytest
from PIL import Image

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
    (verify,) = found["verify"].values()
    assert [one["name"] for one in verify["checklist"]][-1] == "similar cases"
    with Image.open(tmp_path / "out" / verify["figure"]) as figure:
        assert figure.info["dpi"][0] == pytest.approx(150, abs=0.1)


def test_a_folder(models, folder, tmp_path):
    said = cxr("compare", "--data", folder, *models, "-o", tmp_path / "out", "--maps", 5, "-q")
    assert "2 models on 16 images of" in said
    assert "good beside other:" in said
    assert len((tmp_path / "out" / "images.csv").read_text().splitlines()) == 17
    assert len(list((tmp_path / "out").glob("models_1_and_2_*.png"))) == 4
    assert json.loads((tmp_path / "out" / "comparison.json").read_text())["n_images"] == 16


def test_a_random_image(models, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("CXR_DATA_DIR", str(folder))
    first, again = (cxr("compare", *models, "-o", tmp_path / "a", "-q") for _ in range(2))
    assert "(drawn at random)" in first
    assert first == again
    assert cxr("compare", *models, "-o", tmp_path / "a", "--seed", 5, "-q") != first
    monkeypatch.delenv("CXR_DATA_DIR")
    assert "a synthetic radiograph" in cxr("compare", *models, "-o", tmp_path / "b", "-q")


def test_models_of_the_same_name(models, tmp_path, monkeypatch):
    monkeypatch.delenv("CXR_DATA_DIR", raising=False)
    said = cxr("compare", "--model", models[1], "--model", models[1], "-o", tmp_path / "out", "-q")
    assert "A: good and B: good" in said


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (["--image", "a.png", "--data", "b"], "--image and --data"),
        (["--image", "nowhere.png"], "nowhere.png"),
        (["--data", "nowhere"], "nowhere"),
        (["--method", "none"], "'method' parameter"),
        (["--maps", "0", "--data", "DATA"], "'n_maps' parameter"),
    ],
)
def test_wrong_requests_end_without_traceback(models, folder, tmp_path, arguments, wrong):
    arguments = [folder if one == "DATA" else one for one in arguments]
    with pytest.raises(CXRError, match=wrong):
        cxr("compare", *models, "-o", tmp_path / "out", "-q", *arguments)


def test_one_model_is_not_enough(models, tmp_path):
    with pytest.raises(DataError, match="give it twice"):
        cxr("compare", *models[:2], "-o", tmp_path / "out")
