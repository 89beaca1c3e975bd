"""Receipts, and that what they say can be repeated."""

from __future__ import annotations

import copy
import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxr_estimator import CXRClassifier, make_phantoms
from cxr_estimator._digest import digest_of
from cxr_estimator._model_digest import network_digest, of_model
from cxr_estimator._replaying import coarse, map_difference
from cxr_estimator.attribution import METHODS
from cxr_estimator.errors import DataError, ImageError, InvalidParameterError, InvalidTypeError, ModelFolderError
from cxr_estimator.images import as_images
from cxr_estimator.receipts import TOLERANCES, Receipt, receipt_of, replay
from tests.dicom_files import dicom

FEWER = {
    "lime": {"n_samples": 100}, "rise": {"n_masks": 100}, "kernel_shap": {"n_samples": 100},
    "partition_shap": {"n_evaluations": 60}, "smooth_grad": {"n_samples": 4}, "var_grad": {"n_samples": 4},
    "gradient_shap": {"n_samples": 8}, "integrated_gradients": {"n_steps": 8}, "score_cam": {"channels": 8},
    "occlusion": {"stride": 4}, "superpixel_occlusion": {"n_segments": 9},
    "ensemble": {"methods": ("grad_cam", "saliency")},
}  # fmt: skip

EXACT = "Exact: the same probabilities and the same map, bit for bit."


@pytest.fixture(scope="module")
def bundled():
    """The model that ships."""
    return CXRClassifier.from_pretrained(device="cpu")


@pytest.fixture(scope="module")
def phantom():
    return make_phantoms(2, 150, random_state=0).X[1]


def made(clf, image, *, model_name="folder", revision=None, **request):
    return receipt_of(clf, clf.explain([image], **request), model_name=model_name, revision=revision)


def edited(receipt, **changes):
    """The receipt as somebody rewrote it, through JSON."""
    return Receipt.from_json(json.dumps(json.loads(receipt.to_json()) | changes))


def differing(result):
    return {one.quantity for one in result.differences if not one.is_within}


# -- what a receipt says ----------------------------------------------------------------------------------------------


