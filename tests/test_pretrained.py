"""The files of the bundled model as they ship: whole, small, calibrated, and without anybody's radiograph.

That a name can be looked up is tested in test_bundled.py, on models made for that. Nothing here is skipped where the
files are missing: a package without them is broken.
"""

from __future__ import annotations

import fnmatch
import io
import json
import re
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score

from cxr_estimator import CXRClassifier, load_image_folder
from cxr_estimator._background import PATIENTS
from cxr_estimator._ood_blocks import BLOCKS
from cxr_estimator.attribution import METHODS
from cxr_estimator.backbones import embed
from cxr_estimator.checksums import SUMS_NAME, read_sums, verify
from cxr_estimator.inference import normalise
from cxr_estimator.pretrained import ATTRIBUTION, FOLDER

ROOT = Path(__file__).parents[1]
WEIGHTS = FOLDER / "model.safetensors"
SIDE = 96  # pixels, at which single images are looked for
PRIVATE = re.compile(
    rb"person_?\d|virus_\d|bacteria_\d|IM-\d|\.jpe?g|\.dcm"  # names of images, which name patients; not their families
    rb"|/home\b|/root\b|/tmp\b|/work\b|/Users\b|/mnt\b|[A-Z]:\\",  # places on somebody's machine
    re.IGNORECASE,
)


@pytest.fixture(scope="module")
def clf():
    return CXRClassifier.from_pretrained(device="cpu")


def files() -> list[Path]:
    return [FOLDER / name for name in [*read_sums(FOLDER), SUMS_NAME]]


# -- the folder -------------------------------------------------------------------------------------------------------


def test_it_is_whole():
    assert verify(FOLDER, ["config.json", WEIGHTS.name]) == []


def test_it_is_small_and_nothing_lies_about():
    lying = {path for path in FOLDER.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert lying == {*files(), FOLDER / "__init__.py"}
    assert sum(path.stat().st_size for path in lying) <= 12_000_000


def test_every_file_goes_into_the_package():
    """What `python -m build` takes along beside the modules."""
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    patterns = data["cxr_estimator.pretrained"]
    for path in files():
        name = path.relative_to(FOLDER).as_posix()
        assert any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns), name
    git = (ROOT / ".gitattributes").read_text()  # else a checkout may change line ends, and SHA256SUMS fails
    assert "cxr_estimator/pretrained/* -text" in git


def test_weights_are_half_precision(clf):
    assert clf.weights_dtype_ == "float16"
    learned = {name for name, _ in clf.model_.named_parameters()}
    with safe_open(WEIGHTS, framework="pt") as file:
        assert {file.get_tensor(name).dtype for name in learned} == {torch.float16}


def test_it_holds_the_network_and_known_statistics_alone(clf):
    """No tensor is there that nobody reads."""
    statistics = {f"cxr_estimator.ood.{name}" for name in clf.ood_.arrays()} | {"cxr_estimator.background"}
    with safe_open(WEIGHTS, framework="pt") as file:
        assert set(file.keys()) == set(clf.model_.state_dict()) | statistics
        assert set(file.metadata() or {}) <= {"format"}


@pytest.mark.parametrize(
    "name", ["config.json", "README.md", "calibration.png", "audit.json", SUMS_NAME, "the head of the weights"]
)
def test_no_file_name_patient_or_place_is_told(name):
    if name == "the head of the weights":
        content = WEIGHTS.read_bytes()
        content = content[8 : 8 + int.from_bytes(content[:8], "little")]
        json.loads(content)
    else:
        content = (FOLDER / name).read_bytes()
    assert PRIVATE.findall(content) == []


PLACES = [f"/{root}/x".encode() for root in ("home", "root", "tmp", "work", "Users", "mnt")]


@pytest.mark.parametrize("bad", [b"person12_virus_3", b"IM-0115-0001", b"x.JPEG", b"C:\\x", *PLACES])
def test_what_must_not_be_told_would_be_found(bad):
    assert PRIVATE.search(bad)


