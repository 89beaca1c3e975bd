"""What timm's checkpoints say is compared with timm's own pipeline."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.base import clone

from cxr_estimator import CXRClassifier, make_phantoms
from cxr_estimator._timm_checkpoint import read
from cxr_estimator.errors import HubError
from tests.hub import Fault
from tests.timm_checkpoint.writing import edit, logits_of_timm, write_checkpoint


@pytest.mark.parametrize(
    ("name", "in_chans", "labels", "data"),
    [
        ("test_resnet", 1, ["PNEUMONIA", "NORMAL"], {}),
        ("test_resnet", 3, ["NORMAL", "PNEUMONIA"], {"crop_mode": "border", "interpolation": "bicubic"}),
        ("resnet10t", 3, ["b", "c", "a"], {"crop_mode": "center", "size": 32}),
        ("test_vit", 3, ["viral", "bacterial", "none"], {}),
        ("test_vit2", 1, ["no", "but", "yes"], {}),
        ("test_convnext", 3, ["1", "0"], {"crop_mode": "center", "interpolation": "bicubic"}),
        ("test_efficientnet", 1, ["z", "y", "x", "w"], {}),
    ],
)
def test_probabilities_are_those_of_timm(tmp_path, radiographs, name, in_chans, labels, data):
    write_checkpoint(tmp_path, radiographs, name, len(labels), labels=labels, in_chans=in_chans, **data)
    clf = read(CXRClassifier, tmp_path, "cpu")
    expected = torch.softmax(logits_of_timm(tmp_path, radiographs), dim=1).numpy()
    assert clf.classes_.tolist() == sorted(labels)
    assert (expected.std(axis=0) > 0.05).all()
    found = clf.predict_proba(radiographs)
    np.testing.assert_allclose(found, expected[:, np.argsort(labels)], atol=1e-4)
    assert clf.predict(radiographs).tolist() == [labels[column] for column in expected.argmax(axis=1)]


@pytest.mark.parametrize("crop_mode", ["squash", "center", "border"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_only_the_middle_is_seen_where_timm_cuts(tmp_path, radiographs, crop_mode, interpolation):
    write_checkpoint(
        tmp_path,
        radiographs,
        "test_resnet",
        2,
        in_chans=1,
        crop_mode=crop_mode,
        crop_pct=0.9,
        interpolation=interpolation,
    )
    clf = read(CXRClassifier, tmp_path, "cpu")
    expected = torch.softmax(logits_of_timm(tmp_path, radiographs), dim=1).numpy()
    np.testing.assert_allclose(clf.predict_proba(radiographs), expected, atol=5e-3)  # a pixel differs by one level
    maps = clf.explain(radiographs[:1], method="grad_cam")
    original = maps.to_original(0)
    assert original.shape == radiographs.shape[1:]
    if crop_mode != "border":  # whose bars are cut rather than the image, above and below
        assert (original[[0, -1]] == 0).all()
    assert (original[:, [0, -1]] == 0).all()
    assert original.any()


def test_colour_images(tmp_path, radiographs):
    colour = np.stack([radiographs, radiographs[:, ::-1], 255 - radiographs], axis=-1)
    write_checkpoint(tmp_path, colour, "test_resnet", 3)
    expected = torch.softmax(logits_of_timm(tmp_path, colour), dim=1).numpy()
    np.testing.assert_allclose(read(CXRClassifier, tmp_path, "cpu").predict_proba(colour), expected, atol=1e-4)


@pytest.mark.parametrize("labels", [["NORMAL", "PNEUMONIA"], ["PNEUMONIA", "NORMAL"], None])
def test_one_logit_is_the_log_odds_of_the_second_label(tmp_path, radiographs, labels):
    write_checkpoint(tmp_path, radiographs, "test_resnet", 1, labels=labels)
    clf = read(CXRClassifier, tmp_path, "cpu")
    second = 1 if labels is None else labels[1]
    column = clf.classes_.tolist().index(second)
    expected = torch.sigmoid(logits_of_timm(tmp_path, radiographs))[:, 0].numpy()
    np.testing.assert_allclose(clf.predict_proba(radiographs)[:, column], expected, atol=1e-4)


def test_weights_in_half_precision(tmp_path, radiographs):
    write_checkpoint(tmp_path, radiographs, "test_resnet", 3)
    before = read(CXRClassifier, tmp_path, "cpu").predict_proba(radiographs)
    path = tmp_path / "model.safetensors"
    halved = {name: one.half() if one.is_floating_point() else one for name, one in load_file(path).items()}
    path.unlink()
    save_file(halved, path)
    after = read(CXRClassifier, tmp_path, "cpu").predict_proba(radiographs)
    assert 0 < np.abs(after - before).max() < 0.02


def test_without_names_labels_are_the_positions_of_the_logits(checkpoint, radiographs):
    edit(checkpoint, label_names=None)
    clf = read(CXRClassifier, checkpoint, "cpu")
    assert clf.classes_.tolist() == [0, 1, 2]
    expected = torch.softmax(logits_of_timm(checkpoint, radiographs), dim=1)
    np.testing.assert_allclose(clf.predict_proba(radiographs), expected.numpy(), atol=1e-4)


def as_it_was_first(config):
    """All settings at the top, with 'labels'."""
    names = config["label_names"]
    return {"architecture": config["architecture"], "labels": names, "num_features": 96, **config["pretrained_cfg"]}


def with_names_inside(config):
    config["pretrained_cfg"]["label_names"] = config.pop("label_names")
    config.pop("num_classes")
    config.pop("model_args")
    return config


def with_names_by_id(config):
    return {**config, "label_names": dict(enumerate(config["label_names"])), "label_descriptions": {"a": "an a"}}


def before_its_channels_were_told(config):
    config["pretrained_cfg"]["input_size"][0] = 3
    return {key: value for key, value in config.items() if key != "model_args"}


@pytest.mark.parametrize("form", [as_it_was_first, with_names_inside, with_names_by_id, before_its_channels_were_told])
def test_older_forms_of_the_configuration(checkpoint, radiographs, form):
    expected = read(CXRClassifier, checkpoint, "cpu").predict_proba(radiographs)
    path = checkpoint / "config.json"
    path.write_text(json.dumps(form(json.loads(path.read_text()))))
    clf = read(CXRClassifier, checkpoint, "cpu")
    assert clf.classes_.tolist() == ["a", "b", "c"]
    np.testing.assert_array_equal(clf.predict_proba(radiographs), expected)


def test_means_of_three_channels_are_averaged_for_one(checkpoint):
    settings = json.loads((checkpoint / "config.json").read_text())["pretrained_cfg"]
    edit(checkpoint, pretrained_cfg={**settings, "mean": [0.1, 0.2, 0.6], "std": [0.2, 0.2, 0.2]})
    found = read(CXRClassifier, checkpoint, "cpu").preprocessing_
    np.testing.assert_allclose([found.mean, found.std], [[0.3], [0.2]])


def test_what_is_left_out_is_timms_default(checkpoint):
    edit(checkpoint, pretrained_cfg={"input_size": [1, 32, 32], "first_conv": "conv1.0"})
    found = read(CXRClassifier, checkpoint, "cpu").preprocessing_
    assert (found.crop_pct, found.interpolation, found.resize) == (0.875, "bicubic", "crop")
    np.testing.assert_allclose([found.mean, found.std], [[0.449], [0.226]])


# -- a full estimator --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_classes(tmp_path_factory, radiographs):
    """A classifier from a checkpoint of two classes; tests must not change it."""
    folder = tmp_path_factory.mktemp("two_classes")
    write_checkpoint(folder, radiographs, "test_resnet", 2, labels=["PNEUMONIA", "NORMAL"], crop_pct=0.875, size=32)
    return read(CXRClassifier, folder, "cpu")


def test_nothing_is_known_of_the_training(two_classes):
    assert two_classes.provenance_ is two_classes.background_ is two_classes.ood_ is two_classes.calibration_ is None
    assert two_classes.history_.empty
    assert two_classes.class_weights_.tolist() == [1, 1]
    assert (two_classes.backbone, two_classes.image_size, two_classes.channels) == ("test_resnet", 32, 3)
    assert (two_classes.pos_label_, two_classes.threshold_) == ("PNEUMONIA", 0.5)
    assert not two_classes.model_.training


def test_saving_keeps_everything(two_classes, radiographs, tmp_path):
    two_classes.save(tmp_path / "own")
    again = CXRClassifier.load(tmp_path / "own", device="cpu")
    assert again.preprocessing_ == two_classes.preprocessing_
    assert again.preprocessing_.crop_pct == 0.875
    np.testing.assert_array_equal(again.predict_proba(radiographs), two_classes.predict_proba(radiographs))
    again.save(tmp_path / "twice")
    for path in (tmp_path / "own").iterdir():
        assert path.read_bytes() == (tmp_path / "twice" / path.name).read_bytes()


def test_calibrating_deciding_and_fitting_again(two_classes, radiographs, tmp_path):
    data = make_phantoms(40, 40, random_state=1)
    clf = CXRClassifier.load(two_classes.save(tmp_path), device="cpu")
    clf.calibrate(data.X, data.y, groups=data.groups)
    clf.set_threshold("specificity", at_least=0.5, X=data.X, y=data.y, groups=data.groups)
    assert set(clf.predict(radiographs)) <= {"NORMAL", "PNEUMONIA"}
    fresh = clone(clf).set_params(max_epochs=1, image_size=32, random_state=0)
    assert not hasattr(fresh, "model_")
    fresh.fit(data.X, data.y, groups=data.groups)
    assert (fresh.backbone, fresh.preprocessing_.crop_pct) == ("test_resnet", 1.0)


# -- on the Hub --------------------------------------------------------------------------------------------------------


@pytest.fixture
def shared(hub, checkpoint):
    """The Hub with the checkpoint as alice/chest, and a file that nobody needs."""
    files = {name: (checkpoint / name).read_bytes() for name in ("config.json", "model.safetensors")}
    hub.store.put("models", "alice/chest", {**files, "pytorch_model.bin": b"a pickle", "README.md": b"# A network\n"})
    return hub


def test_a_checkpoint_by_name(shared, checkpoint, radiographs):
    expected = CXRClassifier.load(checkpoint, device="cpu").predict_proba(radiographs)
    clf = CXRClassifier.from_pretrained("alice/chest", device="cpu")
    np.testing.assert_array_equal(clf.predict_proba(radiographs), expected)
    assert not shared.seen("GET", "pytorch_model|README")
    assert len(shared.seen("GET", "signed=get")) == 1
    before = len(shared.requests)
    with shared.down():
        clf = CXRClassifier.from_pretrained("alice/chest", device="cpu", local_files_only=True)
    np.testing.assert_array_equal(clf.predict_proba(radiographs), expected)
    assert len(shared.requests) == before


def test_what_comes_from_timm_can_be_shared_in_this_format(shared, radiographs):
    clf = CXRClassifier.from_pretrained("alice/chest", device="cpu")
    clf.push_to_hub("alice/own")
    again = CXRClassifier.from_pretrained("alice/own", device="cpu")
    np.testing.assert_array_equal(again.predict_proba(radiographs), clf.predict_proba(radiographs))


def test_a_flipped_byte_is_fetched_once_more(shared, radiographs):
    expected = CXRClassifier.from_pretrained("alice/chest", device="cpu").predict_proba(radiographs)
    names = ("config.json", "model.safetensors")
    files = {name: shared.store.read("models", "alice/chest", name) for name in names}
    shared.store.put("models", "alice/other", files)
    shared.faults = [Fault("GET", "signed=get", "flip", at=len(files["model.safetensors"]) - 10)]
    clf = CXRClassifier.from_pretrained("alice/other", device="cpu")
    np.testing.assert_array_equal(clf.predict_proba(radiographs), expected)
    assert not shared.faults[0].times


@pytest.mark.parametrize("config", [None, b'{"model_type": "vit", "architectures": ["ViT"]}'])
def test_repositories_of_other_libraries(hub, config):
    files = {"model.safetensors": b"weights" * 1000} | ({} if config is None else {"config.json": config})
    hub.store.put("models", "alice/other", files)
    with pytest.raises(HubError, match=r"no model of cxr_estimator, nor a config\.json of timm"):
        CXRClassifier.from_pretrained("alice/other")
    assert not hub.seen("GET", "signed=get")  # the weights stay there