def test_it_says_what_the_explanation_says(fitted, phantoms, receipt):
    explanation = fitted.explain(phantoms.X[1:2], method="smooth_grad", n_samples=3, random_state=7)
    assert receipt.image_id == as_images(phantoms.X)[1].content_id
    assert (receipt.method, receipt.target, receipt.seed, receipt.error_bars) == ("smooth_grad", "predicted", 7, False)
    assert receipt.options == {"n_samples": 3, "noise": 0.15, "average": "gradient"}
    assert dict(receipt.probabilities) == dict(
        zip(fitted.classes_.tolist(), fitted.predict_proba(phantoms.X[1:2])[0], strict=True)
    )
    assert receipt.decision == receipt.explained == fitted.predict(phantoms.X[1:2])[0]
    assert receipt.score == explanation.score[0]
    assert receipt.map_sha256 == hashlib.sha256(explanation.values[0].astype("<f4").tobytes()).hexdigest()
    blocks = explanation.values[0].astype(np.float64).reshape(16, 2, 16, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(receipt.coarse_map, blocks, rtol=5e-4)
    assert receipt.operating_point[:2] == ("default", "number")
    assert (receipt.operating_point.label, receipt.operating_point.threshold) == ("PNEUMONIA", 0.5)
    assert receipt.versions == explanation.versions
    assert set(receipt.machine) == {"system", "processor", "instructions"}
    assert receipt.created[4] == receipt.created[7] == "-"


def test_one_image_of_several_is_told_from_the_others(fitted, phantoms):
    explanation = fitted.explain(phantoms.X[:3], method="grad_cam")
    found = [receipt_of(fitted, explanation, i, model_name="folder") for i in (0, 1, -1)]
    assert [one.image_id for one in found] == list(explanation.image_ids)
    assert found[2].score == explanation.score[2]
    with pytest.raises(IndexError):
        receipt_of(fitted, explanation, 3, model_name="folder")


def test_blocks_of_a_map_by_hand():
    values = np.arange(18 * 17, dtype=np.float32).reshape(18, 17)  # 16 blocks of 1 or 2 rows and columns
    found = np.array(coarse(values))
    assert found.shape == (16, 16)
    rows, columns = [k * 18 // 16 for k in range(17)], [k * 17 // 16 for k in range(17)]
    for i, j in ((0, 0), (7, 3), (15, 15)):
        block = values[rows[i] : rows[i + 1], columns[j] : columns[j + 1]]
        assert found[i, j] == pytest.approx(block.mean(), rel=5e-4)
    assert coarse(np.array([[1.23456, -2.0], [0.0, 3e-9]])) == ((1.235, -2.0), (0.0, 3e-9))


def test_difference_of_maps_by_hand():
    first = ((0.0, 1.0), (2.0, -4.0))
    assert map_difference(first, first) == (1.0, 0.0)
    assert map_difference(((0.0, 1.0), (2.0, -3.0)), first) == (1.0, 0.25)  # the order is the same
    assert map_difference(((0.0, -1.0), (-2.0, 4.0)), first) == (-1.0, 2.0)
    zeros = ((0.0, 0.0),)
    assert map_difference(zeros, zeros) == (1.0, 0.0)
    assert map_difference(((0.0, 1.0),), zeros) == (0.0, math.inf)
    assert map_difference(zeros, ((0.0, 1.0),)) == (0.0, 1.0)


def test_a_receipt_does_not_depend_on_which_point_decides_but_tells_it(fitted, phantoms, receipt):
    own = copy.copy(fitted).set_threshold(0.2, name="cautious")
    other = made(own, phantoms.X[1], method="smooth_grad", n_samples=3, random_state=7)
    assert other.model_digest == receipt.model_digest == network_digest(fitted)
    assert (other.operating_point.name, other.operating_point.threshold) == ("cautious", 0.2)
    assert digest_of(of_model(own)) != digest_of(of_model(fitted))


def test_the_digest_of_a_model_knows_calibration_and_weights(fitted, phantoms, tmp_path):
    again = CXRClassifier.load(fitted.save(tmp_path), device="cpu")
    assert network_digest(again) == network_digest(fitted)
    calibrated = copy.copy(fitted).calibrate(phantoms.X, phantoms.y)
    assert network_digest(calibrated) != network_digest(fitted)
    parameter = next(again.model_.parameters())
    parameter.data[0, 0, 0, 0] += 1e-6
    assert network_digest(again) != network_digest(fitted)


# -- repeating it -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method", ["grad_cam", "integrated_gradients", "lime", "rise", "gradient_shap", "deep_shap", "kernel_shap"]
)
def test_the_bundled_model_repeats_it_exactly(bundled, phantom, method):
    receipt = made(bundled, phantom, model_name="bundled", method=method, random_state=3, **FEWER.get(method, {}))
    result = replay(Receipt.from_json(receipt.to_json()), phantom, device="cpu")
    assert result.is_exact, result
    assert result.within_tolerance
    assert result.same_versions
    assert result.same_machine
    assert result.sentence == f"{EXACT} The versions and the kind of machine are the same."
    assert all(one.is_within and one.value == one.expected for one in result.differences)


def test_every_method_goes_through_json(fitted, phantoms):
    """Tuples come back as lists, defaults as numbers; every method takes them."""
    for name, method in METHODS.items():
        if method.obstacle(fitted.model_) is None:  # which leaves out those of transformers
            receipt = made(fitted, phantoms.X[3], method=name, random_state=1, **FEWER.get(name, {}))
            result = replay(Receipt.from_json(receipt.to_json()), phantoms.X[3], clf=fitted)
            assert result.is_exact, (name, result)


@pytest.mark.parametrize("target", ["margin", "true", "NORMAL"])
def test_targets_and_error_bars(fitted, phantoms, target):
    own = copy.copy(fitted).set_threshold(0.3, name="mine")
    explanation = own.explain(phantoms.X[:1], phantoms.y[:1], target=target, error_bars=True, random_state=0)
    receipt = receipt_of(own, explanation, model_name="folder")
    assert receipt.error_bars
    before = {name: getattr(fitted, name) for name in ("active_points_", "operating_points_", "precision", "on_error")}
    result = replay(receipt, phantoms.X[0], clf=fitted)  # which decides elsewhere by itself
    assert result.is_exact, result
    assert {name: getattr(fitted, name) for name in before} == before


def test_a_point_that_a_rule_chose_on_calibrated_probabilities(fitted, phantoms):
    own = copy.copy(fitted).calibrate(phantoms.X, phantoms.y)
    digest = network_digest(own)
    chosen = copy.copy(own).set_threshold("youden", X=phantoms.X, y=phantoms.y, name="best", n_resamples=10)
    receipt = made(chosen, phantoms.X[0], target="margin")
    assert receipt.model_digest == digest
    assert receipt.operating_point.rule == "youden"
    assert replay(receipt, phantoms.X[0], clf=own).is_exact  # which has no point of that name
    point = receipt.operating_point._asdict()
    with pytest.raises(DataError, match="contradicts itself"):
        replay(edited(receipt, operating_point=point | {"threshold": 0.9}), phantoms.X[0], clf=own)


def test_several_classes(three_classes):
    X, _, clf = three_classes
    receipt = made(clf, X[4], target="green", method="occlusion")
    assert receipt.operating_point is None
    assert [label for label, _ in receipt.probabilities] == ["blue", "green", "red"]
    assert receipt.explained == "green"
    assert replay(receipt, X[4], clf=clf).is_exact
    point = {"name": "x", "rule": "number", "label": "red", "threshold": 0.5, "score": 0.0}
    with pytest.raises(DataError, match="an operating point for several classes"):
        replay(edited(receipt, operating_point=point), X[4], clf=clf)


def test_several_labels():
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 255, (24, 24, 24), dtype=np.uint8), rng.integers(0, 2, (24, 2))
    options = {"image_size": 24, "max_epochs": 1, "batch_size": 8, "validation_fraction": 0, "random_state": 0}
    clf = CXRClassifier("plain_cnn", label_names=["mass", "effusion"], **options).fit(X, y, groups=np.arange(24))
    clf.set_threshold(0.3, label="effusion")
    receipt = made(clf, X[0], target="effusion", method="rise", n_masks=20)
    assert receipt.operating_point[:4] == ("effusion", "number", "effusion", 0.3)
    assert receipt.decision in ("effusion", "not effusion")
    assert sum(p for _, p in receipt.probabilities) != 1
    again = CXRClassifier(**clf.get_params())
    again.__dict__.update(clf.__dict__)
    assert replay(receipt, X[0], clf=again.set_threshold(0.9, label="effusion")).is_exact


