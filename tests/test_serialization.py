"""Model folders."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from cxr_estimator.errors import DataError, ModelFolderError
from cxr_estimator.serialization import (
    atomic_write,
    from_json,
    labels_from_json,
    labels_to_json,
    read_json,
    to_json,
)


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


# -- whole folders


@pytest.fixture
def folder(fitted, tmp_path):
    return fitted.save(tmp_path / "model")


def load(folder):
    from cxr_estimator import CXRClassifier

    return CXRClassifier.load(folder)


def edit(folder, change):
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


def test_nothing_private_is_in_the_folder(folder, phantoms):
    text = (folder / "config.json").read_text()
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert not any(patient in text for patient in set(phantoms.groups))
    assert str(folder.parent) not in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(schema_version=2), "schema version 2 is not supported"),
        (lambda c: c.update(format="other"), "not a cxr_estimator model"),
        (lambda c: c.update(surprise=1), r"unknown: \['surprise'\]"),
        (lambda c: c.pop("classes"), r"missing: \['classes'\]"),
        (lambda c: c["parameters"].update(surprise=1), "not a valid configuration"),
        (lambda c: c["parameters"].update(backbone="resnet_x"), "Did you mean"),
        (lambda c: c["parameters"].update(image_size="big"), "'image_size' parameter"),
        (lambda c: c.update(pos_label="other"), "positive label 'other' is none of"),
        (lambda c: c.update(active_operating_point="other"), "operating point 'other' is none of"),
        (lambda c: c["operating_points"][0].pop("score"), "not a valid configuration"),
        (lambda c: c["preprocessing"].update(resize="fold"), "'resize' parameter"),
        (lambda c: c.update(operating_points=3), "not a valid configuration"),
        (lambda c: c["parameters"].update(backbone="resnet10t"), "do not fit"),
        (lambda c: c["classes"].update(values=["a", "b", "c"]), "is none of"),
        (lambda c: c["classes"].update(values=["PNEUMONIA", "NORMAL"]), "sorted and different"),
        (lambda c: c["classes"].update(dtype="<U40000000"), "not supported"),
        (lambda c: c.update(pos_label=None), "positive label None is none of"),
        (lambda c: c.update(schema_version=True), "schema version True is not supported"),
        (lambda c: c.update(schema_version=1.0), "schema version 1.0 is not supported"),
        (lambda c: c["preprocessing"].update(image_size=4096), "'image_size' of the preprocessing and of the param"),
        (lambda c: c["preprocessing"].update(mean="abc"), "'mean' parameter"),
        (lambda c: c["preprocessing"].update(std=[0]), "'std' parameter"),
        (lambda c: c["preprocessing"].update(std=[1, 1, 1]), "'std' parameter"),
        (lambda c: c["operating_points"][0].update(score="abc"), "'score' parameter"),
        (lambda c: c["operating_points"][0].update(name=3), "'name' parameter"),
    ],
)
def test_a_wrong_configuration_is_refused(folder, change, message):
    edit(folder, change)
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
    edit(folder, lambda c: c["operating_points"][0].update(score=-1e308))
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
