"""Model folders."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import os
import time

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from cxr_estimator._calibration_maps import Affine
from cxr_estimator._fitting import build
from cxr_estimator._outputs import Task
from cxr_estimator.calibration import Calibration
from cxr_estimator.errors import DataError, ModelFolderError
from cxr_estimator.serialization import (
    atomic_write,
    from_json,
    labels_from_json,
    labels_to_json,
    read_json,
    to_json,
)
from tests.model_folders import edit_config

THREE_CLASSES = Calibration("temperature", Task.MULTICLASS, (0.0,) * 3, (Affine(1.0),), (0.0,) * 3, 30, 30).to_dict()


def write_until_the_disk_is_full(path):
    with atomic_write(path) as file:
        file.write(b"half of the n")
        raise OSError("disk full")


def test_atomic_write_leaves_the_old_file_after_an_error(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="disk full"):
        write_until_the_disk_is_full(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    with atomic_write(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"


def test_an_interrupt_just_after_the_replacing_stays_an_interrupt(tmp_path, monkeypatch):
    original = os.replace

    def replace(source, target):
        original(source, target)
        raise KeyboardInterrupt

    monkeypatch.setattr("cxr_estimator.serialization.os.replace", replace)
    with pytest.raises(KeyboardInterrupt), atomic_write(tmp_path / "file") as file:
        file.write(b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "a": 2}', "'a' stands twice"),
        ('{"a": {"b": 1, "b": 1}}', "'b' stands twice"),
        ('{"a": NaN}', "NaN is not allowed"),
        ('{"a": 1e999}', "1e999 is too large"),
        ("[1]", "must hold a JSON object. Got list"),
        ('{"a": 1', "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        ("", "cannot be read as JSON"),
    ],
)
def test_json_is_read_strictly(tmp_path, text, message):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ModelFolderError, match=message):
        read_json(path)


def test_json_that_is_no_text(tmp_path):
    (tmp_path / "config.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ModelFolderError, match="cannot be read"):
        read_json(tmp_path / "config.json")
    with pytest.raises(ModelFolderError, match="no such file"):
        read_json(tmp_path / "none.json")


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
# What a constructor parameter can be made of, as JSON brings it back: lists as tuples, any key.
KEYS = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
PARAMETERS = st.recursive(
    KEYS | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4).map(tuple) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
on_one_file = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(content=st.binary(max_size=60) | ANY_JSON.map(lambda value: json.dumps(value).encode()))
@on_one_file
def test_any_bytes_are_an_object_or_an_error_of_ours(tmp_path, content):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with contextlib.suppress(ModelFolderError):
        assert read_json(path) == json.loads(content)


@given(value=st.dictionaries(st.text(), ANY_JSON, max_size=4), depth=st.integers(0, 5), in_list=st.booleans())
@on_one_file
def test_a_key_that_stands_twice_is_refused_at_any_depth(tmp_path, value, depth, in_list):
    text = json.dumps({"twice": 0, **value})
    text = f'{text[:-1]}, "twice": {json.dumps(value)}}}'
    for _ in range(depth):
        text = f'{{"a": [{text}]}}' if in_list else f'{{"a": {text}}}'
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelFolderError, match="'twice' stands twice"):
        read_json(tmp_path / "config.json")


def test_a_giant_document_is_refused_unread(tmp_path):
    path = tmp_path / "config.json"
    with path.open("wb") as file:
        file.truncate(50_000_001)
    with pytest.raises(ModelFolderError, match="more than the limit of 50,000,000 bytes"):
        read_json(path)


def test_many_keys_are_read_in_no_time(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({f"key{i}": i for i in range(100_000)}))
    start = time.process_time()
    assert len(read_json(path)) == 100_000
    assert time.process_time() - start < 5  # it was a minute when each key was counted


@given(value=PARAMETERS)
def test_any_parameter_survives_json(value):
    again = from_json(json.loads(json.dumps(to_json(value))))
    assert again == value
    assert repr(again) == repr(value)  # 1, 1.0 and True are different


@pytest.mark.parametrize(
    "value", [None, True, 3, 0.5, "text", (1, 2), {"NORMAL": 2.0, 3: None}, ((1, 2), "x"), {1: (2, 3)}]
)
def test_parameters_survive_json(value):
    assert from_json(json.loads(json.dumps(to_json(value)))) == value


def test_parameters_that_cannot_be_described(tmp_path):
    assert to_json(np.random.RandomState(0)) is None
    assert to_json(np.float32(0.5)) == 0.5
    assert to_json(tmp_path / "weights.safetensors") == "weights.safetensors"


@pytest.mark.parametrize(
    "labels", [["a", "bb"], [0, 1], [False, True], [0.0, 1.0], np.array(["x", "yy"], dtype=object)]
)
def test_labels_survive_json(labels):
    labels = np.array(labels)
    again = labels_from_json(json.loads(json.dumps(labels_to_json(labels))))
    assert again.dtype == labels.dtype
    assert again.tolist() == labels.tolist()


def test_labels_of_other_types_are_refused():
    with pytest.raises(ModelFolderError, match="not supported"):
        labels_from_json({"dtype": "<M8[s]", "values": ["2020"]})
    with pytest.raises(ModelFolderError, match="not supported"):
        labels_from_json({"dtype": "object", "values": [{"a": 1}]})


@pytest.mark.parametrize(
    ("dtype", "values", "message"),
    [
        ("int8", [0, 300], "not of type int8"),
        ("float16", [0.0, 1e30], "not of type float16"),
        ("int64", ["a", "b"], "not of type int64"),
        ("str", ["a", 1], "all text or all numbers"),
        ("str", [0, 1], "sorted and different"),
        ("str", [*(str(i) for i in range(1000, 9000)), "x" * 100_000], "too long: 100,000 characters"),
        ("int64", "ab", "list of text"),
        ("int64", [[0], [1]], "not supported"),
    ],
)
def test_labels_that_numpy_would_bend_are_refused(dtype, values, message):
    with pytest.raises(ModelFolderError, match=message):
        labels_from_json({"dtype": dtype, "values": values})


# -- whole folders


@pytest.fixture
def folder(fitted, tmp_path):
    return fitted.save(tmp_path / "model")


def load(folder):
    from cxr_estimator import CXRClassifier

    return CXRClassifier.load(folder)


def test_nothing_private_is_in_the_folder(folder, phantoms):
    text = (folder / "config.json").read_text()
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "SHA256SUMS", "config.json", "model.safetensors"
    ]  # fmt: skip
    assert not any(patient in text for patient in set(phantoms.groups))
    assert str(folder.parent) not in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: c.update(schema_version=3),
            "schema version 3 is not supported; .* reads version 2.* install the one that",
        ),
        (lambda c: c.update(schema_version=1), "schema version 1 is not supported"),
        (lambda c: c.update(format="other"), "not a cxr_estimator model"),
        (lambda c: c.update(surprise=1), r"unknown: \['surprise'\]"),
        (lambda c: c.pop("classes"), r"missing: \['classes'\]"),
        (lambda c: c["parameters"].update(surprise=1), "not a valid configuration"),
        (lambda c: c["parameters"].update(backbone="resnet_x"), "Did you mean"),
        (lambda c: c["parameters"].update(image_size="big"), "'image_size' parameter"),
        (lambda c: c.update(pos_label="other"), "positive label 'other' is none of"),
        (lambda c: c.update(active_operating_points=["other"]), "do not decide on each of"),
        (lambda c: c["operating_points"][0].pop("score"), "not a valid configuration"),
        (lambda c: c["preprocessing"].update(resize="fold"), "'resize' parameter"),
        (lambda c: c.update(operating_points=3), "not a valid configuration"),
        (lambda c: c["parameters"].update(backbone="resnet10t"), "do not fit"),
        (lambda c: c["classes"].update(values=["a", "b", "c"]), "the task is 'binary', but there are 3 classes"),
        (lambda c: c.pop("task"), "missing: .'task'"),
        (lambda c: c.update(task="regression"), "not a valid configuration"),
        (lambda c: c.update(task="multilabel"), "positive label 'PNEUMONIA' is for"),
        (lambda c: c["classes"].update(values=["PNEUMONIA", "NORMAL"]), "sorted and different"),
        (lambda c: c["classes"].update(dtype="<U40000000"), "not supported"),
        (lambda c: c.update(pos_label=None), "positive label None is none of"),
        (lambda c: c.update(schema_version=True), "schema version True is not supported"),
        (lambda c: c.update(schema_version=1.0), "schema version 1.0 is not supported"),
        (lambda c: c["preprocessing"].update(image_size=4096), "'image_size' of the preprocessing and of the param"),
        (lambda c: c["preprocessing"].update(mean="abc"), "'mean' parameter"),
        (lambda c: c["preprocessing"].update(std=[0]), "'std' parameter"),
        (lambda c: c["preprocessing"].update(std=[1, 1, 1]), "'std' parameter"),
        (lambda c: c["preprocessing"].update(mean=[10**30]), "out of range"),
        (lambda c: c["preprocessing"].update(std=[1e-300]), "out of range"),
        (lambda c: c["operating_points"][0].update(score="abc"), "'score' parameter"),
        (lambda c: c["operating_points"][0]["options"].update(probability=500001), "'probability' parameter"),
        (lambda c: c["operating_points"][0].update(name=3), "'name' parameter"),
        (lambda c: c["operating_points"][0].update(score=10**400), "'score' parameter"),
        (lambda c: c["operating_points"][0].update(rule="magic"), "one of 'number'"),
        (lambda c: c["operating_points"][0].update(label="CAT"), "do not decide on each of"),
        (lambda c: c["operating_points"].append(c["operating_points"][0]), "same name"),
        (lambda c: c.update(class_weights=[1.0]), "2 numbers that are not negative"),
        (lambda c: c.update(class_weights=[1.0, -1.0]), "2 numbers that are not negative"),
        (lambda c: c.update(calibration={"method": "magic"}), "not a valid configuration"),
        (lambda c: c.update(calibration=THREE_CLASSES), "does not fit 2 classes"),
        (lambda c: c["parameters"].update(backbone="x" * 1_000_000), r"\(1,000,002 characters\)"),
        (lambda c: c.update(image_shape="abc"), "'image_shape' parameter"),
        (lambda c: c.update(image_shape=[3, -1]), "'image_shape' parameter"),
        (lambda c: c["training"].update(history="abc"), "training history must be a list"),
        (lambda c: c["training"].update(history=[{"a": 1}, {"b": 1}]), "objects with the same keys"),
        (lambda c: c["training"].update(history=[{"a": {}}]), "training history must hold numbers"),
    ],
)
def test_a_wrong_configuration_is_refused(folder, change, message):
    edit_config(folder, change)
    with pytest.raises(ModelFolderError, match=message):
        load(folder)


def test_missing_and_damaged_files_are_refused(folder, tmp_path):
    with pytest.raises(ModelFolderError, match="no such model folder"):
        load(tmp_path / "nothing")
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    for damaged in (content[:100], content[:-10], b"", b"\x80\x04pickle"):
        weights.write_bytes(damaged)
        with pytest.raises(ModelFolderError, match=r"model\.safetensors"):
            load(folder)
    weights.unlink()
    with pytest.raises(ModelFolderError, match=r"model\.safetensors: there is no such file"):
        load(folder)


def test_a_pickle_is_never_executed(folder):
    torch.save({"x": torch.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(ModelFolderError, match="damaged"):
        load(folder)


def test_extreme_scores_are_probabilities(folder):
    edit_config(folder, lambda c: c["operating_points"][0].update(score=-1e308, rule="youden"))
    assert load(folder).threshold_ == 0.0


@pytest.mark.parametrize("change", [lambda t: t.to(torch.int8), lambda t: t.half(), lambda t: t * float("nan")])
def test_weights_of_another_type_or_not_finite_are_refused(folder, change):
    state = load_file(folder / "model.safetensors")
    state["head.weight"] = change(state["head.weight"])
    save_file(state, folder / "model.safetensors")
    with pytest.raises(ModelFolderError, match=r"'head.weight' (is torch|holds NaN)"):
        load(folder)


def test_loading_leaves_the_global_generator_alone(folder):
    before = torch.get_rng_state()
    load(folder)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_folder_that_cannot_be_written(fitted, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file: cannot be written to"):
        fitted.save(tmp_path / "file")


def test_a_giant_network_is_refused_before_it_is_built(folder):
    """A few bytes of configuration name a network of 26 gigabytes."""
    edit_config(folder, lambda c: c["parameters"].update(backbone="vit_7b_patch16_dinov3"))
    with pytest.raises(ModelFolderError, match=r"do not fit the configuration \('blocks.0.attn.* missing"):
        load(folder)


def test_a_network_that_cannot_be_built_is_refused(folder):
    edit_config(folder, lambda c: c["parameters"].update(backbone="resnet10t.no_such_weights"))
    with pytest.raises(ModelFolderError, match=r"'resnet10t.no_such_weights' cannot be built for 32 pixels"):
        load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("head.weight"), r"'head.weight' is missing, one of 1 diff"),
        (lambda s: s.update(other=torch.zeros(1)), r"'other' is unknown, one of 1 diff"),
        (lambda s: s.update({"head.weight": torch.zeros(2, 3)}), r"'head.weight' has shape \(2, 3\), not \(1, "),
    ],
)
def test_weights_of_another_network_are_refused(folder, change, message):
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors")
    with pytest.raises(ModelFolderError, match=f"do not fit the configuration .*{message}"):
        load(folder)


def test_saving_that_is_killed_between_the_two_files_is_noticed(folder, fitted, monkeypatch):
    """New weights with old classes or thresholds would be wrong without a sign."""
    clf = copy.deepcopy(fitted)
    clf.model_.head.bias.data += 1.0
    clf.class_weights_ = np.array([2.0, 1.0])
    config = (folder / "config.json").read_bytes()
    clf.save(folder)
    load(folder)
    (folder / "config.json").write_bytes(config)
    with pytest.raises(ModelFolderError, match=r"config.json: is not the file that SHA256SUMS records. Saving was"):
        load(folder)


def test_dropout_is_saved_and_none_where_it_is_missing(fitted, folder, phantoms, tmp_path):
    assert load(folder).dropout is None
    edit_config(folder, lambda c: c["parameters"].pop("dropout"))
    old = load(folder)
    assert old.dropout is None
    assert old.model_.dropout.p == 0.1
    clf = copy.copy(fitted).set_params(dropout=0.3)
    clf.architecture_ = {**clf.architecture_, "dropout": 0.3}
    again = load(clf.save(tmp_path / "new"))
    assert again.dropout == again.model_.dropout.p == 0.3
    edit_config(tmp_path / "new", lambda c: c["parameters"].update(dropout=1.0))
    with pytest.raises(ModelFolderError, match="'dropout' parameter"):
        load(tmp_path / "new")


def test_no_patience_is_saved(fitted, tmp_path):
    again = load(copy.copy(fitted).set_params(patience=None).save(tmp_path / "model"))
    assert again.patience is None
    edit_config(tmp_path / "model", lambda c: c["parameters"].update(patience=0))
    with pytest.raises(ModelFolderError, match="'patience' parameter"):
        load(tmp_path / "model")


# Swin and EVA keep tables outside of their weights, which have to be made anew.
NETWORKS = ["plain_cnn", "resnet10t", "swin_tiny_patch4_window7_224", "eva02_tiny_patch14_224"]


@pytest.mark.parametrize("backbone", NETWORKS)
def test_networks_come_back_as_they_were(phantoms, fitted, tmp_path, backbone):
    size = 224 if "_224" in backbone else 32
    clf = copy.copy(fitted).set_params(backbone=backbone, image_size=size)
    clf.architecture_ = {**clf.architecture_, "backbone": backbone, "image_size": size}
    clf.preprocessing_ = dataclasses.replace(clf.preprocessing_, image_size=size)
    clf.background_ = None  # of another size
    clf.model_ = build(clf, 1, pretrained=False)
    again = load(clf.save(tmp_path / "model"))
    assert (again.predict_proba(phantoms.X[:1]) == clf.predict_proba(phantoms.X[:1])).all()
    assert [p.stride() for p in again.model_.parameters()] == [p.stride() for p in clf.model_.parameters()]
    assert all(parameter.requires_grad for parameter in again.model_.parameters())
    assert not again.model_.training
    state = again.model_.state_dict()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"")  # the weights are no view of the file
    assert all(torch.isfinite(tensor).all() for tensor in state.values())