def test_images_of_other_kinds(fitted, phantoms, receipt, tmp_path):
    path = tmp_path / "Doe_Jane.png"
    Image.fromarray(phantoms.X[1]).save(path)
    for image in (path, str(path), Image.fromarray(phantoms.X[1])):
        assert replay(receipt, image, clf=fitted).is_exact
    assert "Doe" not in made(fitted, path).to_json()


def test_a_dicom_file_leaves_nothing_but_a_digest(bundled, phantom, tmp_path):
    path = tmp_path / "1.2.840.99999.dcm"
    path.write_bytes(dicom(phantom, PatientID="P-4711", PatientBirthDate="19700102", InstitutionName="Saint Nowhere"))
    receipt = made(bundled, path, model_name="bundled")
    text = receipt.to_json()
    for secret in ("Doe", "Jane", "4711", "19700102", "Nowhere", "1.2.3.4", "1.2.840", str(tmp_path), path.name):
        assert secret not in text
    assert replay(receipt, path, clf=bundled).is_exact
    assert replay(receipt, phantom, clf=bundled).is_exact  # the same pixels


def test_real_radiographs(bundled, real_sample):
    paths, _, patients = real_sample
    for path, patient in ((paths[0], patients[0]), (paths[-1], patients[-1])):
        receipt = made(bundled, path, model_name="bundled", method="integrated_gradients")
        assert replay(receipt, path).is_exact
        text = receipt.to_json()
        assert not any(part in text for part in (patient, Path(path).stem, Path(path).suffix, str(Path(path).parent)))