def test_it_loads_without_a_network_and_without_writing():
    """Nor are timm and the Hub's client imported, which take seconds: they are not needed for "plain_cnn"."""
    code = f"""
import sys
def forbid(event, arguments):
    if event.startswith("socket.") and event != "socket.__new__":
        raise RuntimeError(f"{{event}}: there is no network")
    if event == "open" and str(arguments[0]).startswith({str(FOLDER)!r}) and set(str(arguments[1])) & set("wax+"):
        raise RuntimeError(f"{{arguments[0]}}: must not be written to")
sys.addaudithook(forbid)
import numpy as np
from cxr_estimator import CXRClassifier
clf = CXRClassifier.from_pretrained()
assert clf.predict_proba([np.zeros((50, 60), np.uint8)]).shape == (1, 2)
print(clf.backbone, *({{"timm", "huggingface_hub"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-B", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    backbone, *heavy = done.stdout.split()
    assert backbone != "plain_cnn" or heavy == []


# -- the model --------------------------------------------------------------------------------------------------------


def test_its_labels(clf):
    assert clf.classes_.tolist() == ["NORMAL", "PNEUMONIA"]
    assert clf.pos_label_ == "PNEUMONIA"
    assert clf.preprocessing_.channels == 1
    assert clf.on_error == "raise"


def test_whoever_judges_it_on_what_it_knows_can_be_told(clf):
    """By these `evaluate` warns."""
    assert clf.provenance_.training.fingerprint
    assert clf.provenance_.training.n_patients >= 1000


def test_it_is_calibrated(clf):
    assert clf.calibration_.method == "platt"
    assert clf.calibration_.n_images >= clf.calibration_.n_patients >= 100


@pytest.mark.parametrize(("name", "first"), [("screening", "sensitivity"), ("rule_in", "specificity")])
def test_its_operating_points(clf, name, first):
    point = clf.operating_points_[name]
    for estimate in (point.sensitivity, point.specificity):
        assert 0 < estimate.low <= estimate.value <= estimate.high <= 1
        assert estimate.high - estimate.low < 0.2
    assert getattr(point, first).value >= 0.9
    assert point.n_images >= point.n_patients >= 100
    assert 0 < clf.thresholds_[name] < 1


def test_screening_calls_more_images_positive_than_ruling_in(clf):
    assert clf.operating_points_["screening"].score < clf.operating_points_["rule_in"].score


def test_its_card_says_whose_radiographs_it_learned_from(clf):
    assert clf.card_ is not None
    for word in ("Kermany", "CC BY 4.0", "10.1016/j.cell.2018.02.010"):
        assert word in clf.card_.attribution
        assert word in ATTRIBUTION
    card = (FOLDER / "README.md").read_text()
    assert "not a medical device" in card
    assert re.search(r"\bchildren\b|\bpa?ediatric\b", card)


def test_its_page_starts_from_the_right_network(clf):
    page = (ROOT / "docs" / "pretrained.md").read_text()
    assert f'CXRClassifier("{clf.backbone}", image_size={clf.image_size}, pretrained="bundled"' in page


def test_as_many_averages_as_its_patients_allow(clf):
    """The folder cannot tell how many patients each mean has, but no more means than 20 patients for each can give."""
    seen = clf.provenance_.training
    assert clf.background_ is not None
    assert 2 <= len(clf.background_) <= sum(min(4, one.n_patients // PATIENTS) for one in seen.classes)
    assert len(np.unique(clf.background_, axis=0)) == len(clf.background_)


def test_it_knows_ordinary_images_by_statistics(clf):
    seen, held_out = clf.provenance_.training, clf.provenance_.validation
    assert 2 * PATIENTS <= clf.ood_.n_patients <= seen.n_patients
    assert 59 <= len(clf.ood_.reference) <= held_out.n_patients  # enough for a false-alarm rate of 5%
    assert (np.diff(clf.ood_.reference) >= 0).all()  # sorted: no order tells whose score it is
    for gaussian in clf.ood_.gaussians.values():
        assert len(gaussian.components) <= clf.ood_.n_patients / PATIENTS


def test_noise_is_unusual(clf):
    rng = np.random.default_rng(0)
    checked = clf.check_images([rng.integers(0, 256, (224, 224), dtype=np.uint8) for _ in range(4)])
    assert checked.is_unusual.all()


# -- with real radiographs at hand: all of them trained it ------------------------------------------------------------


@pytest.fixture(scope="module")
def pixels(real_data_dir):
    """All training images, (N, 96, 96), float32 in 0 to 255; read roughly, which takes seconds rather than minutes."""

    def read(path: str) -> np.ndarray:
        with Image.open(path) as image:
            image.draft("L", (SIDE, SIDE))
            return np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR))

    with ThreadPoolExecutor(2) as pool:
        return np.stack(list(pool.map(read, load_image_folder(real_data_dir).X))).astype(np.float32)


def details(images: np.ndarray) -> np.ndarray:
    """Return what a blur takes away of images (n, 96, 96), as unit vectors (n, 9216).

    All chests are alike in the large: whole images of strangers correlate up to 0.95. Ribs and vessels are one's own.
    """
    fine = (images - gaussian_filter(images, (0, 2, 2))).reshape(len(images), -1)
    fine = fine - fine.mean(axis=1, keepdims=True)
    return fine / np.linalg.norm(fine, axis=1, keepdims=True)


def test_no_background_mean_shows_a_patient(clf, pixels):
    """No single image shines through a mean, as it does through one of two or three images.

    Measured on these radiographs, correlation of details: a re-encoded copy 0.97 to 1, a mean of two with each of them
    0.70 to 0.86, of three 0.61 to 0.80, of twenty at most 0.53, and strangers 0.46 in 95% of cases.
    """
    limit = 0.6
    found = details(pixels)
    own = clf.background_[:, 0].astype(np.float32)
    means = np.stack([np.asarray(Image.fromarray(one).resize((SIDE, SIDE), Image.Resampling.BILINEAR)) for one in own])
    assert (details(means) @ found.T).max() < limit

    rng = np.random.default_rng(0)
    for rows in rng.permutation(len(pixels))[:40].reshape(-1, 2):
        assert (details(pixels[rows].mean(axis=0)[None]) @ found[rows].T).max() > limit
        assert (details(recoded(pixels[rows])) * found[rows]).sum(axis=1).min() > limit


def recoded(images: np.ndarray) -> np.ndarray:
    """Return copies as strong compression at another size leaves them."""
    copies = []
    for image in images:
        place = io.BytesIO()
        Image.fromarray(image.astype(np.uint8)).resize((120, 120)).save(place, "jpeg", quality=60)
        copies.append(np.asarray(Image.open(place).resize((SIDE, SIDE), Image.Resampling.BILINEAR)))
    return np.stack(copies).astype(np.float32)


@pytest.mark.parametrize("block", BLOCKS)
def test_statistics_hold_no_row_of_an_image(clf, pixels, block):
    """No mean is what one image has, and no component one image's doing.

    The row of an image lies at a distance of 0 from itself; measured distances from means, in standard deviations: 0.2
    and more for the nearest. The coarse picture ("layout") is compared with all images, the rest with 600.
    """
    rows = slice(None) if block == "layout" else np.random.default_rng(0).permutation(len(pixels))[:600]
    unit = torch.from_numpy(pixels[rows])[:, None] / 255
    unit = torch.nn.functional.interpolate(unit, clf.image_size, mode="bilinear", antialias=True)
    function, gaussian = BLOCKS[block].function, clf.ood_.gaussians[block]
    with torch.no_grad():
        parts = unit.split(256)
        found = [
            embed(clf.model_, normalise(x, clf.preprocessing_)) if function is None else function(x) for x in parts
        ]
    z = (torch.cat(found).numpy() - gaussian.mean) / gaussian.scale
    assert np.sqrt((z**2).mean(axis=1)).min() > 0.1
    along = (z @ gaussian.components.T) ** 2
    assert (along.max(axis=0) / along.sum(axis=0)).max() < 1 / 3


def test_the_package_holds_the_network_that_was_trained(clf, real_sample):
    """Packaging did not harm it: these images trained it, so this says nothing of how good it is."""
    X, y, _ = real_sample
    assert roc_auc_score(y == clf.pos_label_, clf.predict_proba(X)[:, 1]) > 0.98
    assert clf.check_images(X).is_unusual.mean() < 0.15  # 5% of images it does not know


FAST = [name for name, method in METHODS.items() if re.match("[12] forward", method.cost)]


@pytest.mark.parametrize("method", FAST)
def test_its_maps_say_something(clf, real_sample, method):
    X = real_sample[0][[0, 120]]
    obstacle = METHODS[method].obstacle(clf.model_)
    if obstacle is not None:  # attention, of which a convolutional network has none
        assert "attention" in method
        return
    maps = clf.explain(X, method=method).values
    assert np.isfinite(maps).all()
    assert (maps.std(axis=(1, 2)) > 1e-6 * np.abs(maps).max(axis=(1, 2))).all()
    assert (np.abs(maps).max(axis=(1, 2)) > 0).all()
