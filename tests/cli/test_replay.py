"""`cxr explain --receipts` and `cxr replay`."""

from __future__ import annotations

import copy
import json

import pytest
from PIL import Image

from cxr_estimator import CXRClassifier
from cxr_estimator.receipts import TOLERANCES, Receipt
from tests.cli.test_cli import cxr


@pytest.fixture(scope="module")
def place(fitted, phantoms, tmp_path_factory):
    """A model, three images of which the second is none, and their receipts by two methods."""
    folder = tmp_path_factory.mktemp("replay")
    fitted.save(folder / "model")
    copy.copy(fitted).calibrate(phantoms.X, phantoms.y).save(folder / "other")
    (folder / "images").mkdir()
    for number in (0, 2):
        Image.fromarray(phantoms.X[number]).save(folder / "images" / f"patient_4711_{number}.png")
    (folder / "images" / "patient_4711_1.png").write_bytes(b"no picture")
    done = cxr(
        "explain", folder / "images", "--model", folder / "model", "--output", folder / "o", "--receipts", "--quiet",
        "--method", "grad_cam,rise", "--option", "n_masks=30", "--option", "random_state=5", "--batch-size", 8,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr  # one image is unreadable
    assert "patient_4711_1.png" in done.stderr
    return folder


def edited(path, tmp_path, **changes):
    """A file of the receipt as somebody rewrote it."""
    new = tmp_path / "edited.json"
    new.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return new


def test_every_map_has_a_receipt_that_repeats_it_exactly(place):
    names = sorted(path.name for path in (place / "o").iterdir())
    stems = ["0001_patient_4711_0", "0003_patient_4711_2"]
    assert names == sorted(
        ["explanations.csv", *(f"{stem}.png" for stem in stems)]
        + [f"{stem}.{method}.receipt.json" for stem in stems for method in ("grad_cam", "rise")]
    )
    for number, stem in zip((0, 2), stems, strict=True):
        for method in ("grad_cam", "rise"):
            path = place / "o" / f"{stem}.{method}.receipt.json"
            receipt = Receipt.load(path)
            assert (receipt.method, receipt.model_name, receipt.batch_size) == (method, "folder", 8)
            assert receipt.seed == (5 if method == "rise" else None)
            assert not any(secret in path.read_text() for secret in ("4711", str(place), "png"))
            image = place / "images" / f"patient_4711_{number}.png"
            done = cxr("replay", path, "--image", image, "--model", place / "model")
            assert done.returncode == 0, done.stderr
            assert done.stdout.endswith(
                "\nExact: the same probabilities and the same map, bit for bit. "
                "The versions and the kind of machine are the same.\n"
            )
            allowed = TOLERANCES[receipt.precision].probability
            p = f"{dict(receipt.probabilities)['PNEUMONIA']:.6g}"
            assert f"probability of PNEUMONIA: {p} (expected {p}, tolerance {allowed:g})\n" in done.stdout
            assert f"decision: {receipt.decision} (expected {receipt.decision})\n" in done.stdout
            assert f"model: {place / 'model'}\n" in done.stderr


def test_within_tolerance_and_beyond(place, tmp_path):
    path = place / "o" / "0001_patient_4711_0.rise.receipt.json"
    options = ("--image", place / "images" / "patient_4711_0.png", "--model", place / "model", "--quiet")
    content = json.loads(path.read_text())
    near = edited(path, tmp_path, map_sha256="0" * 64, versions=content["versions"] | {"torch": "1.0"})
    done = cxr("replay", near, *options)
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        "\nNot the same bit for bit, but within the stated tolerance. Other than in the receipt: torch" in done.stdout
    )
    done = cxr("replay", edited(path, tmp_path, seed=6), *options)
    assert (done.returncode, done.stderr) == (1, "")
    assert "largest difference of a block" in done.stdout.splitlines()[-1]
    assert "): differs\n" in done.stdout


@pytest.mark.parametrize(
    ("receipt", "options", "message"),
    [
        ("{place}/none.json", "--image {image}", "none.json: there is no such file"),
        ("{image}", "--image {image} --model {place}/model", "cannot be read as JSON"),
        ("{receipt}", "--image {place}/none.png --model {place}/model", "there is no such file"),
        ("{receipt}", "--image {place}/images/patient_4711_1.png --model {place}/model", "patient_4711_1.png"),
        ("{receipt}", "--image {place}/images/patient_4711_2.png --model {place}/model", "another image"),
        ("{receipt}", "--image {image}", "where is not recorded. Give it (clf=, or --model)"),
        ("{receipt}", "--image {image} --model {place}/nowhere", "there is no such model folder"),
        ("{receipt}", "--image {image} --model {place}/other", "another model"),
        ("{receipt}", "--image {image} --model {place}/model --device abacus", "'device'"),
        ("{receipt}", "", "Missing option '--image'"),
    ],
)
def test_bad_input(place, receipt, options, message):
    names = {
        "place": place,
        "receipt": place / "o" / "0001_patient_4711_0.grad_cam.receipt.json",
        "image": place / "images" / "patient_4711_0.png",
    }
    done = cxr("replay", receipt.format(**names), *options.format(**names).split())
    assert done.returncode == 2, done
    assert message in done.stderr
    assert done.stdout == ""


def test_maps_with_a_background_get_no_receipt(place, tmp_path):
    images = place / "images"
    done = cxr(
        "explain", images / "patient_4711_0.png", "--model", place / "model", "--output", tmp_path / "o", "--receipts",
        "--method", "gradient_shap", "--background", images,
    )  # fmt: skip
    assert done.returncode == 2
    assert "a receipt holds no images" in done.stderr
    assert not (tmp_path / "o").exists()


def test_the_bundled_model_and_one_method(phantoms, tmp_path):
    """Neither command names a model."""
    image = tmp_path / "a.png"
    Image.fromarray(phantoms.X[5]).save(image)
    assert cxr("explain", image, "--output", tmp_path / "o", "--receipts", "--target", "margin").returncode == 0
    done = cxr("replay", tmp_path / "o" / "0001_a.receipt.json", "--image", image)
    assert done.returncode == 0, done.stderr
    assert "Exact: " in done.stdout
    assert done.stderr.startswith("model: the one that comes with cxr_estimator ")


def test_a_model_on_the_hub_is_pinned_to_its_commit(hub, fitted, phantoms, place, tmp_path):
    commit = fitted.push_to_hub("alice/model").oid
    image = place / "images" / "patient_4711_0.png"
    done = cxr("explain", image, "--model", "alice/model", "--output", tmp_path, "--receipts", "--quiet")
    assert done.returncode == 0, done.stderr
    path = tmp_path / "0001_patient_4711_0.receipt.json"
    receipt = Receipt.load(path)
    assert (receipt.model_name, receipt.model_revision) == ("alice/model", commit)
    copy.copy(CXRClassifier.load(place / "model")).calibrate(phantoms.X, phantoms.y).push_to_hub("alice/model")
    done = cxr("replay", path, "--image", image)
    assert done.returncode == 0, done.stderr
    assert "Exact: " in done.stdout
    assert done.stderr == f"model: alice/model on the Hub, revision {commit}\n"
    done = cxr("replay", path, "--image", image, "--model", "alice/model")
    assert done.returncode == 2
    assert "another model" in done.stderr
    done = cxr("explain", image, "--model", "alice/none", "--output", tmp_path / "n", "--receipts")
    assert done.returncode == 2
    assert "alice/none: there is no such model folder here, and on the Hub: " in done.stderr