# -- other things -----------------------------------------------------------------------------------------------------


def test_another_image(fitted, phantoms, receipt):
    with pytest.raises(DataError, match=r"another image than that of the receipt\.$"):
        replay(receipt, phantoms.X[2], clf=fitted)
    changed = phantoms.X[1].copy()
    changed[0, 0] ^= 1
    with pytest.raises(DataError, match="another image"):
        replay(receipt, changed, clf=fitted)
    old = replace(receipt, versions={**receipt.versions, "pillow": "1.0"})
    with pytest.raises(DataError, match=r"the same file, decoded to other pixels by pillow .* \(there 1\.0\)\."):
        replay(old, changed, clf=fitted)
    with pytest.raises(ImageError, match="there is no such file"):
        replay(receipt, "nowhere.png", clf=fitted)


def test_another_model(fitted, phantoms, receipt, bundled, ensemble):
    with pytest.raises(DataError, match="another model than that of the receipt"):
        replay(receipt, phantoms.X[1], clf=bundled)
    with pytest.raises(DataError, match=r"another model .* comes with cxr_estimator"):
        replay(replace(receipt, model_name="bundled"), phantoms.X[1], device="cpu")
    with pytest.raises(DataError, match="lay in a folder, and where is not recorded"):
        replay(receipt, phantoms.X[1])
    with pytest.raises(InvalidTypeError, match="ensembles have no receipts"):
        replay(receipt, phantoms.X[1], clf=ensemble)
    with pytest.raises(InvalidTypeError, match="ensembles have no receipts"):
        receipt_of(ensemble, fitted.explain(phantoms.X[:1]), model_name="folder")
    with pytest.raises(InvalidTypeError, match="a Receipt"):
        replay(receipt.to_json(), phantoms.X[1], clf=fitted)


def test_a_model_on_the_hub_is_taken_at_its_revision(hub, fitted, phantoms):
    commit = fitted.push_to_hub("alice/model").oid
    receipt = made(fitted, phantoms.X[0], model_name="alice/model", revision=commit)
    copy.copy(fitted).calibrate(phantoms.X, phantoms.y).push_to_hub("alice/model")
    assert replay(receipt, phantoms.X[0], device="cpu").is_exact
    with pytest.raises(DataError, match=r"another model .* alice/model on the Hub, revision main at that time"):
        replay(edited(receipt, model_revision=None), phantoms.X[0], device="cpu")


def test_other_versions_and_machines_are_named(fitted, phantoms, receipt):
    other = edited(
        receipt,
        versions={**receipt.versions, "torch": "1.0", "extra": "2"},
        machine={**receipt.machine, "processor": "abacus"},
        threads=64,
    )
    result = replay(other, phantoms.X[1], clf=fitted)
    assert result.is_exact
    assert not result.same_versions
    assert not result.same_machine
    here = receipt.versions["torch"]
    assert f"Other than in the receipt: extra missing (there 2), torch {here} (there 1.0), processor" in result.sentence
    assert "(there abacus), threads" in result.sentence


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize(("share", "within"), [(0.5, True), (1.5, False)])
def test_what_is_not_exact_is_held_to_the_tolerance(fitted, phantoms, precision, share, within):
    own = copy.copy(fitted).set_params(precision=precision)
    receipt, allowed = made(own, phantoms.X[1], method="occlusion"), TOLERANCES[precision]
    (first, p), (second, q) = receipt.probabilities
    sign = 1 if p < q else -1
    moved = sign * share * allowed.probability
    told = {
        "probability": {"probabilities": [[first, p + moved], [second, q - moved]]},
        "score": {"score": receipt.score + share * allowed.score},
    }
    blocks = np.array(receipt.coarse_map)
    place = np.unravel_index(np.abs(blocks).argmin(), blocks.shape)  # not the strongest, which is what one divides by
    blocks[place] += share * allowed.block * np.abs(blocks).max()
    told["block"] = {"coarse_map": blocks.tolist()}
    for what, change in told.items():
        result = replay(edited(receipt, map_sha256="0" * 64, **change), phantoms.X[1], clf=fitted)
        assert not result.is_exact
        assert result.within_tolerance == within, (what, result)
        assert all(what in quantity for quantity in differing(result))
        assert result.sentence.startswith("Not the same bit for bit, but within" if within else "Not the same within")


def test_a_receipt_that_was_tampered_with_differs(fitted, phantoms, receipt):
    other = "NORMAL" if receipt.decision == "PNEUMONIA" else "PNEUMONIA"
    for change, quantities in (
        ({"decision": other}, {"decision"}),
        ({"explained": other}, {"explained"}),
        ({"probabilities": [["NORMAL", 0.5], ["OTHER", 0.5]]}, {"labels", "probability of NORMAL"}),
        ({"coarse_map": [[0.5]]}, {"blocks of the map"}),
        ({"coarse_map": np.array(receipt.coarse_map)[::-1].tolist()},
         {"rank correlation of the map", "largest difference of a block"}),
        ({"seed": 8}, {"rank correlation of the map", "largest difference of a block"}),
        ({"method": "saliency", "options": {}}, {"rank correlation of the map", "largest difference of a block"}),
        ({"target": other}, {"explained"}),
    ):  # fmt: skip
        result = replay(edited(receipt, **change), phantoms.X[1], clf=fitted)
        assert not result.is_exact, change
        assert not result.within_tolerance, change
        assert quantities <= differing(result), change
        assert all(one in result.sentence for one in quantities)
    assert not replay(edited(receipt, map_sha256="0" * 64), phantoms.X[1], clf=fitted).is_exact


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "nosuch"}, "'method' parameter of replay"),
        ({"options": {"background": "x.png"}}, "has no options background"),
        ({"options": {"progress": 1, "X": 2}}, None),
        ({"options": {"n_samples": -1}}, "n_samples"),
        ({"options": {"n_samples": "many"}}, "n_samples"),
        ({"target": "COVID"}, "'target' parameter"),
        ({"target": "true"}, "'y' parameter"),
    ],
)
def test_what_a_receipt_may_not_ask_for(fitted, phantoms, receipt, change, message):
    """No option is passed on that is not the method's own: `background` would read files."""
    with pytest.raises((DataError, InvalidParameterError, InvalidTypeError, ModelFolderError), match=message):
        replay(edited(receipt, **change), phantoms.X[1], clf=fitted)


# whether the network says one thing to all seven depends on the machine
@pytest.mark.filterwarnings("ignore::cxr_estimator.errors.BackgroundWarning")
def test_what_cannot_be_repeated_gets_no_receipt(fitted, phantoms):
    X = phantoms.X[:1]
    explanation = fitted.explain(X, method="gradient_shap", n_samples=4, background=phantoms.X[2:9])
    with pytest.raises(DataError, match="background images that were given"):
        receipt_of(fitted, explanation, model_name="folder")
    for baseline in (np.zeros((32, 32)), np.zeros((32, 32)).tolist()):
        explanation = fitted.explain(X, method="occlusion", baseline=baseline)
        with pytest.raises(DataError, match="'baseline' is an array"):
            receipt_of(fitted, explanation, model_name="folder")
    explanation = fitted.explain(X)
    with pytest.raises(DataError, match=r"made at the threshold 0\.5, and the estimator now decides at 0\.2"):
        receipt_of(copy.copy(fitted).set_threshold(0.2), explanation, model_name="folder")
    broken = replace(explanation, values=np.full_like(explanation.values, np.nan))
    with pytest.raises(DataError, match="'coarse_map' cannot be"):
        receipt_of(fitted, broken, model_name="folder")
    with pytest.raises(InvalidTypeError, match="an Explanation of one method"):
        receipt_of(fitted, fitted.explain(X, method=["grad_cam"]), model_name="folder")


@pytest.mark.parametrize("name", ["/data/model", "models", "a/b/c", "../x", "", "C:\\model", 3])
def test_a_model_has_a_name_and_no_path(fitted, phantoms, name):
    with pytest.raises(DataError, match="'model_name' cannot be"):
        made(fitted, phantoms.X[0], model_name=name)
